"""Answers of different candidates to one prompt, compared by the digests of their edits.

Equal digests say *same*; different ones say nothing, as most right diffs differ from each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.diffs.fingerprint import agreement
from features.records import OutcomeRecord
from training.labels.detail import written
from training.labels.kinds import PAIRS, stated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from training.labels.signals import Turn

_MARKS = ("undo:", "revert:")  # of digests which aren't of a level


def read_pairs(turns: Iterable[Turn], references: Mapping[str, str]) -> Iterator[OutcomeRecord]:
    """Outcomes of source "diff": one for each answer and each other candidate that answered its prompt.

    `references` holds, by request id, whose diff the decision wanted equalled. Where the other candidate is
    that one, the outcome names it; else the two merely agree.
    """
    prompts: dict[int, dict[str, Turn]] = {}
    edits = [
        turn
        for turn in turns
        if turn.hashes and turn.candidate and any(not d.startswith(_MARKS) for d in turn.digests or ())
    ]
    for turn in sorted(edits, key=lambda t: (t.ts_ms, t.request_id)):
        assert turn.hashes
        assert turn.candidate
        prompts.setdefault(turn.hashes[-1], {}).setdefault(turn.candidate, turn)
    for answers in prompts.values():
        for mine in answers.values():
            for other in answers.values():
                if mine is not other:
                    yield _outcome(mine, other, references.get(mine.request_id))


def _outcome(mine: Turn, other: Turn, wanted: str | None) -> OutcomeRecord:
    level, weak = agreement(mine.digests or (), other.digests or ())
    kind = "same_lines" if weak else "same" if wanted == other.candidate else "agreement"
    value = None if level is None else stated(kind, good=True)
    return OutcomeRecord(
        outcome_id=f"label/{PAIRS}/{mine.request_id}/{other.request_id}",
        ts_ms=max(mine.ts_ms, other.ts_ms),
        source=PAIRS,
        request_id=mine.request_id,
        session_id=mine.session_id,
        candidate=mine.candidate,
        reference=wanted if wanted == other.candidate else None,
        level=level or "unknown",
        value=value,
        weight=None if value is None else abs(2 * value - 1),
        detail=written({"with": other.candidate, "request": other.request_id, "weak": weak}),
    )
