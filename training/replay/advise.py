"""Which policy the numbers support, in one sentence; pure, from the rows themselves."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.result import Ends, Row

MARGIN = 0.02  # success that a saving may put at risk, at the lower end of the interval


class Advice(NamedTuple):
    """The policy advised, None where evidence lacks, and the sentence."""

    policy: str | None
    sentence: str


def advise(rows: Sequence[Row], base: str = "logged") -> Advice:
    """A pin that saves and isn't shown worse; a router where it beats that; else what is missing.

    Everything is compared with `base` in the same replay, the logged policy. A pin stands before any router,
    which must be better than the pin or cheaper beyond its interval, and beat a random mix of its own cost.
    """
    named = {row.name: row for row in rows}
    today = named[base]
    stay = "Stay with what is logged" if base == "logged" else f"Stay with the {base}"
    if not any(_changes(row, today) for row in rows):
        return Advice(base, f"{stay}: nothing else was played.")
    if not today.supported:
        return Advice(None, f"Not enough evidence: {today.why}. {_cheapest(rows, today)}")
    asked = sum(row.supported and _changes(row, today) for row in rows)
    good = [row for row in rows if row.role in ("pin", "policy") and _good(row, today, asked)]
    pins = [row for row in good if is_pin(row)]
    best = min(pins, key=lambda row: (row.cost_usd or 0.0, row.name), default=None)
    rival = best or today
    routers = [row for row in good if not is_pin(row) and _beats(row, rival)]
    routers = [row for row in routers if _beats_mix(row, named.get("random_mix"))]
    chosen = min(routers, key=lambda row: (row.cost_usd or 0.0, row.name), default=best)
    if chosen is not None:
        return Advice(chosen.name, _do(chosen, today))
    if any(row.supported and row.refused <= today.refused for row in rows if _changes(row, today)):
        why = "no policy whose answers are known saves beyond its interval without a loss of more than "
        return Advice(base, f"{stay}: {why}{MARGIN:.0%}. {_cheapest(rows, today)}")
    return Advice(None, f"Not enough evidence to change anything. {_cheapest(rows, today)}")


def _changes(row: Row, today: Row) -> bool:
    return row.role in ("pin", "policy", "control") and row.share != today.share


def difference(row: Row, other: Row) -> Ends | None:
    """Ends of row's quality less other's: on the same decisions where both were held against one base."""
    if other.quality_gain == 0.0 and row.quality_gain_ci is not None:
        return row.quality_gain_ci
    if row.quality_ci is None or other.quality_ci is None or row.quality is None or other.quality is None:
        return None
    reach = _root(
        (row.quality_ci[1] - row.quality_ci[0]) / 2, (other.quality_ci[1] - other.quality_ci[0]) / 2
    )
    apart = row.quality - other.quality
    return apart - reach, apart + reach


def _root(a: float, b: float) -> float:
    return float((a * a + b * b) ** 0.5)


def is_pin(row: Row) -> bool:
    """Whether one candidate answers everything."""
    return row.name.startswith("pin:")


def _good(row: Row, today: Row, asked: int) -> bool:
    """Whether it saves beyond its interval and loses at most MARGIN of success, being one of `asked`.

    The best of many looks better than it is, so the interval of each is as wide as holds for all at once.
    A call that a spent budget turns away is no saving, so what refuses more than today isn't good.
    """
    if (
        row.refused > today.refused
        or not row.supported
        or row.saving_ci is None
        or row.share == today.share
        or row.unsafe_switches
    ):
        return False
    apart = difference(row, today)
    if apart is None:
        return False
    middle, reach = (apart[0] + apart[1]) / 2, (apart[1] - apart[0]) / 2
    wide = reach * NormalDist().inv_cdf(1 - 0.025 / max(asked, 1)) / NormalDist().inv_cdf(0.975)
    return row.saving_ci[0] > 0 and middle - wide >= -MARGIN


def _beats(row: Row, base: Row) -> bool:
    """Whether it is better than what it would replace, or as good and cheaper beyond its interval."""
    if row.saving_ci is None or row.refused > base.refused:
        return False
    apart = difference(row, base)
    better = apart is not None and apart[0] > 0
    cheaper = row.saving_ci[0] > (base.saving or 0.0)
    return better or (cheaper and apart is not None and apart[0] >= -MARGIN)


def _beats_mix(row: Row, mix: Row | None) -> bool:
    apart = None if mix is None else difference(row, mix)
    return apart is None or apart[1] > 0


def _do(row: Row, today: Row) -> str:
    pin = row.name.removeprefix("pin:")
    head = f"Pin {pin}" if is_pin(row) else f"Use {row.name}"
    apart = difference(row, today)
    quality = (
        ""
        if apart is None or row.quality is None or today.quality is None
        else f", at a success of {row.quality:.1%} against {today.quality:.1%} "
        f"(difference {apart[0] * 100:+.1f} to {apart[1] * 100:+.1f} points)"
    )
    return f"{head}: it saves {_share(row)} of what is paid today{quality}."


def _share(row: Row) -> str:
    if row.saving is None:
        return "an unknown share"
    if row.saving_ci is None:
        return f"{row.saving:.0%} (its interval is unknown)"
    return f"{row.saving:.0%} ({row.saving_ci[0]:.0%} to {row.saving_ci[1]:.0%})"


def _cheapest(rows: Sequence[Row], today: Row) -> str:
    """What would save most if it were as good, and what it costs to know that."""
    saving = [r for r in rows if _changes(r, today) and r.role in ("pin", "policy") and (r.saving or 0) > 0]
    answering = [row for row in saving if row.refused <= today.refused]
    if saving and not answering:
        return "All that would cost less refuses more calls than today under this budget."
    if not answering:
        return "Nothing that was played would cost less."
    most = max(answering, key=lambda row: (row.saving or 0.0, row.name))
    name = most.name
    if most.supported:
        apart = difference(most, today)
        shown = "" if apart is None else f" (success {apart[0] * 100:+.1f} to {apart[1] * 100:+.1f} points)"
        return f"{name} would save {_share(most)}{shown}."
    said = f"{name} would cost {_share(most)} less, but nothing shows that its diffs are as good"
    missing = most.missing
    if missing is None or missing.get("pairs") is None:
        return f"{said}."
    usd, width = missing.get("usd"), missing.get("half_width") or 0.0
    price = "" if usd is None else f" (≈ ${usd:,.2f})"
    return f"{said}; {missing['pairs']:,.0f} shadow calls{price} would tell it to ±{width:.0%}."
