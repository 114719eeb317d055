"""The recipe both heads share: the table out of fold, then LightGBM on what it leaves over, if that helps.

The table's out-of-fold value is LightGBM's `init_score`; the number of trees, 0 meaning the table alone, is
chosen on predictions for groups that neither the table nor the trees have seen. Success uses the
`cross_entropy` objective: it takes soft labels as they are, where doubled weighted rows would double the work
and halve the meaning of `min_data_in_leaf`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from features.errors import MissingExtra
from models.table import TREE_COLUMNS, Table, extra_columns, model_matrix
from training.calibrate import log_loss, platt, sigmoid
from training.examples import Coded, Examples, Knobs, code_rows, names_of
from training.shrink import Link, fit_table, out_of_fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    import lightgbm as lgb

    from models.descriptors import Prices

_WORTH_THREADS = 20_000_000  # cells; below, two threads on busy cores wait longer than they work
_MIN_KNOWN = 0.02  # share of rows that must know a column for the trees to look at it


class Fitted(NamedTuple):
    """What the common recipe hands to a head; arrays are (n,) over all rows, NaN where there is no target."""

    table: Table
    booster: lgb.Booster | None
    fold: np.ndarray
    oof: np.ndarray  # on the link scale, table + trees
    oof_table: np.ndarray
    metrics: dict[str, float]


def fit_recipe(
    examples: Examples, target: np.ndarray, link: Link, knobs: Knobs, trees: bool = True
) -> Fitted:
    """Choose the table's strength, then the number of trees, each out of fold; then fit all rows."""
    known = np.flatnonzero(np.isfinite(target))
    candidates = names_of(examples.candidate)
    task_types = tuple(t for t in names_of(examples.task_type[known]) if t)
    rows = code_rows(examples, target, known, (candidates, task_types), knobs)
    n_folds = int(rows.fold.max()) + 1
    strength, table_oof = _choose_strength(rows, link, n_folds, knobs)
    oof, metrics = table_oof, {"rows": float(len(known)), "strength": strength, "trees": 0.0}
    booster = None
    if trees and knobs.trees and n_folds > 1 and len(known) >= knobs.min_rows_for_trees:
        matrix = tree_matrix(examples.features[known], examples.candidate[known], candidates, examples.prices)
        learner = _Learner(matrix, rows, link, knobs)
        curve = learner.curve(strength, table_oof)
        groups = np.unique(examples.group[known], return_inverse=True)[1]
        best = _choose_trees(curve, table_oof, rows, link, groups, knobs)
        if best is not None:
            oof, metrics["trees"] = curve[best], float(knobs.trees[best])
            booster = learner.train(np.arange(len(known)), table_oof, knobs.trees[best])
    table = fit_table(rows, link, strength, candidates, task_types)
    metrics |= {"folds": float(n_folds), "loss_table": float(np.mean(_loss(table_oof, rows, link)))}
    metrics["loss"] = float(np.mean(_loss(oof, rows, link)))
    full = np.full((3, len(target)), np.nan)
    full[:, known] = rows.fold, oof, table_oof
    return Fitted(table, booster, full[0], full[1], full[2], metrics)


def tree_matrix(
    features: np.ndarray, candidate: Iterable[str], names: Iterable[str], prices: dict[str, Prices]
) -> np.ndarray:
    """Build what the trees split on, (n, d + 3) float32; `names` gives each candidate its index."""
    extra = extra_columns(candidate, {c: i for i, c in enumerate(names)}, prices)
    return model_matrix(features, extra[:, :TREE_COLUMNS])


