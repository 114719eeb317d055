"""Off-policy estimates against the truth: matrices as bandit logs. `bench_coverage.py MATRIX... [--runs N]`.

Every run draws decisions from the matrix, lets a known logger answer them, and estimates a dozen target
policies from what it logged. Printed: how often 95 % intervals hold the true mean, errors beside IPS, half
widths, refusals, how often the best policy is ranked first where it is better by more than the half width;
and last a line for each matrix, as docs/FINDINGS.md has it. 1,000 runs take about 8 CPU minutes a matrix.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from training.estimators.bandit import Bandit
from training.estimators.estimate import MIN_ESS, Answer, estimate
from training.estimators.model import table_model

ARMS = 5
ESTIMATORS = ("ips", "snips", "dr", "dr_clipped", "dr_switch", "replay", "paired", "combined", "quoted")
SUMMED = ("ips", "snips", "dr", "paired", "quoted")  # of the last table
KINDS = ("dimension", "category", "task_kind", "repo")  # columns that may tell a task's kind
HELD = (0.93, 0.97)  # share of intervals of 95 % that should hold the truth


class Told(NamedTuple):
    """One estimator of one target over all runs: share of intervals that hold the truth, RMSE, half-width."""

    held: float
    rmse: float
    half: float


class World(NamedTuple):
    """The truth: success of each task by each arm, and the task's kind."""

    name: str
    arms: tuple[str, ...]
    success: np.ndarray  # (t, k)
    kind: np.ndarray  # (t,) int


def read(file: Path) -> pl.DataFrame:
    """The scored rows of an outcome matrix; the same issue in another benchmark is another task and kind."""
    frame = pl.read_parquet(file).filter(pl.col("success").is_not_null())
    if "benchmark" not in frame.columns:
        return frame
    beside = [c for c in ("task_id", *KINDS) if c in frame.columns]
    joined = (pl.concat_str("benchmark", c, separator="/", ignore_nulls=True).alias(c) for c in beside)
    return frame.with_columns(joined)


def world(file: Path) -> World:
    """Read an outcome matrix: the ARMS models with most tasks, spread over their success."""
    frame = read(file)
    kind = next((c for c in KINDS if c in frame.columns), None)
    wide = frame.group_by("task_id", "model").agg(pl.col("success").mean())
    table = wide.pivot("model", index="task_id", values="success").sort("task_id")
    models = [c for c in table.columns if c != "task_id"]
    full = sorted(models, key=lambda m: (table[m].null_count(), m))
    complete = [m for m in full if table[m].null_count() <= 0.02 * len(table)] or full
    by_mean = sorted(complete, key=lambda m: float(table[m].mean()))  # type: ignore[arg-type]
    at = np.unique(np.linspace(0, len(by_mean) - 1, min(ARMS, len(by_mean))).round().astype(int))
    arms = tuple(by_mean[i] for i in at)
    table = table.drop_nulls(list(arms))
    kinds = np.zeros(len(table), dtype=int)
    if kind:
        of_task = frame.group_by("task_id").agg(pl.col(kind).first())
        names = table.join(of_task, on="task_id", maintain_order="left")[kind].fill_null("").cast(pl.String)
        kinds = np.unique(names.to_numpy().astype(str), return_inverse=True)[1]
    return World(file.stem, arms, table.select(arms).to_numpy(), kinds)


def logger(truth: World, epsilon: float) -> np.ndarray:
    """Chances (t, k): one arm for each kind of task, in turn, or with chance epsilon any."""
    k = len(truth.arms)
    greedy = np.eye(k)[truth.kind % k]
    chances: np.ndarray = (1 - epsilon) * greedy + epsilon / k
    return chances


