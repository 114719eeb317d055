"""Wall and CPU time of ingest and of the whole pipeline on a made-up log, with and without its MLflow record.

    python tests/bench/bench_pipeline.py [ROWS]

A table of ROWS requests (default 100,000) with prompts, twelve models, eight task types and 400 repositories
is ingested and trained on three times, each in a process of its own: without MLflow, with a new SQLite store
(its tables are made first), and with that store again. Each step's seconds are those of its nested run.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[2]
MODELS = (
    *("claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano"),
    *("gemini-2.5-pro", "gemini-2.5-flash", "deepseek-chat", "grok-4", "kimi-k2", "glm-4.6"),
)
KINDS = ("bug_fixing", "feature", "refactoring", "tests", "docs", "review", "search", "config")
WORDS = (
    "fix",
    "the",
    "test",
    "in",
    "module",
    "cache",
    "that",
    "fails",
    "when",
    "user",
    "config",
    "is",
    "empty",
)


def table(rows: int, file: Path) -> None:
    """Rows in which dearer models succeed more often and long prompts less."""
    rng = np.random.default_rng(0)
    model, kind = rng.integers(0, len(MODELS), rows), rng.integers(0, len(KINDS), rows)
    length = rng.integers(5, 120, rows)
    words = np.array(WORDS)[rng.integers(0, len(WORDS), (rows, 120))]
    p = 1 / (1 + np.exp(-(0.15 * (6 - model) + 0.2 * (kind - 4) - 0.02 * (length - 60))))
    pl.DataFrame(
        {
            "task_id": [f"t{i // 4}" for i in range(rows)],
            "session": [f"s{i}" for i in range(rows)],
            "turn": [1] * rows,
            "repo": [f"r{i // 4 % 400}" for i in range(rows)],
            "ts_ms": [1_780_000_000_000 + 60_000 * i for i in range(rows)],
            "model": np.array(MODELS)[model],
            "category": np.array(KINDS)[kind],
            "prompt": [" ".join(row[:n]) for row, n in zip(words, length, strict=True)],
            "input_tokens_uncached": rng.integers(200, 9000, rows),
            "output_tokens": np.round(np.exp(5 + 0.5 * rng.normal(size=rows))).astype(int),
            "success": (rng.random(rows) < p).astype(float),
        }
    ).write_parquet(file)


def timed(folder: Path, *words: str) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, ROOT / "samediff.py", *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line for each command, and the steps of the last training."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table(rows, folder / "table.parquet")
        commands = {
            "ingest": ("ingest", "table.parquet", "--to", "log", "--map", "task_type=category"),
            "train --no-mlflow": ("train", "log", "--out", "bundle", "--no-mlflow"),
            "train, a new store": ("train", "log", "--out", "bundle"),
            "train, the same store": ("train", "log", "--out", "bundle"),
        }
        print(f"{rows:,} rows, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for name, words in commands.items():
            wall, cpu = timed(folder, *words)
            print(f"{name:24}{wall:8.1f} s wall{cpu:8.1f} s CPU")
        for name, seconds in steps(folder):
            print(f"  {name:22}{seconds:8.1f} s")


def steps(folder: Path) -> list[tuple[str, float]]:
    """Steps of the newest run with their seconds."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    newest = max(
        (r for r in runs if "mlflow.parentRunId" not in r.data.tags), key=lambda r: r.info.start_time
    )
    mine = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == newest.info.run_id]
    return [
        (r.info.run_name, r.data.metrics["seconds"]) for r in sorted(mine, key=lambda r: r.info.start_time)
    ]


if __name__ == "__main__":
    main()
