"""How much of the learners to believe: table + w · trees + v · linear, found on groups they never saw.

Nested: what is chosen for a fold here is chosen on the other folds, so the gain over the table that lets the
learners in is measured on rows that no choice of weights and settings has seen. Two smaller choices have seen
them: trees stop growing, and the ridge that they grow beside is picked, by the held-out fold's own loss
(`trees`, `residual`). So the gain is a little flattered; held-out groups, which the gates score, see neither.
The table alone is the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.calibrate import log_loss, platt, sigmoid

if TYPE_CHECKING:
    from training.examples import Coded, Knobs
    from training.shrink import Link

_WORTH_TREES = 0.001  # share of the loss that they must take off


class Choice(NamedTuple):
    """Which of the trees' and of the linear learner's settings, by number, and the weight of each."""

    trees: int
    linear: int
    tree_weight: float
    linear_weight: float


class Blend(NamedTuple):
    """The choice on all rows, and the blend's out-of-fold values (n,), each chosen without the row's fold."""

    choice: Choice
    oof: np.ndarray
    gain: float  # of calibrated loss per row over the table
    gain_error: float  # its standard error over groups


def blend(
    table: np.ndarray,
    learners: tuple[list[np.ndarray], list[np.ndarray]],
    rows: Coded,
    link: Link,
    knobs: Knobs,
) -> Blend:
    """Choose by least out-of-fold loss; `learners` are contributions (n,) of trees and linear, by setting.

    Every contribution comes from a learner that never saw the row's group. No settings: weight 0.
    """
    search = _Search(table, learners, rows, link, knobs)
    oof = np.empty(len(table))
    for fold in range(int(rows.fold.max()) + 1):
        mine = rows.fold == fold
        oof[mine] = search.value(search.best(without=fold))[mine]
    return Blend(search.best(), oof, 0.0, 0.0)


def judged(found: Blend, table: np.ndarray, rows: Coded, link: Link, group: np.ndarray) -> Blend:
    """The same with its gain over the table (n,) and the error of that over groups (n,) int."""
    gain = calibrated_loss(table, rows, link) - calibrated_loss(found.oof, rows, link)
    by_group = np.bincount(group, weights=gain - gain.mean())
    error = float(np.sqrt(np.sum(by_group**2))) / len(gain)
    return found._replace(gain=float(gain.mean()), gain_error=error)


class _Search:
    """Losses by fold of every setting that was asked for."""

    def __init__(
        self,
        table: np.ndarray,
        learners: tuple[list[np.ndarray], list[np.ndarray]],
        rows: Coded,
        link: Link,
        knobs: Knobs,
    ) -> None:
        self.table, self.rows, self.link = table, rows, link
        none = [np.zeros(len(table))]
        self.trees, self.linear = learners[0] or none, learners[1] or none
        self.weights = [
            (w, v)
            for w in ((0.0, *knobs.blend_weights) if learners[0] else (0.0,))
            for v in ((0.0, *knobs.blend_weights) if learners[1] else (0.0,))
        ]
        self.alone = [
            np.array([self._by_fold(table + f) for f in each]) for each in (self.trees, self.linear)
        ]
        self.mixed: dict[tuple[int, int], np.ndarray] = {}

    def best(self, without: int | None = None) -> Choice:
        """Return the choice of least loss, but for one fold: each learner's setting, then the weights."""
        t, v = (int(np.argmin(_sum(losses, without))) for losses in self.alone)
        if (t, v) not in self.mixed:
            lines = (self.value(Choice(t, v, *weights)) for weights in self.weights)
            self.mixed[t, v] = np.array([self._by_fold(line) for line in lines])
        losses = _sum(self.mixed[t, v], without)
        bare = np.array([w == 0.0 for w, _ in self.weights])
        # Trees that take next to nothing off what the linear part leaves aren't worth growing and serving.
        if losses[bare].min() <= losses.min() * (1 + _WORTH_TREES):
            losses = np.where(bare, losses, np.inf)
        return Choice(t, v, *self.weights[int(np.argmin(losses))])

    def value(self, choice: Choice) -> np.ndarray:
        """Values (n,) on the link scale under a choice."""
        total: np.ndarray = (
            self.table
            + choice.tree_weight * self.trees[choice.trees]
            + choice.linear_weight * self.linear[choice.linear]
        )
        return total

    def _by_fold(self, raw: np.ndarray) -> np.ndarray:
        return np.bincount(self.rows.fold, weights=loss(raw, self.rows.target, self.link))


def _sum(losses: np.ndarray, without: int | None) -> np.ndarray:
    total: np.ndarray = losses.sum(axis=1)
    return total if without is None else total - losses[:, without]


def loss(raw: np.ndarray, target: np.ndarray, link: Link) -> np.ndarray:
    """Loss (n,) of values on the link scale: squared error, or cross-entropy in nats."""
    if link == "identity":
        return np.asarray((raw - target) ** 2)
    return np.asarray(np.logaddexp(0.0, raw) - target * raw)


def calibrated_loss(raw: np.ndarray, rows: Coded, link: Link) -> np.ndarray:
    """Loss (n,) after calibration: learners that only stretch the table have learned nothing."""
    if link == "identity":
        return loss(raw, rows.target, link)
    a, b = platt(raw, rows.target, rows.fold)
    return log_loss(sigmoid(a * raw + b), rows.target)
