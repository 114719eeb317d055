"""What an answer's own diff tells: `bench_after.py PATCHES TASKS LABELS [--json FILE]`, leaving repositories out.

Two questions of 13 agents' patches: is it the reference's diff (judged at L0 to L2, and by the set's naive
label), and does it pass. AUC within each held-out repository, weighted by its rows, with a bootstrap over
repositories; beside it what less evidence tells.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl

from features.answerfacts import AFTER_NAMES, EDIT_NAMES
from features.diffs.patches import parse_patch
from training.after.heads import out_of_fold
from training.after.rows import AfterRows
from training.after.samediff import Answered, Request, answered, features_of
from training.metrics import auc

DRAWS = 2000
SECOND = "polydev_hybrid_claude-haiku-4-5"  # the cheapest model among them, by name; no outcome looked at
AGREEMENT = tuple(n for n in EDIT_NAMES if n.startswith("others"))
NAMED = tuple(n for n in EDIT_NAMES if n.endswith("_named") or n in ("lines_said", "fixes_in_text"))
SIZES = ("added_lines", "removed_lines", "added_tokens", "removed_tokens", "code_files", "hunks")


def load(args: argparse.Namespace) -> tuple[list[Request], pl.DataFrame]:
    """Requests with their patches, and one row per patch in the same order."""
    tasks = pl.read_parquet(args.tasks).sort("task_id")
    patches = pl.read_parquet(args.patches).filter(pl.col("submission") != "GOLD")
    labels = pl.read_parquet(args.labels).select("submission", "task_id", "same_as_gold")
    patches = patches.join(labels, on=["submission", "task_id"], how="left")
    requests = []
    for task in tasks.iter_rows(named=True):
        mine = patches.filter(pl.col("task_id") == task["task_id"])
        answers = {
            row["submission"]: parse_patch((row["patch"] or "").encode("utf-8", "surrogatepass"))
            for row in mine.iter_rows(named=True)
        }
        reference = parse_patch(task["gold_patch"].encode("utf-8", "surrogatepass"))
        requests.append(Request(task["prompt"], task["repo"], reference, answers))
    return requests, patches.with_columns(pl.col("success").cast(pl.Float64))


def seconds(requests: list[Request], rng: np.random.Generator, cheap: str | None) -> dict:
    """Whose answer each answer is compared with: the cheap one, or one drawn from all others."""
    found = {}
    for i, request in enumerate(requests):
        names = sorted(request.answers)
        pick = {}
        for name in names:
            others = [n for n in names if n != name]
            if cheap is None and others:
                pick[name] = [others[int(rng.integers(len(others)))]]
            elif cheap is not None and cheap in others:
                pick[name] = [cheap]
        found[i] = pick
    return found


def within(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> tuple[float, list[float]]:
    """AUC within groups, weighted by rows, and its 95 % interval over groups."""
    names = np.unique(group)
    parts = [(auc(y[group == g], p[group == g]), int((group == g).sum())) for g in names]
    known = [(a, n) for a, n in parts if a is not None]
    value, weight = np.array([a for a, _ in known]), np.array([n for _, n in known], dtype=float)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(value), size=(DRAWS, len(value)))
    means = (value[drawn] * weight[drawn]).sum(axis=1) / weight[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(value @ weight / weight.sum()), [float(low), float(high)]


def question(
    rows: list[Answered], target: np.ndarray, tasks: list[str], columns: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave-repository-out P(target) from some columns; with the target and the group of each row used."""
    at = [AFTER_NAMES.index(name) for name in columns]
    group = np.array([row.group for row in rows])
    known = np.isfinite(target)
    features = features_of(rows)[:, at] if at else np.zeros((len(rows), 1), dtype=np.float32)
    data = AfterRows(
        features,
        columns or ("none",),
        target,
        np.full(len(rows), np.nan),
        np.array([row.candidate for row in rows]),
        group,
    ).some(known)
    fold = np.unique(data.group, return_inverse=True)[1]
    p, _ = out_of_fold(data, fold)
    return data.target, p, data.group


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("patches", "tasks", "labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    requests, patches = load(args)
    own = tuple(n for n in EDIT_NAMES if n not in AGREEMENT)
    ways = {
        "base rate of the agent": (),
        "size alone": SIZES,
        "own edit, without the text": tuple(n for n in own if n not in NAMED),
        "own edit": own,
    }
    beside = {
        "same files as another": ("others_touch", "others_overlap"),
        "agreement alone": AGREEMENT,
        "own edit and agreement": (*own, *AGREEMENT),
    }
    rng = np.random.default_rng(1)
    plans = {"": None, "haiku 4.5": seconds(requests, rng, SECOND), "any": seconds(requests, rng, None)}
    ids = pl.read_parquet(args.tasks).sort("task_id")["task_id"].to_list()
    by_key = {(r["task_id"], r["submission"]): r for r in patches.iter_rows(named=True)}
    report = []
    for second, plan in plans.items():
        rows = [
            row
            for row in answered(requests, plan)
            if plan is None or plan.get(row.request, {}).get(row.candidate)
        ]
        kept = [by_key[ids[row.request], row.candidate] for row in rows]
        targets = {
            "same, judged": np.array([np.nan if r.same is None else float(r.same) for r in rows]),
            "same, naive label": np.array(
                [np.nan if k["same_as_gold"] is None else float(k["same_as_gold"]) for k in kept]
            ),
            "passes": np.array([k["success"] for k in kept], dtype=float),
        }
        for said, target in targets.items():
            for way, columns in (ways if plan is None else beside).items():
                y, p, group = question(rows, target, ids, columns)
                value, ci = within(y, p, group)
                report.append(
                    {"target": said, "second": second, "way": way, "rows": len(y), "base": float(y.mean())}
                    | {"auc": value, "ci": ci}
                )
                print(
                    f"{said:18} {second:10} {way:28} {len(y):5} rows, base {y.mean():.3f}  "
                    f"AUC {value:.3f} ({ci[0]:.3f} to {ci[1]:.3f})",
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
