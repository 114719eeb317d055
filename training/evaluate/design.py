"""The neighbours' and the logistic router: success (n, m) from the same features as the learned one."""

from __future__ import annotations

import numpy as np

from training.calibrate import sigmoid

COMPONENTS = 32  # of the features' principal components that the plain learners see
KS = (5, 10, 20, 40, 80, 160)
CS = (0.003, 0.03, 0.3)
_PRIOR_ROWS = 2.0  # what a model's mean counts for among the neighbours


def design(vector: np.ndarray, category: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Standardised features reduced to components, beside the task type one-hot; fitted on `train` rows only.

    Shapes: vector (n, d) with NaN, category (n,), train (n,) bool -> (n, p).
    """
    kinds = np.unique(category[train])
    onehot = (
        (category[:, None] == kinds[None, :]).astype(np.float64)
        if len(kinds) > 1
        else np.empty((len(category), 0))
    )
    if vector.shape[1] == 0:
        return onehot
    values = vector.astype(np.float64)
    count = np.maximum(np.isfinite(values[train]).sum(axis=0), 1)
    known = np.nan_to_num(values)
    centre = known[train].sum(axis=0) / count
    scaled = np.where(np.isfinite(values), values - centre, 0.0)
    spread = np.sqrt((scaled[train] ** 2).sum(axis=0) / count)
    scaled = np.clip(scaled / np.where(spread > 0, spread, 1.0), -5, 5)
    if scaled.shape[1] > COMPONENTS:
        _, axes = np.linalg.eigh(scaled[train].T @ scaled[train])
        scaled = scaled @ axes[:, -COMPONENTS:]
    return np.concatenate([onehot * 2.0, scaled / np.sqrt(scaled[train].var(axis=0).mean() + 1e-9)], axis=1)


def neighbours(x: np.ndarray, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean success of the k nearest training tasks for each k of KS: (len(KS), len(rows), m)."""
    inside = np.flatnonzero(train)
    reach = min(max(KS), len(inside))
    mean = y[inside].mean(axis=0)
    out = np.empty((len(KS), len(rows), y.shape[1]))
    square = (x[inside] ** 2).sum(axis=1)
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        distance = square[None, :] - 2 * x[part] @ x[inside].T
        near = np.argpartition(distance, reach - 1, axis=1)[:, :reach]
        near = np.take_along_axis(
            near, np.argsort(np.take_along_axis(distance, near, 1), axis=1, kind="stable"), 1
        )
        total = np.cumsum(y[inside][near], axis=1)
        for i, k in enumerate(KS):
            k = min(k, reach)
            out[i, start : start + 256] = (total[:, k - 1] + _PRIOR_ROWS * mean) / (k + _PRIOR_ROWS)
    return out


def logistic(x: np.ndarray, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Fit a ridge-penalised logistic regression per model, for each C: p (len(CS), len(rows), m)."""
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    a, out = design[train], np.empty((len(CS), len(rows), y.shape[1]))
    ridge = np.ones(a.shape[1])
    ridge[0] = 1e-6
    mean = np.clip(y[train].mean(axis=0), 0.01, 0.99)
    for m in range(y.shape[1]):
        w = np.zeros(a.shape[1])
        w[0] = np.log(mean[m] / (1 - mean[m]))
        for i, c in enumerate(CS):  # from strong to weak ridge, each starting where the last one ended
            w = _newton(a, y[train, m], w, ridge / c)
            out[i, :, m] = sigmoid(design[rows] @ w)
    return out


def _newton(a: np.ndarray, y: np.ndarray, w: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    """Newton's method on the penalised log-likelihood, steps bounded; converges in a few rounds."""
    for _ in range(12):
        p = sigmoid(a @ w)
        weight = np.maximum(p * (1 - p), 1e-6)
        step = np.linalg.solve((a * weight[:, None]).T @ a + np.diag(ridge), a.T @ (y - p) - ridge * w)
        w = w + np.clip(step, -3, 3)
        if np.abs(step).max() < 1e-4:
            break
    return w
