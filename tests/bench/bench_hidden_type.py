"""What a task type is worth that nobody tells: heads with the type known, inferred, and ignored.

    python tests/bench/bench_hidden_type.py MATRIX [--map ours=theirs] [--eight price|best] [--draws N]

The type is known in MATRIX and hidden from the rows that are scored. Out of fold by group, five outer folds,
everything else nested inside. Ways, each with table, trees and linear part unless it says otherwise:

    none                    type ignored, the table alone: what each model does on average
    hand-made, no types     type ignored, hand-made features straight into trees and linear part
    hand-made, inferred     a classifier of types over hand-made features alone
    full, no types          type ignored; with them tools' structure, the text's vector, hashed TF-IDF
    full, inferred          a classifier over all of these
    as shipped, inferred    the same without TF-IDF
    known                   the type told to table and learners

Printed: log-loss, and how much of the gap between "hand-made, no types" and "known" a way closes; success
when the likeliest model answers; and, where costs are known, the height of the curve of success over cost
above "none", and what is saved at -1 point of the best pin: the cheapest weight of cost that stayed within 1
point of it on the training folds, scored on the held-out one. Intervals 95 %, 2,000 paired draws over groups.

--eight: as in bench_heads.py. --draws N: N sets of eight priced models at random (linear part only, no
trees); over these the mean saving, and how often the targets of 60 % (known) and 40 % (hidden) are met.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from bench_heads import LAMBDAS, curve_of, difference, eight, matrix_of
from bench_tasktype import DRAWS, MARKS, STRUCTURE, hashed, prompts_of

from training.calibrate import log_loss
from training.evaluate.options import Options
from training.examples import Examples, Knobs, assign_folds
from training.fit import fit_success
from training.tasktype import with_types

if TYPE_CHECKING:
    from models.tasktype import TaskTypes
    from training.evaluate.matrix import Matrix

FOLDS = 5
TABLE = Knobs(trees=(), ridges=(), num_threads=1)
LINEAR = Knobs(trees=(), num_threads=1)
WHOLE = Knobs(num_threads=1)
HAND, KNOWN, NONE = "hand-made, no types", "known", "none"


class Way(NamedTuple):
    """A way to route: features (n, d) and their names, and what becomes of the type."""

    features: np.ndarray
    names: tuple[str, ...]
    how: str  # known | inferred | ignored


class Told(NamedTuple):
    """A classifier fitted on one fold's training tasks, and its posterior of them."""

    types: TaskTypes | None
    posterior: np.ndarray | None


class Played(NamedTuple):
    """P (n, m) without the task's group, and success and cost (n,) of the routes chosen in training."""

    p: np.ndarray
    success: np.ndarray
    cost: np.ndarray


def ways_of(matrix: Matrix, inputs: Any) -> dict[str, Way]:
    """The ways of the table above."""
    names, vector = inputs.names, inputs.vector
    hand = np.array([not name.startswith((*STRUCTURE, "emb_")) for name in names])
    by_hand = vector[:, hand], tuple(np.array(names)[hand])
    ways = {NONE: Way(*by_hand, "ignored"), HAND: Way(*by_hand, "ignored")}
    ways["hand-made, inferred"] = Way(*by_hand, "inferred")
    texts = prompts_of(matrix)
    if texts:
        block = hashed(texts, 256, MARKS).astype(np.float32)
        more = tuple(f"emb_t{i}" for i in range(256))
        full = np.concatenate([vector, block], axis=1), names + more
        ways |= {"full, no types": Way(*full, "ignored"), "full, inferred": Way(*full, "inferred")}
    ways["as shipped, inferred"] = Way(vector, names, "inferred")
    ways[KNOWN] = Way(vector, names, "known")
    return ways


def examples_of(matrix: Matrix, way: Way, rows: np.ndarray, models: tuple[str, ...]) -> Examples:
    """The tasks `rows` × `models` as examples, their types told unless the way ignores them."""
    m, columns = len(models), [matrix.models.index(name) for name in models]
    kind = matrix.category[rows] if way.how != "ignored" else np.full(len(rows), "")
    return Examples(
        features=np.repeat(way.features[rows].astype(np.float32), m, axis=0),
        candidate=np.tile(np.array(models), len(rows)),
        task_type=np.repeat(kind, m),
        success=matrix.success[rows][:, columns].ravel(),
        output_tokens=np.full(m * len(rows), np.nan),
        group=np.repeat(matrix.group[rows].astype(str), m),
        prices={name: matrix.prices[name] for name in models if name in matrix.prices},
    )


