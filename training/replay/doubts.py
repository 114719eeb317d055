"""Rows that are played though they tell what can hardly be: times to come, more tokens than a model has."""

from __future__ import annotations

import time

import polars as pl

from training.sources.checks import AHEAD_MS

AHEAD = "future_timestamp"  # flag of rows that were ahead when they were ingested
MOST_OUTPUT = 2_000_000  # tokens of one answer; no model of the catalog gives as many
MOST_PROMPT = 20_000_000


def doubts_of(frame: pl.DataFrame) -> dict[str, int]:
    """Count the rows in doubt by what they tell; `frame` has ts_ms, prompt, output, run and ahead."""
    by = round(time.time() * 1000) + AHEAD_MS
    one = ~pl.col("run")
    many = (pl.col("output") > MOST_OUTPUT) | (pl.col("prompt") > MOST_PROMPT)
    found = {
        "a time more than a day ahead": pl.col("ahead") | (pl.col("ts_ms") > by),
        "more tokens than any model takes or gives": one & many,
    }
    counts = frame.select(which.fill_null(value=False).sum().alias(what) for what, which in found.items())
    return {what: int(count) for what, count in counts.row(0, named=True).items() if count}
