"""How far a policy is from today's, from others, and from a random mix of its own cost: all asked at once."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.result import Ends, Row

BEYOND = 0.025  # of wrong answers on either side


class Told(NamedTuple):
    """A success and half the width of its interval."""

    quality: float
    reach: float


class Field(NamedTuple):
    """What a policy is held against; its intervals hold for all that is asked at once (Bonferroni).

    The best of many looks better than it is, so one of ten is told by a wider interval than one alone.
    """

    today: Row
    asked: int
    mixes: tuple[Row, ...]  # from the cheapest on: random mixes, and what is mixed

    @classmethod
    def of(cls, rows: Sequence[Row], today: Row) -> Field:
        """The field of these rows; who does what today does isn't asked about."""
        named = {row.name: row for row in rows}
        dear = "best_single" if "best_single" in named else "reference"
        mixes = [named[name] for name in ("cheapest", "random_mix", dear) if name in named]
        asked = sum(row.supported and changes(row, today) for row in rows)
        return cls(today, max(asked, 1), tuple(sorted(mixes, key=usd)))

    def wide(self, ends: Ends) -> Ends:
        """Ends of one's own as ends that hold for all."""
        if self.asked == 1:
            return ends
        middle, reach = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
        reach *= NormalDist().inv_cdf(1 - BEYOND / self.asked) / NormalDist().inv_cdf(1 - BEYOND)
        return middle - reach, middle + reach

    def saved(self, row: Row) -> Ends | None:
        """Ends of what it saves; None unknown."""
        return None if row.saving_ci is None else self.wide(row.saving_ci)

    def apart(self, row: Row, other: Row) -> Ends | None:
        """Ends of row's quality less other's: on the same decisions where the other is today's."""
        if other.name == self.today.name:
            return None if row.quality_gain_ci is None else self.wide(row.quality_gain_ci)
        return self._less(row, told(other))

    def beyond_mix(self, row: Row) -> Ends | None:
        """Ends of its quality less that of sessions given at random at its own cost; None where not known.

        Success of a mix lies between its ends as its cost does. Beyond what can be mixed the nearest stands.
        """
        if not self.mixes:
            return None
        above = next((i for i, mix in enumerate(self.mixes) if usd(mix) > usd(row)), len(self.mixes))
        low, high = self.mixes[max(above - 1, 0)], self.mixes[min(above, len(self.mixes) - 1)]
        one, other = told(low), told(high)
        if one is None or other is None:
            return None
        room = usd(high) - usd(low)
        dear = (usd(row) - usd(low)) / room if room > 0 else 0.0
        reach = (1 - dear) * one.reach + dear * other.reach  # at most, however the two hang together
        return self._less(row, Told((1 - dear) * one.quality + dear * other.quality, reach))

    def _less(self, row: Row, other: Told | None) -> Ends | None:
        """Taken as told apart from each other: what both share would make it narrower."""
        mine = told(row)
        if mine is None or other is None:
            return None
        apart, reach = mine.quality - other.quality, float((mine.reach**2 + other.reach**2) ** 0.5)
        return self.wide((apart - reach, apart + reach))


def changes(row: Row, today: Row) -> bool:
    """Whether it is a policy that sends calls elsewhere than today's."""
    return row.role in ("pin", "policy", "control") and row.share != today.share


def told(row: Row) -> Told | None:
    """What is known of a row's quality."""
    if not row.supported or row.quality is None or row.quality_ci is None:
        return None
    return Told(row.quality, (row.quality_ci[1] - row.quality_ci[0]) / 2)


def usd(row: Row) -> float:
    """What it costs; without end where that isn't known."""
    return float("inf") if row.cost_usd is None else row.cost_usd
