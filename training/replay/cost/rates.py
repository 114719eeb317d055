"""What n calls would cost on k candidates: rates in force at their times, and what a route comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import astuple

from router import prices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from training.replay.logged.arms import Arms
    from training.replay.logged.calls import Calls

    Clock = Callable[[np.ndarray], np.ndarray]

PARTS = ("fresh", "cached", "written", "output")
_SLOT_MS = 30 * 60_000  # as prices change
_MTOK = 1e6


class Rates(NamedTuple):
    """USD a token by kind, and which row of that holds for a call on an arm; -1 is unknown."""

    table: np.ndarray  # (r, 5): input, output, cached, write, write_1h
    at: np.ndarray  # (n, k) int32

    def of(self, rows: np.ndarray, arm: np.ndarray) -> np.ndarray:
        """Rates (m, 5) of calls (m,) on arms (m,); NaN where unknown."""
        found: np.ndarray = self.table[self.at[rows, arm]]
        return found


class _Seen:
    """Rates seen so far, each once; the last row is the unknown."""

    def __init__(self) -> None:
        self.rows: dict[prices.Rates, int] = {}

    def place(self, rates: prices.Rates) -> int:
        return self.rows.setdefault(rates, len(self.rows))

    def table(self) -> np.ndarray:
        known = [[float(rate) / _MTOK for rate in astuple(rates)] for rates in self.rows]
        return np.array([*known, [np.nan] * 5])


def rates_of(calls: Calls, arms: Arms, tokens: np.ndarray, clock: Clock | None = None) -> Rates:
    """Rates of every call on every arm, prompts being `tokens` (n, k) long; `clock` sets another time."""
    seen = _Seen()
    at = np.full((calls.n, len(arms.arms)), -1, dtype=np.int32)
    ts_ms = calls.ts_ms if clock is None else clock(calls.ts_ms)
    tiers = calls.frame["service_tier"].fill_null("").to_numpy()
    short = np.where(calls.run[:, None], 0, tokens)  # the lengths of several calls are unknown
    for i, arm in enumerate(arms.arms):
        at[:, i] = _placed(seen, (arm.model, arm.provider), ts_ms, short[:, i], tiers)
    _own(calls, arms, seen, at, (ts_ms, short, tiers))
    return Rates(seen.table(), at)


def own_rates(calls: Calls) -> np.ndarray:
    """Rates (n, 5) of what was logged, under the very names it was logged with; NaN where unknown."""
    seen = _Seen()
    at = np.full(calls.n, -1, dtype=np.int32)
    tiers = calls.frame["service_tier"].fill_null("").to_numpy()
    short = np.where(calls.run, 0, calls.prompt)
    for sold, rows in _sold(calls):
        at[rows] = _placed(seen, sold, calls.ts_ms[rows], short[rows], tiers[rows])
    found: np.ndarray = seen.table()[at]
    return found


def listed(calls: Calls, own: np.ndarray) -> np.ndarray:
    """USD (n,) of every logged call by list price (n, 5), as if nothing were cached."""
    found: np.ndarray = calls.prompt * own[:, 0] + calls.output * own[:, 1]
    return found


def _own(
    calls: Calls, arms: Arms, seen: _Seen, at: np.ndarray, held: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    """What was logged is priced under the very names it was logged with."""
    ts_ms, short, tiers = held
    for sold, rows in _sold(calls):
        own = arms.logged[rows]
        at[rows, own] = _placed(seen, sold, ts_ms[rows], short[rows, own], tiers[rows])


def _sold(calls: Calls) -> Iterator[tuple[tuple[str, str | None], np.ndarray]]:
    """Each model and its seller as they were logged, and the calls that were."""
    models = (
        calls.frame["model_served"]
        .fill_null(calls.frame["model_requested"])
        .fill_null(calls.frame["candidate"])
    )
    names = models + "\x00" + calls.frame["provider"].fill_null("")
    for name in names.unique():
        model, _, provider = name.partition("\x00")
        yield (model, provider or None), np.flatnonzero((names == name).to_numpy())


def _placed(
    seen: _Seen, sold: tuple[str, str | None], ts_ms: np.ndarray, tokens: np.ndarray, tiers: np.ndarray
) -> np.ndarray:
    """Rows of the table for calls of one seller's model; in a tier without a price its standard one."""
    found = np.full(len(ts_ms), -1, dtype=np.int32)
    for tier in np.unique(tiers):
        of_tier = np.flatnonzero(tiers == tier)
        slots, where = np.unique(ts_ms[of_tier] // _SLOT_MS, return_inverse=True)
        times = [int(slot) * _SLOT_MS for slot in slots]
        ladders = [prices.ladder(*sold, at, tier or None) or prices.ladder(*sold, at) for at in times]
        for ladder in {id(steps): steps for steps in ladders}.values():
            mine = of_tier[np.array([steps is ladder for steps in ladders])[where]]
            for start, rates in reversed(ladder):
                found[mine[tokens[mine] > start]] = seen.place(rates)
    return found


class Bill(NamedTuple):
    """USD of calls by what is paid for; arrays (n,). NaN where the price is unknown."""

    fresh: np.ndarray
    cached: np.ndarray
    written: np.ndarray
    output: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """USD of each call (n,)."""
        total: np.ndarray = self.fresh + self.cached + self.written + self.output
        return total


def bill(rates: np.ndarray, split: tuple[np.ndarray, ...], output: np.ndarray) -> Bill:
    """Multiply out rates (n, 5) and a split (fresh, read, written, of those for an hour), each (n,)."""
    fresh, read, written, hourly = split
    return Bill(
        fresh * rates[:, 0],
        read * rates[:, 2],
        (written - hourly) * rates[:, 3] + hourly * rates[:, 4],
        output * rates[:, 1],
    )
