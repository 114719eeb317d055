"""How far a policy is from today's, from others, its best control, and a mix of its own cost: all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scipy.special import stdtrit

from training.replay.report.result import Versus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.replay.quality.bootstrap import Ends
    from training.replay.quality.differences import Blend, Gap, Pairs
    from training.replay.report.result import Row

BEYOND = 0.025  # of wrong answers on either side
SINGLE = ("reference", "cheapest", "best_single", "cascade")
COMPARED = ("policy", "sweep")
_MANY = 10_000


class Told(NamedTuple):
    """A success and half the width of its interval."""

    quality: float
    reach: float


class Field(NamedTuple):
    """What a policy is held against; its intervals hold for all that is asked at once (Bonferroni, Student).

    The best of many looks better than it is, so one of ten is told by a wider interval than one alone.
    """

    today: Row
    asked: int
    mixes: tuple[Row, ...]  # from the cheapest on: random mixes, and what is mixed
    pairs: Pairs | None = None  # of the same sessions; None: each row is told apart from the others

    @classmethod
    def of(cls, rows: Sequence[Row], today: Row, pairs: Pairs | None = None) -> Field:
        """The field of these rows; who does what today does isn't asked about."""
        named = {row.name: row for row in rows}
        dear = "best_single" if "best_single" in named else "reference"
        mixes = [named[name] for name in ("cheapest", "random_mix", dear) if name in named]
        asked = sum(row.supported and changes(row, today) for row in rows)
        return cls(today, max(asked, 1), tuple(sorted(mixes, key=usd)), pairs)

    def wide(self, ends: Ends) -> Ends:
        """Ends of one's own as ends that hold for all."""
        if self.asked == 1:
            return ends
        middle, reach = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
        free = self.clusters - 1
        reach *= float(stdtrit(free, 1 - BEYOND / self.asked) / stdtrit(free, 1 - BEYOND))
        return middle - reach, middle + reach

    @property
    def clusters(self) -> int:
        """How many clusters intervals go by; where nobody says, many."""
        known = [] if self.pairs is None else [len(usd) for usd in self.pairs.usd.values()]
        return max(min(known, default=_MANY), 2)

    def saved(self, row: Row) -> Ends | None:
        """Ends of what it saves; None unknown."""
        return None if row.saving_ci is None else self.wide(row.saving_ci)

    def apart(self, row: Row, other: Row) -> Ends | None:
        """Ends of row's quality less other's: on the same decisions where the other is today's."""
        if other.name == self.today.name:
            return None if row.quality_gain_ci is None else self.wide(row.quality_gain_ci)
        gap = self._paired(row, [(1.0, other.name)])
        return self._less(row, told(other)) if gap is None else gap.ends and self.wide(gap.ends)

    def cheaper(self, row: Row, other: Row) -> bool:
        """Whether it costs less than the other beyond the interval of what lies between them."""
        if self.pairs is None:
            saved = self.saved(row)
            return saved is not None and saved[0] > (other.saving or 0.0)
        gap = self.pairs.money(row.name, [(1.0, other.name)])
        return gap is not None and gap.ends is not None and self.wide(gap.ends)[1] < 0

    def beyond_mix(self, row: Row) -> Ends | None:
        """Ends of its quality less that of sessions given at random at its own cost; None where not known."""
        blend = self.mix_at(row)
        if blend is None:
            return None
        gap = self._paired(row, blend)
        if gap is not None:
            return gap.ends and self.wide(gap.ends)
        named = {mix.name: told(mix) for mix in self.mixes}
        quality = reach = 0.0
        for share, name in blend:
            one = named[name]
            if one is None:
                return None
            quality += share * one.quality
            reach += share * one.reach  # at most, however the two hang together
        return self._less(row, Told(quality, reach))

    def mix_at(self, row: Row) -> Blend | None:
        """Shares of sessions given at random that cost what a row costs; beyond the ends, the nearest."""
        if not self.mixes:
            return None
        above = next((i for i, mix in enumerate(self.mixes) if usd(mix) > usd(row)), len(self.mixes))
        low, high = self.mixes[max(above - 1, 0)], self.mixes[min(above, len(self.mixes) - 1)]
        room = usd(high) - usd(low)
        dear = (usd(row) - usd(low)) / room if room > 0 else 0.0
        return [(share, mix.name) for share, mix in ((1 - dear, low), (dear, high)) if share > 0]

    def _paired(self, row: Row, blend: Blend) -> Gap | None:
        return None if self.pairs is None else self.pairs.success(row.name, blend)

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


def is_pin(row: Row) -> bool:
    """Whether one candidate answers everything."""
    return row.name.startswith("pin:")


def set_beside(rows: Sequence[Row], field: Field, pairs: Pairs) -> None:
    """Write into each policy's row how far it is from its best control."""
    for row in rows:
        if row.role in COMPARED and row.supported and row.cost_usd is not None:
            row.versus = _of_best(row, rows, field, pairs)


def _of_best(row: Row, rows: Sequence[Row], field: Field, pairs: Pairs) -> Versus | None:
    """The control of most success, which flatters the control: it is the best of several."""
    known = [
        (gap.value, name, gap, blend)
        for name, blend in _controls(row, rows, field)
        if (gap := pairs.success(row.name, blend)) is not None
    ]
    if not known:
        return None
    _, name, gap, blend = min(known, key=lambda one: one[:2])
    money = pairs.money(row.name, blend)
    return Versus(
        control=name,
        quality=gap.value,
        quality_ci=gap.ends,
        quality_ci_all=gap.ends and field.wide(gap.ends),
        usd=None if money is None else money.value,
        usd_ci=None if money is None else money.ends,
    )


def _controls(row: Row, rows: Sequence[Row], field: Field) -> Iterator[tuple[str, Blend]]:
    """What a policy has to beat: no dearer than it, refusing no more calls, going elsewhere; and a mix."""
    for other in rows:
        single = is_pin(other) or (other.role == "control" and other.name in SINGLE)
        if single and _apart(row, other) and usd(other) <= usd(row) and other.refused <= row.refused:
            yield other.name, [(1.0, other.name)]
    blend = field.mix_at(row)
    named = {other.name: other for other in rows}
    if blend is not None and all(_apart(row, named[name]) for _, name in blend):
        parts = " and ".join(f"{share:.0%} {name}" for share, name in blend)
        yield (f"sessions at random to {parts}" if len(blend) > 1 else parts), blend


def _apart(row: Row, other: Row) -> bool:
    """Whether two rows aren't one policy under two names."""
    return other.name != row.name and other.share != row.share
