"""What is heard of made-up answers: test runs that a client reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from features.records import OutcomeRecord
from training.simulate.play import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.simulate.play import Served, Team
    from training.simulate.traffic import Ask, Script

_LATER_MS = 1_500  # a client reports after the answer


def outcome(team: Team, script: Script, ask: Ask, served: Sequence[Served]) -> OutcomeRecord | None:
    """What a client reports of an ask, on the call that its arm was chosen for; None: nothing."""
    if len(served) < len(ask.steps):
        return None  # the log ends before the ask does
    first = served[0].call.receipt
    heard = told(ask, team.arms.index(first.chosen), team.traffic)
    if heard is None:
        return None
    ts_ms = served[-1].end_ms + _LATER_MS
    return OutcomeRecord(
        outcome_id=f"out_{_digest('outcome', first.request_id)}",
        ts_ms=ts_ms,
        recorded_ms=ts_ms,
        source="tests",
        request_id=first.request_id,
        session_id=script.session_id,
        candidate=first.chosen,
        level="tests",
        value=float(heard),
    )


def _digest(*words: str) -> str:
    return xxhash.xxh3_128_hexdigest("/".join(words).encode())
