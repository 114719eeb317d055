"""Differences of policies on the same sessions, where the luck that both share cancels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.estimators.intervals import as_difference, of_products
from training.replay.quality.bootstrap import FEWEST, apart_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.estimators.intervals import Interval
    from training.replay.quality.bootstrap import Ends

    Blend = Sequence[tuple[float, str]]  # shares of policies that sum to 1: one control, or a mix of two


class Scores(NamedTuple):
    """A policy's quoted scores by cluster (C,) of the decisions that had a choice."""

    total: np.ndarray  # (C,) sums
    size: np.ndarray  # (C,) decisions
    rows: float  # effective decisions


class Gap(NamedTuple):
    """A difference and its 95 % ends."""

    value: float
    ends: Ends | None


class Pairs(NamedTuple):
    """What is known of every policy by cluster, for differences of two of them."""

    scores: Mapping[str, Scores]
    usd: Mapping[str, np.ndarray]  # (C,) what clusters cost
    spread: Mapping[str, np.ndarray | float]  # (C,) what a factor of its bill adds when they are drawn again
    draws: int = 1_000
    seed: int = 0

    def success(self, name: str, blend: Blend) -> Gap | None:
        """Success of a policy less that of a blend; None where either isn't known."""
        if any(one not in self.scores for one in (name, *(other for _, other in blend))):
            return None
        found = less(self.scores[name], [(share, self.scores[other]) for share, other in blend])
        many = len(self.scores[name].total) >= FEWEST
        return Gap(found.mean, (found.low, found.high) if many and np.isfinite(found.error) else None)

    def money(self, name: str, blend: Blend) -> Gap | None:
        """USD of a policy less those of a blend; None where either isn't known."""
        if any(one not in self.usd for one in (name, *(other for _, other in blend))):
            return None
        off = self.usd[name] - sum(share * self.usd[other] for share, other in blend)
        felt = self.spread[name] - sum(share * self.spread[other] for share, other in blend)
        return Gap(float(off.sum()), apart_of(off + felt, self.draws, self.seed))


def less(one: Scores, others: Sequence[tuple[float, Scores]]) -> Interval:
    """Mean difference of scores, by the spread of its sums over clusters (Cochran 1977, §6.3 and 9A).

    It holds whether both are told by the same estimator or not: each score's mean is its policy's success.
    """
    off = one.total - sum(share * other.total for share, other in others)
    columns = np.stack([off, one.size])
    found = of_products(np.array([1.0, 0.0]), columns.sum(axis=1), columns @ columns.T, len(off))
    rows = min(one.rows, len(off), *(other.rows for _, other in others))
    return as_difference(found, rows)
