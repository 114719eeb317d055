"""Which requests to ask again: those that teach most per dollar, each with a known chance of being asked.

Every request has a uniform number u, made of the seed and its id, and a size s > 0; requests are asked in the
order of u / s until the money is gone. With T the value of u / s at which it stopped, a request before it had
the chance min(1, s T), and weighting by its inverse is unbiased: a budget that is used up in this order is a
substitutable threshold (Ting, "Adaptive threshold sampling", SIGMOD 2022), as in priority sampling (Duffield,
Lund and Thorup, J. ACM 2007). The request that stops it sets T and belongs to no estimate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xxhash

_ROUNDING = 1e-18
FLOOR = 0.25  # the least size, as a share of the mean one: no request becomes nearly impossible to meet


class Share(NamedTuple):
    """A share of the logged traffic with its interval; None where nothing was compared."""

    mean: float | None
    low: float | None
    high: float | None
    rows: int
    effective_rows: float


def sizes(uncertainty: np.ndarray, traffic: np.ndarray, cost_usd: np.ndarray) -> np.ndarray:
    """Sizes (n,), mean about 1: standard deviation x traffic / root of the cost, as in Neyman's allocation.

    All arguments are (n,) and positive but for `uncertainty`, which may be 0. None is below FLOOR.
    """
    raw = uncertainty * traffic / np.sqrt(np.maximum(cost_usd, 1e-9))
    mean = raw.mean() if len(raw) else 0.0
    if not mean > 0:
        return np.ones(len(raw))
    found: np.ndarray = np.maximum(raw / mean, FLOOR)
    return found


def uniform(seed: int, request_id: str, about: str = "") -> float:
    """A number in (0, 1) that belongs to a request: the same in every run with this seed."""
    digest = xxhash.xxh3_64_intdigest(f"{seed}\0{about}\0{request_id}".encode("utf-8", "surrogatepass"))
    return ((digest >> 11) + 0.5) / 2**53


def chance(size: float, threshold: float) -> float:
    """Probability that a request of this size was asked before the threshold."""
    return min(1.0, size * threshold)


def weighted_share(
    values: np.ndarray, chances: np.ndarray, weights: np.ndarray, sessions: np.ndarray | None = None
) -> Share:
    """A share of 0/1 values (n,) by inverse chance (Hájek), with the 95 % interval of Korn and Graubard.

    That is Clopper-Pearson's on the effective number of rows (Survey Methodology 24, 1998), without a finite
    population correction: it is meant for traffic to come. Rows of one session count as one cluster.
    """
    rows = len(values)
    if not rows:
        return Share(None, None, None, 0, 0.0)
    share = weights / chances
    share = share / share.sum()
    mean = min(1.0, float((share * values).sum()))  # the weights add up to 1 but for rounding
    cluster = np.arange(rows) if sessions is None else np.unique(sessions, return_inverse=True)[1]
    clusters = int(cluster.max()) + 1
    deviation = np.bincount(cluster, weights=share * (values - mean))
    variance = float((deviation**2).sum()) * clusters / max(clusters - 1, 1)
    if clusters > 1 and variance > _ROUNDING:
        effective = mean * (1 - mean) / variance
    else:
        effective = 1 / float((np.bincount(cluster, weights=share) ** 2).sum())
    effective = min(effective, float(rows))
    low, high = clopper_pearson(mean * effective, effective)
    return Share(mean, low, high, rows, effective)


def clopper_pearson(successes: float, rows: float, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion; fractional counts are allowed."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    successes = min(max(successes, 0.0), rows)
    failures = rows - successes
    low = 0.0 if successes < 1e-9 else float(betaincinv(successes, failures + 1, tail))
    high = 1.0 if failures < 1e-9 else float(betaincinv(successes + 1, failures, 1 - tail))
    return low, high
