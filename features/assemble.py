"""A request becomes its facts: the one place where the parts of this room are put together.

Serving and the log readers both call `facts_of`, so a feature means the same in training and in production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from features.facts import Facts
from features.names import EFFORTS
from features.sessionkind import call_facts, client_of, kind_of
from features.textfacts import text_facts
from features.toolschema import offered_facts
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
    shared, share, age = cache or (None, None, None)
    limit = request.max_output_tokens
    said, salient = headers or {}, so_far.salient_pieces()
    kind = kind_of(request, so_far.marks, said, is_subagent=is_subagent)
    facts = {
        "body_bytes": float(request.body_bytes),
        "n_messages": float(so_far.n_messages - so_far.n_system_messages),
        "n_user_messages": float(so_far.n_user_messages),
        "n_assistant_messages": float(so_far.n_assistant_messages),
        "system_bytes": float(so_far.system_bytes),
        "last_user_bytes": float(so_far.last_user_bytes),
        "stream": float(request.stream),
        "max_output_tokens": None if limit is None else float(limit),
        "tool_choice_forced": float(request.tool_choice in ("required", "named")),
        "thinking": None if request.thinking is None else float(request.thinking),
        "effort": EFFORTS.get(request.effort or ""),
        "json_schema": float(request.json_schema),
        "n_images": float(so_far.n_images),
        "cache_markers": float(request.cache_markers),
        "provider_bound": float(so_far.signed or request.kept or request.previous_response_id is not None),
        **offered_facts(request.tools, *salient),
        **call_facts(client_of(said, so_far.marks), kind),
        "context_tokens_est": context_tokens_est,
        "context_tokens_last": context_tokens_last,
        "cache_shared_bytes": shared,
        "cache_shared_share": share,
        "cache_age_ms": age,
        "turn": None if turn is None else float(turn),
        "is_subagent": None if is_subagent is None else float(is_subagent),
        **so_far.facts(),
        **text_facts(*salient),
    }
    return msgspec.convert(facts, Facts)  # as keyword arguments nearly three times as long
