"""Answers with what is known after them, aligned: what the two heads are fitted on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from features.errors import BadInput

MIN_ROWS = 60  # of answers with a target; fewer tell a base rate and nothing else
MIN_GROUPS = 3


class AfterRows(NamedTuple):
    """n answers of cheap candidates. NaN is unknown."""

    features: np.ndarray  # (n, d) float32
    names: tuple[str, ...]  # of the d features
    target: np.ndarray  # (n,) in 0..1: the answer's success, or the same diff as the reference's
    reference: np.ndarray  # (n,) in 0..1: the reference's success on the same request
    candidate: np.ndarray  # (n,) str, who answered
    group: np.ndarray  # (n,) str, never split
    harness: np.ndarray | None = None  # (n,) str: run features are compared within one

    def some(self, which: np.ndarray) -> AfterRows:
        """Some of the rows, by mask or index."""
        return AfterRows(
            self.features[which],
            self.names,
            self.target[which],
            self.reference[which],
            self.candidate[which],
            self.group[which],
            None if self.harness is None else self.harness[which],
        )


def usable(rows: AfterRows) -> AfterRows:
    """The rows that have a target; BadInput where they are too few, of one outcome or of too few groups."""
    known = rows.some(np.isfinite(rows.target))
    n, groups = len(known.target), len(np.unique(known.group))
    if n < MIN_ROWS or groups < MIN_GROUPS:
        raise BadInput(
            f"{n} judged answers in {groups} groups: at least {MIN_ROWS} in {MIN_GROUPS} are needed to tell "
            "which answers hold"
        )
    if np.ptp(known.target) == 0:
        raise BadInput(f"all {n} judged answers came out alike: there is nothing to tell apart")
    return known
