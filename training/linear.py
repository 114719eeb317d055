"""Fitting the linear learner: one ridge step from the table, weights shared by all and each candidate's own.

The step is Newton's first, taken from the table's out-of-fold value: what is left to explain is small there,
and the blend scales it anyway. So everything is sums of products by fold and candidate, made once; a fold
left out is a subtraction, a ridge one small system. Own weights live on the leading principal directions of
the features, or fifty candidates of 240 features would be 12,000 numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.linear import LinearPart, chunks, standardised
from training.calibrate import sigmoid

if TYPE_CHECKING:
    from training.examples import Coded, Knobs
    from training.shrink import Link

_MAX_OWN = 128  # candidates with weights of their own
_MIN_KNOWN = 0.02  # share of rows that must know a feature
_LEAST_INFORMATION = 0.02  # of a row, where the table is sure: one bold miss must not outweigh the rest


class Ridge(NamedTuple):
    """Strength of the prior on shared and own weights, in rows of information at unit variance."""

    shared: float
    own: float


class Weights(NamedTuple):
    """Solved weights: shared (m + 1,), own (S + 1, k + 1) on the principal directions, the last row zeros."""

    shared: np.ndarray
    own: np.ndarray


class LinearLearner:
    """Sums of products of one head's rows, from which the weights of any folds and ridge follow."""

    def __init__(self, features: np.ndarray, rows: Coded, fold: np.ndarray, link: Link, knobs: Knobs) -> None:
        self.rows, self.fold, self.link, self.knobs = rows, fold, link, knobs
        self.columns, self.mean, self.scale = _scaling(features)
        z = np.ones((len(features), len(self.columns) + 1), dtype=np.float32)
        for part in chunks(len(features)):
            z[part, :-1] = standardised(features[part], self.columns, self.mean, self.scale)
        self.z = z
        self.slot = _slots(rows.candidate, rows.n_candidates, knobs.min_rows_own)
        self.slot_of_row = self.slot[rows.candidate]
        self.slots = int(self.slot[-1])

    def prepare(self, table_oof: np.ndarray) -> None:
        """Sum the products, weighted by the information of each row at the table's value (n,)."""
        information = np.ones(len(table_oof))
        if self.link == "logit":
            p = sigmoid(table_oof)
            information = np.maximum(p * (1 - p), _LEAST_INFORMATION)
        root = np.sqrt(information).astype(np.float32)
        order = np.lexsort((self.slot_of_row, self.fold))
        n_folds, width = int(self.fold.max()) + 1, self.z.shape[1]
        gram = np.zeros((n_folds, width, width))
        for f in range(n_folds):
            for part in chunks(len(mine := order[self.fold[order] == f])):
                weighted = self.z[mine[part]] * root[mine[part], None]
                gram[f] += weighted.T @ weighted
        self.gram = gram
        self.axes = _axes(gram.sum(axis=0), self.knobs.own_directions)
        self.u = self.z @ self.axes.astype(np.float32)
        self.cross = np.zeros((n_folds, self.slots, self.axes.shape[1], width))
        key = self.fold[order] * (self.slots + 1) + self.slot_of_row[order]
        for start, stop in _runs(key):
            mine = order[start:stop]
            f, slot = divmod(int(key[start]), self.slots + 1)
            if slot < self.slots:
                weight = information[mine].astype(np.float32)
                self.cross[f, slot] = (self.u[mine] * weight[:, None]).T @ self.z[mine]

    def solve(self, inside: np.ndarray, offset: np.ndarray, ridges: list[Ridge]) -> list[Weights]:
        """Weights for each ridge from the rows `inside` (n,) bool, given their offset (n,)."""
        folds = np.unique(self.fold[inside])
        fitted = sigmoid(offset) if self.link == "logit" else offset
        left = np.where(inside, self.rows.target - fitted, 0.0).astype(np.float32)
        pull = np.stack(
            [np.bincount(self.slot_of_row, weights=left * u, minlength=self.slots + 1) for u in self.u.T],
            axis=1,
        )[: self.slots]
        gram, cross = self.gram[folds].sum(axis=0), self.cross[folds].sum(axis=0)
        shared_pull = (left @ self.z).astype(np.float64)
        return [_solve(gram, cross, shared_pull, (pull, self.axes), ridge) for ridge in ridges]

    def values(self, weights: Weights, where: np.ndarray) -> np.ndarray:
        """Values (len(where),) of rows by number."""
        own = (self.u[where] * weights.own[self.slot_of_row[where]]).sum(axis=1)
        result: np.ndarray = self.z[where] @ weights.shared + own
        return result

    def part(self, weights: Weights) -> LinearPart:
        """Write the weights in the form that is served."""
        own = weights.own @ self.axes.T
        return LinearPart(self.columns, self.mean, self.scale, weights.shared, own, self.slot)


