"""The answer as one page that needs nothing else: pictures, receipts and caveats in plain words."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from training.replay.quality.clusters import NOUNS
from training.replay.report.bars import Bar, bars
from training.replay.report.sections import course_of, drawn, estimates_of, versus_of
from training.replay.report.show import (
    LEGEND,
    MARKS,
    change,
    counted,
    led_by_sessions,
    reasons_say,
    saves,
    size_says,
    usd,
)
from training.report import Axis, Line, Point, items, page, picture, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.replay.quality.bootstrap import Ends
    from training.replay.report.result import Result, Row

COLOURS = {"logged": "b", "policy": "a", "sweep": "a", "control": "e", "pin": "c", "bound": "d"}
KINDS = ("fresh", "read", "write", "output", "cold starts")
PINS_SHOWN = 12


def html_of(result: Result) -> str:
    """The whole document."""
    return page("What if", _parts(result))


def _parts(result: Result) -> Iterator[str]:
    yield text("What would it have cost, and would the diffs have been as good?", "h1")
    yield text(size_says(result), kind="soft")
    if result.recommendation:
        yield text(result.recommendation, kind="advice")
    yield from _bill(result)
    if not result.policies:
        return
    yield from _frontier(result)
    yield from _table(result)
    yield from versus_of(result)
    yield from _cost(result)
    yield from _routes(result)
    yield from _calibration(result)
    yield from course_of(result)
    yield from _support(result)
    yield from _groups(result)
    yield text("What to keep in mind", "h2")
    yield items(result.caveats)
    yield from estimates_of(result)


def _bill(result: Result) -> Iterator[str]:
    yield text("Does the replay reproduce the bill?", "h2")
    yield text(f"{MARKS[result.reproduction][0]} {result.reproduction_says}.")
    yield text(LEGEND, kind="soft")
    median = "unknown" if result.session_median_error is None else f"{result.session_median_error:.1%}"
    yield text(
        f"The median session is off by {median}. Tokens read from caches: billed "
        f"{result.cached_tokens_billed:,.0f}, replayed {result.cached_tokens_replayed:,.0f}; what a session "
        "reads is foretold by the simulator and by other sessions, never by its own counts.",
        kind="soft",
    )
    lines = reasons_say(result.reasons)
    lines += [f"{counted(n, 'row')} left out: {why}" for why, n in result.left_out.items()]
    yield items(lines)


def _frontier(result: Result) -> Iterator[str]:
    """Cost against quality, as far as quality is known."""
    rows = [row for row in result.policies if row.quality is not None and row.cost_usd is not None]
    rows = [row for row in rows if row.quality_how != "exact" or row.role != "logged"]
    if len({row.cost_usd for row in rows}) < 2:
        yield text("Cost and quality", "h2")
        yield text(
            "Quality is known of the logged answers at most, so there is no frontier to draw; cost is below."
        )
        return
    sweep = [(row.cost_usd or 0.0, row.quality or 0.0) for row in rows if row.role == "sweep"]
    points = [
        Point(
            row.cost_usd or 0.0,
            row.quality or 0.0,
            row.name.removeprefix("pin:"),
            COLOURS[row.role],
            row.cost_usd_ci,
            row.quality_ci,
        )
        for row in _dear_last(rows)
        if row.role != "sweep"
    ]
    lines = [Line(sweep, "learned, by what a saving may lose", "a")] if len(sweep) > 1 else []
    yield text("Cost and quality", "h2")
    axes = Axis("USD for the whole log, simulated"), Axis("success, estimated", 100, " %")
    yield drawn(picture("cost against quality of every policy, with 95 % intervals", axes, lines, points))


def _dear_last(rows: Sequence[Row]) -> list[Row]:
    """Rows without those of over three times the logged cost, which would squeeze the picture."""
    today = rows[0].cost_usd or 0.0
    return [row for row in rows if (row.cost_usd or 0.0) <= 3 * today]


def _table(result: Result) -> Iterator[str]:
    yield text("Every policy", "h2")
    sessions = led_by_sessions(result)
    head = (
        *("policy", "cost", "95 %", "saves", "quality", "95 %", "gain over today"),
        *(("by session", "95 %") if sessions else ()),
        *("ESS", "switches", "unsafe", "refused"),
    )
    rows = [
        (
            row.name,
            "unknown" if row.cost_usd is None else usd(row.cost_usd),
            _ends(row.cost_usd_ci, usd),
            saves(row, result.calls),
            "unknown" if row.quality is None else f"{row.quality:.1%}",
            _ends(row.quality_ci, lambda share: f"{share:.1%}"),
            _ends(row.quality_gain_ci, lambda share: f"{share * 100:+.1f}"),
            *(_whole(row) if sessions else ()),
            f"{row.ess:,.0f}",
            f"{row.switches:,.0f}",
            f"{row.unsafe_switches:,.0f}",
            f"{row.refused:,}" if row.refused else "",
        )
        for row in result.policies
    ]
    told = [i for i in range(len(head)) if any(row[i] for row in rows)]
    yield table([head[i] for i in told], [[row[i] for i in told] for row in rows], {result.advised or ""})
    yield text(
        "Cost is simulated along each route's own caches, quality is estimated; the gain is in points over "
        "what is logged, on the same decisions. Quality is of single decisions, the turns after them being "
        "what they were"
        + (
            "; by session it is of whole sessions, where enough of the logged ones went the policy's way."
            if sessions
            else "; too few whole sessions went any policy's way to tell of these."
        ),
        kind="soft",
    )
    yield items(f"{row.name}: {row.said}" for row in result.policies if row.said and row.role != "pin")


def _whole(row: Row) -> tuple[str, str]:
    """Quality of whole sessions and its ends."""
    said = row.by_session
    if said is None or not said["supported"]:
        return "", ""
    return f"{said['quality']:.1%}", _ends(said["quality_ci"], lambda share: f"{share:.1%}")


def _ends(ends: Ends | None, form: Any) -> str:
    return "" if ends is None else f"{form(ends[0])} – {form(ends[1])}"


def _cost(result: Result) -> Iterator[str]:
    yield text("What is paid for", "h2")
    rows = [row for row in result.policies if row.cost_usd is not None and row.role != "sweep"]
    shown = [row for row in _dear_last(rows) if row.role != "pin"]
    pins = sorted((row for row in _dear_last(rows) if row.role == "pin"), key=lambda r: r.cost_usd or 0)
    shown += pins[:PINS_SHOWN]
    yield drawn(bars("cost of every policy by what is paid for", KINDS, [_bar(row) for row in shown]))
    yield text(
        f"The line is the 95 % interval of the whole, {NOUNS[result.clustered_by]} being drawn again.",
        kind="soft",
    )
    if len(pins) > PINS_SHOWN:
        yield text(f"{len(pins) - PINS_SHOWN:,} dearer pins are in the table alone.", kind="soft")


def _bar(row: Row) -> Bar:
    """A policy's bar; cold starts are taken out of what is fresh and written."""
    part = row.parts
    fresh, written, cold = part["fresh"], part["written"], part["cold"]
    rest = max(fresh + written, 1e-12)
    kept = max(0.0, 1 - cold / rest)
    parts = (fresh * kept, part["cached"], written * kept, part["output"], cold)
    saving = "" if not row.saving else f", {abs(row.saving):.0%} {'cheaper' if row.saving > 0 else 'dearer'}"
    return Bar(row.name.removeprefix("pin:"), parts, usd(row.cost_usd or 0.0) + saving, row.cost_usd_ci)


