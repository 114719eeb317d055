"""Hedging: a call that is late at one deployment is asked of another, and whoever answers first answers.

Off unless it is given money: what the loser may have cost is taken from a budget of its own, by the hour, at
the price that was foretold for the whole call, since nobody says what a cancelled one costs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.gateway.attempts import Attempts, Target
    from router.gateway.passing import Passing

KEPT = 128  # times to first byte of each deployment
ENOUGH = 20  # of them to know what is late
DEPLOYMENTS = 1_024
HOUR_S = 3600.0


class HedgeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a call is late, and what hedging may cost."""

    usd_per_hour: float = 0.0  # for calls that are given up; 0: no call is made twice
    quantile: float = 0.95  # of a deployment's own times to first byte
    min_s: float = 0.5  # but no sooner than this

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        if not 0 <= self.usd_per_hour < float("inf"):
            raise ValueError(f"usd_per_hour: {self.usd_per_hour:g} must be a finite number, 0 or more")
        if not 0.5 <= self.quantile < 1:
            raise ValueError(f"quantile: {self.quantile:g} must be from 0.5 to below 1")
        if not 0 <= self.min_s < float("inf"):
            raise ValueError(f"min_s: {self.min_s:g} must be a finite number, 0 or more")


class Hedge(Value, frozen=True):
    """When to ask another deployment too, and how; None of it is looked up before."""

    after_s: float
    rival: Callable[[], tuple[Target, Attempts] | None]  # who, if anybody may


class Hedges:
    """How long deployments take to their first byte, and what was spent on losers."""

    def __init__(self, settings: HedgeSettings) -> None:
        self.settings = settings
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._window = float("-inf")  # when the hour began
        self._spent = 0.0  # USD in it

    @property
    def on(self) -> bool:
        """Whether any call may be made twice."""
        return self.settings.usd_per_hour > 0

    def note(self, deployment: str, seconds: float) -> None:
        """Take in a time to first byte."""
        seen = self._seen.setdefault(deployment, deque(maxlen=KEPT))
        seen.append(seconds)
        if len(self._seen) > DEPLOYMENTS:
            self._seen.popitem(last=False)

    def late_s(self, deployment: str) -> float | None:
        """Seconds after which a first byte is late; None while too little is known."""
        seen = self._seen.get(deployment, ())
        if len(seen) < ENOUGH:
            return None
        ordered = sorted(seen)
        return max(self.settings.min_s, ordered[int(len(ordered) * self.settings.quantile)])

    def spend(self, usd: float | None, now: float) -> bool:
        """Take a call's cost from the hour's budget; False if it isn't known or there isn't enough left."""
        if now >= self._window + HOUR_S:
            self._window, self._spent = now, 0.0
        if usd is None or self._spent + usd > self.settings.usd_per_hour:
            return False
        self._spent += usd
        return True


class Race:
    """Two attempts at one answer: the first that has something to say takes it."""

    def __init__(self) -> None:
        self.winner: Passing | None = None
        self.decided = asyncio.Event()

    def won_by(self, who: Passing) -> bool:
        """Whether this one answers; the first to ask does."""
        if self.winner is None:
            self.winner = who
            self.decided.set()
        return self.winner is who
