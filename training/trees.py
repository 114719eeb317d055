"""The tree learner: LightGBM on what the table leaves over, bins made once for all folds and targets.

Success uses the `cross_entropy` objective: it takes soft labels as they are, where doubled weighted rows
would double the work and halve the meaning of `min_data_in_leaf`. Two targets, both as a starting value: the
table's, so that the residual is learned; or the table's plus what the task has in common, so that only each
candidate's advantage over the task mean is. On the logit scale "minus the mean" is an intercept of the task's
own; where a task ran on one candidate only it is nothing, and the two targets are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import MissingExtra
from models.table import TREE_COLUMNS
from training.blend import loss
from training.calibrate import sigmoid

if TYPE_CHECKING:
    import lightgbm as lgb

    from training.examples import Coded, Knobs
    from training.shrink import Link

_WORTH_THREADS = 20_000_000  # cells; below, two threads on busy cores wait longer than they work
_MIN_KNOWN = 0.02  # share of rows that must know a column for the trees to look at it
_WORTH_GROWING = 0.001  # share of the loss that the next step must have taken off
_FEW_COLUMNS = 32  # below, every tree sees all of them
_TASK_RIDGE = 0.5  # rows of information at even odds: a task that all solved has a finite intercept
_SWEEPS = 25


class TreeLearner:
    """LightGBM on the matrix (n, d + TREE_COLUMNS) of one head."""

    def __init__(self, matrix: np.ndarray, rows: Coded, link: Link, knobs: Knobs) -> None:
        self.rows, self.link, self.knobs = rows, link, knobs
        self.lightgbm = _lightgbm()
        live = live_columns(matrix)
        few = int(live.sum()) < _FEW_COLUMNS
        self.params: dict[str, Any] = {
            "objective": "cross_entropy" if link == "logit" else "regression",
            "learning_rate": knobs.learning_rate,
            "num_leaves": knobs.leaves,
            "min_data_in_leaf": knobs.min_data_in_leaf,
            "feature_fraction": 1.0 if few else knobs.feature_fraction,
            "lambda_l2": knobs.lambda_l2,
            "max_bin": knobs.max_bin,
            "feature_pre_filter": False,
            "enable_bundle": False,  # LightGBM 4.7 writes past its histograms on subsets with bundled columns
            "seed": knobs.seed,
            "num_threads": knobs.num_threads if int(live.sum()) * len(matrix) >= _WORTH_THREADS else 1,
            "deterministic": True,
            "force_col_wise": True,
            "verbose": -1,
        }
        self.matrix = matrix
        at = matrix.shape[1] - TREE_COLUMNS
        self.data = self.lightgbm.Dataset(
            np.where(live, matrix, np.float32(np.nan)),
            label=rows.target,
            categorical_feature=[at, at + 3],
            params=self.params,
            free_raw_data=False,
        ).construct()

    def train(self, where: np.ndarray, init: np.ndarray, trees: int) -> lgb.Booster:
        """Booster on the rows `where` (ascending), starting from their `init` values."""
        part = self.data if len(where) == len(self.matrix) else self._subset(where)
        part.set_init_score(init)
        booster: lgb.Booster = self.lightgbm.train(self.params, part, num_boost_round=trees)
        return booster

    def curves(self, inside: np.ndarray, inits: list[np.ndarray], offset: np.ndarray) -> list[np.ndarray]:
        """What trees trained on the rows `inside` (n,) bool add to the others, after each number of trees.

        One array (len(knobs.trees), n_outside) for each of `inits` (n,), the values to start from. Growth
        stops where the loss beside the `offset` (n,) of table and linear part hardly falls; what wasn't grown
        repeats the last.
        """
        where, outside = np.flatnonzero(inside), np.flatnonzero(~inside)
        part, held = self._subset(where), self.matrix[outside]
        return [self._grow(part, init[where], held, (outside, offset[outside])) for init in inits]

    def _grow(
        self, part: Any, init: np.ndarray, held: np.ndarray, scored: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        outside, offset = scored
        part.set_init_score(init)
        booster = self.lightgbm.Booster(params=self.params, train_set=part)
        curve = np.zeros((len(self.knobs.trees), len(held)))
        total, grown, best = np.zeros(len(held)), 0, np.inf
        for i, stop in enumerate(self.knobs.trees):
            for _ in range(grown, stop):
                booster.update()
            total = total + booster.predict(
                held, raw_score=True, start_iteration=grown, num_iteration=stop - grown, num_threads=1
            )
            curve[i:], grown = total, stop
            now = float(loss(offset + total, self.rows.target[outside], self.link).mean())
            if now > best * (1 - _WORTH_GROWING):
                break
            best = now
        return curve

    def _subset(self, where: np.ndarray) -> Any:
        return self.data.subset(where, params=self.params).construct()


def live_columns(matrix: np.ndarray) -> np.ndarray:
    """Boolean (columns,): what varies, NaN being a value of its own, and is known often enough.

    What hardly any row knows is noise, and makes a small log's training as slow as a large one's. The extra
    columns are always live.
    """
    first = matrix[:1]
    differs = ((matrix != first) & ~(np.isnan(matrix) & np.isnan(first))).any(axis=0)
    live: np.ndarray = differs & (np.isfinite(matrix).mean(axis=0) >= _MIN_KNOWN)
    live[-TREE_COLUMNS:] = True
    return live


def task_intercepts(value: np.ndarray, target: np.ndarray, task: np.ndarray) -> np.ndarray:
    """What the rows of a task (n,) int have in common beyond their values (n,), on the logit scale; (n,).

    The ridge estimate of an intercept per task, by Newton; 0 where the task has one row.
    """
    size = np.bincount(task)
    several = size[task] > 1
    intercept = np.zeros(len(size))
    for _ in range(_SWEEPS):
        p = sigmoid(value + intercept[task])
        score = np.bincount(task, weights=target - p) - _TASK_RIDGE * intercept
        step = np.clip(score / (np.bincount(task, weights=p * (1 - p)) + _TASK_RIDGE), -2.0, 2.0)
        intercept += step
        if np.abs(step).max() < 1e-6:
            break
    return np.where(several, intercept[task], 0.0)


def tasks_of(features: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Task number (n,) of each row: rows of a group whose features (n, d) are byte for byte the same.

    No function of the features can tell them apart, so whatever they have in common is no candidate's own.
    """
    seen: dict[tuple[str, int], int] = {}
    packed = np.ascontiguousarray(features)
    keys = zip(group.tolist(), (hash(row.tobytes()) for row in packed), strict=True)
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("lightgbm", "train") from error
    return lightgbm
