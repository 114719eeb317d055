"""Fitting what to believe of newcomers: ridge regressions on descriptors and the factors that cells share.

The three scales of a regression (slopes, families, candidates around it) aren't chosen but averaged over, by
their evidence: with three candidates all are about as likely, and the average is nearly flat and wide.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from models.descriptors import COLUMNS, SCORE, numbers
from models.newcomer import NewcomerPrior, Outcomes, design_row, packed, posterior

if TYPE_CHECKING:
    from models.descriptors import Descriptor

# Prior standard deviations, link scale per unit of a column; before any evidence each step is half as likely.
_SLOPES = (0.0, 0.1, 0.25, 0.5)
_FAMILIES = (0.0, 0.2, 0.5)
_SPREADS = (0.1, 0.2, 0.35, 0.6, 1.0, 1.6)
_INTERCEPT = 3.0
_WIDE = 2.0  # prior standard deviation of an effect while its own rows are summed up
_MIN_KNOWN = 3  # candidates that must know a column, or two values of it, for it to tell anything
_MAX_CELLS = 1_000_000
_PRIOR_CELLS = 8.0  # what the strength asked for counts in the estimate of how much cells differ
_CELL_VARIANCES = (0.01, 1.0)  # on the link scale: 400 to 4 rows of success
_CELL_SCALE = 0.1  # of the variance, for weighing cells of many and of few rows
MAX_FACTORS = 2
CANDIDATES_PER_FACTOR = 8


class Design(NamedTuple):
    """Candidates' descriptors as numbers: rows (C, p), unknown (C, p), and the names of the columns."""

    rows: np.ndarray
    unknown: np.ndarray
    columns: tuple[str, ...]
    centre: tuple[float, ...]
    families: tuple[str, ...]
    own_family: np.ndarray  # (C,) whether the candidate's family is among them


class Regression(NamedTuple):
    """Posterior of a regression's weights (p,), their covariance (p, p), and the spreads around it."""

    weights: np.ndarray
    doubt: np.ndarray
    spread: float
    family_spread: float


def design_of(descriptors: tuple[Descriptor, ...], known: np.ndarray) -> Design:
    """Columns that at least three of the `known` (C,) bool candidates tell apart, and their families."""
    told = [numbers(d) for d, k in zip(descriptors, known, strict=True) if k]
    names = (*COLUMNS, *sorted({n for t in told for n in t if n.startswith(SCORE)}))
    values = {n: [t[n] for t in told if n in t] for n in names}
    columns = tuple(n for n in names if len(values[n]) >= _MIN_KNOWN and len(set(values[n])) > 1)
    centre = tuple(float(np.mean(values[n])) for n in columns)
    families = tuple(sorted({d.family for d, k in zip(descriptors, known, strict=True) if k and d.family}))
    pairs = [design_row(d, columns, centre, families) for d in descriptors]
    return Design(
        np.array([row for row, _ in pairs]),
        np.array([unknown for _, unknown in pairs]),
        columns,
        centre,
        families,
        np.array([d.family in families for d in descriptors]),
    )


