"""Which samples shadow calls are of, and for how many calls a pair speaks that several of them might hold.

Runs of one seed are nested: whoever is asked with a chance is asked with any larger one, too. Runs of other
seeds are drawn apart. What chance a run gave to a request that it didn't ask, no outcome tells, and so not
the chance of being in any of them, 1 − Π (1 − p). But each sample alone is unbiased by 1 / p, and so is their
mean with weights that don't look at who was asked (multiple frames: Hartley 1962).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from training.labels.detail import RUN
from training.labels.resolve import is_pair, named
from training.log import LogStore

if TYPE_CHECKING:
    from pathlib import Path

_CELL = ["request_id", "candidate"]
_UNNAMED = ""  # the seed of calls that tell no run


def samples_of(log: Path) -> pl.DataFrame:
    """The log's samples: `candidate`, `seed`, mean chance `rate`, `first_ms` and `last_ms` that they asked.

    Calls that tell no run are one sample, unless a request was asked twice by them or others tell theirs:
    then they may be nested or not, and are none.
    """
    store = LogStore(log)
    times = store.scan("request").select("request_id", at_ms="ts_ms").unique("request_id", keep="first")
    pairs = store.scan("outcome").filter(_told())
    asked = _asked(pairs.collect())
    ids = asked["request_id"].unique().implode()
    asked = asked.join(times.filter(pl.col("request_id").is_in(ids)).collect(), on="request_id", how="inner")
    found = asked.group_by("candidate", "seed").agg(
        rate=pl.len() / (1 / pl.col("p")).sum(),
        first_ms=pl.col("at_ms").min(),
        last_ms=pl.col("at_ms").max(),
        most=pl.col("many").max(),
    )
    alone = (pl.len().over("candidate") == 1) & (pl.col("most") == 1)
    return found.filter((pl.col("seed") != _UNNAMED) | alone).drop("most").sort("candidate", "seed")


def chances(outcomes: pl.DataFrame, requests: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """What each pair counts as: `request_id`, `candidate` and `chance`, one over the calls it speaks for.

    `requests` has `request_id` and `ts_ms`. A sample might have asked whatever lies between the first and the
    last request that it did ask. It is the larger chance by one sample, or the inverse of the mean of 1 / p
    over samples (0 where one didn't ask), each with its rate as weight. Null is a pair of no sample.
    """
    asked = _asked(outcomes.filter(_told())).join(
        requests.select("request_id", "ts_ms"), on="request_id", how="inner"
    )
    might = (
        asked.select(*_CELL, "ts_ms")
        .unique()
        .join(samples, on="candidate", how="inner")
        .filter(pl.col("ts_ms").is_between("first_ms", "last_ms"))
        .join(asked.select(*_CELL, "seed", "p"), on=[*_CELL, "seed"], how="left")
    )
    mean = pl.col("rate").sum() / (pl.col("rate") / pl.col("p")).sum()
    counted = might.group_by(_CELL).agg(
        chance=pl.when(pl.len() == 1).then(pl.col("p").max()).otherwise(mean), known=pl.col("p").count() > 0
    )
    return (
        asked.select(_CELL)
        .unique()
        .join(counted, on=_CELL, how="left")
        .select(*_CELL, chance=pl.when("known").then("chance"))
    )


def _told() -> pl.Expr:
    """Whether an outcome is of a pair whose chance is one."""
    p = pl.col("sampling_probability")
    return is_pair() & (p > 0) & (p <= 1)


def _asked(pairs: pl.DataFrame) -> pl.DataFrame:
    """Who was asked by which seed: `request_id`, `candidate`, `seed`, its chance `p`, in how many rows."""
    return (
        named(pairs)
        .filter(pl.col("candidate") != pl.col("reference"))
        .with_columns(seed=RUN.str.extract(r"^(-?\d+)-").fill_null(_UNNAMED))
        .group_by(*_CELL, "seed")
        .agg(p=pl.col("sampling_probability").max(), many=pl.len())
    )