def _routes(result: Result) -> Iterator[str]:
    told = result.routes
    if not told:
        return
    yield text(f"Where {told['policy']} goes elsewhere", "h2")
    yield text(f"{told['calls_elsewhere']:,} of {result.calls:,} calls.", kind="soft")
    if told["moves"]:
        rows = [(m["from"], m["to"], f"{m['calls']:,}", change(m["usd"])) for m in told["moves"]]
        yield table(("from", "to", "calls", "USD"), rows)
    for key, title in (("gain_most", "Sessions that gain most"), ("lose_most", "Sessions that lose most")):
        if told[key]:
            yield text(title, "h2")
            yield from map(_session, told[key])


def _session(one: dict[str, Any]) -> str:
    """A session with the receipts of its turns, folded."""
    head = (
        f"{one['session']}: {counted(one['calls'], 'call')}, {usd(one['logged_usd'])} → {usd(one['usd'])} "
        f"({change(one['usd'] - one['logged_usd'])})"
    )
    rows = [(f"turn {r['turn']}", *_side(r["logged"]), "→", *_side(r["policy"])) for r in one["receipts"]]
    columns = ("", "logged", "read of prompt", "cache", "USD", "", "policy", "read of prompt", "cache", "USD")
    return f"<details><summary>{escape(head)}</summary>{table(columns, rows)}</details>"


