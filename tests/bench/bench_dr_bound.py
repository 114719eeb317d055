"""How far doubly robust can fall below IPS, whatever fits its model. `bench_dr_bound.py MATRIX...`.

The spread of DR's scores for a given model of rewards is a sum over tasks and arms, so no log is drawn. Four
models: each arm's mean; the table of kind x arm; trees on the kind and what is known of the task before an
answer, fitted out of fold on the outcomes of *all* arms (which no log has); and each task's own success. The
third is what a better learner could give, the last what an oracle would. Last, between the table and the
oracle: how much of a reward's variance (R2) a model had to foretell for DR to err half as much as IPS.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from bench_coverage import World, logger, read, targets, world

FOLDS = 5
HALF = 0.5  # of the error of IPS: what DR should reach
STRENGTH = 8.0  # as the table's of training/estimators/model.py
KNOWN = ("input_tokens", "n_tools")  # before an answer


def spread(truth: World, chances: np.ndarray, target: np.ndarray, model: np.ndarray) -> float:
    """Standard deviation of one decision's doubly robust score; with a model of zeros it is IPS's."""
    w = np.where(target > 0, target / chances, 0.0)
    said, p = (target * model).sum(axis=1)[:, None], truth.success
    good, bad = said + w * (1 - model), said - w * model
    mean = (chances * (p * good + (1 - p) * bad)).sum(axis=1).mean()
    return float(np.sqrt((chances * (p * good**2 + (1 - p) * bad**2)).sum(axis=1).mean() - mean**2))


def known_of(file: Path, truth: World) -> np.ndarray:
    """What is known of each task before an answer (t, d): kind, sizes, its prompt as the encoder has it."""
    from models.bundle import Bundle
    from models.prior import PRIOR

    frame = read(file)
    wide = frame.group_by("task_id", "model").agg(pl.col("success").mean())
    table = (
        wide.pivot("model", index="task_id", values="success").sort("task_id").drop_nulls(list(truth.arms))
    )
    columns = [truth.kind.astype(float)]
    for name in (*KNOWN, "prompt"):
        if name not in frame.columns:
            continue
        of_task = frame.group_by("task_id").agg(pl.col(name).drop_nulls().first())
        column = table.select("task_id").join(of_task, on="task_id", how="left", maintain_order="left")[name]
        if name != "prompt":
            columns.append(column.cast(pl.Float64).to_numpy())
            continue
        encoder = Bundle.load(PRIOR).encoder
        assert encoder is not None
        texts = column.fill_null("").to_list()
        columns += [
            np.array([float(len(t)) for t in texts]),
            *np.stack([encoder.encode(t[:4000]) for t in texts]).T,
        ]
    return np.column_stack(columns)


def learned(truth: World, known: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Success of each arm (t, k), by trees that saw the other folds' outcomes of that arm."""
    import lightgbm

    knobs = {"objective": "regression", "num_leaves": 7, "learning_rate": 0.05, "min_data_in_leaf": 20}
    knobs |= {"feature_fraction": 0.5, "num_threads": 1, "verbose": -1, "seed": 1}
    found = np.zeros_like(truth.success)
    for arm in range(found.shape[1]):
        for held in range(FOLDS):
            data = lightgbm.Dataset(
                known[fold != held], truth.success[fold != held, arm], categorical_feature=[0]
            )
            found[fold == held, arm] = lightgbm.train(knobs, data, 80).predict(known[fold == held])
    return found


def tabled(truth: World, fold: np.ndarray) -> np.ndarray:
    """The shrunken table of kind x arm (t, k), out of fold."""
    found = np.zeros_like(truth.success)
    for held in range(FOLDS):
        seen = fold != held
        for kind in np.unique(truth.kind):
            mine = seen & (truth.kind == kind)
            total = truth.success[mine].sum(axis=0) + STRENGTH * truth.success[seen].mean(axis=0)
            found[(fold == held) & (truth.kind == kind)] = total / (mine.sum() + STRENGTH)
    return found


def ratios(truth: World, chances: np.ndarray, wanted: dict[str, np.ndarray], model: np.ndarray) -> np.ndarray:
    """Spread of DR with a model over that of IPS, by target."""
    none = np.zeros_like(model)
    return np.array(
        [spread(truth, chances, t, model) / spread(truth, chances, t, none) for t in wanted.values()]
    )


def r2(truth: World, model: np.ndarray) -> float:
    """Share of the variance between tasks, within an arm, that a model foretells."""
    return float(1 - np.mean((truth.success - model) ** 2) / truth.success.var(axis=0).mean())


def for_half(
    truth: World, chances: np.ndarray, wanted: dict[str, np.ndarray], models: dict[str, np.ndarray]
) -> np.ndarray:
    """The model (t, k) nearest to the table, on the way to the oracle, with which DR errs HALF of IPS."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        model = (1 - middle) * models["table"] + middle * truth.success
        enough = np.median(ratios(truth, chances, wanted, model)) <= HALF
        low, high = (low, middle) if enough else (middle, high)
    found: np.ndarray = (1 - high) * models["table"] + high * truth.success
    return found


def main() -> None:
    """Print R2 and the ratio of spreads of every model, for every matrix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("matrix", nargs="+", type=Path)
    parser.add_argument("--epsilon", type=float, default=0.1)
    args = parser.parse_args()
    print(f"{'':22} {'R2':>7}   spread of DR over IPS: median, least and most of the targets")
    for file in args.matrix:
        truth = world(file)
        fold = np.random.default_rng(0).integers(0, FOLDS, len(truth.kind))
        models = {
            "arm's mean": np.tile(truth.success.mean(axis=0), (len(truth.kind), 1)),
            "table": tabled(truth, fold),
            "trees": learned(truth, known_of(file, truth), fold),
            "the task's own": truth.success,
        }
        chances, wanted = logger(truth, args.epsilon), targets(truth)
        coin = float((truth.success * (1 - truth.success)).mean())
        print(
            f"{truth.name}: {len(truth.kind)} tasks; a reward's variance of {coin:.3f} is the outcome's own"
        )
        for name, model in models.items():
            over = ratios(truth, chances, wanted, model)
            print(f"  {name:20} {r2(truth, model):7.3f}   ", end="")
            print(f"{np.median(over):.2f}, {over.min():.2f} to {over.max():.2f}")
        enough = np.median(ratios(truth, chances, wanted, models["table"])) <= HALF
        needed = "no more" if enough else f"{r2(truth, for_half(truth, chances, wanted, models)):7.3f}"
        print(f"  {'half of IPS takes':20} {needed:>7}")


if __name__ == "__main__":
    main()