def targets(truth: World) -> dict[str, np.ndarray]:
    """Twelve policies as chances (t, k), none made with the outcomes of single tasks but the last two."""
    t, k = truth.success.shape
    mean = truth.success.mean(axis=0)
    order = np.argsort(mean)
    kinds = int(truth.kind.max()) + 1
    cell = np.stack([truth.success[truth.kind == c].mean(axis=0) for c in range(kinds)])
    eye = np.eye(k)
    pins = {f"pin {i}": np.tile(eye[order[i]], (t, 1)) for i in np.unique([0, k // 3, k // 2, k - 2, k - 1])}
    half = (eye[order[-1]] + eye[order[0]]) / 2
    soft = np.exp(8 * cell)
    rng = np.random.default_rng(7)
    return {
        **pins,
        "uniform": np.full((t, k), 1 / k),
        "mix of two": np.tile(half, (t, 1)),
        "best of kind": eye[cell.argmax(axis=1)][truth.kind],
        "worst of kind": eye[cell.argmin(axis=1)][truth.kind],
        "soft by kind": (soft / soft.sum(axis=1, keepdims=True))[truth.kind],
        "near the log": 0.8 * logger(truth, 0.1) + 0.2 * eye[order[-1]],
        "random route": eye[rng.integers(0, k, t)],
    }


def played(truth: World, args: argparse.Namespace, rng: np.random.Generator) -> tuple[Bandit, np.ndarray]:
    """One log of `args.rows` decisions, and the task (n,) of each; sessions keep to one kind of task."""
    chances = logger(truth, args.epsilon)
    if args.session > 1:
        sessions = -(-args.rows // args.session)
        seeds = rng.integers(0, len(truth.kind), sessions)
        by_kind = [np.flatnonzero(truth.kind == c) for c in range(int(truth.kind.max()) + 1)]
        task = np.concatenate([rng.choice(by_kind[truth.kind[s]], args.session) for s in seeds])[: args.rows]
        cluster = np.repeat(np.arange(sessions), args.session)[: args.rows]
    else:
        task, cluster = rng.integers(0, len(truth.success), args.rows), np.arange(args.rows)
    n, k = args.rows, len(truth.arms)
    edges = chances[task].cumsum(axis=1)
    action = np.minimum((rng.random(n)[:, None] > edges).sum(axis=1), k - 1)
    reward = (rng.random(n) < truth.success[task, action]).astype(float)
    paired = asked = None
    if args.pairs:
        picked = rng.random(n) < args.pairs
        answers = (rng.random((n, k)) < truth.success[task]).astype(float)
        paired = np.where(picked[:, None], answers, np.nan)
        paired[np.arange(n), action] = np.nan  # it has been asked already
        asked = np.full((n, k), args.pairs)
    log = Bandit(truth.arms, action, reward, chances[task], cluster, np.zeros(n, dtype=bool), paired, asked)
    return log, task


def runs(truth: World, args: argparse.Namespace) -> dict[str, list[Answer]]:
    """Answers of every run by target."""
    wanted = targets(truth)
    found: dict[str, list[Answer]] = {name: [] for name in wanted}
    for run in range(args.runs):
        log, task = played(truth, args, np.random.default_rng([args.seed, run]))
        model = table_model(log, truth.kind[task])
        for name, chances in wanted.items():
            found[name].append(estimate(log, chances[task], model, seed=run))
        if run % 50 == 49:
            print(f"\r{truth.name}: {run + 1} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def table(truth: World, args: argparse.Namespace, found: dict[str, list[Answer]]) -> str:
    """Print coverage, errors and half widths by target and estimator; the matrix's line of the summary."""
    wanted = targets(truth)
    print(f"\n## {truth.name}: {args.runs} runs of {args.rows:,} decisions, {len(truth.arms)} arms, ", end="")
    print(f"epsilon {args.epsilon:g}, pairs {args.pairs:.1%}, sessions of {args.session}")
    print(f"{'target':14} {'truth':>6} {'ESS':>7} {'refused':>7} | {'':9}", end="")
    print(" ".join(f"{name:>12}" for name in ESTIMATORS))
    every = {}
    for name, answers in found.items():
        true = float((wanted[name] * truth.success).sum(axis=1).mean())
        ess = np.median([a.support.ess for a in answers])
        refused = np.mean([a.best is None for a in answers])
        told = {e: _told(answers, e, true) for e in ESTIMATORS}
        every[name] = told
        print(f"{name:14} {true:6.3f} {ess:7.0f} {refused:7.0%} | {'coverage':9}", end="")
        print(" ".join(f"{t.held:>12.1%}" if t else f"{'–':>12}" for t in told.values()))
        for label in ("rmse", "half"):
            print(f"{'':38} | {label:9}", end="")
            print(" ".join(f"{getattr(t, label):>12.4f}" if t else f"{'–':>12}" for t in told.values()))
    first = _ranking(truth, wanted, found)
    _refusals(found)
    return _summed(truth.name, every, first)


def _told(answers: list[Answer], name: str, true: float) -> Told | None:
    """What an estimator was worth; None where it never spoke."""
    picked = [a.quality if name == "quoted" else a.named(name) for a in answers]
    held = [e for e in picked if e is not None and e.quality is not None and e.quality_ci is not None]
    if not held:
        return None
    ends = np.array([e.quality_ci for e in held])
    value = np.array([e.quality for e in held], dtype=float)
    inside = (ends[:, 0] <= true) & (true <= ends[:, 1])
    rmse = np.sqrt(np.mean((value - true) ** 2))
    return Told(float(inside.mean()), float(rmse), float(np.median(ends[:, 1] - ends[:, 0]) / 2))


def _summed(name: str, every: dict[str, dict[str, Told | None]], first: str) -> str:
    """A line of the summary: least and most over the targets."""
    cells = [name]
    for estimator in SUMMED:
        held = [t.held for target in every.values() if (t := target[estimator])]
        cells.append(f"{100 * min(held):.1f} to {100 * max(held):.1f} %" if held else "–")
    quoted = [t for target in every.values() if (t := target["quoted"])]
    inside = sum(HELD[0] <= round(t.held, 3) <= HELD[1] for t in quoted)
    cells.append(f"{inside} of {len(every)}")
    half = [100 * t.half for t in quoted]
    cells.append(f"{min(half):.1f} to {max(half):.1f}" if half else "–")
    for estimator in ("dr", "quoted"):
        over = [t.rmse / i.rmse for one in every.values() if (t := one[estimator]) and (i := one["ips"])]
        cells.append(f"{min(over):.2f} to {max(over):.2f} (median {np.median(over):.2f})" if over else "–")
    return f"| {' | '.join([*cells, first])} |"


def _ranking(truth: World, wanted: dict[str, np.ndarray], found: dict[str, list[Answer]]) -> str:
    """How often the truly best policy comes first where it leads by more than its half width."""
    true = {name: float((chances * truth.success).sum(axis=1).mean()) for name, chances in wanted.items()}
    first, cases = 0, 0
    for run in range(len(next(iter(found.values())))):
        quoted = {name: answers[run].quality for name, answers in found.items()}
        known = {n: e for n, e in quoted.items() if e is not None and e.quality is not None}
        if len(known) < 2:
            continue
        best = max(known, key=lambda n: true[n])
        ends = known[best].quality_ci
        assert ends is not None
        lead = true[best] - max(true[n] for n in known if n != best)
        if lead <= (ends[1] - ends[0]) / 2:
            continue
        cases += 1
        first += max(known, key=lambda n: known[n].quality or 0.0) == best
    print(f"best ranked first: {first} of {cases} runs where it leads by more than the half width")
    return f"{first:,} of {cases:,}"


def _refusals(found: dict[str, list[Answer]]) -> None:
    """Whether answers are given exactly where enough effective decisions are known, and why not elsewhere."""
    every = [a for answers in found.values() for a in answers]
    enough = [a.support.together >= MIN_ESS for a in every]
    given = [a.best is not None for a in every]
    weight = sum(e and not g for e, g in zip(enough, given, strict=True))
    print(
        f"answers {sum(given):,} of {len(every):,}; given below {MIN_ESS:.0f} effective decisions: "
        f"{sum(g and not e for e, g in zip(enough, given, strict=True))}; refused above: {weight}, "
        "for one decision's weight or chances that the log hasn't"
    )


def main() -> None:
    """Play every matrix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("matrix", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--pairs", type=float, default=0.02)
    parser.add_argument("--session", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lines = []
    for file in args.matrix:
        started, cpu = time.perf_counter(), time.process_time()
        truth = world(file)
        lines.append(table(truth, args, runs(truth, args)))
        print(f"{time.perf_counter() - started:.0f} s, {time.process_time() - cpu:.0f} s of CPU", flush=True)
    inside = f"within {HELD[0]:.0%} to {HELD[1]:.0%}"
    ends = (inside, "half-width, points", "RMSE of DR over IPS", "of what is quoted", "best ranked first")
    head = ("", *SUMMED, *ends)
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
