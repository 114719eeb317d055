"""Wall time of fitting the heads beside LightGBM's own training on the prepared matrix, in one run.

    python tests/bench/bench_train.py [ROWS [THREADS [SHARED]]]

LightGBM's own: binning the matrix that the trees see and growing all rows once, with the fit's own
parameters and its largest number of trees (`lightgbm.Dataset` + `lightgbm.train`). The fit: choosing the
table's strength, folding, choosing trees, ridge and blend, calibrating, and the final fit. Rows are made
up: as many features as a request has with a 128-dimensional embedding, twelve candidates, successes and
tokens that follow some of it. With SHARED above 1 every task runs on that many candidates, else on one.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import lightgbm
import numpy as np
from msgspec.structs import replace

from features.vector import feature_names
from models.table import TREE_COLUMNS
from training.examples import DEFAULT_KNOBS, Examples, Knobs, code_rows, names_of
from training.fit import fit_success, fit_tokens
from training.residual import learner_matrix, types_of
from training.trees import TreeLearner

CANDIDATES, TYPES = 12, 8
DIM = 128


def made_up(n: int, shared: int, seed: int = 0) -> Examples:
    """Rows of many scales and gaps, as a log has them."""
    rng = np.random.default_rng(seed)
    width = len(feature_names(DIM))
    tasks = rng.normal(size=(n // shared, width)).astype(np.float32)
    tasks[:, :40] = np.round(np.exp(tasks[:, :40]))
    tasks[:, 40:80][rng.random((len(tasks), 40)) < 0.3] = np.nan
    features = np.repeat(tasks, shared, axis=0)
    rows = len(features)
    candidate = rng.integers(0, CANDIDATES, rows)
    kind = np.repeat(rng.integers(0, TYPES, len(tasks)), shared)
    x = np.nan_to_num(features)
    logit = 0.2 * (candidate - 6) + 0.3 * (kind - 4) + 0.6 * x[:, 90] * x[:, 91] + 0.4 * x[:, 100]
    return Examples(
        features=features,
        candidate=np.char.add("c", candidate.astype(str)),
        task_type=np.char.add("t", kind.astype(str)),
        success=(rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float),
        output_tokens=np.round(np.exp(5 + 0.5 * x[:, 92] + 0.1 * candidate + 0.5 * rng.normal(size=rows))),
        group=np.repeat(rng.integers(0, max(len(tasks) // 20, 5), len(tasks)), shared).astype(str),
        prices={f"c{i}": (0.1 * (i + 1), 0.5 * (i + 1)) for i in range(CANDIDATES)},
    )


class Clock:
    """Wall and CPU seconds since it was made; CPU is what counts on a busy machine, with one thread."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> np.ndarray:
        """Both, (2,)."""
        return np.array([time.perf_counter() - self.wall, time.process_time() - self.cpu])


def alone(examples: Examples, target: np.ndarray, objective: str, knobs: Knobs) -> np.ndarray:
    """Seconds that LightGBM takes for its bins and for growing all trees once, wall and CPU (2,)."""
    names = names_of(examples.candidate), types_of(examples)
    known = np.arange(len(target))
    rows = code_rows(examples, target, known, names, knobs)
    pairs = examples.candidate, examples.task_type
    matrix = learner_matrix(examples.features, pairs, names, examples.prices)
    link: Any = "logit" if objective == "cross_entropy" else "identity"
    params = TreeLearner(matrix[:1000], rows._replace(target=target[:1000]), link, knobs).params
    params["num_threads"] = knobs.num_threads
    at = matrix.shape[1] - TREE_COLUMNS
    clock = Clock()
    kinds = [at, at + 3]
    data = lightgbm.Dataset(matrix, label=target, categorical_feature=kinds, params=params).construct()
    lightgbm.train(params, data, num_boost_round=knobs.trees[-1])
    return clock.read()


def main() -> None:
    """Measure both and print a line for each head."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    knobs = replace(DEFAULT_KNOBS, num_threads=int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    examples = made_up(n, int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    print(
        f"{len(examples.success)} rows × {examples.features.shape[1]} features, {knobs.num_threads} threads"
    )
    heads = (
        ("success", examples.success, "cross_entropy", fit_success),
        ("output tokens", np.log1p(examples.output_tokens), "regression", fit_tokens),
    )
    for name, target, objective, fit in heads:
        trees = alone(examples, target, objective, knobs)
        clock = Clock()
        head: Any = fit(examples, knobs)
        whole = clock.read()
        said = ", ".join(f"{k} {head.metrics[k]:g}" for k in ("trees", "tree_weight", "linear"))
        print(
            f"{name}: LightGBM alone {trees[0]:.1f} s ({trees[1]:.1f} s CPU), whole fit {whole[0]:.1f} s "
            f"({whole[1]:.1f} s CPU) = {whole[0] / trees[0]:.2f} × ({whole[1] / trees[1]:.2f} × CPU); {said}",
            flush=True,
        )


if __name__ == "__main__":
    main()