def regress(design: Design, value: np.ndarray, variance: np.ndarray, known: np.ndarray) -> Regression:
    """Average, by evidence, of ridge regressions of the known values (C,), measured with `variance` (C,).

    Every combination of scales is a normal linear model (Bishop 2006, eq. 3.53 and 3.86); weights and
    covariance are the mixture's. The spread is then raised to what leaving known candidates out shows.
    """
    x, v = design.rows[known], variance[known]
    middle = float(np.average(value[known], weights=1.0 / (v + 1.0)))
    y = value[known] - middle
    numeric = len(design.columns)
    fits = []
    for slope, family, spread in product(_SLOPES, _FAMILIES, _SPREADS):
        scale = np.array([_INTERCEPT, *[slope] * numeric, *[family] * len(design.families)])
        fits.append((*_normal(x * scale, y, v + spread**2), scale, family, spread))
    simple = [_SLOPES.index(s) + _FAMILIES.index(f) for s, f, _ in product(_SLOPES, _FAMILIES, _SPREADS)]
    evidence = np.array([fit[2] for fit in fits]) - np.log(2.0) * np.array(simple)
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    means = np.array([fit[0] * fit[4] for fit in fits])
    weights = share @ means
    middle_row = np.eye(1, x.shape[1])[0] * middle
    doubt = np.zeros((x.shape[1], x.shape[1]))
    for s, (_, covariance, _, _, scale, _, _), m in zip(share, fits, means, strict=True):
        if s > 1e-6:
            doubt += s * (covariance * np.outer(scale, scale) + np.outer(m - weights, m - weights))
    spread_square = float(share @ np.array([fit[6] ** 2 for fit in fits]))
    family_square = float(share @ np.array([fit[5] ** 2 for fit in fits]))
    surprise = float(share @ np.array([fit[3] for fit in fits]))
    # One made-up candidate as surprising as expected, so that two or three can't shrink the spread alone.
    inflate = max(1.0, (surprise * len(y) + 1.0) / (len(y) + 1.0))
    few = 1.0 + 2.0 / len(y)  # a normal interval on a handful of candidates is Student's in truth
    spread = float(np.sqrt(spread_square * inflate * few))
    return Regression(weights + middle_row, doubt, spread, float(np.sqrt(family_square)))


