"""Answers of different candidates to one prompt, compared by the digests of their edits.

Equal digests say *same*; different ones say nothing, as most right diffs differ from each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from features.records import OutcomeRecord
from training.labels.kinds import PAIRS, stated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from training.labels.signals import Turn

_MARKS = ("undo:", "revert:")  # of digests which aren't of a level


class Compared(NamedTuple):
    """How two answers compare: a level or None, and whether only changed lines were seen."""

    level: Literal["L0", "L1", "L2"] | None
    weak: bool = False


def compare(a: Iterable[str], b: Iterable[str]) -> Compared:
    """The best level at which two answers' digests agree; the same calls word for word are L0."""
    common = set(a) & set(b)
    if any(entry.startswith("call:") for entry in common):
        return Compared("L0")
    levels: tuple[Literal["L0", "L1", "L2"], ...] = ("L0", "L1", "L2")
    for level in levels:
        for mark in ("", "~"):
            if any(entry.startswith(f"{mark}{level}:") for entry in common):
                return Compared(level, weak=bool(mark))
    return Compared(None)


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
    level, weak = compare(mine.digests or (), other.digests or ())
    kind = "same_lines" if weak else "same" if wanted == other.candidate else "agreement"
    value = None if level is None else stated(kind, good=True)
    detail = {"with": other.candidate, "request": other.request_id, "weak": weak}
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
        detail=msgspec.json.encode(detail).decode(),
    )