def ridges(knobs: Knobs) -> list[Ridge]:
    """All pairs of ridges to try; own weights are always held closer to zero than shared ones."""
    return [Ridge(s, s * own) for s in knobs.ridges for own in knobs.own_ridges]


def _scaling(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns that vary and are known often enough, their mean and 1 / deviation, over known values."""
    n, d = features.shape
    count, total, square = np.zeros(d), np.zeros(d), np.zeros(d)
    centre = np.nan_to_num(features[:1].astype(np.float64), posinf=0.0, neginf=0.0)
    for part in chunks(n):
        values = features[part].astype(np.float64)
        known = np.isfinite(values) & (np.abs(values) < 1e30)
        values = np.where(known, values - centre, 0.0)
        count += known.sum(axis=0)
        total += values.sum(axis=0)
        square += (values**2).sum(axis=0)
    count1 = np.maximum(count, 1)
    variance = square / count1 - (total / count1) ** 2
    varies = (variance > 1e-10 * np.maximum(square / count1, 1e-12)) & (count >= max(2.0, _MIN_KNOWN * n))
    columns = np.flatnonzero(varies)
    mean = (centre[0] + total / count1)[columns]
    return columns, mean, 1.0 / np.sqrt(variance[columns])


def _axes(gram: np.ndarray, directions: int) -> np.ndarray:
    """Leading principal directions of the features, and the constant by itself: (m + 1, k + 1)."""
    width = gram.shape[0] - 1
    k = min(width, directions)
    axes = np.zeros((width + 1, k + 1))
    axes[-1, -1] = 1.0
    if k == width:
        axes[:-1, :-1] = np.eye(width)
    else:
        axes[:-1, :-1] = np.linalg.eigh(gram[:-1, :-1])[1][:, -k:]
    return axes


def _runs(key: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of each run of equal values in an ordered array (n,)."""
    edges = np.flatnonzero(np.diff(key)) + 1
    bounds = [0, *map(int, edges), len(key)]
    return list(pairwise(bounds))


def _slots(candidate: np.ndarray, n_candidates: int, min_rows: int) -> np.ndarray:
    """Slot (n_candidates + 1,) of each candidate with enough rows, most rows first; the last: all others."""
    rows = np.bincount(candidate, minlength=n_candidates)
    order = np.argsort(-rows, kind="stable")[:_MAX_OWN]
    order = order[rows[order] >= min_rows]
    slot = np.full(n_candidates + 1, len(order), dtype=np.int64)
    slot[order] = np.arange(len(order))
    return slot


def _solve(
    gram: np.ndarray,
    cross: np.ndarray,
    shared_pull: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    ridge: Ridge,
) -> Weights:
    """Solve shared and own weights together: each candidate's block is eliminated, the rest is one system."""
    pull, axes = own
    system = gram + ridge.shared * np.eye(len(gram))
    inner = cross @ axes + ridge.own * np.eye(axes.shape[1])
    gone = np.linalg.solve(inner, cross)  # (S, k + 1, m + 1)
    kept = np.linalg.solve(inner, pull[:, :, None])[:, :, 0]
    flat = cross.reshape(-1, len(gram))
    system -= flat.T @ gone.reshape(-1, len(gram))
    shared = np.linalg.solve(system, shared_pull - kept.ravel() @ flat)
    return Weights(shared, np.concatenate([kept - gone @ shared, np.zeros((1, axes.shape[1]))]))
