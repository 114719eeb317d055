"""Base rates of "same diff" on real patches with known outcomes, and what "same" is worth: FINDINGS, Same diff.

    python tests/bench/bench_same_diff.py PATCHES.parquet TASKS.parquet LABELS.parquet

PATCHES: task_id, submission, patch, success. TASKS: task_id, repo, gold_patch. LABELS: same keys as PATCHES with
the naive label same_as_gold. No base files: everything is judged from hunks alone.
"""

# ruff: noqa: E501 - a report reads best one line to a line

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from features.diffs.verdicts import ORDER as LEVELS  # noqa: E402
from features.diffs.verdicts import SAME_LEVELS as SAME  # noqa: E402
from training.judge.bulk import judge_pair  # noqa: E402

FOUR = ("sphinx-doc/sphinx", "sympy/sympy", "matplotlib/matplotlib", "scikit-learn/scikit-learn")


def wilson(good: float, n: int) -> str:
    """A share with its 95 % Wilson interval."""
    if n == 0:
        return "no cases"
    p, z = good / n, 1.96
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return f"{p:.4f} [{low:.4f}, {min(high, 1):.4f}] ({good:.0f}/{n})"


def verdicts(pairs: list[tuple[str, str]]) -> list[str]:
    """Levels of pairs, on all cores."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(level, pairs, chunksize=64))


def level(pair: tuple[str, str]) -> str:
    """The level of one pair."""
    return judge_pair(*pair).level


def against_gold(rows: list[dict], levels: list[str]) -> None:
    """Precision and recall of `same` against outcomes, beside the naive label."""
    parts = {
        "all repositories": lambda r: True,
        "sphinx, sympy, matplotlib, scikit-learn": lambda r: r["repo"] in FOUR,
        "the other repositories": lambda r: r["repo"] not in FOUR,
    }
    for name, chosen in parts.items():
        here = [(row, found) for row, found in zip(rows, levels, strict=True) if chosen(row)]
        wins = sum(row["success"] for row, _ in here)
        print(f"{name}: {len(here):,} patches, {wins:,.0f} successful")
        for label, same in (
            ("judge", lambda r, f: f in SAME),
            ("naive", lambda r, f: bool(r["same_as_gold"])),
            ("L0 + L1", lambda r, f: f in SAME[:2]),
        ):
            marked = [row["success"] for row, found in here if same(row, found)]
            print(
                f"  {label}: P(success | same) {wilson(sum(marked), len(marked))}; P(same | success) {wilson(sum(marked), int(wins))}"
            )
        print(f"  judge minus naive in P(same | success), tasks drawn anew: {recall_gain(here)}")
    print("level given success / failure:")
    for outcome in (1.0, 0.0):
        counts = Counter(found for row, found in zip(rows, levels, strict=True) if row["success"] == outcome)
        total = sum(counts.values())
        print(
            f"  {'success' if outcome else 'failure'} ({total:,}): "
            + ", ".join(f"{name} {counts[name] / total:.1%}" for name in LEVELS)
        )
    for row, found in zip(rows, levels, strict=True):
        if found in SAME and row["success"] != 1:
            print(
                f"  same but failed: {row['task_id']} {row['submission']} {found}, naive {row['same_as_gold']}"
            )


def recall_gain(here: list[tuple[dict, str]], draws: int = 2000) -> str:
    """How many more successes the judge calls the same than the naive label does, with its 95 % interval."""
    tasks = sorted({row["task_id"] for row, _ in here})
    at = {task: i for i, task in enumerate(tasks)}
    gained, wins = np.zeros(len(tasks)), np.zeros(len(tasks))
    for row, found in here:
        if row["success"] == 1:
            wins[at[row["task_id"]]] += 1
            gained[at[row["task_id"]]] += (found in SAME) - bool(row["same_as_gold"])
    weight = np.random.default_rng(0).multinomial(len(tasks), np.full(len(tasks), 1 / len(tasks)), draws)
    low, high = np.quantile((weight @ gained) / (weight @ wins), [0.025, 0.975])
    return f"{gained.sum() / wins.sum():+.4f} [{low:+.4f}, {high:+.4f}]"


def between_agents(rows: list[dict]) -> None:
    """Base rates between two agents on one task, by level."""
    by_task: dict[str, list[dict]] = {}
    for row in rows:
        by_task.setdefault(row["task_id"], []).append(row)
    pairs = [pair for group in by_task.values() for pair in itertools.combinations(group, 2)]
    levels = verdicts([(one["patch"], other["patch"]) for one, other in pairs])
    kinds: dict[str, Counter[str]] = {
        "both succeed": Counter(),
        "both fail": Counter(),
        "one of each": Counter(),
    }
    for (one, other), found in zip(pairs, levels, strict=True):
        won = one["success"] + other["success"]
        kinds["both succeed" if won == 2 else "both fail" if won == 0 else "one of each"][found] += 1
    print(f"pairs of agents on one task: {len(pairs):,}")
    for name, counts in kinds.items():
        total = sum(counts.values())
        print(
            f"  {name} ({total:,}): same {wilson(sum(counts[x] for x in SAME), total)}; "
            + ", ".join(f"{x} {counts[x] / total:.1%}" for x in LEVELS)
        )
    mixed, alike = kinds["one of each"], kinds["both succeed"] + kinds["both fail"]
    agree = sum(alike[x] for x in SAME)
    print(f"  P(same outcome | same diff) {wilson(agree, agree + sum(mixed[x] for x in SAME))}")
    agree, total = sum(alike.values()), len(pairs)
    print(f"  P(same outcome) of any pair {wilson(agree, total)}")


def main() -> None:
    """Print both reports."""
    import polars as pl

    parser = argparse.ArgumentParser()
    for name in ("patches", "tasks", "labels"):
        parser.add_argument(name, type=pl.read_parquet)
    patches, tasks, labels = vars(parser.parse_args()).values()
    keys = [key for key in ("source", "submission", "task_id") if key in labels.columns]
    joined = (
        patches.filter(pl.col("submission") != "GOLD")
        .join(tasks.select("task_id", "repo", "gold_patch"), on="task_id")
        .join(labels.select(*keys, "same_as_gold"), on=keys, how="left")
    )
    rows = joined.to_dicts()
    against_gold(rows, verdicts([(row["patch"], row["gold_patch"]) for row in rows]))
    between_agents(rows)


if __name__ == "__main__":
    main()
