"""A candidate's name as logs, catalogue and bundle agree on it: no seller, no date, lower case, effort."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Reasoning efforts in the words of the providers, and their rank.
EFFORTS: dict[str, float] = {
    "none": 0.0,
    "minimal": 0.0,
    "low": 1.0,
    "medium": 2.0,
    "high": 3.0,
    "xhigh": 4.0,
    "max": 5.0,
}
_OF_RANK = {0.0: "minimal", **{rank: word for word, rank in EFFORTS.items() if rank}}
_SNAPSHOT = re.compile(r"[-@]20\d{2}-?[01]\d-?[0-3]\d$")


def effort_name(effort: str | float | None) -> str | None:
    """The one word for an effort given as a provider's word or as a rank; None for what isn't one."""
    rank = EFFORTS.get(effort.strip().lower()) if isinstance(effort, str) else effort
    return None if rank is None else _OF_RANK.get(rank)


def candidate_name(said: str, effort: str | float | None = None) -> str:
    """Name the candidate behind a logged name: `openai/gpt-5.4-2026-03-05` at high effort is gpt-5.4@high.

    An effort that the name itself carries wins over the one given.
    """
    name = said.strip().lower().rsplit("/", 1)[-1]
    head, at, tail = name.rpartition("@")
    own = effort_name(tail) if at else None
    model = _SNAPSHOT.sub("", head if own else name)
    word = own or effort_name(effort)
    return f"{model}@{word}" if word else model


def best_known(said: str, effort: str | float | None, rows: Mapping[str, int]) -> str | None:
    """Which known candidate stands for a name: at that effort, else at none given, else its best known one.

    `rows` has the known candidates' names, as `candidate_name` gives them, and how many rows know each.
    """
    exact = candidate_name(said, effort)
    plain = exact.partition("@")[0]
    if exact in rows or plain in rows:
        return exact if exact in rows else plain
    others = [name for name in rows if name.startswith(f"{plain}@")]
    return max(others, key=lambda name: (rows[name], name), default=None)