def told_of(matrix: Matrix, way: Way, fold: np.ndarray) -> list[Told]:
    """For each fold the classifier from the other folds, with its own out-of-fold posterior there."""
    if way.how != "inferred":
        return [Told(None, None)] * FOLDS
    found = []
    for f in range(FOLDS):
        one = examples_of(matrix, way, np.flatnonzero(fold != f), tuple(matrix.models[:1]))
        one = with_types(one, hide=True, names=way.names)
        found.append(Told(one.types, one.posterior))
    return found


def play(
    matrix: Matrix, way: Way, told: list[Told], models: tuple[str, ...], knobs: Knobs, fold: np.ndarray
) -> Played:
    """Fit on four folds, choose the weight of cost there, and play the fifth."""
    m, columns = len(models), [matrix.models.index(name) for name in models]
    success, cost = matrix.success[:, columns], costs_of(matrix)[:, columns]
    p, got, paid = np.empty(success.shape), np.empty(len(success)), np.empty(len(success))
    for f in range(FOLDS):
        rows, held = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        examples = examples_of(matrix, way, rows, models)
        posterior = told[f].posterior
        if posterior is not None:
            examples = examples._replace(types=told[f].types, posterior=np.repeat(posterior, m, axis=0))
        head = fit_success(examples, knobs)
        asked = examples_of(matrix, way, held, models)
        shown = asked.task_type if way.how == "known" else np.full(len(asked.group), "")
        p[held] = head.predict(asked.features, asked.candidate, shown).reshape(-1, m)
        mean = cost[rows].mean(axis=0)
        weight = chosen_weight(head.oof.reshape(-1, m), success[rows], cost[rows], mean)
        arm = np.argmax(p[held] - weight * mean / mean.mean(), axis=1)
        got[held], paid[held] = success[held, arm], cost[held, arm]
    return Played(p, got, paid)


def chosen_weight(p: np.ndarray, success: np.ndarray, cost: np.ndarray, mean: np.ndarray) -> float:
    """The weight of cost of least cost among those within a point of the best pin, on training folds."""
    if not np.isfinite(mean).all():
        return 0.0
    least, rows = success.mean(axis=0).max() - 0.01, np.arange(len(p))
    found = (np.inf, 0.0)
    for weight in LAMBDAS:
        arm = np.argmax(p - weight * mean / mean.mean(), axis=1)
        if success[rows, arm].mean() >= least:
            found = min(found, (float(cost[rows, arm].mean()), float(weight)))
    return found[1]


def costs_of(matrix: Matrix) -> np.ndarray:
    """Cost (n, m) in USD, an unknown one the model's mean; all NaN where a model has none."""
    return np.where(np.isfinite(matrix.cost), matrix.cost, np.nanmean(matrix.cost, axis=0))


