"""What the learners add to the table on outcome matrices, at every cost, and what any such policy could get.

    python tests/bench/bench_heads.py MATRIX.parquet [--eight price|best] [--without MODEL]... [--seeds N]

Out of fold by group, five outer folds: the heads are fitted inside four with their own nested validation
and score the fifth. A policy answers by p − λ · expected cost (by task type, from the training folds) for
each λ of a fixed grid; nothing is chosen on scored rows. Printed: log-loss, ECE and the error of the
advantage over the task mean; how much higher each curve lies than the table's between the cheapest and the
best pin, paired, with its 95 % interval from 2,000 draws over groups; the cheapest λ point within one point
of the best pin, which is hindsight for both; and the hindsight limits of a policy that knows task type, and
type and a prompt-length bin.

--eight price: the eight prompt-mode settings nearest to eight even steps of log price from cheapest to
dearest; best: the eight with the most successes. Both without function-calling modes (-FC, -Any, -Auto) and
without the two runs whose answers could not be decoded.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from models.descriptors import log_blended
from training.calibrate import log_loss
from training.evaluate.inputs import inputs_of
from training.evaluate.load import foldable, load
from training.evaluate.matrix import Matrix, build
from training.evaluate.options import Notes, Options
from training.examples import Examples, Knobs, assign_folds
from training.fit import fit_success
from training.metrics import calibration_error

LAMBDAS = np.concatenate([[0.0], 10.0 ** np.arange(-3.0, 3.01, 0.125)])
MODES = ("-FC", "-Any", "-Auto")
BROKEN = ("gpt-4o-2024-08-06", "mistral-large-2407")
DRAWS = 2000


class Curve(NamedTuple):
    """Success and cost (λ, n) of a policy's choice for each λ and task."""

    quality: np.ndarray
    cost: np.ndarray


def eight(frame: pl.DataFrame, rule: str) -> list[str]:
    """Eight models by a rule; "all" that a rule may choose from."""
    prices = frame.group_by("model").agg(pl.col("price_in", "price_out").first(), pl.col("success").mean())
    rows = {
        m: (log_blended((i, o)), s)
        for m, i, o, s in prices.iter_rows()
        if not m.endswith(MODES) and m not in BROKEN and i and frame.filter(model=m)["cost_usd"].count()
    }
    if rule == "all":
        return sorted(rows)
    if rule == "best":
        return sorted(rows, key=lambda m: (-rows[m][1], m))[:8]
    steps = np.linspace(min(p for p, _ in rows.values()), max(p for p, _ in rows.values()), 8)
    taken: list[str] = []
    for step in steps:
        taken.append(min(rows.keys() - set(taken), key=lambda m: (abs(rows[m][0] - step), m)))
    return taken


def matrix_of(path: Path, options: Options) -> tuple[Matrix, Any]:
    """Matrix and features of an outcome file, as `samediff evaluate` makes them."""
    notes = Notes()
    rows, _, group = load(path, options, notes)
    matrix, _ = foldable(build(rows, group, (), notes), group, options, notes)
    return matrix, inputs_of(matrix, options, notes)


def examples_of(matrix: Matrix, inputs: Any, rows: np.ndarray) -> Examples:
    """The tasks `rows` × all models as examples."""
    m = len(matrix.models)
    return Examples(
        features=np.repeat(inputs.vector[rows], m, axis=0),
        candidate=np.tile(np.array(matrix.models), len(rows)),
        task_type=np.repeat(matrix.category[rows], m),
        success=matrix.success[rows].ravel(),
        output_tokens=matrix.output_tokens[rows].ravel(),
        group=np.repeat(matrix.group[rows].astype(str), m),
        prices=matrix.prices,
    )


def out_of_fold(matrix: Matrix, inputs: Any, knobs: Knobs) -> tuple[np.ndarray, list[dict[str, float]]]:
    """P (n, m) from heads that never saw the task's group, and the metrics of each fit."""
    n, m = matrix.success.shape
    p, metrics = np.empty((n, m)), []
    fold = assign_folds(matrix.group, 5, knobs.seed)
    for f in range(5):
        head = fit_success(examples_of(matrix, inputs, np.flatnonzero(fold != f)), knobs)
        held = examples_of(matrix, inputs, np.flatnonzero(fold == f))
        p[fold == f] = head.predict(held.features, held.candidate, held.task_type).reshape(-1, m)
        metrics.append(head.metrics)
    return p, metrics


