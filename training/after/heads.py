"""Two heads on the same evidence: P(target) of an answer in hand, and P(the reference succeeds) beside it.

Log-odds of each = the candidate's shrunken mean + w · ridge regression + v · small trees, on what the mean
leaves. Weights other than 0 need a lower loss on folds that split no group; they are chosen, and calibration
is fitted, inside the training rows only, and for `oof` without the row's own fold.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.after.rows import MIN_ROWS, usable
from training.calibrate import log_loss, logit, platt, sigmoid
from training.examples import assign_folds
from training.metrics import paired_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    import lightgbm as lgb

    from training.after.rows import AfterRows

Way = tuple[float, float, float]  # ridge, weight of the linear part, weight of the trees

FOLDS = 5
RIDGES = (3.0, 30.0, 300.0)  # rows of information at unit variance
TREES = 80
SILENT: Way = (RIDGES[0], 0.0, 0.0)  # the candidates' means alone
WAYS: tuple[Way, ...] = (
    SILENT,
    *((ridge, w, v) for ridge in RIDGES for w, v in ((1.0, 0.0), (0.5, 0.5), (1.0, 0.5))),
    (RIDGES[0], 0.0, 1.0),
    (RIDGES[0], 0.0, 0.5),
)
_MEAN_STRENGTH = 10.0  # answers that the mean of all counts for in a candidate's
_OWN_SCALE = 50  # rows of a harness


class Scale(NamedTuple):
    """How raw features become comparable numbers: within a harness where there are enough of its rows."""

    mean: dict[str, np.ndarray]  # (d,) by harness; "" for all
    spread: dict[str, np.ndarray]

    def apply(self, features: np.ndarray, harness: np.ndarray) -> np.ndarray:
        """Standardised (n, d) float64, unknown as the mean, cut at five spreads."""
        out = np.empty(features.shape)
        for name in np.unique(harness):
            mine = harness == name
            key = str(name) if str(name) in self.mean else ""
            out[mine] = (features[mine] - self.mean[key]) / self.spread[key]
        found: np.ndarray = np.clip(np.nan_to_num(out, nan=0.0), -5.0, 5.0)
        return found


class Head(NamedTuple):
    """One fitted head: log-odds of the candidate's mean + linear part + trees, then calibrated."""

    scale: Scale
    means: dict[str, float]  # log-odds of each candidate; "" of any other
    linear: tuple[np.ndarray, float] | None  # weights (d,) of scaled features and an offset; None: silent
    trees: lgb.Booster | None
    tree_weight: float
    calibration: tuple[float, float]
    oof: np.ndarray  # (n,) P of the rows it was fitted on; fit, choice and calibration without the row's fold
    oof_of: tuple[np.ndarray, ...] = ()  # the same of the rows as they were asked to be instead

    @property
    def parts(self) -> str:
        """What speaks beside the candidates' means: base (nothing), linear, trees or both."""
        if self.linear is None:
            return "base" if self.trees is None else "trees"
        return "linear" if self.trees is None else "both"

    def log_odds(self, rows: AfterRows) -> np.ndarray:
        """Calibrated log-odds (n,)."""
        a, b = self.calibration
        x = self.scale.apply(rows.features, _harness(rows))
        found: np.ndarray = a * (_base(self.means, rows) + self._said(x)) + b
        return found

    def _said(self, x: np.ndarray) -> np.ndarray:
        said = np.zeros(len(x))
        if self.linear is not None:
            said = said + x @ self.linear[0] + self.linear[1]
        if self.trees is not None:
            said = said + self.tree_weight * np.asarray(self.trees.predict(x, raw_score=True))
        return said


class AfterHead(NamedTuple):
    """Both heads on the same rows."""

    target: Head
    reference: Head | None  # None where the reference's outcome is hardly ever known

    def predict(self, rows: AfterRows) -> tuple[np.ndarray, np.ndarray]:
        """P(target) and P(the reference succeeds), (n,) each; NaN for the latter where nothing is known."""
        p = sigmoid(self.target.log_odds(rows))
        if self.reference is None:
            return p, np.full(len(p), np.nan)
        return p, sigmoid(self.reference.log_odds(rows))


def fit_after(rows: AfterRows, *, seed: int = 0) -> AfterHead:
    """Fit both heads; BadInput where the rows can't teach the first."""
    rows = usable(rows)
    known = np.isfinite(rows.reference)
    enough = known.sum() >= MIN_ROWS and np.ptp(rows.reference[known]) > 0
    beside = rows.some(known)._replace(target=rows.reference[known])
    return AfterHead(fit_head(rows, seed=seed), fit_head(beside, seed=seed) if enough else None)


