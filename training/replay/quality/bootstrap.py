"""Intervals of simulated money: sessions are drawn again, the same draws for every policy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Ends = tuple[float, float]  # of an interval

_ROUNDING = 1e-12
_Z = 1.959964
_WIDE = 1e3  # errors, where a draw may be of one session alone, again and again
CHUNK = 2_000_000  # weights in memory at a time
FEWEST = 10  # sessions; below, no interval holds what it says where costs are skewed
EXACT_TO = 50_000  # sessions; beyond, the sum is as good as normal
APART_EXACT_TO = 5_000  # the same of a difference, which is less skewed than what it is of


class Spread(NamedTuple):
    """95 % intervals of totals and of savings beside the first policy, each (p, 2)."""

    total: np.ndarray
    saving: np.ndarray


class _Moments(NamedTuple):
    """Sums over sessions of each policy's costs, of their squares, and of their products with the first's."""

    total: np.ndarray  # (b, p), as all of them
    square: np.ndarray
    cross: np.ndarray

    def errors(self, sessions: int) -> np.ndarray:
        """Relative standard errors of the totals."""
        return _relative(self.square - self.total**2 / sessions, self.square, self.total, sessions)

    def of_ratios(self, sessions: int) -> np.ndarray:
        """Relative standard errors of the totals over the first's, linearised (Cochran 1977, §6.3)."""
        ratio = self.total / self.total[:, :1]
        off = self.square - 2 * ratio * self.cross + ratio**2 * self.square[:, :1]
        return _relative(off, self.square, self.total, sessions)


def spread(usd: np.ndarray, draws: int, seed: int) -> Spread | None:
    """Studentised bootstrap of log totals: usd (p, S), savings beside the first; None if S is small.

    Hall, Annals of Statistics 1988, on logarithms, since costs are skewed to the right and positive: with
    10 to 40 sessions of lognormal costs (sigma 1.2) it holds 89 to 92 %, percentiles 77 to 91 %.
    """
    sessions = usd.shape[1]
    if sessions < FEWEST:
        return None
    if sessions > EXACT_TO:
        return _normal(usd)
    seen = _moments(np.ones((1, sessions)), usd)
    drawn = _drawn(usd, draws, seed)
    total = _ends(seen.total[0], seen.errors(sessions)[0], (drawn.total, drawn.errors(sessions)))
    if not seen.total[0, 0] > 0:  # a budget refused all of it
        return Spread(total, np.full(total.shape, np.nan))
    paid = drawn.total[:, 0] > 0
    drawn = _Moments(*(of[paid] for of in drawn))
    ratio = seen.total[0] / seen.total[0, 0], seen.of_ratios(sessions)[0]
    ratios = drawn.total / drawn.total[:, :1], drawn.of_ratios(sessions)
    return Spread(total, 1 - _ends(*ratio, ratios)[:, ::-1])


def apart_of(off: np.ndarray, draws: int, seed: int) -> tuple[float, float] | None:
    """95 % ends of a sum of differences (S,) of either sign; None if S is small.

    The same studentised bootstrap, of the sum itself as a difference has no logarithm.
    """
    sessions = len(off)
    if sessions < FEWEST:
        return None
    total, error = float(off.sum()), float(np.sqrt(sessions) * off.std(ddof=1))
    if not error > _ROUNDING * float(np.abs(off).sum()):
        return total, total
    students = np.array([-_Z, _Z])
    if sessions <= APART_EXACT_TO:
        students = _students(off, draws, seed)
    return total - float(students[1]) * error, total - float(students[0]) * error


def _students(off: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Quantiles (2,) of how many errors a sum over sessions (S,) is off, as they are drawn again."""
    sessions = len(off)
    rng = np.random.default_rng([seed, sessions])
    step, centred, found = max(1, CHUNK // sessions), off - off.mean(), []
    for start in range(0, draws, step):
        count = min(step, draws - start)
        weights = rng.multinomial(sessions, np.full(sessions, 1 / sessions), size=count).astype(np.float64)
        moved = weights @ centred
        square = np.maximum(weights @ (centred * centred) - moved**2 / sessions, 0.0)
        error = np.sqrt(square * sessions / (sessions - 1))
        endless = np.where(moved == 0, 0.0, np.copysign(np.inf, moved))  # one session, again and again
        found.append(np.divide(moved, error, out=endless, where=error > 0))
    quantiles = np.quantile(np.concatenate(found), [0.025, 0.975], method="inverted_cdf")
    ends: np.ndarray = np.where(np.isfinite(quantiles), quantiles, [-_WIDE, _WIDE])
    return ends


def _drawn(usd: np.ndarray, draws: int, seed: int) -> _Moments:
    """The sums of so many draws of all sessions."""
    sessions = usd.shape[1]
    rng = np.random.default_rng([seed, sessions])
    step = max(1, CHUNK // sessions)
    found = []
    for start in range(0, draws, step):
        count = min(step, draws - start)
        weights = rng.multinomial(sessions, np.full(sessions, 1 / sessions), size=count)
        found.append(_moments(weights.astype(np.float64), usd))
    return _Moments(*(np.concatenate(of) for of in zip(*found, strict=True)))


def _moments(weights: np.ndarray, usd: np.ndarray) -> _Moments:
    return _Moments(*(weights @ of.T for of in (usd, usd * usd, usd * usd[0])))


def _relative(off: np.ndarray, scale: np.ndarray, total: np.ndarray, sessions: int) -> np.ndarray:
    """Root of a sum of squares over a total; 0 where it is rounding."""
    square = np.where(off > _ROUNDING * scale, off, 0.0) * sessions / (sessions - 1)
    found: np.ndarray = np.divide(np.sqrt(square), total, out=np.zeros_like(total), where=total > 0)
    return found


def _ends(mean: np.ndarray, error: np.ndarray, drawn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Ends (p, 2) of positive means (p,) with relative errors, by those drawn (b, p); no spread, no width."""
    means, errors = drawn
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.log(means) - np.log(mean)
        students = np.where(errors > 0, off / errors, np.sign(off) * np.inf)
    students = np.where(np.isnan(students), 0.0, students)
    low, high = np.quantile(students, [0.025, 0.975], axis=0, method="inverted_cdf")
    some = error > 0
    with np.errstate(invalid="ignore", over="ignore"):
        ends = np.stack([mean * np.exp(-high * error), mean * np.exp(-low * error)], axis=1)
    found: np.ndarray = np.where(some[:, None], ends, mean[:, None])
    return found


def _normal(usd: np.ndarray) -> Spread:
    """The same by the spread of sums and of ratios."""
    n = usd.shape[1]
    sums = usd.sum(axis=1)
    reach = 1.96 * np.sqrt(n) * usd.std(axis=1, ddof=1)
    total = np.stack([sums - reach, sums + reach], axis=1)
    if not sums[0] > 0:
        return Spread(total, np.full(total.shape, np.nan))
    ratio = sums / sums[0]
    off = usd - ratio[:, None] * usd[0]
    wide = 1.96 * np.sqrt(n) * off.std(axis=1, ddof=1) / sums[0]
    return Spread(total, np.stack([1 - ratio - wide, 1 - ratio + wide], axis=1))
