"""Out-of-fold predictions of each router: for the rows it is scored on and those its knobs are chosen on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from training.evaluate import design
from training.evaluate.words import counted
from training.examples import Examples, Knobs, assign_folds
from training.fit import fit_success
from training.tasktype import with_types

if TYPE_CHECKING:
    from training.evaluate.inputs import Inputs
    from training.evaluate.matrix import Matrix
    from training.evaluate.options import Notes, Options

INNER_FOLDS = 4
TABLE_ONLY = 10**12  # rows below which the trees stay out: the task-type × model table alone
_FEW_CELLS = 30_000  # more (task, model) rows than this get fewer trees, so that minutes stay minutes

Grid = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Split(NamedTuple):
    """One fold: what is fitted on and what is scored, both (n,) bool."""

    train: np.ndarray
    test: np.ndarray


class FoldScores(NamedTuple):
    """Predicted success of one router in one fold, and the knob it chose on its training part."""

    train: np.ndarray  # (n_train, m), each row predicted without its group
    test: np.ndarray  # (n_test, m)
    knob: float | None = None


def splits(matrix: Matrix, options: Options, notes: Notes) -> list[Split]:
    """Split into grouped folds, or into the first and the second file where there are two."""
    part = matrix.tasks["part"].to_numpy()
    if part.any():
        test = part == 1
        seen = np.isin(matrix.group, matrix.group[test]) & ~test
        count = int(seen.sum())
        said = counted(count, "training task shares", "training tasks share")
        notes.add("shared_groups", count, f"{said} a group with a test task: not fitted on")
        if not (~test & ~seen).any():
            raise BadInput("every training task shares its group with a test task; choose another --group")
        return [Split(~test & ~seen, test)]
    groups = len(np.unique(matrix.group))
    if groups < 2:
        raise BadInput("all tasks are in one group, so nothing can be held out; choose another --group")
    few = f"only {counted(groups, 'group')}: intervals are rough, whatever the number of tasks"
    notes.add("few_groups", groups if groups < 10 else 0, few)
    fold = assign_folds(matrix.group, options.folds, options.seed)
    return [Split(fold != f, fold == f) for f in range(int(fold.max()) + 1)]


def fit_one(router: str, matrix: Matrix, inputs: Inputs, split: Split) -> FoldScores:
    """Predictions of one router ("table", "knn", "logistic" or "learned") in one fold."""
    if router == "knn":
        return chosen_by_grid(matrix, inputs, split, design.neighbours, tuple(map(float, design.KS)))
    if router == "logistic":
        return chosen_by_grid(matrix, inputs, split, design.logistic, design.CS)
    return learned(matrix, inputs, split, trees=router == "learned")


def learned(matrix: Matrix, inputs: Inputs, split: Split, trees: bool = True) -> FoldScores:
    """Fit the product's own head on the training part; its out-of-fold p of that part comes with it.

    Types that are told while fitting only teach the table and the classifier: every row is predicted, those
    of the training part too, as one that tells none.
    """
    rows, m = np.flatnonzero(split.train), len(matrix.models)
    examples = _examples(matrix, inputs, rows)
    if inputs.told is not None:
        told = np.repeat(inputs.told[rows], m)
        examples = with_types(examples._replace(task_type=told), hide=True, names=inputs.names)
    fitted = fit_success(examples, _knobs(len(rows) * m, trees))
    test = np.flatnonzero(split.test)
    held = _examples(matrix, inputs, test)
    p = fitted.predict(held.features, held.candidate, held.task_type)
    return FoldScores(fitted.oof.reshape(len(rows), m), p.reshape(len(test), m), fitted.metrics.get("trees"))


def _knobs(cells: int, trees: bool) -> Knobs:
    """Knobs by size, on one thread: folds run side by side instead."""
    if not trees:
        return Knobs(min_rows_for_trees=TABLE_ONLY, num_threads=1)
    if cells <= _FEW_CELLS:
        return Knobs(num_threads=1)
    return Knobs(num_threads=1, trees=(40, 80, 120), learning_rate=0.1)


def _examples(matrix: Matrix, inputs: Inputs, rows: np.ndarray) -> Examples:
    """Lay out the tasks `rows` × all models as aligned rows, task by task."""
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


def chosen_by_grid(
    matrix: Matrix, inputs: Inputs, split: Split, grid: Grid, knobs: tuple[float, ...]
) -> FoldScores:
    """Fit a plain learner with the knob of least squared error on inner folds of the training part."""
    n, m = matrix.success.shape
    inner = np.full((len(knobs), n, m), np.nan)
    for part in _inner(matrix, split):
        rows = np.flatnonzero(part.test)
        inner[:, rows] = grid(
            design.design(inputs.vector, matrix.category, part.train), matrix.success, part.train, rows
        )
    rows = np.flatnonzero(split.train)
    error = ((inner[:, rows] - matrix.success[rows]) ** 2).mean(axis=(1, 2))
    best = int(np.argmin(error))
    x = design.design(inputs.vector, matrix.category, split.train)
    p = grid(x, matrix.success, split.train, np.flatnonzero(split.test))[best]
    return FoldScores(inner[best, rows], p, knobs[best])


def _inner(matrix: Matrix, split: Split) -> Iterator[Split]:
    """Folds of the training part by group; rows one by one where it is a single group."""
    rows = np.flatnonzero(split.train)
    group = matrix.group[rows]
    group = group if len(np.unique(group)) > 1 else np.arange(len(rows))
    fold = assign_folds(group, INNER_FOLDS, seed=1)
    for f in range(int(fold.max()) + 1):
        train, test = np.zeros(len(split.train), bool), np.zeros(len(split.train), bool)
        train[rows[fold != f]] = True
        test[rows[fold == f]] = True
        yield Split(train, test)
