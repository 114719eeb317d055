"""The account of an ingestion: every row read, kept, found twice or refused, and the tables that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from training.log import day_of
from training.sources.checks import FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

EXAMPLES = 3  # file:row shown for each reason
FILES_NAMED = 10  # files named that were skipped, or refused as a whole


class Reason(msgspec.Struct):
    """Why rows were refused: how many, and where the first ones stand, as file:row."""

    count: int = 0
    examples: list[str] = []


class FormatCount(msgspec.Struct):
    """What came out of the files of one format."""

    files: int = 0
    read: int = 0
    kept: int = 0
    duplicates: int = 0
    refused: int = 0


class IngestResult(msgspec.Struct, kw_only=True):
    """The account of one ingestion; read = kept + duplicates + refused."""

    log: str
    read: int = 0
    kept: int = 0
    duplicates: int = 0
    refused: int = 0
    refused_by_reason: dict[str, Reason] = {}
    flagged: dict[str, int] = {}
    formats: dict[str, FormatCount] = {}
    kinds: dict[str, int] = {}
    sessions: int = 0
    first_ts_ms: int | None = None
    last_ts_ms: int | None = None
    cost_known_rows: int = 0
    cost_unknown_rows: int = 0
    cost_usd: float = 0.0
    files_read: int = 0
    files_unchanged: int = 0
    rows_unchanged: int = 0  # rows that came out of the unchanged files when they were read
    files_skipped: int = 0  # empty, or of no known format
    skipped_examples: list[str] = []  # those that hold something first
    files_wrong: list[str] = []  # why files were refused as a whole: file, column and the way out
    seconds: float = 0.0


def nothing_kept(result: IngestResult) -> str | None:
    """Say in one line that there were rows and none of them could be used; None otherwise."""
    if result.kept or result.duplicates or result.files_unchanged or not result.refused:
        return None
    reason, why = max(result.refused_by_reason.items(), key=lambda pair: pair[1].count)
    return f"all {result.refused} rows were refused; mostly: {reason} ({', '.join(why.examples)})"


def render(result: IngestResult) -> Iterable[RenderableType]:
    """Tables for people: the account, why rows were refused, and the doubts about kept ones."""
    from rich.table import Table

    account = Table(title=f"ingested into {result.log}")
    for column in ("format", "files", "rows read", "kept", "duplicates", "refused"):
        account.add_column(column, justify="left" if column == "format" else "right")
    for name, count in sorted(result.formats.items()):
        numbers = (count.files, count.read, count.kept, count.duplicates, count.refused)
        account.add_row(name, *(f"{number:,}" for number in numbers))
    total = (result.files_read, result.read, result.kept, result.duplicates, result.refused)
    account.add_section()
    account.add_row("all", *(f"{number:,}" for number in total))
    yield account
    if result.refused_by_reason:
        refused = Table("refused because", "rows", "first ones (file:row)")
        for reason, why in sorted(result.refused_by_reason.items(), key=lambda pair: -pair[1].count):
            refused.add_row(reason, f"{why.count:,}", "\n".join(why.examples))
        yield refused
    if result.flagged:
        doubts = Table("kept with a doubt", "rows")
        for flag, n in sorted(result.flagged.items(), key=lambda pair: -pair[1]):
            doubts.add_row(FLAGS.get(flag, flag), f"{n:,}")
        yield doubts
    yield from _lines(result)


def _plain(line: str) -> RenderableType:
    """Show a line with names of others' making as it is: the brackets in them are no markup."""
    from rich.text import Text

    return Text(line)


def _lines(result: IngestResult) -> Iterator[RenderableType]:
    if result.first_ts_ms is not None and result.last_ts_ms is not None:
        span = f"{day_of(result.first_ts_ms)} to {day_of(result.last_ts_ms)}"
        money = f"${result.cost_usd:,.2f} known for {result.cost_known_rows:,} calls"
        yield f"{result.sessions:,} sessions, {span}, {money}"
    if result.cost_unknown_rows:
        yield f"no known cost: {result.cost_unknown_rows:,}"
    if result.files_unchanged:
        yield f"{result.files_unchanged:,} files unchanged since last time ({result.rows_unchanged:,} rows)"
    yield from (_plain(why) for why in result.files_wrong)
    if result.files_skipped:
        examples = ", ".join(result.skipped_examples)
        yield _plain(f"{result.files_skipped:,} files skipped, empty or of no known format: {examples}")
    yield f"{result.seconds:.1f} s"
