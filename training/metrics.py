"""How good a predicted probability is: Brier score, ECE, AUC and log-loss, for graded labels too."""

from __future__ import annotations

import msgspec
import numpy as np
from scipy.stats import rankdata

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
        log_loss=log_loss(y, p),
        ece=calibration_error(y, p),
        auc=auc(y, p),
    )


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean cross-entropy in nats; y may be graded."""
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def calibration_error(y: np.ndarray, p: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error over bins of equal count (Nixon et al. 2019, adaptive ECE)."""
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return float(sum(len(part) * abs(y[part].mean() - p[part].mean()) for part in parts) / len(p))


def auc(y: np.ndarray, p: np.ndarray) -> float | None:
    """Area under the ROC curve by the Mann-Whitney statistic, labels cut at 0.5; None with one class only."""
    positive = y >= 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    ranks = rankdata(p)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
