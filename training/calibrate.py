"""Calibration and losses: Platt scaling out of fold, log-loss, and what a row of a crowded group is worth."""

from __future__ import annotations

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function without overflow."""
    result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result


def logit(p: np.ndarray) -> np.ndarray:
    """Inverse of sigmoid, bounded where p is 0 or 1."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    result: np.ndarray = np.log(p / (1 - p))
    return result


def log_loss(p: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Cross-entropy (n,) in nats of predictions p against soft targets, both (n,)."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    loss: np.ndarray = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    return loss


def platt(raw: np.ndarray, target: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """Slope a ≥ 0 and offset b of p = sigmoid(a · raw + b) by Newton, drawn to (1, 0) by one row's weight.

    The slope is estimated within folds, each with an offset of its own: a fold that happens to succeed more
    often lowers its own out-of-fold table, which pooled would look like a score that points the wrong way.
    """
    fold = np.unique(fold, return_inverse=True)[1]
    a, offsets = 1.0, np.zeros(int(fold.max()) + 1)
    for _ in range(50):
        p = sigmoid(a * raw + offsets[fold])
        g, w = target - p, np.maximum(p * (1 - p), 1e-9)
        by_fold = np.bincount(fold, weights=w) + 0.25
        cross = np.bincount(fold, weights=w * raw)
        grad_offset = np.bincount(fold, weights=g) - 0.25 * offsets
        curvature = float(w @ raw**2) + 1.0 - float(np.sum(cross**2 / by_fold))
        step = (float(g @ raw) - (a - 1.0) - float(np.sum(cross * grad_offset / by_fold))) / max(
            curvature, 1e-9
        )
        step = float(np.clip(step, -1.0, 1.0))
        moves = np.clip((grad_offset - cross * step) / by_fold, -2.0, 2.0)
        a, offsets = a + step, offsets + moves
        if max(abs(step), float(np.abs(moves).max())) < 1e-9:
            break
    a = max(a, 0.0)
    b = 0.0
    for _ in range(50):
        p = sigmoid(a * raw + b)
        move = (float(np.sum(target - p)) - 0.25 * b) / (float(np.sum(p * (1 - p))) + 0.25)
        b += float(np.clip(move, -2.0, 2.0))
        if abs(move) < 1e-9:
            break
    return a, b


def design_effect(residual: np.ndarray, group: np.ndarray, candidate: np.ndarray) -> float:
    """Kish's 1 + (m − 1)·ρ: how much less a row says because its group has others; at least 1.

    ρ is the correlation of residuals of one candidate within a group, m the group size an average row sees.
    """
    known = np.isfinite(residual)
    pairs = np.char.add(np.char.add(candidate[known].astype(str), "\x00"), group[known].astype(str))
    where = np.unique(pairs, return_inverse=True)[1]
    r = residual[known]
    count, total, square = (np.bincount(where, weights=v) for v in (np.ones_like(r), r, r * r))
    pairs_inside = float(np.sum(count * (count - 1)))
    if pairs_inside == 0 or not square.any():
        return 1.0
    rho = float(np.sum(total**2 - square)) / pairs_inside / float(square.sum() / len(r))
    return 1.0 + (float(np.sum(count**2)) / len(r) - 1.0) * min(max(rho, 0.0), 1.0)
