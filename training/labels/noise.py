"""How much of a label is luck: the same candidate on the same task, run again."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl

_DRAWS = 2000


class RerunNoise(msgspec.Struct, frozen=True, kw_only=True):
    """How often two runs of one candidate on one task come out differently, with a 95 % interval over tasks.

    `brier_floor`: a predictor that knows every rate still has this Brier score (half the flip rate).
    """

    tasks: int  # (task, candidate) pairs with two runs or more
    runs: int
    flip_rate: float
    flip_rate_ci: tuple[float, float]
    brier_floor: float


def rerun_noise(runs: pl.DataFrame, seed: int = 0) -> RerunNoise | None:
    """Estimate from columns `task_id`, `candidate`, `success` (cut at ½); None without repeated runs.

    Of n runs of a pair with k successes 2k(n − k) / n(n − 1) is the unbiased share of run pairs that differ.
    Whole tasks are resampled, so that the candidates of one task count together.
    """
    n, k = pl.col("n"), pl.col("k")
    repeated = (
        runs.drop_nulls(["task_id", "candidate", "success"])
        .group_by("task_id", "candidate")
        .agg(n=pl.len().cast(pl.Float64), k=(pl.col("success") >= 0.5).sum().cast(pl.Float64))
        .filter(n >= 2)
        .with_columns(flips=2 * k * (n - k) / (n * (n - 1)))
        .sort("task_id", "candidate")
    )
    if repeated.is_empty():
        return None
    by_task = repeated.group_by("task_id", maintain_order=True).agg(pl.col("flips").sum(), pairs=pl.len())
    flips, pairs = by_task["flips"].to_numpy(), by_task["pairs"].to_numpy()
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(flips), (_DRAWS, len(flips)))
    low, high = np.quantile(flips[drawn].sum(axis=1) / pairs[drawn].sum(axis=1), [0.025, 0.975])
    rate = float(flips.sum() / pairs.sum())
    return RerunNoise(
        tasks=len(repeated),
        runs=int(repeated["n"].sum()),
        flip_rate=rate,
        flip_rate_ci=(float(low), float(high)),
        brier_floor=rate / 2,
    )
