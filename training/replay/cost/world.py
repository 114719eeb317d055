"""The parts of a log as worlds, and what policies come to when they are played through all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.logged.parts import Parts
from training.replay.logged.receipts import held
from training.replay.policies.entries import Entry, Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from training.replay.cost.budget import Budget
    from training.replay.cost.factors import Factors
    from training.replay.cost.route import World
    from training.replay.logged.arms import Arms
    from training.replay.policies.entries import Take

    How = Callable[[World, np.ndarray | None], Take]


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
        begun = world.book.before
        paid = None if self.factors is None else self.factors.paid
        world = world._replace(scale=self.scale[begun : begun + world.book.sessions], paid=paid)
        return held(world, self.able)

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
        n, sessions = n + world.book.n, sessions + world.book.sessions
        never += world.excluded.sum(axis=0)
        reference += np.bincount(world.reference, minlength=k)
    scale = np.ones(sessions) if scale is None else scale
    return Worlds(parts, arms, n, scale, never / max(n, 1), int(reference.argmax()))


class Play(NamedTuple):
    """A policy to be played: its name, and what it comes to in a part, some calls (n,) being refused."""

    name: str
    how: How
    role: str = "policy"
    said: str | Callable[[], str] | None = None  # what can be said once it has been played is called then


def play_all(worlds: Worlds, plays: Sequence[Play], told: Callable[[], None]) -> list[Entry]:
    """Play policies through all parts, and say after each that it is through."""
    refused = None if worlds.budget is None else _refused(worlds, worlds.budget, plays)
    sums = [Sums(many=worlds.parts.many) for _ in plays]
    for world in worlds.each():
        for i, play in enumerate(plays):
            sums[i].add(play.how(world, None if refused is None else refused[i][world.part]))
            told()
    found = []
    for i, (total, play) in enumerate(zip(sums, plays, strict=True)):
        said = play.said() if callable(play.said) else play.said
        entry = total.entry(play.name, worlds.arms, play.role, said)
        if refused is not None:
            entry.turned_away = refused[i].__getitem__
        found.append(entry)
    return found


def _refused(worlds: Worlds, budget: Budget, plays: Sequence[Play]) -> list[Parts[np.ndarray]]:
    """Which calls of each policy the budget refuses, part by part: it is spent in the order of the log."""
    many = worlds.parts.many
    paid: list[Parts[np.ndarray]] = [Parts(many=many) for _ in plays]
    for world in worlds.each():
        for i, play in enumerate(plays):
            paid[i].add(play.how(world, None).call_usd)
    found = []
    for usd in paid:
        every = list(usd)
        over = budget.refused(np.concatenate(every))
        ends = np.cumsum([len(part) for part in every])
        found.append(Parts(np.split(over, ends[:-1]), many=many))
    return found
