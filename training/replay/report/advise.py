"""Which policy the numbers support, in one sentence; pure, from the rows themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from training.replay.report.comparisons import Field, changes, is_pin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.quality.bootstrap import Ends
    from training.replay.quality.differences import Pairs
    from training.replay.report.result import Row

MARGIN = 0.02  # success that a saving may put at risk, at the lower end of the interval
TOO_WIDE = 1.0  # of what is paid today; a saving known to no less isn't known


class Advice(NamedTuple):
    """The policy advised, None where evidence lacks, and the sentence."""

    policy: str | None
    sentence: str


def advise(rows: Sequence[Row], base: str = "logged", pairs: Pairs | None = None) -> Advice:
    """A pin that saves and isn't shown worse; a router where it beats that; else what is missing.

    Everything is compared with `base` in the same replay, the logged policy. A pin stands before any router,
    which must be better than the pin or cheaper beyond its interval, and better than a random mix of its own
    cost; a mix of which nothing is known holds it back. With `pairs` two policies are told apart on the same
    sessions. All intervals are as wide as holds for all at once.
    """
    named = {row.name: row for row in rows}
    today = named[base]
    stay = "Stay with what is logged" if base == "logged" else f"Stay with the {base}"
    if not any(changes(row, today) for row in rows):
        return Advice(base, f"{stay}: nothing else was played.")
    field = Field.of(rows, today, pairs)
    if not today.supported:
        return Advice(None, f"Not enough evidence: {today.why}. {_cheapest(rows, field)}")
    good = [row for row in rows if row.role in ("pin", "policy") and _good(row, field)]
    best = min((row for row in good if is_pin(row)), key=_order, default=None)
    routers = sorted((r for r in good if not is_pin(r) and _beats(r, best or today, field)), key=_order)
    chosen = next((row for row in routers if _beats_mix(row, field)), best)
    held = [row for row in routers if not _beats_mix(row, field)]
    doubt = _held_back(held[0], field) if held and chosen is best else ""
    if chosen is not None:
        return Advice(chosen.name, _do(chosen, field) + doubt)
    if not doubt and any(
        row.supported and row.refused <= today.refused for row in rows if changes(row, today)
    ):
        why = "no policy whose answers are known saves beyond its interval without a loss of more than "
        return Advice(base, f"{stay}: {why}{MARGIN:.0%}. {_cheapest(rows, field)}")
    return Advice(None, f"Not enough evidence to change anything. {_cheapest(rows, field)}{doubt}")


def _order(row: Row) -> tuple[float, str]:
    return row.cost_usd or 0.0, row.name


def _good(row: Row, field: Field) -> bool:
    """Whether it saves beyond its interval and loses at most MARGIN of success.

    A call that a spent budget turns away is no saving, so what refuses more than today isn't good.
    """
    if (
        row.refused > field.today.refused
        or not row.supported
        or row.share == field.today.share
        or row.unsafe_switches
    ):
        return False
    saved, apart = field.saved(row), field.apart(row, field.today)
    return saved is not None and apart is not None and saved[0] > 0 and apart[0] >= -MARGIN


def _beats(row: Row, base: Row, field: Field) -> bool:
    """Whether it is better than what it would replace, or as good and cheaper beyond its interval."""
    apart = field.apart(row, base)
    if apart is None or row.refused > base.refused:
        return False
    return apart[0] > 0 or (field.cheaper(row, base) and apart[0] >= -MARGIN)


def _beats_mix(row: Row, field: Field) -> bool:
    """Whether it is better than chance at its own cost, or as good where chance can't be so cheap."""
    apart = field.beyond_mix(row)
    if apart is None:
        return False
    return apart[0] > 0 or (field.cheaper(row, field.mixes[0]) and apart[0] >= -MARGIN)


def _held_back(row: Row, field: Field) -> str:
    """Why the cheapest router that would be advised isn't."""
    apart = field.beyond_mix(row)
    mix = "sessions given at random at the same cost"
    if apart is None:
        return f" {row.name} isn't advised: nothing is known of {mix}."
    return f" {row.name} isn't advised: it isn't shown to be better than {mix} ({_points(apart)})."


def _do(row: Row, field: Field) -> str:
    pin = row.name.removeprefix("pin:")
    head = f"Pin {pin}" if is_pin(row) else f"Use {row.name}"
    apart, today = field.apart(row, field.today), field.today
    quality = (
        ""
        if apart is None or row.quality is None or today.quality is None
        else f", at a success of {row.quality:.1%} against {today.quality:.1%} (difference {_points(apart)})"
    )
    paid = "what is paid today" if today.name == "logged" else f"what {today.name} would cost alone"
    many = f"; intervals hold for all {field.asked} at once" if field.asked > 1 else ""
    return f"{head}: it saves {_share(row, field)} of {paid}{quality}{many}."


def _points(ends: Ends) -> str:
    return f"{ends[0] * 100:+.1f} to {ends[1] * 100:+.1f} points"


def _share(row: Row, field: Field) -> str:
    if row.saving is None:
        return "an unknown share"
    saved = field.saved(row)
    if saved is None:
        return f"{row.saving:.0%} (its interval is unknown)"
    return f"{row.saving:.0%} ({saved[0]:.0%} to {saved[1]:.0%})"


def _cheapest(rows: Sequence[Row], field: Field) -> str:
    """What would save most if it were as good, and what it costs to know that."""
    today = field.today
    saving = [r for r in rows if changes(r, today) and r.role in ("pin", "policy") and (r.saving or 0) > 0]
    answering = [row for row in saving if row.refused <= today.refused]
    if saving and not answering:
        return "All that would cost less refuses more calls than today under this budget."
    if not answering:
        return "Nothing that was played would cost less."
    most = max(answering, key=lambda row: (row.saving or 0.0, row.name))
    name, saved = most.name, field.saved(most)
    if saved is not None and saved[1] - saved[0] > TOO_WIDE:
        return f"Not enough evidence of costs either: {name} may cost far less than today, or far more."
    if most.supported:
        apart = field.apart(most, today)
        shown = "" if apart is None else f" (success {_points(apart)})"
        return f"{name} would save {_share(most, field)}{shown}."
    said = f"{name} would cost {_share(most, field)} less, but nothing shows that its diffs are as good"
    missing = most.missing
    if missing is None or missing.get("pairs") is None:
        return f"{said}."
    usd, width = missing.get("usd"), missing.get("half_width") or 0.0
    price = "" if usd is None else f" (≈ ${usd:,.2f})"
    wanted = f"{missing['pairs']:,.0f} shadow calls{price} and tests of their answers"
    there = missing.get("calls_there")
    short = "" if there is None else f", more than this log's {there:,} calls: collect a longer one"
    return f"{said}; {wanted} would tell it to ±{width:.0%}{short}."
