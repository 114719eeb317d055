"""Rows that tell what can hardly be: times to come are played, more tokens than a model has are not."""

from __future__ import annotations

import time

import polars as pl

from training.sources.checks import AHEAD_MS

AHEAD = "future_timestamp"  # flag of rows that were ahead when they were ingested
MOST_OUTPUT = 2_000_000  # tokens of one answer; no model of the catalog gives as many
MOST_PROMPT = 20_000_000
MOST_CALLS = 10_000  # that a row sums up


def doubts_of(frame: pl.DataFrame) -> dict[str, int]:
    """Count the rows in doubt that are played by what they tell; `frame` has ts_ms and ahead."""
    by = round(time.time() * 1000) + AHEAD_MS
    found = {"a time more than a day ahead": pl.col("ahead") | (pl.col("ts_ms") > by)}
    counts = frame.select(which.fill_null(value=False).sum().alias(what) for what, which in found.items())
    return {what: int(count) for what, count in counts.row(0, named=True).items() if count}


def beyond_any() -> pl.Expr:
    """Which rows tell of more tokens than any model takes or gives: no bill is told from these."""
    calls = pl.when(pl.col("run")).then(float(MOST_CALLS)).otherwise(1.0)
    return (pl.col("output") > MOST_OUTPUT * calls) | (pl.col("prompt") > MOST_PROMPT * calls)
