"""Figures that were filled in rather than measured: about one constant per task type."""

from __future__ import annotations

import polars as pl

_MIN_ROWS = 20  # fewer repeat by chance
_ROWS_PER_VALUE = 5


def repeated(rows: pl.DataFrame, column: str, by: str) -> pl.DataFrame:
    """Values of `by` whose known figures take fewer distinct values than half the rows: (by, len, unique)."""
    return (
        rows.filter(pl.col(column).is_not_null())
        .group_by(by)
        .agg(pl.len(), pl.col(column).n_unique().alias("unique"))
        .filter((pl.col("len") >= _MIN_ROWS) & (pl.col("unique") < pl.col("len") / 2))
        .sort(by)
    )


def imputed(rows: pl.DataFrame, column: str, by: str, task_type: str) -> pl.DataFrame:
    """Those of `repeated` with at most two values per task type, each on several rows."""
    cells = rows.filter(pl.col(column).is_not_null()).group_by(
        by, *([task_type] if task_type in rows.columns else [])
    )
    kinds = cells.len().filter(pl.col("len") >= _ROWS_PER_VALUE).group_by(by).agg(kinds=pl.len())
    found = repeated(rows, column, by).join(kinds, on=by, how="left", maintain_order="left")
    few = (pl.col("unique") <= 2 * pl.col("kinds").fill_null(1)) & (
        pl.col("len") >= _ROWS_PER_VALUE * pl.col("unique")
    )
    return found.filter(few).drop("kinds")
