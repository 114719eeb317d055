"""The outcome model of the estimators: a shrunken table of type x arm, cross-fitted by cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from training.estimators.bandit import Bandit

FOLDS = 5
STRENGTH = 8.0  # rows that an arm's mean counts for in each of its cells
_MEAN_STRENGTH = 4.0  # rows that the overall mean counts for in an arm's


class Cells(NamedTuple):
    """Sums of known rewards and their count by fold of clusters, arm and kind, each (FOLDS, k, kinds)."""

    total: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, log: Bandit, kind: np.ndarray, kinds: int) -> Cells:
        """The sums of these decisions; logged and paired rewards count alike."""
        fold = log.cluster % FOLDS
        total, count = (np.zeros((FOLDS, len(log.arms), kinds)) for _ in range(2))
        known = np.isfinite(log.reward)
        at = fold[known], log.action[known], kind[known]
        np.add.at(total, at, log.reward[known])
        np.add.at(count, at, 1.0)
        if log.paired is not None:
            row, arm = np.nonzero(np.isfinite(log.paired))
            at = fold[row], arm, kind[row]
            np.add.at(total, at, log.paired[row, arm])
            np.add.at(count, at, 1.0)
        return cls(total, count)

    def plus(self, other: Cells) -> Cells:
        """The sums of both."""
        return Cells(self.total + other.total, self.rows + other.rows)

    def guesses(self) -> np.ndarray:
        """Guess of each arm's reward (FOLDS, k, kinds) by the other folds."""
        return _shrunken(
            self.total.sum(axis=0) - self.total,
            self.rows.sum(axis=0) - self.rows,
        )


def table_model(log: Bandit, kind: np.ndarray) -> np.ndarray:
    """Guess of each arm's reward (n, k): arm x kind cells (kind is (n,) int >= 0) of other clusters' rewards.

    A cell is drawn to its arm's mean, moved by what the kind does to all arms, and an arm's mean to the mean
    of all.
    """
    cells = Cells.of(log, kind, int(kind.max(initial=0)) + 1)
    return guessed(cells.guesses(), log, kind)


def guessed(guesses: np.ndarray, log: Bandit, kind: np.ndarray) -> np.ndarray:
    """The guesses (FOLDS, k, kinds) that hold for these decisions (n, k)."""
    found: np.ndarray = guesses[log.cluster % FOLDS, :, kind]
    return found


def _shrunken(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Cells (f, k, kinds) from sums and counts of rows."""
    overall = total.sum(axis=(1, 2), keepdims=True) / np.maximum(count.sum(axis=(1, 2), keepdims=True), 1)
    rows = count.sum(axis=2, keepdims=True)
    arm = (total.sum(axis=2, keepdims=True) + _MEAN_STRENGTH * overall) / (rows + _MEAN_STRENGTH)
    expected = (arm * count).sum(axis=1, keepdims=True)
    of_kind = count.sum(axis=1, keepdims=True)
    moved = (total.sum(axis=1, keepdims=True) - expected) / (of_kind + STRENGTH)
    prior = np.clip(arm + moved, 0.0, 1.0)
    found: np.ndarray = (total + STRENGTH * prior) / (count + STRENGTH)
    return found
