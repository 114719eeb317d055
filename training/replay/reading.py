"""A log as it was read, part by part, with what only all parts together tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from router import prices
from training.replay.cost.caches import kinds_of
from training.replay.cost.rates import listed, own_rates
from training.replay.logged.arms import Census, arms_of
from training.replay.logged.beliefs import types_of
from training.replay.logged.calls import read_book
from training.replay.logged.parts import Parts
from training.replay.quality.evidence import asked_again, read_decisions
from training.replay.quality.matrix import matrix_of

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from models.bundle import Bundle
    from router.catalog import Catalog
    from training.replay.logged.calls import Book
    from training.replay.logged.plan import Plan, Slice
    from training.replay.options import Options
    from training.replay.quality.evidence import Decisions

    Known = tuple[Catalog, Bundle, Options]

UNPRICED = "no price is known of their model"


class Shelf(NamedTuple):
    """Books and receipts of a log's parts, and what all of them have."""

    slices: list[Slice]
    books: Parts[Book]
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


def read_shelf(log: Path, plan: Plan, known: Known) -> Shelf:
    """Read a log part by part; BadInput where no price is known of any of its models."""
    found = _Reading(log, plan, known)
    for part in plan.slices:
        found.read(part)
    return found.shelf()


class _Reading:
    """A log while it is read."""

    def __init__(self, log: Path, plan: Plan, known: Known) -> None:
        many = len(plan.slices) > 1
        self.log, self.known = log, known
        self.slices: list[Slice] = []
        self.books: Parts[Book] = Parts(many=many)
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
        book = read_book(part)
        unknown = _unpriced(book, self.known, alone=part.whole)
        if unknown.any():
            self.unpriced.note(book, unknown)
        if unknown.all():
            self._leave_out({**(book.left_out if part.whole else {}), UNPRICED: book.n})
            return
        if unknown.any():
            book = book.without(unknown, UNPRICED)
        self._leave_out(book.left_out)
        book = book._replace(before=self.sessions, calls_before=self.calls)
        decisions = read_decisions(part, book)
        self.slices.append(part)
        self.books.add(book)
        self.receipts.add(decisions)
        self.census.note(book)
        self.named |= decisions.named
        self.types |= set(types_of(book))
        self.kinds |= set(kinds_of(book).tolist())
        self.calls, self.sessions = self.calls + book.n, self.sessions + book.sessions
        self.decided += len(decisions.frame)
        self.decide_ms.append(decisions.frame["decide_ms"].drop_nulls())
        self.span.append(np.stack([book.ts_ms[book.starts[:-1]], book.ts_ms[book.starts[1:] - 1]]))

    def _leave_out(self, rows: dict[str, int]) -> None:
        for why, count in rows.items():
            self.left_out[why] = self.left_out.get(why, 0) + count

    def shelf(self) -> Shelf:
        """The log as it was read."""
        if not self.slices:
            raise BadInput(f"{self.log}: {prices.why_unknown(*_first_model(self.unpriced))}")
        count = sum(len(part) for part in self.decide_ms)
        total = sum(float(part.sum()) for part in self.decide_ms)
        begun, ended = np.concatenate(self.span, axis=1)
        return Shelf(
            self.slices,
            self.books,
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


def _unpriced(book: Book, known: Known, *, alone: bool) -> np.ndarray:
    """Which calls (n,) have no price; of an outcome matrix, what they cost may be told by the log itself."""
    usd = listed(book, own_rates(book))
    unknown: np.ndarray = np.isnan(usd)
    if alone and unknown.any():
        census = Census()
        census.note(book)
        catalog, bundle, options = known
        arms = arms_of(census, catalog, bundle, options, ()).of(book)
        if matrix_of(book, arms, np.where(np.isnan(book.recorded), usd, 1.0)) is not None:
            unknown = unknown & np.isnan(book.recorded)
    return unknown


def _first_model(census: Census) -> tuple[str, str | None]:
    served, requested, candidate, provider = next(sold for names in census.sold.values() for sold in names)
    return served or requested or candidate or "its models", provider
