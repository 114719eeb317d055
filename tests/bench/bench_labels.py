"""What label noise is, and whether shrinking or combining labels helps.

Run as: python tests/bench/bench_labels.py DATA

DATA is a folder with swebench_lite_gpt4_repeats.parquet (the same model run again and again) and
livecodebench.parquet (the share of ten samples that passed, by task and model). The second gives a truth to
draw single runs and imperfect witnesses from; tasks of the held-out third are never trained on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from training.calibrate import log_loss
from training.examples import Examples
from training.fit import fit_success
from training.labels.kinds import KINDS
from training.labels.noise import rerun_noise
from training.labels.reliability import Reliability, combine, estimate

SEEDS = 6
SCORED = 0.05  # of the answers have a score beside the witnesses
# Witnesses: kind, how often it speaks of a good answer and of a bad one, and how often it then says good.
WITNESSES = (
    ("tests_after_edit", (0.6, 0.6), (0.97, 0.30)),
    ("feedback", (0.3, 0.3), (0.90, 0.15)),
    ("correction", (0.1, 0.5), (0.0, 0.0)),
    ("same", (0.3, 0.02), (1.0, 1.0)),
)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    folder = parser.parse_args().data
    began = time.monotonic()
    repeats(folder / "swebench_lite_gpt4_repeats.parquet")
    matrix = (
        pl.read_parquet(folder / "livecodebench.parquet")
        .filter((pl.col("scenario") == "repair") & pl.col("success").is_not_null())
        .unique(["task_id", "model"], maintain_order=True)
        .sort("task_id", "model")
    )
    shrinking(matrix)
    witnesses(matrix)
    print(f"{time.monotonic() - began:.0f} s")


def repeats(file: Path) -> None:
    runs = pl.read_parquet(file).drop_nulls("success")
    for harness in sorted(runs["harness"].unique()):
        mine = runs.filter(pl.col("harness") == harness).select("task_id", "success", candidate="harness")
        noise = rerun_noise(mine)
        assert noise is not None
        low, high = noise.flip_rate_ci
        print(
            f"{harness}: {noise.runs} runs of {noise.tasks} tasks, two runs differ in {noise.flip_rate:.1%} "
            f"({low:.1%} to {high:.1%}), Brier floor {noise.brier_floor:.3f}"
        )


def examples_of(matrix: pl.DataFrame, target: np.ndarray) -> Examples:
    return Examples(
        features=np.zeros((len(matrix), 1), np.float32),
        candidate=matrix["model"].to_numpy(),
        task_type=(matrix["platform"] + "/" + matrix["difficulty"]).fill_null("").to_numpy(),
        success=target,
        output_tokens=np.full(len(matrix), np.nan),
        group=matrix["task_id"].cast(pl.String).to_numpy(),
    )


def halves(matrix: pl.DataFrame, rng: np.random.Generator) -> np.ndarray:
    tasks = matrix["task_id"].unique(maintain_order=True).to_numpy()
    held = set(rng.choice(tasks, len(tasks) // 3, replace=False))
    return np.array([task in held for task in matrix["task_id"]])


def score(matrix: pl.DataFrame, target: np.ndarray, held: np.ndarray, truth: np.ndarray) -> float:
    rows = examples_of(matrix, target)
    taught = ~held & np.isfinite(target)
    head = fit_success(Examples(*(a[taught] if isinstance(a, np.ndarray) else a for a in rows)))
    p = head.predict(rows.features[held], rows.candidate[held], rows.task_type[held])
    return float(log_loss(p, truth[held]).mean())


def show(name: str, losses: dict[str, list[float]], beside: str) -> None:
    print(f"{name}: held-out log-loss against the truth, {SEEDS} splits, difference to '{beside}' ± s.e.")
    for target, values in losses.items():
        gap = np.array(values) - np.array(losses[beside])
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        print(f"  {target:34s} {np.mean(values):.4f}  {gap.mean():+.4f} ± {error:.4f}")


def shrinking(matrix: pl.DataFrame) -> None:
    truth = matrix["success"].to_numpy()
    losses: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        held = halves(matrix, rng)
        run, again = (rng.random((2, len(truth))) < truth).astype(float)
        flip = float((run != again).mean())
        targets = {
            "one run as it is": run,
            "one run, shrunk by half the flips": run + (1 - 2 * run) * flip / 2,
            "one run, shrunk by the flips": run + (1 - 2 * run) * flip,
            "mean of two runs": (run + again) / 2,
            "all ten samples": truth,
        }
        for name, target in targets.items():
            losses.setdefault(name, []).append(score(matrix, target, held, truth))
    print(f"livecodebench: two runs differ in {flip:.1%}")
    show("shrinking", losses, "one run as it is")


def witnesses(matrix: pl.DataFrame) -> None:
    truth = matrix["success"].to_numpy()
    losses: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        held = halves(matrix, rng)
        run = rng.random(len(truth)) < truth
        evidence = evidence_of(run, rng)
        some = np.flatnonzero(rng.random(len(run)) < SCORED)
        scored = pl.concat([evidence, lines_of(some, "score", run[some])])
        learned = estimate(scored)
        stated = Reliability()
        targets = {"nothing but the truth of each run": run.astype(float)}
        # The scores teach the rates only: the targets rest on the same witnesses either way.
        for name, how in (("stated", stated), ("learned", learned)):
            labels = combine(evidence, how).filter("verdict")
            value, rows = labels["value"].to_numpy(), labels["row"].to_numpy()
            soft, hard = np.full((2, len(truth)), np.nan)
            soft[rows], hard[rows] = value, (value >= 0.5).astype(float)
            targets |= {f"{name}: probability": soft, f"{name}: rounded": hard}
        one = evidence.filter(pl.col("kind").is_in(["tests_after_edit", "feedback"])).unique(
            "row", keep="last"
        )
        first = np.full(len(truth), np.nan)
        first[one["row"].to_numpy()] = one["v"].to_numpy()
        targets["one witness, believed"] = first
        for name, target in targets.items():
            losses.setdefault(name, []).append(score(matrix, target, held, truth))
    places = {name: place for place, name in enumerate(KINDS)}
    print(f"learned on {learned.overlap} rows, base {learned.base:.3f}, {run.mean():.3f} true")
    for kind, speaks, good in WITNESSES:
        for n, says in enumerate(("bad", "good")):
            said = [speaks[k] * (good[k] if n else 1 - good[k]) for k in (0, 1)]
            if sum(said):
                found = learned.rates[places[kind]][n]
                print(f"  {kind} says {says}: P(success) {found:.2f}, true {said[0] / sum(said):.2f}")
    show("witnesses", losses, "one witness, believed")


def evidence_of(run: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    parts = []
    for kind, speaks, says_good in WITNESSES:
        rows = np.flatnonzero(rng.random(len(run)) < np.where(run, *speaks))
        good = rng.random(len(rows)) < np.where(run[rows], *says_good)
        parts.append(lines_of(rows, kind, good))
    return pl.concat(parts)


def lines_of(rows: np.ndarray, kind: str, good: np.ndarray) -> pl.DataFrame:
    told = {"row": rows, "kind": kind, "source": kind, "level": "signal", "v": good.astype(float), "ts_ms": 0}
    return pl.DataFrame(told).with_columns(outcome_id=pl.col("row").cast(pl.String) + pl.lit(kind))


if __name__ == "__main__":
    main()
