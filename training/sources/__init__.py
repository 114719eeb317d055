"""Logs that people have: one reader per format, in a table, and how a file's format is told."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from features.errors import BadInput
from training.sources import claude_code, codex, journal, litellm, openai_jsonl, otel, table
from training.sources.base import (
    BAD_GZIP,
    BAD_PARQUET,
    CUT_DOCUMENT,
    CUT_GZIP,
    TOO_LARGE,
    Reader,
    ReadOptions,
    Refusal,
    SourceFile,
    head,
    quiet,
    read_objects,
)
from training.sources.rows import PARQUET, columns_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOKED_AT = 50  # rows that may be broken before the first one that tells the format


# What keeps a file from telling its format, and is no reason to take it for something else.
_DAMAGE = (TOO_LARGE, CUT_GZIP, BAD_GZIP, CUT_DOCUMENT)


class Damaged(BadInput):
    """A file can't tell its format because of `reason`."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.reason = reason


class Format(NamedTuple):
    """One format: its reader, and how an object of JSON or a table's column names give it away."""

    read: Reader
    object_tells: Callable[[dict[str, Any]], bool] | None
    columns_tell: Callable[[frozenset[str], ReadOptions], bool] | None
    about: str


# In the order of detection: the surest marks first.
FORMATS: dict[str, Format] = {
    "journal": Format(journal.read, journal.looks_like, None, "samediff's own journal"),
    "claude_code": Format(claude_code.read, claude_code.looks_like, None, "Claude Code: ~/.claude/projects"),
    "codex": Format(codex.read, codex.looks_like, None, "Codex: ~/.codex/sessions"),
    "litellm": Format(
        litellm.read,
        lambda item: litellm.looks_like(frozenset(item)),
        lambda names, _: litellm.looks_like(names),
        "LiteLLM spend logs: JSON Lines, CSV or Parquet",
    ),
    "otel": Format(
        otel.read, otel.looks_like, None, "OpenTelemetry GenAI spans: OTLP JSON, or one span a line"
    ),
    "openai_jsonl": Format(
        openai_jsonl.read, openai_jsonl.looks_like, None, "request and response bodies, one a line"
    ),
    "table": Format(
        table.read, None, table.looks_like, "a usage table: Parquet, CSV or JSON Lines, with --map"
    ),
}


def detect(path: Path, options: ReadOptions) -> str | None:
    """Tell a file's format by its content, None if it has none.

    Raises Damaged, which is a BadInput, for a file too large to tell or damaged before it tells.
    """
    file = SourceFile(path, path.name, quiet)
    columns = columns_of(file)
    if columns is None and head(path, len(PARQUET)) == PARQUET:
        raise Damaged(path.name, BAD_PARQUET)
    if columns is not None:
        names = frozenset(columns)
        told = (n for n, f in FORMATS.items() if f.columns_tell and f.columns_tell(names, options))
        return next(told, "table" if table.lacks_something(names) else None)
    lacking = False
    for row in islice(read_objects(file, options), LOOKED_AT):
        if isinstance(row, Refusal):
            if row.reason in _DAMAGE:
                raise Damaged(path.name, row.reason)
            continue
        for name, form in FORMATS.items():
            if form.object_tells and form.object_tells(row[1]):
                return name
        if table.looks_like(frozenset(row[1]), options):
            return "table"
        lacking = lacking or table.lacks_something(frozenset(row[1]))
    return "table" if lacking else None


def reader_of(name: str) -> Reader:
    """Return the reader of a format; raises BadInput listing the formats."""
    if name not in FORMATS:
        raise BadInput(f"--format {name}: no such format; there are {', '.join(FORMATS)}")
    return FORMATS[name].read
