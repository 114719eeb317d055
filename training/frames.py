"""Records as Polars frames: the one place where a Struct becomes columns.

Importing this module without polars raises MissingExtra, which a user sees as the command that installs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from features.answerfacts import AnswerFacts
from features.errors import BadInput, MissingExtra
from features.facts import Facts
from features.records import polars_schema

if TYPE_CHECKING:
    from pathlib import Path

try:
    import polars as pl
except ImportError:
    raise MissingExtra("polars", "train") from None

PolarsError = pl.exceptions.PolarsError
_NUMBERS: dict[str, type[msgspec.Struct]] = {"facts": Facts, "answer": AnswerFacts}


def to_frame(record: type[msgspec.Struct], rows: list[Any]) -> pl.DataFrame:
    """Turn records of one type into a frame of its Polars schema; column by column, which makes it quick."""
    columns = []
    for name, dtype in polars_schema(record).items():
        values = [getattr(row, name) for row in rows]
        if name in _NUMBERS:
            columns.append(_numbers_series(name, values))
        elif isinstance(dtype, pl.List | pl.Struct):
            columns.append(pl.Series(name, [_plain(value) for value in values], dtype=dtype))
        else:  # a price with more than twelve decimals is rounded, which is what strict would refuse
            columns.append(pl.Series(name, values, dtype=dtype, strict=not isinstance(dtype, pl.Decimal)))
    return pl.DataFrame(columns)


def scan_files(files: list[Any], record: type[msgspec.Struct], *, by_day: bool) -> pl.LazyFrame:
    """Scan Parquet files of a record type, an older file's missing columns and facts as null.

    With `by_day` the partition's `day` is a column too.
    """
    return pl.scan_parquet(
        files,
        glob=False,  # the log's folder may have a name with [ or *
        schema=dict(polars_schema(record)),
        hive_partitioning=by_day,
        hive_schema={"day": pl.Date()} if by_day else None,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(missing_struct_fields="insert", extra_struct_fields="ignore"),
    )


def without(answers: list[str], source: str) -> pl.Expr:
    """Filter that leaves out the requests of these providers' answers which another source tells of."""
    theirs = pl.col("provider_response_id").is_in(answers) & (pl.col("source") != source)
    return ~theirs.fill_null(value=False)


def no_rows(record: type[msgspec.Struct]) -> pl.LazyFrame:
    """Return an empty frame of a record type, with the partition's `day`."""
    return pl.LazyFrame(schema=polars_schema(record) | {"day": pl.Date()})


def read_column(file: Path, column: str) -> list[str]:
    """Read one column of text out of a Parquet file; BadInput naming it when it is damaged."""
    check_file(file, column)
    try:
        return pl.read_parquet(file, columns=[column], glob=False)[column].to_list()
    except (PolarsError, OSError) as error:
        raise damaged(file, error) from None


def check_file(file: Path, column: str) -> None:
    """Raise BadInput unless a file's footer is one of Parquet, with this column."""
    try:
        columns = pl.read_parquet_schema(file)
    except (PolarsError, OSError) as error:
        raise damaged(file, error) from None
    if column not in columns:
        raise BadInput(f"{file}: no column {column}; it isn't a file of this log, move it away")


def damaged(file: Path, error: Exception) -> BadInput:
    """The error of a Parquet file that can't be read, with the way out."""
    why = (str(error).splitlines() or ["unreadable"])[0][:120]
    return BadInput(f"{file}: damaged ({why}); move it away, and ingest its source again")


def _plain(value: Any) -> Any:
    """Structs, also inside a list, as dicts; `to_builtins` would leave out what equals its default."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
        return [msgspec.structs.asdict(item) for item in value]
    return value


def _numbers_series(name: str, values: list[Any]) -> pl.Series:
    """A column of structs that hold nothing but numbers."""
    kind = _NUMBERS[name]
    rows = [value or kind() for value in values]
    table = pl.DataFrame(
        {
            field: pl.Series([getattr(row, field) for row in rows], dtype=pl.Float64, strict=False)
            for field in kind.__struct_fields__
        }
    )
    known = pl.Series([value is not None for value in values], dtype=pl.Boolean)
    return pl.select(pl.when(known).then(table.to_struct(name)).alias(name)).to_series()
