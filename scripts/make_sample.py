"""Make sample/ from public data sets that may be redistributed: python scripts/make_sample.py DATA_FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

SAMPLE = Path(__file__).parent.parent / "sample"
EPOCH_MS = 1_767_225_600_000  # 2026-01-01; the sets record no times, see sample/README.md
MINUTE_MS = 60_000


def with_made_up_times(frame: pl.DataFrame) -> pl.DataFrame:
    """Give each task a minute of its own, in an order that hashes the task: no set or category comes last."""
    tasks = frame.select("task_id").unique().sort(pl.col("task_id").hash(seed=7), "task_id")
    minutes = tasks.with_row_index("minute").with_columns(ts_ms=EPOCH_MS + pl.col("minute") * MINUTE_MS)
    return frame.join(minutes.select("task_id", "ts_ms"), on="task_id", how="left", maintain_order="left")


def coderouterbench(data: Path) -> pl.DataFrame:
    """2,071 coding tasks × 8 models: an outcome matrix which is a usage table too."""
    rows = pl.read_parquet(data / "coderouterbench_id.parquet")
    return with_made_up_times(rows).select(
        "task_id",
        "model",
        "success",
        pl.col("dimension").alias("category"),
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "latency_ms",
        pl.concat_str("task_id", "model", separator="/").alias("session"),
        pl.lit(0).alias("turn"),
        "ts_ms",
        pl.col("input_tokens").alias("input_tokens_uncached"),
        pl.lit(None, dtype=pl.Int64).alias("cached_tokens"),
        pl.lit(None, dtype=pl.Int64).alias("cache_write_tokens"),
    )


def claude_code_runs(data: Path) -> pl.DataFrame:
    """65 runs of Claude Code on SWE-bench tasks, a row a run, with the recorded bill."""
    rows = pl.read_parquet(data / "vexp_claude_code_100.parquet")
    return with_made_up_times(rows).select(
        "model",
        "harness",
        "task_id",
        "success",
        "ts_ms",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "cost_usd",
        pl.col("task_id").alias("session"),
        pl.lit(0).alias("turn"),
        pl.col("input_tokens").alias("input_tokens_uncached"),
        "n_turns",
        "prompt",
    )


def main(data: Path) -> None:
    """Write the two tables."""
    for frame, path in (
        (coderouterbench(data), SAMPLE / "outcomes.parquet"),
        (claude_code_runs(data), SAMPLE / "logs" / "claude_code_runs.parquet"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path, compression="zstd", compression_level=19)
        sys.stdout.write(
            f"{path.relative_to(SAMPLE.parent)}: {len(frame)} rows, {path.stat().st_size} bytes\n"
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/make_sample.py DATA_FOLDER")
    main(Path(sys.argv[1]))
