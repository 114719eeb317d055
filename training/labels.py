"""Outcomes to labels: for each request the value its best evidence supports, with level, source and time.

"Unknown" is a value: a request without evidence keeps a null label and is counted, never read as a failure.
"""

from __future__ import annotations

import polars as pl

# Which evidence wins when several outcomes speak of the same request: tests, then a person, then a score
# that came with a data set, then a diff that only looks alike.
_RANK = {"tests": 0, "L4": 0, "feedback": 1, "score": 2, "L0": 3, "L1": 3, "L2": 3, "L3": 4}

# How an outcome may name what it is about, most exact first. A task needs its candidate too, because the
# same task is often tried by several.
_KEYS: tuple[tuple[str, ...], ...] = (("request_id",), ("session_id",), ("task_id", "candidate"))


def resolve(requests: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Labels in the order of `requests`: columns `value` (0..1 or null), `level`, `label_source`, `label_ms`.

    An outcome is joined by request id, else by session, else by task and candidate: the most exact way of
    naming wins, within it the strongest level, within that the latest. Outcomes without a value say nothing.
    """
    told = (
        outcomes.filter(pl.col("value").is_not_null())
        .with_columns(rank=pl.col("level").replace_strict(_RANK, default=9, return_dtype=pl.Int32))
        .sort("rank", "ts_ms", descending=[False, True])
    )
    keyed = requests.select("request_id", "session_id", "task_id", "candidate").with_row_index("row")
    found = pl.concat([_by(keyed, told, list(key)) for key in _KEYS])
    best = found.unique("row", keep="first", maintain_order=True)
    return keyed.select("row").join(best, on="row", how="left", maintain_order="left").drop("row")


def _by(keyed: pl.DataFrame, told: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The best outcome of each request under one way of naming it."""
    labels = (
        told.drop_nulls(key)
        .unique(key, keep="first", maintain_order=True)
        .select(*key, "value", "level", label_source=pl.col("source"), label_ms=pl.col("ts_ms"))
    )
    columns = ("row", "value", "level", "label_source", "label_ms")
    return keyed.select("row", *key).join(labels, on=key, how="inner").select(columns)
