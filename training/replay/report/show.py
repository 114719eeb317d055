"""The table of `samediff what-if` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from training.replay.quality.bootstrap import FEWEST
from training.replay.quality.clusters import NOUNS
from training.spend.agree import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from training.replay.quality.bootstrap import Ends
    from training.replay.report.result import Result, Row

ROLES = ("logged", "policy", "control", "pin", "sweep", "bound")
MARKS = {
    "met": ("✓", "met"),
    "explained": ("≈", "met but for sessions whose price only the log tells"),
    "within_noise": ("~", "off no further than so few sessions vary"),
    "priced": ("○", "no bill is recorded: prices unchecked"),
    "failed": ("✗", "not met"),
}
WHAT = "what it would have cost, and how good it would have been"
FIRST = 3  # columns of the first table, where one is too wide
VERSUS = "each policy less the best control that costs no more, on the same sessions"
LEGEND = " · ".join(f"{mark} {means}" for mark, means in MARKS.values())


def render(result: Result) -> Iterator[RenderableType]:
    """The check of the bill, then, if it holds, every policy and what the numbers support."""
    from rich.text import Text

    yield Text(size_says(result))
    yield Text(f"{MARKS[result.reproduction][0]} {result.reproduction_says}")
    yield Text(f"  {LEGEND}", style="dim")
    median = "unknown" if result.session_median_error is None else f"{result.session_median_error:.1%}"
    yield Text(
        f"  median session off by {median}; cached tokens billed {result.cached_tokens_billed:,.0f}, "
        f"replayed {result.cached_tokens_replayed:,.0f}"
    )
    yield Text(f"  reference: {result.reference}")
    for line in reasons_say(result.reasons):
        yield Text(f"  {line}")
    for why, count in result.left_out.items():
        yield Text(f"! {counted(count, 'row')} left out: {why}")
    if not result.ok:
        return
    yield _Fitting(result)
    if any(row.versus for row in result.policies):
        yield _versus(result)
    for row in result.policies:
        if row.groups and row.role in ("logged", "policy"):
            yield Text(f"by group, {row.name}: {_of_groups(row)}")
    for why, names in _unknown(result.policies).items():
        yield Text(f"? quality unknown of {_some(names)}: {why}")
    yield Text(
        "cost is simulated along each route's own caches; quality is estimated, never simulated"
        + (f"; intervals are over {over_says(result)}" if result.clusters >= FEWEST else "")
    )
    if result.watch is not None:
        yield Text(watch_says(result.watch, result.clustered_by))
    for caveat in result.caveats:
        yield Text(f"! {caveat}")
    yield Text(f"→ {result.recommendation}", style="bold")


def counted(count: int, noun: str) -> str:
    """A count before its noun: 1 row, 2,000 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_says(result: Result) -> str:
    """Which log it is, and how large."""
    return f"{result.log}: {counted(result.calls, 'call')} of {counted(result.sessions, 'session')}"


def reasons_say(reasons: dict[str, int]) -> list[str]:
    """Why the price table alone doesn't tell what sessions were billed, and how many of them."""
    return [
        f"{counted(count, 'session')} off the price table, {name.replace('_', ' ')}: {REASONS[name]}"
        for name, count in reasons.items()
    ]


def over_says(result: Result) -> str:
    """What intervals are over, and how many of these there are."""
    return f"{result.clusters:,} {NOUNS[result.clustered_by]}"


def watch_says(watch: dict[str, Any], by: str = "session") -> str:
    """What is watched of the logged sessions, or of what else they are clustered by, in a sentence."""
    head, nouns = f"logged success by {by} so far {watch['quality']:.1%}", NOUNS[by]
    if watch["ci"] is None:
        older, newer = watch["halves"]
        return (
            f"{head}, but the log changes over its time ({older:.1%} in its older half, {newer:.1%} in its "
            f"newer), or {nouns} in a row are alike: no single rate, so no ends "
            f"({watch['sessions']:,} {nouns}, betting)"
            + ("; see --cluster-by, if some are of one task, user or repo" if by == "session" else "")
        )
    low, high = watch["ci"]
    return f"{head}, {low:.1%} – {high:.1%} however often one looks ({watch['sessions']:,} {nouns}, betting)"