def out_of_fold(rows: AfterRows, fold: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """P(target), P(reference) (n,) of every row from heads that saw none of its fold (n,) int."""
    p, q = np.full(len(fold), np.nan), np.full(len(fold), np.nan)
    for number in np.unique(fold):
        inside = fold != number
        p[~inside], q[~inside] = fit_after(rows.some(inside), seed=seed).predict(rows.some(~inside))
    return p, q


def fit_head(rows: AfterRows, *, instead: Sequence[AfterRows] = (), seed: int = 0) -> Head:
    """One head on rows whose targets are all known; what speaks is chosen on folds that split no group.

    `instead`: the same rows with other features, such as another outcome of the run, to be predicted too.
    """
    fold = assign_folds(rows.group, min(FOLDS, len(np.unique(rows.group))), seed)
    shown = (rows, *instead)
    inside = [{way: np.empty(len(fold)) for way in WAYS} for _ in shown]
    for number in np.unique(fold):
        mine = fold == number
        said = _said(rows.some(~mine), [r.some(mine) for r in shown], seed)
        for kept, values in zip(inside, said, strict=True):
            for way, value in values.items():
                kept[way][mine] = value
    oof = np.empty((len(shown), len(fold)))
    for number in np.unique(fold):
        mine = fold == number
        way = _chosen(inside[0], rows, ~mine)
        a, b = platt(inside[0][way][~mine], rows.target[~mine], fold[~mine])
        oof[:, mine] = [sigmoid(a * kept[way][mine] + b) for kept in inside]
    return _final(rows, inside[0], fold, seed)._replace(oof=oof[0], oof_of=tuple(oof[1:]))


def _final(rows: AfterRows, inside: dict[Way, np.ndarray], fold: np.ndarray, seed: int) -> Head:
    """Fit what was chosen on all rows."""
    ridge, w, v = _chosen(inside, rows, np.ones(len(fold), dtype=bool))
    scale, means = _scale(rows), _means(rows)
    x, base = scale.apply(rows.features, _harness(rows)), _base(means, rows)
    weights, offset = _linear(x, rows.target, base, ridge) if w else (np.empty(0), 0.0)
    return Head(
        scale,
        means,
        (w * weights, w * offset) if w else None,
        _trees(x, rows.target, base, seed) if v else None,
        v,
        platt(inside[ridge, w, v], rows.target, fold),
        np.empty(0),
    )


def _said(train: AfterRows, shown: Sequence[AfterRows], seed: int) -> list[dict[Way, np.ndarray]]:
    """Raw log-odds (n,) of each of the tables of rows in every way of speaking, fitted on `train`."""
    scale, means = _scale(train), _means(train)
    x, known = scale.apply(train.features, _harness(train)), _base(means, train)
    trees = _trees(x, train.target, known, seed)
    linear = {ridge: _linear(x, train.target, known, ridge) for ridge in RIDGES}
    said = []
    for rows in shown:
        z, base = scale.apply(rows.features, _harness(rows)), _base(means, rows)
        grown = np.asarray(trees.predict(z, raw_score=True))
        line = {ridge: z @ weights + offset for ridge, (weights, offset) in linear.items()}
        said.append({(ridge, w, v): base + w * line[ridge] + v * grown for ridge, w, v in WAYS})
    return said


def _chosen(inside: dict[Way, np.ndarray], rows: AfterRows, which: np.ndarray) -> Way:
    """How to speak: the least loss of the rows `which`, if it beats the means by a standard error."""
    target = rows.target[which]
    losses = {way: log_loss(sigmoid(raw[which]), target) for way, raw in inside.items()}
    best = min(losses, key=lambda way: float(losses[way].mean()))
    gain, error = paired_error(losses[SILENT] - losses[best], rows.group[which])
    return best if gain > error else SILENT


def _linear(x: np.ndarray, target: np.ndarray, base: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Ridge logistic regression on soft targets beside log-odds `base` (n,), by Newton's method."""
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 1.0
    w = np.zeros(design.shape[1])
    for _ in range(25):
        p = sigmoid(base + design @ w)
        curvature = (design * np.maximum(p * (1 - p), 1e-6)[:, None]).T @ design + np.diag(penalty)
        step = np.clip(np.linalg.solve(curvature, design.T @ (target - p) - penalty * w), -1.0, 1.0)
        w = w + step
        if np.abs(step).max() < 1e-5:
            break
    return w[:-1], float(w[-1])


def _trees(x: np.ndarray, target: np.ndarray, base: np.ndarray, seed: int) -> lgb.Booster:
    """Small trees on what log-odds `base` (n,) leave."""
    import lightgbm as lgb

    params = {
        "objective": "cross_entropy",
        "learning_rate": 0.05,
        "num_leaves": 7,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.5,
        "lambda_l2": 5.0,
        "max_bin": 63,
        "seed": seed,
        "num_threads": 1,
        "deterministic": True,
        "force_col_wise": True,
        "verbose": -1,
    }
    return lgb.train(params, lgb.Dataset(x, label=target, init_score=base), num_boost_round=TREES)


def _base(means: dict[str, float], rows: AfterRows) -> np.ndarray:
    """Log-odds (n,) of each row's candidate."""
    return np.array([means.get(str(c), means[""]) for c in rows.candidate])


def _means(rows: AfterRows) -> dict[str, float]:
    overall = float(rows.target.mean())
    found = {"": float(logit(np.array(overall)))}
    for name in np.unique(rows.candidate):
        mine = rows.target[rows.candidate == name]
        mean = (mine.sum() + _MEAN_STRENGTH * overall) / (len(mine) + _MEAN_STRENGTH)
        found[str(name)] = float(logit(np.array(mean)))
    return found


def _harness(rows: AfterRows) -> np.ndarray:
    return np.full(len(rows.target), "") if rows.harness is None else rows.harness


def _scale(rows: AfterRows) -> Scale:
    """Means and spreads of all rows and of each harness that has MIN rows of its own."""
    keys = {"": np.ones(len(rows.target), dtype=bool)}
    harness = _harness(rows)
    for name in np.unique(harness):
        mine = harness == name
        if mine.sum() >= _OWN_SCALE and not mine.all():
            keys[str(name)] = mine
    mean, spread = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column that nobody knows
        for key, which in keys.items():
            part = rows.features[which].astype(np.float64)
            mean[key] = np.nan_to_num(np.nanmean(part, axis=0))
            deviation = np.nan_to_num(np.nanstd(part, axis=0))
            spread[key] = np.where(deviation > 1e-9, deviation, 1.0)
    return Scale(mean, spread)
