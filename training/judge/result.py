"""Verdicts on pairs, with their counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from features.diffs.verdicts import ORDER, Verdict


class JudgedPairs(msgspec.Struct, frozen=True, kw_only=True):
    """The machine-readable result: a verdict per pair in the order of the rows, and the counts."""

    pairs: list[Verdict]
    summary: dict[str, Any]


def collect(verdicts: list[Verdict]) -> JudgedPairs:
    """Verdicts with their counts."""
    levels = Counter(verdict.level for verdict in verdicts)
    reasons = Counter(_bare(verdict.reason) for verdict in verdicts if verdict.level == "unknown")
    same = sum(verdict.same for verdict in verdicts)
    return JudgedPairs(
        pairs=verdicts,
        summary={
            "pairs": len(verdicts),
            "levels": {level: levels[level] for level in ORDER},
            "same": same,
            "same_share": same / len(verdicts) if verdicts else None,
            "weak": sum(verdict.weak for verdict in verdicts),
            "files_set_aside": sum(file.set_aside for verdict in verdicts for file in verdict.files),
            "unknown_reasons": dict(reasons.most_common(10)),
        },
    )


def _bare(reason: str | None) -> str:
    """A reason without the file it is about."""
    return (reason or "").split(": ")[-1]