class _Fitting(NamedTuple):
    """The table of all policies; where it is too wide, money and quality first, and the rest in a second."""

    result: Result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield one table or two."""
        from rich.measure import Measurement

        heads = _heads(self.result)
        whole = _table(self.result, WHAT, heads)
        if Measurement.get(console, options.update(max_width=1_000), whole).maximum <= options.max_width:
            yield whole
        else:
            yield _table(self.result, WHAT, heads[:FIRST])
            yield _table(self.result, "what that is told from", heads[FIRST:])


def _heads(result: Result) -> list[str]:
    """Columns of the table beside the policy's name."""
    refused = ["refused"] if any(row.refused for row in result.policies) else []
    sessions = ["by session"] if led_by_sessions(result) else []
    return ["cost", "saves", "quality", *sessions, "ESS", "switches", *refused]


def _table(result: Result, title: str, heads: Sequence[str]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    table.add_column("policy", overflow="fold", min_width=18)
    for name in heads:
        table.add_column(name, justify="right")
    for role in ROLES:
        rows = [row for row in result.policies if row.role == role]
        for row in rows:
            cells = _cells(row, result.calls)
            table.add_row(Text(row.name), *(cells[name] for name in heads))
        if rows:
            table.add_section()
    return table


def _versus(result: Result) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=VERSUS)
    for name in ("policy", "best control"):
        table.add_column(name, overflow="fold", min_width=18)
    for name in ("success, points", "USD"):
        table.add_column(name, justify="right")
    for name, control, success, ends, money, money_ends in versus_cells(result):
        table.add_row(Text(name), Text(control), f"{success}\n{ends}", f"{money}\n{money_ends}")
    return table


def versus_cells(result: Result) -> Iterator[tuple[str, ...]]:
    """Policy, its best control, and what lies between them with its ends: points of success, and USD."""
    for row in result.policies:
        said = row.versus
        if said is not None:
            yield (
                row.name,
                said.control.replace("pin:", ""),
                f"{said.quality * 100:+.1f}",
                _ends(said.quality_ci, lambda share: f"{share * 100:+.1f}").strip(),
                "unknown" if said.usd is None else change(said.usd),
                _ends(said.usd_ci, change).strip(),
            )


def change(amount: float) -> str:
    """Money more or less, with its sign."""
    return f"{'+' if amount > 0 else ''}{usd(amount)}"


def _of_groups(row: Row) -> str:
    """What a row costs in each group."""
    return "; ".join(
        f"{name} {usd(said['cost_usd'])}"
        + (f" ({said['saving']:+.1%} saved)" if said["saving"] else "")
        + (f", {said['quality']:.1%} right" if said["quality"] is not None else "")
        for name, said in row.groups.items()
    )


def _unknown(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Names of the rows whose quality can't be quoted, by the reason."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if not row.supported and row.why:
            found.setdefault(row.why, []).append(row.name)
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def led_by_sessions(result: Result) -> bool:
    """Whether the quality of whole sessions is known of any policy but the logged one."""
    return any(_of_sessions(row) for row in result.policies if row.role != "logged")


def _of_sessions(row: Row) -> str:
    """Quality of whole sessions; empty where it isn't known."""
    said = row.by_session
    if said is None or not said["supported"]:
        return ""
    return f"{said['quality']:.1%}{_ends(said['quality_ci'], _percent)}"


def saves(row: Row, calls: int) -> str:
    """What a row saves; a call that is refused saves nothing, so who refuses all has no saving."""
    if row.refused >= calls:
        return "refuses all"
    return "" if not row.saving else f"{row.saving:+.1%}"


def _cells(row: Row, calls: int) -> dict[str, str]:
    unsafe = f"\n({row.unsafe_switches:,.0f} unsafe)" if row.unsafe_switches else ""
    ends = "" if not row.saving or row.refused >= calls else _ends(row.saving_ci, _percent)
    quality = "unknown" if row.quality is None else f"{row.quality:.1%}" + _ends(row.quality_ci, _percent)
    return {
        "cost": "unknown" if row.cost_usd is None else usd(row.cost_usd) + _ends(row.cost_usd_ci, usd),
        "saves": saves(row, calls) + ends,
        "quality": quality,
        "by session": _of_sessions(row),
        "ESS": f"{row.ess:,.0f}",
        "switches": f"{row.switches:,.0f}{unsafe}",
        "refused": f"{row.refused:,}",
    }


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _ends(ends: Ends | None, form: Callable[[float], str]) -> str:
    return "" if ends is None else f"\n{form(ends[0])} – {form(ends[1])}"


def usd(amount: float) -> str:
    """Money as people read it."""
    places = 2 if abs(amount) >= 1 or not amount else 4
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{places}f}"
