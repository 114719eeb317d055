"""Rows as dicts from CSV, Parquet or JSON Lines, streamed; the same reader then serves all three."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import polars as pl

from training.sources.base import (
    BAD_PARQUET,
    NOT_UTF8,
    TOO_LONG,
    ReadOptions,
    Refusal,
    Row,
    SourceFile,
    head,
    read_lines,
    read_objects,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PARQUET = b"PAR1"
BATCH_ROWS = 8192
OPEN_QUOTE = "row with a quote that isn't closed, and the lines that it swallowed"
WRONG_WIDTH = "row with another number of fields than the header"


def read_rows(file: SourceFile, options: ReadOptions, wanted: frozenset[str]) -> Iterator[Row | Refusal]:
    """Rows of a table with their 1-based number, the header not counted; only the wanted columns are sure."""
    start = head(file.path)
    if start.startswith(PARQUET):
        yield from _parquet(file, wanted)
    elif start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        yield from read_objects(file, options)
    else:
        yield from _csv(file, options)


def columns_of(file: SourceFile) -> tuple[str, ...] | None:
    """Column names of a Parquet file or a CSV with a header; None for anything else."""
    start = head(file.path)
    if start.startswith(PARQUET):
        try:
            return tuple(pl.scan_parquet(file.path, glob=False).collect_schema())
        except (pl.exceptions.PolarsError, OSError):
            return None
    try:
        first = start.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].rstrip(b"\r").decode()
    except UnicodeDecodeError:
        return None
    if "\x00" in first or "\r" in first or first.startswith(("{", "[")):
        return None
    try:
        names = next(csv.reader([first], delimiter=_delimiter(first)), [])
    except csv.Error:  # a field as long as no row's may be, by the bound that the last table was read with
        return None
    return tuple(names) if len(names) > 1 and all(names) else None


def _delimiter(header: str) -> str:
    return max(",;\t|", key=header.count)


def _parquet(file: SourceFile, wanted: frozenset[str]) -> Iterator[Row | Refusal]:
    number = 0
    try:
        scan = pl.scan_parquet(file.path, glob=False)  # a name may hold [ or *
        names = [name for name in scan.collect_schema() if name in wanted]
        rows = max(1, scan.select(pl.len()).collect().item())
        share = file.path.stat().st_size / rows
        for frame in scan.select(names).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            for row in frame.iter_rows(named=True):
                number += 1
                yield number, row
            file.on_bytes(int(share * frame.height))
    except (pl.exceptions.PolarsError, OSError):
        yield Refusal(file.name, number + 1 if number else None, BAD_PARQUET)


def _csv(file: SourceFile, options: ReadOptions) -> Iterator[Row | Refusal]:
    """CSV by the row with Python's own reader, which goes on after a bad one and says where it was."""
    csv.field_size_limit(options.max_line_bytes)
    refused: list[Refusal] = []
    taken = 0  # lines

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in read_lines(file, options.max_line_bytes):
            taken += 1
            if isinstance(line, Refusal):
                refused.append(line)
                continue
            number, raw, _ = line
            raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            yield raw.decode("utf-8", "surrogateescape") + "\n"

    source = lines()
    header_line = next(source, "")
    header = next(csv.reader([header_line], delimiter=_delimiter(header_line)), [])
    table = csv.reader(source, delimiter=_delimiter(header_line))
    number = 0
    while True:
        before = taken
        try:
            fields: list[str] | None = next(table, None)
        except csv.Error:
            number += 1
            yield Refusal(file.name, number, TOO_LONG)
            continue
        yield from refused
        refused.clear()
        if fields is None:
            return
        if not fields:
            continue
        number += 1
        row = _row(file, number, header, fields)
        if isinstance(row, Refusal) and taken - before > 1:  # each line that was swallowed was a row
            row = Refusal(file.name, number, OPEN_QUOTE, taken - before)
            number += taken - before - 1
        yield row


def _row(file: SourceFile, number: int, header: list[str], fields: list[str]) -> Row | Refusal:
    if len(fields) != len(header):
        return Refusal(file.name, number, WRONG_WIDTH)
    if any("\udc80" <= letter <= "\udcff" for field in fields if not field.isascii() for letter in field):
        return Refusal(file.name, number, NOT_UTF8)
    values: dict[str, Any] = {
        name: value if value != "" else None for name, value in zip(header, fields, strict=True)
    }
    return number, values
