"""Calibration and losses: Platt, beta or isotonic, chosen out of fold; what a row of a group is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.calibration import Calibration, calibrated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROWS_ISOTONIC = 5000  # below, a free curve follows noise: it had the worst log-loss of all
_KNOTS = 24
_TAIL = 12.0  # log-odds at which a curve's ends meet 0 and 1
_BETA_RIDGE = 4.0  # rows of information that the straight line counts for


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


def fit_calibration(
    raw: np.ndarray, target: np.ndarray, fold: np.ndarray, *, rows_isotonic: int = ROWS_ISOTONIC
) -> Calibration:
    """Map from raw log-odds (n,) out of fold to P(success): Platt, unless another kind is better out of fold.

    Beta is tried always, isotonic from `rows_isotonic` rows on. Each has to beat Platt's line by one standard
    error of the loss on folds that it wasn't fitted on.
    """
    a, b = platt(raw, target, fold)
    kinds = {"beta": _beta} | ({"isotonic": _isotonic} if len(raw) >= rows_isotonic else {})
    line = Calibration(a, b)
    numbers = np.unique(fold)
    if len(numbers) < 2:
        return line
    plain = log_loss(calibrated(line, raw), target)
    best, most = line, 0.0
    for fit in kinds.values():
        loss = np.empty(len(raw))
        for number in numbers:
            inside = fold != number
            found = fit(raw[inside], target[inside])
            loss[~inside] = log_loss(calibrated(found, raw[~inside]), target[~inside])
        gain = plain - loss
        error = float(gain.std()) / np.sqrt(len(gain))
        if float(gain.mean()) > max(most, error):
            best, most = fit(raw, target), float(gain.mean())
    return best


def _beta(z: np.ndarray, target: np.ndarray) -> Calibration:
    """Weights of ln q and -ln(1 - q), q = sigmoid(z), and an offset, by Newton, drawn to 1, 1 and 0."""
    x = np.stack([-np.logaddexp(0.0, -z), np.logaddexp(0.0, z), np.ones_like(z)], axis=1)
    start = np.array([1.0, 1.0, 0.0])
    w = start.copy()
    for _ in range(50):
        p = sigmoid(x @ w)
        slope = x.T @ (target - p) - _BETA_RIDGE * (w - start)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + _BETA_RIDGE * np.eye(3)
        step = np.clip(np.linalg.solve(curvature, slope), -1.0, 1.0)
        w = w + step
        if float(np.abs(step).max()) < 1e-10:
            break
    low, high = max(float(w[0]), 0.0), max(float(w[1]), 0.0)  # rising everywhere
    return Calibration(kind="beta", beta=(low, high, float(w[2])))


def _isotonic(z: np.ndarray, target: np.ndarray) -> Calibration:
    """Isotonic regression through the centres of its blocks (Oron & Flournoy 2017), _KNOTS at most."""
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(z, kind="stable")
    fitted = IsotonicRegression().fit_transform(z[order], target[order])
    edges = np.flatnonzero(np.diff(fitted) > 0) + 1
    blocks = np.split(np.arange(len(z)), edges)
    blocks = _merged(blocks, len(z) // _KNOTS)
    centres = [float(z[order][block].mean()) for block in blocks]
    p = [float(np.clip(fitted[block].mean(), 1e-6, 1 - 1e-6)) for block in blocks]
    low, high = min(-_TAIL, centres[0] - 1), max(_TAIL, centres[-1] + 1)
    knots = ((low, 1e-6), *zip(centres, p, strict=True), (high, 1 - 1e-6))
    return Calibration(kind="isotonic", knots=tuple(_rising(knots)))


def _merged(blocks: list[np.ndarray], rows: int) -> list[np.ndarray]:
    """Neighbouring blocks joined until each holds so many rows: a knot on a few rows is noise."""
    out: list[np.ndarray] = []
    for block in blocks:
        if out and len(out[-1]) < rows:
            out[-1] = np.concatenate([out[-1], block])
        else:
            out.append(block)
    if len(out) > 1 and len(out[-1]) < rows:
        out[-2:] = [np.concatenate(out[-2:])]
    return out


def _rising(knots: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The knots whose z is clearly above the one before, so that no stretch is vertical."""
    last = -np.inf
    for z, p in knots:
        if z > last + 1e-6:
            yield z, p
            last = z


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
