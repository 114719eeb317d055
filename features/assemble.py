"""A request becomes its facts: the one place where the parts of this room are put together.

Serving and the log readers both call `facts_of`, so a feature means the same in training and in production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.facts import Facts
from features.names import EFFORTS
from features.sessionkind import call_values
from features.textfacts import text_values
from features.toolschema import offered_values
from features.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.wire.types import WireRequest


def trajectory_of(request: WireRequest) -> Trajectory:
    """The session so far as this request tells it."""
    trajectory = Trajectory()
    for message in request.messages:
        trajectory.add(message)
    return trajectory


def facts_of(
    request: WireRequest,
    *,
    trajectory: Trajectory | None = None,
    cache: tuple[float, float, float | None] | None = None,
    context_tokens_est: float | None = None,
    context_tokens_last: float | None = None,
    turn: int | None = None,
    is_subagent: bool | None = None,
    headers: Mapping[str, str] | None = None,
) -> Facts:
    """All facts of one request.

    With a `trajectory` the messages themselves aren't read again, so a transcript's turns cost O(1) each.
    `cache` is (shared bytes, shared share, age in ms) as PrefixMemory.lookup gives it; None = unknown.
    `headers` are the client's, by lower-case name; without them its texts alone tell who calls and what for.
    A request that builds on `previous_response_id` shows only its last messages: its turn is unknown then.
    """
    # A line a fact, all in one place: longer than a function should be, and easier to keep complete.
    so_far = trajectory_of(request) if trajectory is None else trajectory
    hidden = request.previous_response_id is not None and trajectory is None
    if turn is None and not hidden:
        turn = so_far.n_assistant_messages
    if is_subagent is None:
        is_subagent = request.is_subagent
    known = (context_tokens_est, context_tokens_last, *(cache or (None, None, None)), turn, is_subagent)
    limit, salient = request.max_output_tokens, so_far.salient_pieces()
    return Facts(  # in the order of their names
        float(request.body_bytes),
        float(so_far.n_messages - so_far.n_system_messages),
        float(so_far.n_user_messages),
        float(so_far.n_assistant_messages),
        float(so_far.system_bytes),
        float(so_far.last_user_bytes),
        float(request.stream),
        None if limit is None else float(limit),
        float(request.tool_choice in ("required", "named")),
        None if request.thinking is None else float(request.thinking),
        EFFORTS.get(request.effort or ""),
        float(request.json_schema),
        float(so_far.n_images),
        float(request.cache_markers),
        float(so_far.signed or request.kept or request.previous_response_id is not None),
        *offered_values(request.tools, salient),
        *call_values(request, so_far.marks, headers or {}, is_subagent=is_subagent),
        *[None if number is None else float(number) for number in known],
        *so_far.values(),
        *text_values(salient),
    )