def pins(matrix: Matrix, models: tuple[str, ...], fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Success and cost (n,) of the pin that is the best single model of the other folds."""
    columns = np.array([matrix.models.index(name) for name in models])
    success, cost = matrix.success[:, columns], costs_of(matrix)[:, columns]
    best = np.array([success[fold != f].mean(axis=0).argmax() for f in range(FOLDS)])[fold]
    rows = np.arange(len(fold))
    return success[rows, best], cost[rows, best]


class Draws:
    """Paired draws over groups."""

    def __init__(self, group: np.ndarray) -> None:
        self._where = np.unique(group, return_inverse=True)[1]
        size = np.bincount(self._where)
        rng = np.random.default_rng(0)
        self._weights = rng.multinomial(len(size), np.full(len(size), 1 / len(size)), DRAWS)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Sums (DRAWS + 1,) of values (n,), the first one undrawn."""
        total = np.bincount(self._where, weights=values)
        return np.concatenate([[total.sum()], self._weights @ total])

    def ratio(self, over: np.ndarray, under: np.ndarray) -> np.ndarray:
        """Ratio of two sums in every draw."""
        result: np.ndarray = self.means(over) / self.means(under)
        return result


def shown(draws: np.ndarray, form: str = "{:+.2f}") -> str:
    """The undrawn value and its 95 % interval."""
    low, high = np.quantile(draws[1:], [0.025, 0.975])
    return f"{form.format(draws[0])} ({form.format(low)} to {form.format(high)})"


def tell(
    matrix: Matrix,
    ways: dict[str, Way],
    told: dict[str, list[Told]],
    models: tuple[str, ...],
    fold: np.ndarray,
) -> None:
    """Play every way among these models and print the table."""
    columns = [matrix.models.index(name) for name in models]
    some = matrix._replace(
        models=list(models), success=matrix.success[:, columns], cost=matrix.cost[:, columns]
    )
    played = {
        name: play(matrix, way, told[name], models, TABLE if name == NONE else WHOLE, fold)
        for name, way in ways.items()
    }
    loss = {name: log_loss(found.p, some.success).mean(axis=1) for name, found in played.items()}
    draw, rows, one = Draws(matrix.group), np.arange(len(fold)), np.ones(len(fold))
    best, bill = pins(matrix, models, fold)
    mean = np.nanmean(some.cost, axis=0)
    curves = {}
    if np.isfinite(mean).all():
        expected = np.broadcast_to(mean, some.cost.shape)
        curves = {name: curve_of(found.p, expected, some) for name, found in played.items()}
    ends = float(np.min(mean)), float(mean[np.argmax(some.success.mean(axis=0))])
    print(f"{len(fold)} tasks × {len(models)} models, pin {best.mean():.4f}: {', '.join(models)}")
    for name, found in played.items():
        closed = draw.ratio(loss[HAND] - loss[name], loss[HAND] - loss[KNOWN])
        likeliest = some.success[rows, found.p.argmax(axis=1)]
        said = f"log-loss {loss[name].mean():.4f}, gap closed {shown(100 * closed, '{:.0f}')} %"
        said += f", likeliest {shown(100 * draw.ratio(likeliest - best, one))} points over the pin"
        if curves:
            up = [100 * v for v in difference(curves[name], curves[NONE], some, ends)]
            said += f", height over none {up[0]:+.2f} ({up[1]:+.2f} to {up[2]:+.2f})"
            saved = shown(100 * (1 - draw.ratio(found.cost, bill)), "{:.1f}")
            said += f", saved {saved} % at {shown(100 * draw.ratio(found.success - best, one))} points"
        print(f"  {name:22s} {said}", flush=True)


def at_random(
    matrix: Matrix, ways: dict[str, Way], told: dict[str, list[Told]], fold: np.ndarray, n: int
) -> None:
    """Print what is saved among eight models drawn at random, over n draws."""
    rng, saved, moved = np.random.default_rng(0), [], []
    closed = []
    for _ in range(n):
        models = tuple(sorted(rng.choice(matrix.models, 8, replace=False)))
        columns = [matrix.models.index(name) for name in models]
        best, bill = pins(matrix, models, fold)
        played = {
            name: play(matrix, way, told[name], models, TABLE if name == NONE else LINEAR, fold)
            for name, way in ways.items()
        }
        saved.append([1 - found.cost.sum() / bill.sum() for found in played.values()])
        moved.append([np.mean(found.success - best) for found in played.values()])
        loss = {k: log_loss(v.p, matrix.success[:, columns]).mean() for k, v in played.items()}
        closed.append([(loss[HAND] - v) / (loss[HAND] - loss[KNOWN]) for v in loss.values()])
        print(
            "  " + ", ".join(f"{s:.0%} at {100 * d:+.1f}" for s, d in zip(saved[-1], moved[-1], strict=True))
        )
    shares, points, gaps = np.array(saved), np.array(moved), np.array(closed)
    print(f"{n} sets of eight at random of {len(matrix.models)}:")
    for i, name in enumerate(ways):
        error = shares[:, i].std(ddof=1) / np.sqrt(n)
        print(
            f"  {name:22s} saved {shares[:, i].mean():.1%} ± {error:.1%} "
            f"(median {np.median(shares[:, i]):.0%}) at {100 * points[:, i].mean():+.2f} points; "
            f"≥ 60 % in {np.mean(shares[:, i] >= 0.6):.0%}, "
            f"≥ 40 % in {np.mean(shares[:, i] >= 0.4):.0%} of them; gap closed {gaps[:, i].mean():.0%}"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("matrix", type=Path)
    parser.add_argument("--map", dest="maps", action="append", default=[])
    parser.add_argument("--eight", choices=("price", "best"))
    parser.add_argument("--draws", type=int, default=0)
    asked = parser.parse_args()
    frame = pl.read_parquet(asked.matrix)
    if asked.eight or asked.draws:
        frame = frame.filter(pl.col("model").is_in(eight(frame, asked.eight or "all")))
    with TemporaryDirectory() as scratch:
        frame.write_parquet(Path(scratch) / "matrix.parquet")
        matrix, inputs = matrix_of(Path(scratch) / "matrix.parquet", Options(maps=tuple(asked.maps)))
    fold = assign_folds(matrix.group, FOLDS, 0)
    ways = ways_of(matrix, inputs)
    told = {name: told_of(matrix, way, fold) for name, way in ways.items()}
    if asked.draws:
        at_random(matrix, ways, told, fold, asked.draws)
    else:
        tell(matrix, ways, told, tuple(matrix.models), fold)


if __name__ == "__main__":
    main()
