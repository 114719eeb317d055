"""What a log pays for each candidate of the price table's, by the candidate's own calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.bills import CALL_WITHIN, MIN_GROUP, by_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.replay.bills import Bills
    from training.replay.world import World
    from training.replay.worlds import Worlds

SHOWN = 4  # candidates named in a caveat


class Factors(NamedTuple):
    """A factor for each of k candidates: what their own calls were billed over what the table says of them.

    It holds for calls taken over from others, too; 1 where most of the own calls are the table's, or none is
    billed.
    """

    paid: np.ndarray  # (k,)
    told: np.ndarray  # (k,) bool: enough own calls are billed
    rest: dict[int, np.ndarray]  # of those with a factor: each session's share (S,) in it, summing to 0

    def felt(self, lent: np.ndarray | None) -> np.ndarray | float:
        """What drawing sessions again adds to each one's USD (S,): factors are ratios of their sums.

        `lent` (k,) is the USD of calls that candidates took over.
        """
        if lent is None or not self.rest:
            return 0.0
        found: np.ndarray = sum((lent[arm] * rest for arm, rest in self.rest.items()), np.zeros(1))
        return found


def factors_of(worlds: Worlds, bills: Bills) -> Factors:
    """The factors of a log's candidates, by sessions whose bill is a price and not a gap in the log."""
    k = len(worlds.arms.arms)
    sums = np.zeros((4, k))  # calls, those off the table's, USD as recorded, USD by the table
    for world in worlds.each():
        arm, recorded, listed, _ = _own(world, bills)
        off = np.abs(recorded / listed - 1) > CALL_WITHIN
        weights = np.ones(len(arm)), off, recorded, listed
        sums += np.stack([np.bincount(arm, weight, k) for weight in weights])
    calls, off, recorded, listed = sums
    told = calls >= MIN_GROUP
    some = told & (2 * off > calls)
    paid = np.where(some, recorded / np.where(some, listed, 1.0), 1.0)
    rest = {int(arm): np.zeros(worlds.sessions) for arm in np.flatnonzero(some)}
    for world in worlds.each():
        arm, cost, table, session = _own(world, bills)
        for a, each in rest.items():
            mine = arm == a
            beyond = (cost - paid[a] * table)[mine] / recorded[a]
            each += np.bincount(session[mine], beyond, worlds.sessions)
    return Factors(paid, told, rest)


def _own(world: World, bills: Bills) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Candidate, USD as recorded, USD by the table and session in the log (m,) of calls that have both."""
    book = world.book
    usd, told, _ = by_counts(world)
    session = book.session + book.before
    use = told & np.isfinite(usd) & (usd > 0) & ~bills.excused[session]
    return world.arms.logged[use], book.recorded[use], usd[use], session[use]


def doubts(factors: Factors, worlds: Worlds) -> Iterator[str]:
    """What has to be said of them."""
    if not factors.rest:
        return
    names = worlds.arms.names
    some = [f"{names[a]} {factors.paid[a]:.2f}" for a in factors.rest]
    yield (
        "calls that a candidate takes over cost what its own calls here were billed, as a factor of the "
        f"price table: {_listed(some)}; how far that varies is in the intervals"
    )
    silent = [name for name, told in zip(names, factors.told, strict=True) if not told]
    if silent:
        yield (
            f"{_listed(silent)} at list price, as too few calls of theirs are billed here: beside a bill "
            "that isn't at list price, what they save is as much of that as of them"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