def expected_cost(matrix: Matrix, seed: int) -> np.ndarray:
    """Mean cost (n, m) by task type from the other folds, drawn to the model's mean."""
    fold = assign_folds(matrix.group, 5, seed)
    expected = np.empty(matrix.cost.shape)
    for f in range(5):
        mean = np.nanmean(matrix.cost[fold != f], axis=0)
        for kind in np.unique(matrix.category):
            inside = matrix.cost[(fold != f) & (matrix.category == kind)]
            count = np.isfinite(inside).sum(axis=0)
            by_kind = (np.nansum(inside, axis=0) + 10 * mean) / (count + 10)
            expected[(fold == f) & (matrix.category == kind)] = by_kind
    return expected


def curve_of(p: np.ndarray, expected: np.ndarray, matrix: Matrix) -> Curve:
    """Play p − λ · cost on every task for every λ; an unknown cost counts as the expected one."""
    rows = np.arange(len(p))
    cost = np.where(np.isfinite(matrix.cost), matrix.cost, expected)
    chosen = [np.argmax(p - w * expected / expected.mean(), axis=1) for w in LAMBDAS]
    return Curve(
        np.stack([matrix.success[rows, c] for c in chosen]), np.stack([cost[rows, c] for c in chosen])
    )


def height(quality: np.ndarray, cost: np.ndarray, ends: tuple[float, float]) -> float:
    """Mean success over cost between two costs, of the points (λ,) of a curve."""
    order = np.argsort(cost, kind="stable")
    return float(np.interp(np.linspace(*ends, 101), cost[order], quality[order]).mean())


