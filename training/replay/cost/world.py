"""All that policies are played in: a part of a log as a world, and the worlds of all its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from training.replay.cost.budget import Budget
    from training.replay.cost.caches import Caches, Fare
    from training.replay.cost.factors import Factors
    from training.replay.cost.rates import Rates
    from training.replay.logged.arms import Arms
    from training.replay.logged.beliefs import Beliefs
    from training.replay.logged.calls import Calls
    from training.replay.logged.parts import Parts
    from training.replay.logged.receipts import Served


class World(NamedTuple):
    """n calls, k arms. Whatever is played, it is played in the same world."""

    calls: Calls
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


class Worlds(NamedTuple):
    """A log's parts, of n calls and S sessions in all."""

    parts: Parts[World]
    arms: Arms  # of no calls: each part has its own
    n: int
    scale: np.ndarray  # (S,) what a session's bill is of the price table's
    never: np.ndarray  # (k,) share of the calls that an arm can't serve
    reference: int  # the arm that is the reference of most calls
    budget: Budget | None = None
    factors: Factors | None = None
    able: np.ndarray | None = None  # (k,) arms that keep the calls whose client named them; None: all move

    @property
    def sessions(self) -> int:
        """Number of sessions."""
        return len(self.scale)

    def each(self) -> Iterator[World]:
        """The parts in order."""
        return map(self.at, range(len(self.parts)))

    def at(self, part: int) -> World:
        """One part, its sessions at the scale of their bills, its client's pins held."""
        world = self.parts[part]
        begun = world.calls.before
        paid = None if self.factors is None else self.factors.paid
        world = world._replace(scale=self.scale[begun : begun + world.calls.sessions], paid=paid)
        return _held(world, self.able)

    def changed(self, change: Callable[[World], World]) -> Worlds:
        """The same with something else in each part."""
        parts = self.parts.map(change)
        return of_parts(parts, self.arms, self.scale)._replace(
            budget=self.budget, factors=self.factors, able=self.able
        )


def of_parts(parts: Parts[World], arms: Arms, scale: np.ndarray | None = None) -> Worlds:
    """Put worlds together; bills are the price table's where no `scale` (S,) is given."""
    k, n, sessions = len(arms.arms), 0, 0
    never, reference = np.zeros(k), np.zeros(k, dtype=np.int64)
    for world in parts:
        n, sessions = n + world.calls.n, sessions + world.calls.sessions
        never += world.excluded.sum(axis=0)
        reference += np.bincount(world.reference, minlength=k)
    scale = np.ones(sessions) if scale is None else scale
    return Worlds(parts, arms, n, scale, never / max(n, 1), int(reference.argmax()))


def _held(world: World, able: np.ndarray | None) -> World:
    """The world where calls stay that their clients pinned, if that arm (k,) is to be had; None: none do."""
    served = world.served
    if served is None or not served.pinned.any():
        return world
    stay = kept(world, served, able)
    rows = np.flatnonzero(stay)
    arm = world.arms.logged[rows]
    excluded, reference = world.excluded.copy(), world.reference.copy()
    excluded[rows] = True
    excluded[rows, arm] = False
    reference[rows] = arm
    return world._replace(excluded=excluded, reference=reference, served=served._replace(pinned=stay))


def kept(world: World, served: Served, able: np.ndarray | None) -> np.ndarray:
    """Which calls (n,) keep the model that their client named."""
    found: np.ndarray = served.pinned & (False if able is None else able[world.arms.logged])
    return found
