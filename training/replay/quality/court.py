"""Where policies are judged: by estimates on a log, or by the outcomes themselves where all are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from training.replay.quality.judge import Judge
from training.replay.quality.matrix import Matrix, MatrixJudge
from training.replay.quality.quoted import Quality

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from training.replay.logged.parts import Parts
    from training.replay.policies.entries import Entry
    from training.replay.quality.evidence import Evidence

UNKNOWN_OF_TWO = "its answer depends on two candidates at once, which a log of single answers doesn't know"


class Court(NamedTuple):
    """The evidence, and the matrix with its references (n,) where there is one."""

    evidence: Parts[Evidence]
    matrix: tuple[Matrix, np.ndarray] | None = None
    groups: np.ndarray | None = None  # (S,) int clusters that intervals are over; None: sessions

    def judge(self, sessions: np.ndarray | None = None) -> Judge | MatrixJudge:
        """Who estimates the quality of policies in these sessions (S,) bool; None: in all."""
        if self.matrix is None:
            return Judge(self.evidence, sessions, self.groups)
        return MatrixJudge(*self.matrix, sessions, self.groups)

    def sit(self, entries: Sequence[Entry], calls: int) -> None:
        """Give every entry its quality that has none yet."""
        for entry, said in zip(entries, judged(self.judge(), entries, calls), strict=True):
            entry.quality = said


def judged(judge: Judge | MatrixJudge, entries: Sequence[Entry], calls: int) -> list[Quality]:
    """Quality of each entry; what it has already, where outcomes gave it that."""
    asked = [e for e in entries if e.target is not None and not e.quality.supported]
    targets = [e.target for e in asked if e.target is not None]
    found = judge.every(targets, [e.total / max(calls, 1) for e in asked])
    answers = {id(entry): said for entry, said in zip(asked, found, strict=True)}
    return [
        entry.quality if entry.quality.supported else answers.get(id(entry), Quality(why=UNKNOWN_OF_TWO))
        for entry in entries
    ]
