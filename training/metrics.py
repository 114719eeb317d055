"""How good a predicted probability is: Brier score, ECE, AUC and log-loss, for graded labels too."""

from __future__ import annotations

import msgspec
import numpy as np
from scipy.stats import rankdata

from training.calibrate import log_loss

ECE_BINS = 15


class ProbabilityMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of predictions p against labels y in [0, 1]; None where the labels don't allow one."""

    rows: int
    base_rate: float
    brier: float
    log_loss: float
    ece: float
    auc: float | None


def probability_metrics(y: np.ndarray, p: np.ndarray) -> ProbabilityMetrics:
    """All scores of one prediction; y and p of shape (n,), n > 0."""
    return ProbabilityMetrics(
        rows=len(y),
        base_rate=float(np.mean(y)),
        brier=float(np.mean((p - y) ** 2)),
        log_loss=float(np.mean(log_loss(p, y))),
        ece=calibration_error(y, p),
        auc=auc(y, p),
    )


def calibration_error(y: np.ndarray, p: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error over bins of equal count (Nixon et al. 2019, adaptive ECE)."""
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return float(sum(len(part) * abs(y[part].mean() - p[part].mean()) for part in parts) / len(p))


def chance_error(p: np.ndarray, seed: int = 0, draws: int = 400, quantile: float = 0.95) -> float:
    """Calibration error that predictions p (n,) show by chance although every one of them is true.

    The quantile over labels drawn from p itself (Vaicenavicius et al. 2019, consistency resampling): few rows
    alone make an ECE of 0.1, which is no fault of the model.
    """
    rng = np.random.default_rng(seed)
    errors = [calibration_error((rng.random(len(p)) < p).astype(float), p) for _ in range(draws)]
    return float(np.quantile(errors, quantile))


def auc(y: np.ndarray, p: np.ndarray) -> float | None:
    """Area under the ROC curve by the Mann-Whitney statistic, labels cut at 0.5; None with one class only."""
    positive = y >= 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    ranks = rankdata(p)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def paired_error(difference: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Mean of a paired difference (n,) and its standard error with rows clustered by group."""
    names, where = np.unique(group, return_inverse=True)
    mean = float(difference.mean())
    if len(names) < 2:
        return mean, float("inf")
    by_group = np.bincount(where, weights=difference - mean)
    return mean, float(np.sqrt(np.sum(by_group**2) * len(names) / (len(names) - 1)) / len(difference))
