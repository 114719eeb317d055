"""The table of `samediff what-if` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from training.replay.result import Ends, Result, Row

ROLES = ("logged", "policy", "control", "pin", "sweep", "bound")


def render(result: Result) -> Iterator[RenderableType]:
    """The check of the bill, then, if it holds, every policy and what the numbers support."""
    from rich.text import Text

    yield Text(f"{result.log}: {result.calls:,} calls of {result.sessions:,} sessions")
    mark = "✓" if result.ok else "✗"
    yield Text(f"{mark} {result.reproduction_says}")
    median = "unknown" if result.session_median_error is None else f"{result.session_median_error:.1%}"
    yield Text(
        f"  median session off by {median}; cached tokens billed {result.cached_tokens_billed:,.0f}, "
        f"replayed {result.cached_tokens_replayed:,.0f}"
    )
    for reason, count in result.reasons.items():
        yield Text(f"  {count:,} sessions: {reason.replace('_', ' ')}")
    for why, count in result.left_out.items():
        yield Text(f"! {count:,} rows are left out: {why}")
    if not result.ok:
        return
    yield _table(result)
    for why, names in _unknown(result.policies).items():
        yield Text(f"? quality unknown of {_some(names)}: {why}")
    yield Text("cost is simulated along each route's own caches; quality is estimated, never simulated")
    for caveat in result.caveats:
        yield Text(f"! {caveat}")
    yield Text(f"→ {result.recommendation}", style="bold")


def _table(result: Result) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="what it would have cost, and how good it would have been")
    table.add_column("policy", overflow="fold", min_width=18)
    refuses = any(row.refused for row in result.policies)
    for name in ("cost", "saves", "quality", "ESS", "switches", *(["refused"] if refuses else [])):
        table.add_column(name, justify="right")
    for role in ROLES:
        rows = [row for row in result.policies if row.role == role]
        for row in rows:
            table.add_row(Text(row.name), *_cells(row), *([f"{row.refused:,}"] if refuses else []))
        if rows:
            table.add_section()
    return table


def _unknown(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Names of the rows whose quality can't be quoted, by the reason."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if not row.supported and row.why:
            found.setdefault(row.why, []).append(row.name)
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def _cells(row: Row) -> tuple[str, ...]:
    unsafe = f"\n({row.unsafe_switches:,.0f} unsafe)" if row.unsafe_switches else ""
    return (
        "unknown" if row.cost_usd is None else usd(row.cost_usd) + _ends(row.cost_usd_ci, usd),
        "" if not row.saving else f"{row.saving:+.1%}" + _ends(row.saving_ci, _percent),
        "unknown" if row.quality is None else f"{row.quality:.1%}" + _ends(row.quality_ci, _percent),
        f"{row.ess:,.0f}",
        f"{row.switches:,.0f}{unsafe}",
    )


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _ends(ends: Ends | None, form: Callable[[float], str]) -> str:
    return "" if ends is None else f"\n{form(ends[0])} – {form(ends[1])}"


def usd(amount: float) -> str:
    """Money as people read it."""
    places = 2 if abs(amount) >= 1 or not amount else 4
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{places}f}"