def _side(side: dict[str, Any]) -> tuple[str, ...]:
    read = f"{side['read']:,.0f} of {side['prompt']:,.0f}"
    p = "" if side["p_success"] is None else f" (p {side['p_success']:.2f})"
    return side["candidate"] + p, read, side["cache"].replace("_", " "), usd(side["usd"])


def _calibration(result: Result) -> Iterator[str]:
    if not result.calibration:
        return
    yield text("Is the bundle's belief right?", "h2")
    points = [Point(p, came, f"{n:,}", "a") for p, came, n in result.calibration]
    ideal = Line([(0.0, 0.0), (1.0, 1.0)], "as believed", "e", dashed=True)
    whole = (0.0, 1.0)
    axes = Axis("believed", 100, " %", whole), Axis("came true", 100, " %", whole)
    yield drawn(picture("what was believed of logged answers against what came true", axes, [ideal], points))


def _support(result: Result) -> Iterator[str]:
    """Whose quality is refused, why, and what would tell it."""
    rows = [row for row in result.policies if not row.supported and row.why]
    if not rows:
        return
    yield text("What the log can't tell", "h2")
    by_why: dict[str, list[Row]] = {}
    for row in rows:
        by_why.setdefault(row.why or "", []).append(row)
    for why, some in by_why.items():
        yield text(f"{', '.join(row.name for row in some)}: {why}.")
        told = [row for row in some if row.missing and row.missing.get("pairs") is not None]
        yield items(_price(row) for row in told[:PINS_SHOWN])
        if len(told) > PINS_SHOWN:
            yield text(f"The same can be asked of {len(told) - PINS_SHOWN:,} more.", kind="soft")


def _price(row: Row) -> str:
    missing = row.missing or {}
    money = missing.get("usd")
    price = "" if money is None else f", ≈ {usd(money)}"
    width = missing.get("half_width") or 0.0
    calls = f"{missing.get('pairs') or 0:,.0f} shadow calls{price} and tests of their answers"
    there = missing.get("calls_there")
    short = "" if there is None else f"; this log has {there:,} calls only"
    return f"{row.name}: {calls}, for ±{width * 100:.0f} points{short}"


def _groups(result: Result) -> Iterator[str]:
    shown = [row for row in result.policies if row.groups and row.role in ("logged", "policy")]
    if not shown:
        return
    yield text("By group", "h2")
    for name in shown[0].groups:
        rows = [
            (
                row.name,
                usd(row.groups[name]["cost_usd"]),
                "" if not row.groups[name]["saving"] else f"{row.groups[name]['saving']:+.1%}",
                "unknown" if row.groups[name]["quality"] is None else f"{row.groups[name]['quality']:.1%}",
                _ends(row.groups[name]["quality_ci"], lambda share: f"{share:.1%}"),
            )
            for row in shown
        ]
        yield table((name, "cost", "saves", "quality", "95 %"), rows)
