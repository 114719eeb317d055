"""From predictions to a choice: p − λ·cost, with λ and abstention decided on the training part alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.evaluate.bootstrap import beats, mean_known
from training.metrics import paired_error

if TYPE_CHECKING:
    from training.evaluate.matrix import Matrix

# Success that one call of mean cost is worth, from "money is nothing" to "money is everything".
LAMBDAS = np.concatenate([[0.0], 10.0 ** np.arange(-3.0, 3.01, 0.25)])
_PRIOR_ROWS = 10.0  # what a model's mean cost counts for inside a task type


class Book(NamedTuple):
    """What the training part of a fold says of money and pins."""

    expected: np.ndarray  # (n, m) expected USD of each task and model, by task type; NaN unknown
    scale: float  # mean of those over the training part, USD
    cost: np.ndarray  # (m,) mean USD of each pin
    quality: np.ndarray  # (m,) mean success of each pin
    pin: int  # the best single model

    @property
    def lambdas(self) -> np.ndarray:
        """The grid of λ; without known costs only 0 makes sense."""
        return LAMBDAS if np.isfinite(self.expected).all() and self.scale > 0 else LAMBDAS[:1]

    def lambda_usd(self, index: int) -> float:
        """λ as success per USD."""
        return float(LAMBDAS[index] / self.scale) if index else 0.0


def book(matrix: Matrix, train: np.ndarray) -> Book:
    """Pins and expected costs from the rows `train` (n,) bool; of equal pins the cheapest is the best."""
    cost = mean_known(matrix.cost[train].T)
    quality = matrix.success[train].mean(axis=0)
    expected = np.tile(cost, (len(train), 1))
    for kind in np.unique(matrix.category[train]):
        inside = matrix.cost[train & (matrix.category == kind)]
        known = np.isfinite(inside)
        total = np.where(known, inside, 0.0).sum(axis=0)
        expected[matrix.category == kind] = (total + _PRIOR_ROWS * cost) / (known.sum(axis=0) + _PRIOR_ROWS)
    order = np.lexsort((np.nan_to_num(cost, nan=np.inf), -np.round(quality, 12)))
    return Book(expected, float(np.mean(expected[train])), cost, quality, int(order[0]))


def choices(p: np.ndarray, expected: np.ndarray, known: Book) -> np.ndarray:
    """Model chosen for each λ: (L, rows) from p and expected cost, both (rows, m)."""
    if len(known.lambdas) == 1:
        return np.asarray(np.argmax(p, axis=1))[None, :]
    price = expected / known.scale
    return np.stack([np.argmax(p - weight * price, axis=1) for weight in known.lambdas])


class Operating(NamedTuple):
    """Indices into the grid of λ; None means the best single model instead."""

    headline: (
        int | None
    )  # best quality, the cheapest within one standard error of it, if it beats pin and mix
    parity: int | None  # the cheapest that is as good as the pin
    unguarded: int  # the headline without the right to abstain


def operate(
    quality: np.ndarray, cost: np.ndarray, pin: np.ndarray, mixed: np.ndarray, group: np.ndarray
) -> Operating:
    """Choose λ on the training part.

    quality, cost (L, n): outcome of each λ; pin (n,): success of the best single model; mixed (L, n): success
    of the best mix of pins at each λ's cost; group (n,).
    """
    means, money = quality.mean(axis=1), mean_known(cost)
    money = np.nan_to_num(money, nan=0.0)
    best = int(np.lexsort((money, -np.round(means, 12)))[0])
    close = [i for i in range(len(means)) if _within_error(quality[i] - quality[best], group)]
    equal = [i for i in range(len(means)) if as_good_as(quality[i] - pin, group)]
    sound = [i for i in close if i in equal]
    unguarded = min(sound or [best], key=lambda i: money[i])
    if not sound or not beats(quality[unguarded] - mixed[unguarded], group):
        return Operating(None, None, unguarded)
    return Operating(unguarded, min(equal, key=lambda i: money[i]), unguarded)


def as_good_as(difference: np.ndarray, group: np.ndarray) -> bool:
    """Whether a paired difference (n,) is above 0 by half a standard error, for taking the cheapest."""
    mean, error = paired_error(difference, group)
    return mean >= 0.5 * error


def _within_error(difference: np.ndarray, group: np.ndarray) -> bool:
    mean, error = paired_error(difference, group)
    return mean >= -error if np.isfinite(error) else mean >= 0


def mix_weights(cost: np.ndarray, quality: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """Best mix of pins for each budget (b,): weights (b, m) on the upper hull of (cost, quality).

    Below the cheapest pin it is that pin; beyond the best pin it is the best, since more money buys nothing.
    """
    order = np.lexsort((-quality, cost))
    hull: list[int] = []
    for i in order:
        if hull and quality[i] <= quality[hull[-1]]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], i, cost, quality):
            hull.pop()
        hull.append(int(i))
    weights = np.zeros((len(budget), len(cost)))
    ends = cost[hull]
    right = np.clip(np.searchsorted(ends, budget), 1, max(len(hull) - 1, 1)) if len(hull) > 1 else None
    if right is None:
        weights[:, hull[0]] = 1.0
        return weights
    span = ends[right] - ends[right - 1]
    share = np.clip((budget - ends[right - 1]) / span, 0.0, 1.0)
    rows, vertices = np.arange(len(budget)), np.array(hull)
    weights[rows, vertices[right]] += share
    weights[rows, vertices[right - 1]] += 1 - share
    return weights


def _below(a: int, b: int, c: int, cost: np.ndarray, quality: np.ndarray) -> bool:
    """Whether b lies on or below the line from a to c."""
    rise = (quality[c] - quality[a]) * (cost[b] - cost[a])
    return bool((quality[b] - quality[a]) * (cost[c] - cost[a]) <= rise)
