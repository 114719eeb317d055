"""Two heads on the same evidence: P(target) of an answer in hand, and P(the reference succeeds) beside it.

Each is a candidate's shrunken mean, plus a ridge regression and small trees where folds that don't split a
group show that they say more. Which of them speak is chosen inside the training rows only.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.after.rows import usable
from training.calibrate import log_loss, logit, platt, sigmoid
from training.examples import assign_folds
from training.metrics import paired_error

if TYPE_CHECKING:
    import lightgbm as lgb

    from training.after.rows import AfterRows

FOLDS = 5
RIDGES = (0.003, 0.03, 0.3)  # scikit-learn's C
TREES = 80
_MEAN_STRENGTH = 10.0  # answers that the mean of all counts for in a candidate's
_PARTS = ("linear", "trees", "both")
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
    """One fitted head; `parts` says what it stands on beside the candidates' means."""

    scale: Scale
    means: dict[str, float]  # log-odds of each candidate; "" of any other
    linear: tuple[np.ndarray, float] | None
    trees: lgb.Booster | None
    calibration: tuple[float, float]
    parts: str

    def log_odds(self, rows: AfterRows) -> np.ndarray:
        """Calibrated log-odds (n,)."""
        scaled = self.scale.apply(rows.features, _harness(rows))
        base = np.array([self.means.get(str(c), self.means[""]) for c in rows.candidate])
        raw = _combined(self.parts, base, _predicted(self.linear, self.trees, scaled))
        a, b = self.calibration
        found: np.ndarray = a * raw + b
        return found


class AfterHead(NamedTuple):
    """Both heads, and what the first told out of fold of the rows it was fitted on."""

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
    enough = known.sum() >= 60 and np.ptp(rows.reference[known]) > 0
    reference = _fit(rows.some(known)._replace(target=rows.reference[known]), seed) if enough else None
    return AfterHead(_fit(rows, seed), reference)


def out_of_fold(rows: AfterRows, fold: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """P(target), P(reference) (n,) of every row from heads that saw none of its fold (n,) int."""
    p, q = np.full(len(fold), np.nan), np.full(len(fold), np.nan)
    for number in np.unique(fold):
        inside = fold != number
        p[~inside], q[~inside] = fit_after(rows.some(inside), seed=seed).predict(rows.some(~inside))
    return p, q


def _fit(rows: AfterRows, seed: int) -> Head:
    """One head on rows whose targets are all known."""
    fold = assign_folds(rows.group, min(FOLDS, len(np.unique(rows.group))), seed)
    names = ("base", *_PARTS)
    inside = {(name, c): np.empty(len(fold)) for name in names for c in RIDGES}
    for number in np.unique(fold):
        train, test = rows.some(fold != number), rows.some(fold == number)
        scale = _scale(train)
        means = _means(train)
        base = np.array([means.get(str(c), means[""]) for c in test.candidate])
        x, z = scale.apply(train.features, _harness(train)), scale.apply(test.features, _harness(test))
        grown = _trees(x, train.target, seed)
        for c in RIDGES:
            said = _predicted(_linear(x, train.target, c), grown, z)
            for name in names:
                inside[name, c][fold == number] = _combined(name, base, said)
    part, ridge = _chosen(inside, rows)
    scale = _scale(rows)
    x = scale.apply(rows.features, _harness(rows))
    return Head(
        scale,
        _means(rows),
        _linear(x, rows.target, ridge) if part in ("linear", "both") else None,
        _trees(x, rows.target, seed) if part in ("trees", "both") else None,
        platt(inside[part, ridge], rows.target, fold),
        part,
    )


def _chosen(inside: dict[tuple[str, float], np.ndarray], rows: AfterRows) -> tuple[str, float]:
    """What speaks: the least loss out of fold, if it beats the means by a standard error over groups."""
    losses = {key: log_loss(sigmoid(raw), rows.target) for key, raw in inside.items()}
    best = min(losses, key=lambda key: float(losses[key].mean()))
    base = losses["base", RIDGES[0]]
    gain, error = paired_error(base - losses[best], rows.group)
    return best if gain > error else ("base", RIDGES[0])


def _combined(part: str, base: np.ndarray, said: tuple[np.ndarray | None, np.ndarray | None]) -> np.ndarray:
    """Log-odds (n,) of one way of speaking."""
    linear, trees = said
    if part == "linear" and linear is not None:
        return linear
    if part == "trees" and trees is not None:
        return trees
    if part == "both" and linear is not None and trees is not None:
        mean: np.ndarray = (linear + trees) / 2
        return mean
    return base


def _predicted(
    linear: tuple[np.ndarray, float] | None, trees: lgb.Booster | None, x: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    grown = None if trees is None else np.asarray(trees.predict(x, raw_score=True))
    return None if linear is None else x @ linear[0] + linear[1], grown


def _linear(x: np.ndarray, target: np.ndarray, c: float) -> tuple[np.ndarray, float]:
    """Ridge logistic regression on soft targets: each row twice, weighted by what it says."""
    from sklearn.linear_model import LogisticRegression

    n = len(target)
    doubled, said = np.concatenate([x, x]), np.repeat([1, 0], n)
    weight = np.concatenate([target, 1 - target])
    kept = weight > 0
    model = LogisticRegression(C=c, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stops early is judged out of fold like any other
        model.fit(doubled[kept], said[kept], sample_weight=weight[kept])
    return model.coef_[0], float(model.intercept_[0])


def _trees(x: np.ndarray, target: np.ndarray, seed: int) -> lgb.Booster:
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
    return lgb.train(params, lgb.Dataset(x, label=target), num_boost_round=TREES)


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
