"""What a log pays for each candidate of the price table's, by the candidate's own calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.cost.bills import CALL_WITHIN, MIN_GROUP, by_counts
from training.spend.agree import OFF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.replay.cost.bills import Bills
    from training.replay.cost.world import World, Worlds

SHOWN = 4  # candidates named in a caveat


class Factors(NamedTuple):
    """A factor for each of k candidates: what their own calls were billed over what the table says of them.

    It holds for calls taken over from others, too; 1 where most of the own calls are the table's, or none is
    billed. Who can't be reproduced can't be promised: NaN where no own row has a price, or the own bill isn't
    met.
    """

    paid: np.ndarray  # (k,)
    told: np.ndarray  # (k,) bool: enough own calls are billed
    rest: dict[int, np.ndarray]  # of those with a factor: each session's share (S,) in it, summing to 0
    unpriced: tuple[str, ...] = ()  # why candidates have no price, each by name

    def felt(self, lent: np.ndarray | None) -> np.ndarray | float:
        """What drawing sessions again adds to each one's USD (S,): factors are ratios of their sums.

        `lent` (k,) is the USD of calls that candidates took over.
        """
        if lent is None or not self.rest:
            return 0.0
        found: np.ndarray = sum((lent[arm] * rest for arm, rest in self.rest.items()), np.zeros(1))
        return found


def factors_of(worlds: Worlds, bills: Bills, rows_without: dict[str, int] | None = None) -> Factors:
    """The factors of a log's candidates, by sessions whose bill is a price and not a gap in the log.

    `rows_without` counts the rows of candidates that have none with a price.
    """
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
    unpriced = _unpriced(worlds, bills, rows_without or {})
    for a in unpriced:
        paid[a] = np.nan
        rest.pop(a, None)
    return Factors(paid, told, rest, tuple(unpriced.values()))


def _unpriced(worlds: Worlds, bills: Bills, rows_without: dict[str, int]) -> dict[int, str]:
    """Who has no price, and why: none for any of its rows, or none that its own bill is met by."""
    found, names = {}, worlds.arms.names
    for name, rows in rows_without.items():
        at = worlds.arms.find(name)
        if at is not None:
            found[at] = f"{names[at]} (none of its {rows:,} rows has one)"
    k = len(names)
    sums = np.zeros((2, k))  # USD as recorded, and of it what nothing explains
    for world in worlds.each():
        usd, told, _ = by_counts(world)
        use, session = told & np.isfinite(usd), world.calls.session
        unmet = bills.unmet[session + world.calls.before] & use
        recorded, arm = np.where(use, world.calls.recorded, 0.0), world.arms.logged
        beyond = np.where(unmet, recorded - np.nan_to_num(usd) * world.scale[session], 0.0)
        sums += np.stack([np.bincount(arm, weight, k) for weight in (recorded, beyond)])
    recorded, beyond = sums
    for a in np.flatnonzero(np.abs(beyond) > OFF * recorded):
        comes_to = recorded[a] - beyond[a]
        found[int(a)] = f"{names[a]} (billed ${recorded[a]:,.4f}, where prices come to ${comes_to:,.4f})"
    return found


def _own(world: World, bills: Bills) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Candidate, USD as recorded, USD by the table and session in the log (m,) of calls that have both."""
    calls = world.calls
    usd, told, _ = by_counts(world)
    session = calls.session + calls.before
    use = told & np.isfinite(usd) & (usd > 0) & ~bills.excused[session]
    return world.arms.logged[use], calls.recorded[use], usd[use], session[use]


def doubts(factors: Factors, worlds: Worlds) -> Iterator[str]:
    """What has to be said of them."""
    if factors.unpriced:
        yield (
            f"no price is known of {_listed(list(factors.unpriced))}: what can't be reproduced can't be "
            "promised, so what calls that they take over would cost is unknown, and no learned policy "
            "chooses them; your gateway would, at its catalogue's price. Put a [[price]] as billed into a "
            "file named by `prices` in samediff.toml, or leave them out (--without)"
        )
    if not factors.rest:
        return
    names = worlds.arms.names
    some = [f"{names[a]} {factors.paid[a]:.2f}" for a in factors.rest]
    yield (
        "calls that a candidate takes over cost what its own calls here were billed, as a factor of the "
        f"price table: {_listed(some)}; how far that varies is in the intervals"
    )
    at_list = ~factors.told & np.isfinite(factors.paid)
    silent = [name for name, listed in zip(names, at_list, strict=True) if listed]
    if silent:
        yield (
            f"{_listed(silent)} at list price, as too few calls of theirs are billed here: beside a bill "
            "that isn't at list price, what they save is as much of that as of them"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