def difference(one: Curve, other: Curve, matrix: Matrix, ends: tuple[float, float]) -> tuple[float, ...]:
    """How much higher one curve lies, with its 95 % interval over groups."""
    where = np.unique(matrix.group, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    sums = [np.stack([np.bincount(where, weights=row) for row in part]) for part in (*one, *other)]
    size = np.bincount(where)

    def gap(weights: np.ndarray) -> float:
        q1, c1, q2, c2 = (part @ weights / (size @ weights) for part in sums)
        return height(q1, c1, ends) - height(q2, c2, ends)

    groups = len(size)
    draws = [gap(np.bincount(rng.integers(0, groups, groups), minlength=groups)) for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return gap(np.ones(groups)), float(low), float(high)


def limits(matrix: Matrix, inputs: Any) -> str:
    """Success of the best model of each cell in hindsight, and what of it shuffled lengths give by chance."""
    names = list(inputs.names)
    known = "context_tokens_est" in names
    tokens = inputs.vector[:, names.index("context_tokens_est") if known else 0]
    kind = np.unique(matrix.category, return_inverse=True)[1]

    def best(cell: np.ndarray) -> float:
        return float(sum(matrix.success[cell == c].sum(axis=0).max() for c in np.unique(cell)) / len(kind))

    said = f"type {best(kind):.4f}"
    for bins in (2, 4, 8) if known else ():
        cell, rng = kind * bins, np.random.default_rng(0)
        for k in np.unique(kind):
            inside = tokens[kind == k]
            cell[kind == k] += np.searchsorted(np.quantile(inside, np.linspace(0, 1, bins + 1)[1:-1]), inside)
        chance = []
        for _ in range(10):
            shuffled = cell.copy()
            for k in np.unique(kind):
                shuffled[kind == k] = rng.permutation(shuffled[kind == k])
            chance.append(best(shuffled))
        said += f" · {bins} length bins each {best(cell):.4f} (by chance {np.mean(chance):.4f})"
    single, oracle = matrix.success.mean(axis=0).max(), matrix.success.max(axis=1).mean()
    by_type, by_task = saved_in_hindsight(matrix, kind), saved_in_hindsight(matrix, np.arange(len(kind)))
    saved = f"type {by_type:.1%}, task {by_task:.1%}"
    return f"{said} · single {single:.4f} · oracle {oracle:.4f}; saved at −1 point by {saved}"


def saved_in_hindsight(matrix: Matrix, cell: np.ndarray) -> float:
    """Largest share of the best pin's cost saved at −1 point by one model per cell (n,), in hindsight."""
    cost = np.where(np.isfinite(matrix.cost), matrix.cost, np.nanmean(matrix.cost, axis=0))
    where = np.unique(cell, return_inverse=True)[1]
    good, paid = np.zeros((2, int(where.max()) + 1, len(matrix.models)))
    np.add.at(good, where, matrix.success)
    np.add.at(paid, where, cost)
    pin = int(np.argmax(matrix.success.mean(axis=0)))
    rows, least = np.arange(len(good)), float(paid[:, pin].sum())
    for weight in np.concatenate([[0.0], 10.0 ** np.linspace(-4, 5, 2000)]):
        chosen = np.argmax(good - weight * paid, axis=1)
        if good[rows, chosen].sum() >= good[:, pin].sum() - 0.01 * len(cell):
            least = min(least, float(paid[rows, chosen].sum()))
    return 1 - least / float(paid[:, pin].sum())


def show(name: str, p: np.ndarray, curve: Curve, matrix: Matrix) -> str:
    """One line on a head: probability scores, most success, and the cheapest point at −1 point."""
    y, pin = matrix.success, int(np.argmax(matrix.success.mean(axis=0)))
    centred = (y - y.mean(axis=1, keepdims=True)) - (p - p.mean(axis=1, keepdims=True))
    quality, cost = curve.quality.mean(axis=1), curve.cost.mean(axis=1)
    near = quality >= y[:, pin].mean() - 0.01
    saved = 1 - cost[near].min() / np.nanmean(matrix.cost[:, pin]) if near.any() else float("nan")
    return (
        f"{name}: log-loss {log_loss(p, y).mean():.4f}, ECE {calibration_error(y.ravel(), p.ravel()):.4f}, "
        f"advantage {np.mean(centred**2):.5f}, λ=0 {quality[0]:.4f}, best λ {quality.max():.4f}, "
        f"saved at −1 point {saved:.1%}"
    )


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("matrix", type=Path)
    parser.add_argument("--eight", choices=("price", "best"))
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    frame = pl.read_parquet(asked.matrix).filter(~pl.col("model").is_in(asked.without))
    if asked.eight:
        models = eight(frame, asked.eight)
        print("models:", ", ".join(models))
        frame = frame.filter(pl.col("model").is_in(models))
    with TemporaryDirectory() as scratch:
        frame.write_parquet(Path(scratch) / "matrix.parquet")
        matrix, inputs = matrix_of(Path(scratch) / "matrix.parquet", Options())
    means = np.nanmean(matrix.cost, axis=0)
    ends = float(means.min()), float(means[np.argmax(matrix.success.mean(axis=0))])
    n, m = matrix.success.shape
    print(f"{n} tasks × {m} models; in hindsight: {limits(matrix, inputs)}")
    variants: dict[str, dict[str, Any]] = {
        "table": {"trees": (), "ridges": ()},
        "linear": {"trees": ()},
        "trees": {"ridges": ()},
        "blend": {},
    }
    for seed in range(asked.seeds):
        expected, curves = expected_cost(matrix, seed), {}
        for name, knobs in variants.items():
            known = Knobs(num_threads=1, seed=seed, **knobs)
            p, metrics = out_of_fold(matrix, inputs, known)
            curves[name] = curve_of(p, expected, matrix)
            print(show(name, p, curves[name], matrix))
            if name != "table":
                gap, low, high = difference(curves[name], curves["table"], matrix, ends)
                chosen = [
                    f"{m['trees']:g} trees × {m.get('tree_weight', 0):g} + linear × {m['linear']:g}"
                    + (" (advantage)" if m["trees"] and m["advantage"] else "")
                    for m in metrics
                ]
                print(
                    f"  above the table {gap:+.4f} ({low:+.4f} to {high:+.4f}); chosen: {'; '.join(chosen)}"
                )


if __name__ == "__main__":
    main()
