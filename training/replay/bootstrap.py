"""Intervals of simulated money: sessions are drawn again, the same draws for every policy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CHUNK = 2_000_000  # weights in memory at a time
EXACT_TO = 50_000  # sessions; beyond, the sum is as good as normal


class Spread(NamedTuple):
    """95 % intervals of totals and of savings beside the first policy, each (p, 2); None with one session."""

    total: np.ndarray
    saving: np.ndarray


def spread(usd: np.ndarray, draws: int, seed: int) -> Spread | None:
    """Bootstrap over sessions: usd is (p, S), its first row the policy that savings are beside."""
    sessions = usd.shape[1]
    if sessions < 2:
        return None
    if sessions > EXACT_TO:
        return _normal(usd)
    rng = np.random.default_rng([seed, sessions])
    step = max(1, CHUNK // sessions)
    totals = []
    for start in range(0, draws, step):
        count = min(step, draws - start)
        weights = rng.multinomial(sessions, np.full(sessions, 1 / sessions), size=count)
        totals.append(weights @ usd.T)
    drawn = np.concatenate(totals)
    ends = [0.025, 0.975]
    total = np.quantile(drawn, ends, axis=0).T
    paid = drawn[:, 0] > 0
    if not paid.any():  # a budget refused all of it
        return Spread(total, np.full(total.shape, np.nan))
    saving = 1 - drawn[paid] / drawn[paid, :1]
    return Spread(total, np.quantile(saving, ends, axis=0).T)


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
