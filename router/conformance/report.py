"""What a run of the kit found: a row per case, their count, and the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType


class Row(msgspec.Struct, frozen=True):
    """How one case went."""

    surface: str
    model: str
    upstream: str | None  # dialect in which the provider was asked; None: it wasn't
    case: str
    ok: bool
    detail: str | None = None  # what is wrong


class Report(msgspec.Struct, frozen=True):
    """All rows and their count."""

    url: str
    passed: int
    failed: int
    rows: list[Row]


def render(report: Report) -> Iterable[RenderableType]:
    """Show a case per line and a surface with its model per column, then what is wrong."""
    from rich.table import Table

    columns = list(dict.fromkeys((row.surface, row.model) for row in report.rows))
    yield f"{report.url}: {report.passed} passed, {report.failed} failed"
    table = Table()
    table.add_column("Case")
    for surface, model in columns:
        said = {r.upstream for r in report.rows if (r.surface, r.model) == (surface, model) and r.upstream}
        table.add_column(f"{surface}\n{model}\n→ {', '.join(sorted(said)) or '-'}", justify="center")
    found = {(row.case, row.surface, row.model): row for row in report.rows}
    for case in dict.fromkeys(row.case for row in report.rows):
        cells = [found.get((case, *column)) for column in columns]
        table.add_row(case, *("" if row is None else "✓" if row.ok else "[red]✗[/red]" for row in cells))
    yield table
    yield from _failures(report.rows)


def _failures(rows: Sequence[Row]) -> Iterable[str]:
    from rich.markup import escape

    for row in rows:
        if not row.ok:
            yield f"[red]✗[/red] {row.surface} {row.model}: {row.case}: {escape(row.detail or '')}"
