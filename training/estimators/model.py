"""The outcome model of the estimators: a shrunken table of type x arm, cross-fitted by cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.estimators.bandit import Bandit

FOLDS = 5
STRENGTH = 8.0  # rows that an arm's mean counts for in each of its cells
_MEAN_STRENGTH = 4.0  # rows that the overall mean counts for in an arm's


def table_model(log: Bandit, kind: np.ndarray) -> np.ndarray:
    """Guess of each arm's reward (n, k): arm x kind cells (kind is (n,) int >= 0) of other clusters' rewards.

    Logged and paired rewards count alike; a cell is drawn to its arm's mean, moved by what the kind does to
    all arms, and an arm's mean to the mean of all.
    """
    k, kinds = len(log.arms), int(kind.max(initial=0)) + 1
    fold = log.cluster % FOLDS
    total, count = (np.zeros((FOLDS, k, kinds)) for _ in range(2))
    known = np.isfinite(log.reward)
    at = fold[known], log.action[known], kind[known]
    np.add.at(total, at, log.reward[known])
    np.add.at(count, at, 1.0)
    if log.paired is not None:
        row, arm = np.nonzero(np.isfinite(log.paired))
        at = fold[row], arm, kind[row]
        np.add.at(total, at, log.paired[row, arm])
        np.add.at(count, at, 1.0)
    total, count = total.sum(axis=0) - total, count.sum(axis=0) - count
    cells = _shrunken(total, count)
    found: np.ndarray = cells[fold, :, kind]
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