def _normal(x: np.ndarray, y: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Weights of a standard normal prior, covariance, log evidence, mean squared leave-one-out z-score."""
    p = x.shape[1]
    information = (x.T / noise) @ x + np.eye(p)
    covariance = np.linalg.inv(information)
    mean = covariance @ (x.T @ (y / noise))
    rest = y - x @ mean
    fit = float(rest @ (rest / noise) + mean @ mean)
    log_det = float(np.linalg.slogdet(information)[1] + np.log(noise).sum())
    # Left out, with h = noise − leverage: residual rest · noise / h, variance noise² / h.
    leverage = np.einsum("cp,pq,cq->c", x, covariance, x)
    left = np.maximum(noise - leverage, 1e-9)
    surprise = float(np.mean(rest**2 / left))
    return mean, covariance, -0.5 * (fit + log_det), surprise


def fit_prior(
    outcomes: tuple[np.ndarray, np.ndarray],
    effects: tuple[np.ndarray, np.ndarray],
    design: Design,
    strength: float,
    row_variance: float | None,
) -> tuple[NewcomerPrior, np.ndarray, np.ndarray]:
    """Cell sums (C, T + 1) and additive effects (C,), (T + 1,) -> prior, latents (C, k), loadings (T + 1, k).

    The last type is the unknown one. The prior's loadings are numbered by type; `named` gives them names.
    """
    total, rows = outcomes
    candidate, kind = effects
    known = rows.sum(axis=1) > 0
    factors = _factors(total, rows, candidate[:, None] + kind, row_variance)
    loadings = np.concatenate([np.ones((len(kind), 1)), factors], axis=1)
    guess = (4.0 if row_variance is None else row_variance) / strength  # a row at p = ½ tells ¼
    cell_variance = _cell_variance(outcomes, candidate[:, None] + kind, loadings, guess, row_variance)
    k = loadings.shape[1]
    sums = Outcomes(total, rows, kind, loadings)
    # What its own rows say of each candidate: a wide prior, taken out again.
    centre = np.zeros((len(candidate), k))
    centre[:, 0] = np.average(candidate, weights=rows.sum(axis=1))
    wide = np.full((len(candidate), k), 1.0)
    wide[:, 0] = _WIDE**2
    own, covariance = posterior(sums, centre, wide, cell_variance, row_variance)
    spread = np.minimum(covariance[:, 0, 0], wide[:, 0] * (1 - 1e-6))
    variance = 1.0 / (1.0 / spread - 1.0 / wide[:, 0])
    fit = regress(design, variance * (own[:, 0] / spread - centre[:, 0] / wide[:, 0]), variance, known)
    mean, around = np.zeros_like(wide), np.ones_like(wide)
    mean[:, 0], around[:, 0] = design.rows @ fit.weights, fit.spread**2
    latents, _ = posterior(sums, mean, around, cell_variance, row_variance)
    prior = NewcomerPrior(
        columns=design.columns,
        centre=design.centre,
        families=design.families,
        weights=tuple(map(float, fit.weights)),
        doubt=packed(fit.doubt),
        spread=tuple(float(v) for v in np.sqrt(around[0])),
        family_spread=fit.family_spread,
        cell_spread=float(np.sqrt(cell_variance)),
        row_variance=row_variance,
    )
    return prior, latents, loadings


def named(prior: NewcomerPrior, task_types: tuple[str, ...], loadings: np.ndarray) -> NewcomerPrior:
    """Give the prior its loadings (T + 1, k - 1) by the task types' names."""
    rows = {t: tuple(map(float, loadings[j])) for j, t in enumerate(task_types)}
    return replace(prior, loadings=rows)


def _residuals(
    total: np.ndarray, rows: np.ndarray, line: np.ndarray, row_variance: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Working residual and information (C, T) of cells around a line; nothing where there are no rows."""
    if row_variance is not None:
        information, score = rows / row_variance, (total - rows * line) / row_variance
    else:
        p = 0.5 * (1.0 + np.tanh(0.5 * np.clip(line, -8.0, 8.0)))
        information, score = rows * np.maximum(p * (1 - p), 0.02), total - rows * p
    return np.divide(score, information, out=np.zeros_like(score), where=information > 0), information


def _factors(total: np.ndarray, rows: np.ndarray, line: np.ndarray, row_variance: float | None) -> np.ndarray:
    """Loadings (T + 1, r) of the common patterns in what cells leave over, by reliability-weighted SVD."""
    known = rows.sum(axis=1) > 0
    most = min(MAX_FACTORS, int(known.sum()) // CANDIDATES_PER_FACTOR, rows.shape[1] - 2)
    if most < 1 or rows.size > _MAX_CELLS:
        return np.zeros((rows.shape[1], 0))
    rest, information = _residuals(total, rows, line, row_variance)
    rest, information = rest[:, :-1], information[:, :-1]  # the unknown type has no pattern
    seen = information > 0
    noise = np.divide(1.0, information, out=np.zeros_like(rest), where=seen)
    variance = max(0.0, float(np.average(rest[seen] ** 2 - noise[seen], weights=1.0 / (noise[seen] + 0.1))))
    shrunk = rest * np.where(seen, variance / (variance + noise + 1e-12), 0.0)
    _, size, patterns = np.linalg.svd(shrunk[known], full_matrices=False)
    loadings = np.zeros((rows.shape[1], most))
    loadings[:-1] = (patterns[:most].T * size[:most]) / np.sqrt(known.sum())
    return loadings[:, size[:most] > 1e-6]


def _cell_variance(
    outcomes: tuple[np.ndarray, np.ndarray],
    line: np.ndarray,
    loadings: np.ndarray,
    prior: float,
    row_variance: float | None,
) -> float:
    """Variance of cells around effect + type + factors beyond their rows' noise, by moments.

    `prior` counts like a few cells: a small table keeps it, a large one finds its own. Without the factors'
    patterns (T + 1, k); residual degrees of freedom as in a two-way analysis of variance.
    """
    rest, information = _residuals(outcomes[0][:, :-1], outcomes[1][:, :-1], line[:, :-1], row_variance)
    seen = information > 0
    if not seen.any():
        return prior
    patterns = np.linalg.qr(loadings[:-1, 1:])[0]
    rest = rest - (rest @ patterns) @ patterns.T
    noise = 1.0 / information[seen]
    cells, fitted = seen.sum(), seen.any(axis=1).sum() * loadings.shape[1] + seen.any(axis=0).sum()
    scale = cells / max(1.0, cells - fitted)
    moment = float(np.average(scale * rest[seen] ** 2 - noise, weights=1.0 / (noise + _CELL_SCALE)))
    mixed = (moment * cells + prior * _PRIOR_CELLS) / (cells + _PRIOR_CELLS)
    return float(np.clip(mixed, _CELL_VARIANCES[0], _CELL_VARIANCES[1])) if cells > fitted else prior
