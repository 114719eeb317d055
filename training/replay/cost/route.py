"""All that a part of a replay is played in, and what a route through it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.cost.caches import Split, simulate
from training.replay.cost.rates import Bill, bill

if TYPE_CHECKING:
    from training.replay.cost.caches import Caches, Fare
    from training.replay.cost.rates import Rates
    from training.replay.logged.arms import Arms
    from training.replay.logged.beliefs import Beliefs
    from training.replay.logged.calls import Book
    from training.replay.logged.receipts import Served


class World(NamedTuple):
    """n calls, k arms. Whatever is played, it is played in the same world."""

    book: Book
    arms: Arms
    tokens: np.ndarray  # (n, k) whole prompts
    output: np.ndarray  # (n, k) answers
    rates: Rates
    ahead: Rates  # for prompts as long as those to come
    caches: Caches
    fares: Fare
    beliefs: Beliefs
    excluded: np.ndarray  # (n, k) bool
    reference: np.ndarray  # (n,) int
    draw: np.ndarray  # (n,) in 0..1, by the request id as served
    scale: np.ndarray  # (S,) what a session's bill is of the price table's
    known: np.ndarray | None = None  # (n, k) USD, where a log tells what every arm cost
    part: int = 0
    served: Served | None = None  # what receipts tell beside the request
    # (k,) what calls taken over are of the price table's, NaN where they have no price; None: all of it
    paid: np.ndarray | None = None


class Played(NamedTuple):
    """A route (n,) of arms and what it costs."""

    route: np.ndarray
    split: Split
    bill: Bill  # of each call, scaled
    usd: np.ndarray  # (S,)
    read: float  # tokens
    switches: int
    unsafe: int
    chances: np.ndarray | None = None  # (n, k) float32 of the arms; None: the route's own, for sure
    refused: int = 0  # calls that a spent budget turned away
    lent: np.ndarray | None = None  # (k,) USD of calls that each arm took over
    wrote: np.ndarray | None = None  # (k,) of them that of answers; None: it is known, not simulated

    @property
    def total(self) -> float:
        """USD of the whole log."""
        return float(self.usd.sum())


def play(
    world: World,
    route: np.ndarray,
    chances: np.ndarray | None = None,
    refused: np.ndarray | None = None,
) -> Played:
    """Price a route along its own caches; a whole run on its own arm keeps what was counted.

    Calls that a spent budget `refused` (n,) cost nothing.
    """
    book, rows = world.book, np.arange(world.book.n)
    split = simulate(book, (world.caches, world.fares), (world.tokens, world.output), route)
    own = book.run & (route == world.arms.logged) & np.isfinite(book.cached)
    if own.any() and world.caches.rules:
        split = _as_counted(book, split, own)
    found = bill(
        world.rates.of(rows, route),
        (split.fresh, split.read, split.written, split.hourly),
        world.output[rows, route],
    )
    taken = 1.0 if world.paid is None else world.paid[route]
    scale = np.where(route == world.arms.logged, world.scale[book.session], taken)
    if world.known is not None:
        found, scale = _as_known(found, world.known[rows, route]), np.ones(book.n)
    found = Bill(*(part * scale for part in found))
    if refused is not None:
        found = Bill(*(np.where(refused, 0.0, part) for part in found))
    moved = _moved(book, route)
    others, k = route != world.arms.logged, len(world.arms.arms)
    lent = np.where(others, found.total, 0.0)
    wrote = np.where(others, found.output, 0.0)
    return Played(
        route=route,
        split=split,
        bill=found,
        usd=book.of_session(found.total),
        read=float(split.read.sum()),
        switches=int(moved.sum()),
        unsafe=int((moved & book.locked).sum()),
        chances=chances,
        refused=0 if refused is None else int(refused.sum()),
        lent=None if world.paid is None else np.bincount(route, lent, k),
        wrote=None if world.known is not None else np.bincount(route, wrote, k),
    )


def _as_known(found: Bill, usd: np.ndarray) -> Bill:
    """Parts of the price table's bill that add up to what is known to have been paid (n,)."""
    listed = found.total
    priced = np.isfinite(listed) & (listed > 0)
    scale = np.where(priced, usd / np.where(priced, listed, 1.0), 0.0)
    parts = [np.where(priced, part * scale, 0.0) for part in found]
    parts[-1] = np.where(priced, parts[-1], usd)
    return Bill(*parts)


def _moved(book: Book, route: np.ndarray) -> np.ndarray:
    """Whether (n,) a call goes to another arm than the one before it in its session."""
    return np.append(False, (route[1:] != route[:-1]) & (book.session[1:] == book.session[:-1]))


def _as_counted(book: Book, split: Split, own: np.ndarray) -> Split:
    """What the log counts where it is the same run; there is nothing inside such a row to simulate."""
    read = np.where(own, np.nan_to_num(book.cached), split.read)
    written = np.where(own, np.nan_to_num(book.written), split.written)
    hourly = np.where(own, np.minimum(np.nan_to_num(book.written_1h), written), split.hourly)
    fresh = np.where(own, book.prompt - read - written, split.fresh)
    return split._replace(fresh=fresh, read=read, written=written, hourly=hourly)
