"""Where policies are judged: by estimates on a log, or by the outcomes themselves where all are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from training.replay.matrix import Matrix, MatrixJudge
from training.replay.quality import Judge, Quality

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from training.replay.entries import Entry
    from training.replay.evidence import Evidence

UNKNOWN_OF_TWO = "its answer depends on two candidates at once, which a log of single answers doesn't know"


class Court(NamedTuple):
    """The evidence, and the matrix where there is one."""

    evidence: Evidence
    reference: np.ndarray  # (n,) arms
    matrix: Matrix | None = None

    def judge(self, which: np.ndarray | None = None) -> Judge | MatrixJudge:
        """Who estimates the quality of policies on these calls (n,)."""
        if self.matrix is None:
            return Judge(self.evidence, which)
        return MatrixJudge(self.matrix, self.reference, which)

    def sit(self, entries: Sequence[Entry], calls: int) -> None:
        """Give every entry its quality that has none yet."""
        judge = self.judge()
        for entry in entries:
            entry.quality = quality_of(judge, entry, calls)


def quality_of(judge: Judge | MatrixJudge, entry: Entry, calls: int) -> Quality:
    """Quality of one entry; what it has already, where outcomes gave it that."""
    if entry.quality.supported:
        return entry.quality
    if entry.target is None:
        return Quality(why=UNKNOWN_OF_TWO)
    return judge.of(entry.target, entry.total / max(calls, 1))
