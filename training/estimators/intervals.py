"""Intervals of a mean: over clusters by Student's t, and bounds that hold at any sample size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

_Z = 1.959964
_NOTHING = 1e-9  # a reach that is rounding
GRID = 512  # means that a confidence sequence tells apart


class Interval(NamedTuple):
    """A mean with the ends of its interval and its standard error."""

    mean: float
    low: float
    high: float
    error: float

    @property
    def half_width(self) -> float:
        """Half of its length."""
        return (self.high - self.low) / 2


def clustered(scores: np.ndarray, cluster: np.ndarray, level: float = 0.95) -> Interval:
    """Interval of the mean of scores (n,) whose clusters (n,) are independent, by Student's t.

    The linearised ratio of cluster sums (Cochran 1977, §6.3 and 9A); infinite with one cluster.
    """
    mean = float(scores.mean())
    sums = np.bincount(cluster, weights=scores - mean)
    size = np.bincount(cluster)
    sums = sums[size > 0]
    clusters = len(sums)
    if clusters < 2:
        return Interval(mean, -np.inf, np.inf, np.inf)
    error = float(np.sqrt(clusters / (clusters - 1) * (sums @ sums))) / len(scores)
    reach = float(stdtrit(clusters - 1, 0.5 + level / 2)) * error
    return Interval(mean, mean - reach, mean + reach, error)


def of_products(
    way: np.ndarray, sums: np.ndarray, products: np.ndarray, clusters: int, level: float = 0.95
) -> Interval:
    """The same for scores that are a sum of m columns, `way` (m,), of which the last is 1 for each decision.

    All that is known of the columns are their sums (m,) and the products (m, m) of their sums by cluster.
    """
    n = float(sums[-1])
    mean = float(way @ sums) / n
    off = way.astype(float).copy()
    off[-1] -= mean
    if clusters < 2:
        return Interval(mean, -np.inf, np.inf, np.inf)
    error = float(np.sqrt(clusters / (clusters - 1) * max(float(off @ products @ off), 0.0))) / n
    reach = float(stdtrit(clusters - 1, 0.5 + level / 2)) * error
    return Interval(mean, mean - reach, mean + reach, error)


def wilson(scores: np.ndarray, cluster: np.ndarray, level: float = 0.95) -> Interval:
    """The same of a mean that lies in 0..1 and whose scores spread by q (1 − q), q being the mean itself."""
    rows = min(len(scores), len(np.unique(cluster)))
    return as_share(clustered(scores, cluster, level), rows)


def as_share(plain: Interval, rows: float) -> Interval:
    """Student's interval of such a mean as Wilson's.

    Wilson's interval (JASA 1927) at the number of rows that a simple sample would need for this error (Korn &
    Graubard, Survey Methodology 1998), with Student's quantile. A sample that missed the rare failures shows
    a high mean and a small error together, so Student's interval misses low means more often than high ones.
    Where all scores are alike there is no error to go by: it is Wilson's at so many effective `rows`.
    """
    reach = plain.half_width
    mean = min(max(plain.mean, 0.0), 1.0)
    if not reach < np.inf:
        return plain._replace(low=max(0.0, plain.low), high=min(1.0, plain.high))
    if reach <= _NOTHING:
        a = _Z * _Z / max(rows, 1.0)
    else:
        # nearer to an end than it reaches, the mean itself doesn't tell the spread any more
        a = reach * reach / min(max(mean * (1 - mean), reach), 0.25)
    centre = (mean + a / 2) / (1 + a)
    half = float(np.sqrt(a * (mean * (1 - mean) + a / 4))) / (1 + a)
    return plain._replace(low=max(0.0, centre - half), high=min(1.0, centre + half))


def as_difference(plain: Interval, rows: float) -> Interval:
    """Student's interval of a difference of two shares; where no row differed, what `rows` leave open.

    That is Wilson's upper end of 0 in so many, to either side: rows that differ may be as rare as that.
    """
    if plain.half_width > _NOTHING:
        return plain
    a = _Z * _Z / max(rows, 1.0)
    open_ = a / (1 + a)
    return plain._replace(low=max(-1.0, plain.mean - open_), high=min(1.0, plain.mean + open_))


def empirical_bernstein(total: float, square: float, n: int, bound: float, level: float = 0.95) -> Interval:
    """Interval of the mean of n independent values in 0..bound, by their sum and sum of squares; at every n.

    Maurer & Pontil, COLT 2009, theorem 4, at (1 − level)/2 a side.
    """
    if n < 2:
        return Interval(total / n if n else np.nan, 0.0, bound, np.inf)
    mean = total / n
    variance = max(square - n * mean * mean, 0.0) / (n - 1)
    log_term = float(np.log(4 / (1 - level)))
    reach = float(np.sqrt(2 * variance * log_term / n)) + 7 * bound * log_term / (3 * (n - 1))
    return Interval(mean, max(0.0, mean - reach), min(bound, mean + reach), float(np.sqrt(variance / n)))


def betting(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends (n,), (n,) of a confidence sequence for the mean of values (n,) in 0..1, valid at all times.

    So one may look after every value and stop when one likes. Hedged capital with predictable plug-in bets
    (Waudby-Smith & Ramdas, JRSS B 2024, theorem 3 and eq. 26), over GRID means. NaN from where all means are
    refuted, which values of one mean come to in at most 1 − level of all sequences.
    """
    n = len(values)
    alpha = 1 - level
    t = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(values)) / (t + 1)
    variance = (0.25 + np.cumsum((values - mean) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bet = np.sqrt(2 * np.log(2 / alpha) / (before * t * np.log(t + 1)))
    low, high = np.empty(n), np.empty(n)
    grid = (np.arange(GRID) + 0.5) / GRID
    up, down, alive = np.zeros(GRID), np.zeros(GRID), np.ones(GRID, dtype=bool)
    for i, value in enumerate(values):
        up += np.log1p(np.minimum(bet[i], 0.5 / grid) * (value - grid))
        down += np.log1p(-np.minimum(bet[i], 0.5 / (1 - grid)) * (value - grid))
        alive &= np.maximum(up, down) + np.log(0.5) < np.log(1 / alpha)
        inside = np.flatnonzero(alive)
        if not len(inside):
            low[i:], high[i:] = np.nan, np.nan
            break
        # as far as the refuted neighbours: what lies between was not asked
        low[i], high[i] = max(0.0, (inside[0] - 0.5) / GRID), min(1.0, (inside[-1] + 1.5) / GRID)
    return low, high


def effective_size(total: float, square: float) -> float:
    """Kish's effective number of rows, (Σ w)² / Σ w² (Survey Sampling 1965); 0 without weight."""
    return total**2 / square if square > 0 else 0.0