def _choose_strength(rows: Coded, link: Link, n_folds: int, knobs: Knobs) -> tuple[float, np.ndarray]:
    """Find the strength of least out-of-fold loss and its values (n,); a lone group gets the middle one."""
    if n_folds == 1:
        middle = sorted(knobs.strengths)[len(knobs.strengths) // 2]
        spread = rows._replace(fold=np.arange(len(rows.target)) % 2)
        return middle, out_of_fold(spread, link, middle) if len(rows.target) > 1 else np.zeros(1)
    tried = [(s, out_of_fold(rows, link, s)) for s in knobs.strengths]
    return min(tried, key=lambda pair: float(np.mean(_loss(pair[1], rows, link))))


def _live_cells(matrix: np.ndarray) -> int:
    """Cells of the columns that vary, NaN being a value of its own; LightGBM leaves the others out."""
    first = matrix[:1]
    differs = (matrix != first) & ~(np.isnan(matrix) & np.isnan(first))
    return int(differs.any(axis=0).sum()) * len(matrix)


class _Learner:
    """LightGBM over the table's residual; bins the matrix once for all folds."""

    def __init__(self, matrix: np.ndarray, rows: Coded, link: Link, knobs: Knobs) -> None:
        self.matrix, self.rows, self.link, self.knobs = matrix, rows, link, knobs
        self.lightgbm = _lightgbm()
        self.params: dict[str, Any] = {
            "objective": "cross_entropy" if link == "logit" else "regression",
            "learning_rate": knobs.learning_rate,
            "num_leaves": knobs.leaves,
            "min_data_in_leaf": knobs.min_data_in_leaf,
            "feature_fraction": knobs.feature_fraction,
            "lambda_l2": knobs.lambda_l2,
            "max_bin": knobs.max_bin,
            "feature_pre_filter": False,
            "seed": knobs.seed,
            "num_threads": knobs.num_threads if _live_cells(matrix) >= _WORTH_THREADS else 1,
            "deterministic": True,
            "force_col_wise": True,
            "verbose": -1,
        }
        # What hardly any row knows is noise, and makes a small log's training as slow as a large one's.
        rare = np.isfinite(matrix[:, :-TREE_COLUMNS]).mean(axis=0) < _MIN_KNOWN
        matrix = matrix.copy()
        matrix[:, :-TREE_COLUMNS][:, rare] = np.nan
        index_column = matrix.shape[1] - TREE_COLUMNS
        self.data = self.lightgbm.Dataset(
            matrix,
            label=rows.target,
            categorical_feature=[index_column],
            params=self.params,
            free_raw_data=False,
        ).construct()

    def train(self, where: np.ndarray, init: np.ndarray, trees: int) -> lgb.Booster:
        """Booster on the rows `where` (ascending), starting from their `init` values."""
        part = self.data.subset(where, params=self.params).construct()
        part.set_init_score(init)
        booster: lgb.Booster = self.lightgbm.train(self.params, part, num_boost_round=trees)
        return booster

    def curve(self, strength: float, table_oof: np.ndarray) -> np.ndarray:
        """Table + trees of every row after each number of trees, (len(knobs.trees), n), groups unseen.

        Inside the training folds the table is out of fold once more, and never knows the held-out fold.
        """
        steps, rows = self.knobs.trees, self.rows
        result = np.tile(table_oof, (len(steps), 1))
        for fold in range(int(rows.fold.max()) + 1):
            inside, outside = np.flatnonzero(rows.fold != fold), np.flatnonzero(rows.fold == fold)
            init = self._inner(fold, strength)[inside]
            booster = self.train(inside, init, steps[-1])
            total = np.zeros(len(outside))
            for i, (start, stop) in enumerate(zip((0, *steps), steps, strict=False)):
                total = total + np.asarray(
                    booster.predict(
                        self.matrix[outside],
                        raw_score=True,
                        start_iteration=start,
                        num_iteration=stop - start,
                    )
                )
                result[i, outside] += total
        return result

    def _inner(self, fold: int, strength: float) -> np.ndarray:
        if int(self.rows.fold.max()) == 1:  # two folds: inside one there is nothing to fold but its rows
            half = self.rows._replace(
                fold=np.where(self.rows.fold == fold, 2, np.arange(len(self.rows.fold)) % 2)
            )
            return out_of_fold(half, self.link, strength, without=2)
        return out_of_fold(self.rows, self.link, strength, without=fold)


def _choose_trees(
    curve: np.ndarray, table_oof: np.ndarray, rows: Coded, link: Link, group: np.ndarray, knobs: Knobs
) -> int | None:
    """Index into knobs.trees of the best number; None when the table is as good, group by group."""
    base = _calibrated_loss(table_oof, rows, link)
    losses = [_calibrated_loss(line, rows, link) for line in curve]
    best = int(np.argmin([loss.mean() for loss in losses]))
    gain = base - losses[best]
    by_group = np.bincount(group, weights=gain - gain.mean())
    error = float(np.sqrt(np.sum(by_group**2))) / len(gain)
    return best if gain.mean() > max(knobs.min_gain_se * error, 0.0) else None


def _calibrated_loss(raw: np.ndarray, rows: Coded, link: Link) -> np.ndarray:
    if link == "identity":
        return _loss(raw, rows, link)
    a, b = platt(raw, rows.target, rows.fold)
    return log_loss(sigmoid(a * raw + b), rows.target)


def _loss(raw: np.ndarray, rows: Coded, link: Link) -> np.ndarray:
    return (raw - rows.target) ** 2 if link == "identity" else log_loss(sigmoid(raw), rows.target)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("lightgbm", "train") from error
    return lightgbm
