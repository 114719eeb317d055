"""What a route through a part of a log costs: prompts split along its own caches, at the rates in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.cost.caches import Split, simulate
from training.replay.cost.rates import Bill, bill

if TYPE_CHECKING:
    from training.replay.cost.world import World
    from training.replay.logged.calls import Calls


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
    calls, rows = world.calls, np.arange(world.calls.n)
    split = simulate(calls, (world.caches, world.fares), (world.tokens, world.output), route)
    own = calls.run & (route == world.arms.logged) & np.isfinite(calls.cached)
    if own.any() and world.caches.rules:
        split = _as_counted(calls, split, own)
    found = bill(
        world.rates.of(rows, route),
        (split.fresh, split.read, split.written, split.hourly),
        world.output[rows, route],
    )
    taken = 1.0 if world.paid is None else world.paid[route]
    scale = np.where(route == world.arms.logged, world.scale[calls.session], taken)
    if world.known is not None:
        found, scale = _as_known(found, world.known[rows, route]), np.ones(calls.n)
    found = Bill(*(part * scale for part in found))
    if refused is not None:
        found = Bill(*(np.where(refused, 0.0, part) for part in found))
    moved = _moved(calls, route)
    others, k = route != world.arms.logged, len(world.arms.arms)
    lent = np.where(others, found.total, 0.0)
    wrote = np.where(others, found.output, 0.0)
    return Played(
        route=route,
        split=split,
        bill=found,
        usd=calls.of_session(found.total),
        read=float(split.read.sum()),
        switches=int(moved.sum()),
        unsafe=int((moved & calls.locked).sum()),
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


def _moved(calls: Calls, route: np.ndarray) -> np.ndarray:
    """Whether (n,) a call goes to another arm than the one before it in its session."""
    return np.append(False, (route[1:] != route[:-1]) & (calls.session[1:] == calls.session[:-1]))


def _as_counted(calls: Calls, split: Split, own: np.ndarray) -> Split:
    """What the log counts where it is the same run; there is nothing inside such a row to simulate."""
    read = np.where(own, np.nan_to_num(calls.cached), split.read)
    written = np.where(own, np.nan_to_num(calls.written), split.written)
    hourly = np.where(own, np.minimum(np.nan_to_num(calls.written_1h), written), split.hourly)
    fresh = np.where(own, calls.prompt - read - written, split.fresh)
    return split._replace(fresh=fresh, read=read, written=written, hourly=hourly)
