"""A log as it was read, part by part, with what only all parts together tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from router import prices
from training.replay.cost.caches import kinds_of
from training.replay.cost.rates import listed, own_rates
from training.replay.logged.arms import Census, arms_of
from training.replay.logged.calls import read_calls
from training.replay.logged.lengths import types_of
from training.replay.logged.parts import Parts
from training.replay.quality.evidence import asked_again, read_decisions
from training.replay.quality.matrix import matrix_of

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from models.bundle import Bundle
    from router.catalog import Catalog
    from training.replay.logged.calls import Calls
    from training.replay.logged.plan import Plan, Slice
    from training.replay.options import Options
    from training.replay.quality.evidence import Decisions

    Known = tuple[Catalog, Bundle, Options]

UNPRICED = "no price is known of their model"


class Reading(NamedTuple):
    """Calls and receipts of a log's parts, and what all of them have."""

    slices: list[Slice]
    calls: Parts[Calls]
    receipts: Parts[Decisions]
    census: Census
    named: tuple[str, ...]  # candidates that had a chance, were a reference, or were asked by shadow calls
    types: np.ndarray  # of tasks, sorted
    kinds: np.ndarray  # of calls by their caches, sorted
    left_out: dict[str, int]  # rows that can't be played, by the reason
    unpriced: dict[str, int]  # candidates none of whose rows has a price, and how many rows that is
    decided: int  # calls with a receipt
    decide_ms: float | None  # mean of the receipts' own
    begun_ms: np.ndarray  # (S,) of every session
    ended_ms: np.ndarray  # (S,)


def read_log(log: Path, plan: Plan, known: Known) -> Reading:
    """Read a log part by part; BadInput where no price is known of any of its models."""
    found = _Reader(log, plan, known)
    for part in plan.slices:
        found.read(part)
    return found.reading()


class _Reader:
    """A log while it is read."""

    def __init__(self, log: Path, plan: Plan, known: Known) -> None:
        many = len(plan.slices) > 1
        self.log, self.known = log, known
        self.slices: list[Slice] = []
        self.parts: Parts[Calls] = Parts(many=many)
        self.receipts: Parts[Decisions] = Parts(many=many)
        self.census = Census()
        self.named = asked_again(log)
        self.types: set[str] = set()
        self.kinds: set[int] = set()
        self.left_out = dict(plan.left_out)
        self.unpriced = Census()
        self.calls = self.sessions = self.decided = 0
        self.decide_ms: list[pl.Series] = []
        self.span: list[np.ndarray] = []

    def read(self, part: Slice) -> None:
        """Read the next part."""
        calls = read_calls(part)
        unknown = _unpriced(calls, self.known, alone=part.whole)
        if unknown.any():
            self.unpriced.note(calls, unknown)
        if unknown.all():
            self._leave_out({**(calls.left_out if part.whole else {}), UNPRICED: calls.n})
            return
        if unknown.any():
            calls = calls.without(unknown, UNPRICED)
        self._leave_out(calls.left_out)
        calls = calls._replace(before=self.sessions, calls_before=self.calls)
        decisions = read_decisions(part, calls)
        self.slices.append(part)
        self.parts.add(calls)
        self.receipts.add(decisions)
        self.census.note(calls)
        self.named |= decisions.named
        self.types |= set(types_of(calls))
        self.kinds |= set(kinds_of(calls).tolist())
        self.calls, self.sessions = self.calls + calls.n, self.sessions + calls.sessions
        self.decided += len(decisions.frame)
        self.decide_ms.append(decisions.frame["decide_ms"].drop_nulls())
        self.span.append(np.stack([calls.ts_ms[calls.starts[:-1]], calls.ts_ms[calls.starts[1:] - 1]]))

    def _leave_out(self, rows: dict[str, int]) -> None:
        for why, count in rows.items():
            self.left_out[why] = self.left_out.get(why, 0) + count

    def reading(self) -> Reading:
        """The log as it was read."""
        if not self.slices:
            raise BadInput(f"{self.log}: {prices.why_unknown(*_first_model(self.unpriced))}")
        count = sum(len(part) for part in self.decide_ms)
        total = sum(float(part.sum()) for part in self.decide_ms)
        begun, ended = np.concatenate(self.span, axis=1)
        return Reading(
            self.slices,
            self.parts,
            self.receipts,
            self.census,
            tuple(sorted(self.named)),
            np.array(sorted(self.types)),
            np.array(sorted(self.kinds), dtype=np.int64),
            self.left_out,
            self.census.lacks(self.unpriced),
            self.decided,
            total / count if count else None,
            begun,
            ended,
        )


def _unpriced(calls: Calls, known: Known, *, alone: bool) -> np.ndarray:
    """Which calls (n,) have no price; of an outcome matrix, what they cost may be told by the log itself."""
    usd = listed(calls, own_rates(calls))
    unknown: np.ndarray = np.isnan(usd)
    if alone and unknown.any():
        census = Census()
        census.note(calls)
        catalog, bundle, options = known
        arms = arms_of(census, catalog, bundle, options, ()).of(calls)
        if matrix_of(calls, arms, np.where(np.isnan(calls.recorded), usd, 1.0)) is not None:
            unknown = unknown & np.isnan(calls.recorded)
    return unknown


def _first_model(census: Census) -> tuple[str, str | None]:
    served, requested, candidate, provider = next(sold for names in census.sold.values() for sold in names)
    return served or requested or candidate or "its models", provider
