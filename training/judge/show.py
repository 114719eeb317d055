"""Verdicts the way a reviewer reads them: one pair side by side, or the table of a bulk run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from features.diffs.verdicts import FileVerdict
    from training.judge.result import JudgedPairs

_WORDS = {
    "L0": ("same", "green", "byte for byte"),
    "L1": ("same", "green", "but for white space, line ends and the order of imports"),
    "L2": ("same", "green", "but for comments, docstrings, layout, quotes and names of locals"),
    "L3": ("similar", "yellow", "the same symbols are edited, differently"),
    "different": ("different", "red", "other changes"),
    "unknown": ("unknown", "magenta", "can't be judged"),
}


def render(result: JudgedPairs) -> Iterable[RenderableType]:
    """One pair the way a reviewer reads it, or the table of a bulk run."""
    if len(result.pairs) != 1:
        yield _summary_table(result.summary)
        return
    verdict = result.pairs[0]
    word, colour, meaning = _WORDS[verdict.level]
    from rich.markup import escape

    similar = "" if verdict.similarity is None or verdict.same else f" · similarity {verdict.similarity:.2f}"
    if not any(not file.set_aside for file in verdict.files):
        meaning = ""
    level = "" if word == verdict.level else f" ({verdict.level})"
    yield f"[bold {colour}]{word}[/]{level}{': ' if meaning else ''}{meaning}{similar}"
    if verdict.reason:
        yield f"because {escape(verdict.reason)}"
    if verdict.weak:
        yield "[dim]weaker: without --base FOLDER only the lines in the patches were compared[/]"
    yield _file_table(verdict.files)
    for file in verdict.files:
        if file.first_difference is not None and not file.set_aside:
            yield _side_by_side(file)
            return


def _file_table(files: list[FileVerdict]) -> RenderableType:
    """A row per file."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("file", "level", "similarity", "note")
    for file in files:
        notes = [f"{file.role}, set aside"] if file.set_aside else []
        notes += [file.reason] if file.reason else []
        colour = "dim" if file.set_aside else _WORDS[file.level][1]
        shown = "" if file.similarity is None else f"{file.similarity:.2f}"
        table.add_row(escape(file.path), f"[{colour}]{file.level}[/]", shown, escape("; ".join(notes)))
    return table


def _side_by_side(file: FileVerdict) -> RenderableType:
    """The first real difference of a file, A beside B."""
    from rich.table import Table
    from rich.text import Text

    first = file.first_difference
    assert first is not None
    table = Table(title=Text(f"first difference in {file.path}"), title_justify="left", expand=True)
    table.add_column(f"A, line {first.line_a}", ratio=1)
    table.add_column(f"B, line {first.line_b}", ratio=1)
    table.add_row(*(_marked(text or "(nothing more)") for text in (first.text_a, first.text_b)))
    return table


def _marked(text: str) -> RenderableType:
    """Lines of which the first is the one that differs."""
    from rich.text import Text

    first, newline, rest = text.partition("\n")
    return Text.assemble((first, "bold"), newline + rest)


def _summary_table(summary: dict[str, Any]) -> RenderableType:
    """Counts of a bulk run."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("level", "pairs", "share", title=f"{summary['pairs']:,} pairs")
    for level, count in summary["levels"].items():
        share = f"{count / summary['pairs']:.1%}" if summary["pairs"] else ""
        table.add_row(f"[{_WORDS[level][1]}]{level}[/]", f"{count:,}", share)
    for reason, count in summary["unknown_reasons"].items():
        table.add_row(f"[dim]unknown: {escape(reason)}[/]", f"[dim]{count:,}[/]", "")
    return table
