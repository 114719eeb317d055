"""The recipe every head shares: the table out of fold, then trees and a linear part on what it leaves.

Learners start from the table's out-of-fold value and are scored on groups that neither they nor that value
have seen; the blend decides what they count for, and nothing is the default. Few rows are folded as the table
is, many in two halves: there halves teach nearly as much, and a fold costs a whole training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from models.table import TREE_COLUMNS, Table, extra_columns, model_matrix
from training.blend import Blend, blend, judged, loss
from training.examples import Coded, Examples, Knobs, code_rows, names_of
from training.linear import LinearLearner, ridges
from training.pairing import evened
from training.shrink import Link, fit_table, out_of_fold
from training.trees import TreeLearner, task_intercepts, tasks_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import lightgbm as lgb

    from models.descriptors import Prices
    from models.linear import LinearPart

_SHARED_TASKS = 0.1  # share of rows whose task has others, below which advantage and residual are one


class Learned(NamedTuple):
    """What is added to the table on the link scale; trees and linear part as far as they beat it."""

    booster: lgb.Booster | None = None
    tree_weight: float = 0.0
    linear: LinearPart | None = None  # with its weight in it
    types_known: bool = False  # whether the trees never met a row of unknown task type


class Fitted(NamedTuple):
    """What the common recipe hands to a head; arrays are (n,) over all rows, NaN where there is no target."""

    table: Table
    learned: Learned
    fold: np.ndarray
    oof: np.ndarray  # on the link scale, table + learners
    oof_table: np.ndarray
    metrics: dict[str, float]


class _Started(NamedTuple):
    """Rows of one head and the table that its learners start from."""

    rows: Coded
    link: Link
    knobs: Knobs
    strength: float
    table_oof: np.ndarray


def fit_recipe(
    examples: Examples, target: np.ndarray, link: Link, knobs: Knobs, learners: bool = True
) -> Fitted:
    """Choose the table's strength, then the blend, each out of fold; then fit all rows."""
    known = np.flatnonzero(np.isfinite(target))
    candidates, task_types = names_of(examples.candidate), types_of(examples)
    rows = code_rows(examples, target, known, (candidates, task_types), knobs)
    if link == "logit" and examples.task is not None:
        rows = evened(rows, examples.task[known])
    n_folds = int(rows.fold.max()) + 1
    strength, table_oof = _choose_strength(rows, link, n_folds, knobs)
    oof, learned = table_oof, Learned()
    metrics = {"rows": float(len(known)), "strength": strength, "trees": 0.0, "linear": 0.0}
    if learners and n_folds > 1 and len(known) >= knobs.min_rows_for_trees:
        started = _Started(rows, link, knobs, strength, table_oof)
        # Threads of a small matrix product wait longer than they work, and spin beside LightGBM's own.
        with threadpool_limits(limits=1, user_api="blas"):
            learned, oof, said = _learn(examples.some(known), (candidates, task_types), started)
        metrics |= said
    table = fit_table(rows, link, strength, candidates, task_types)
    metrics["paired_rows"] = 0.0 if rows.weight is None else float((rows.weight > 1.0).sum())
    metrics |= {"folds": float(n_folds), "loss_table": float(np.mean(loss(table_oof, rows.target, link)))}
    metrics["loss"] = float(np.mean(loss(oof, rows.target, link)))
    full = np.full((3, len(target)), np.nan)
    full[:, known] = rows.fold, oof, table_oof
    return Fitted(table, learned, full[0], full[1], full[2], metrics)


def types_of(examples: Examples) -> tuple[str, ...]:
    """Task types of the examples; a type's index is its place here."""
    return tuple(t for t in names_of(examples.task_type) if t)


def learner_matrix(
    features: np.ndarray,
    pairs: tuple[Iterable[str], Iterable[str]],
    names: tuple[tuple[str, ...], tuple[str, ...]],
    prices: dict[str, Prices],
) -> np.ndarray:
    """Build what the learners see, (n, d + TREE_COLUMNS) float32, of n (candidate, task type) `pairs`.

    `names` are candidates and task types in the order of their index.
    """
    index, types = ({name: i for i, name in enumerate(each)} for each in names)
    extra = extra_columns(*pairs, index, types, prices)
    return model_matrix(features, extra[:, :TREE_COLUMNS])


def _learn(
    examples: Examples, names: tuple[tuple[str, ...], tuple[str, ...]], at: _Started
) -> tuple[Learned, np.ndarray, dict[str, float]]:
    """Learners, out-of-fold values (n,) and metrics; nothing and the table's where they don't beat it."""
    rows, knobs = at.rows, at.knobs
    # Many rows: every second fold together, so that two trainings make all values out of fold.
    fold = rows.fold % 2 if len(rows.target) > knobs.many_rows else rows.fold
    shown = examples.shown_types
    matrix = learner_matrix(examples.features, (examples.candidate, shown), names, examples.prices)
    task = _tasks(examples, at)
    linear = None
    if knobs.ridges and examples.features.shape[1]:
        linear = LinearLearner(matrix[:, :-TREE_COLUMNS], rows, fold, at.link, knobs)
        linear.prepare(at.table_oof)
    trees = TreeLearner(matrix, rows, at.link, knobs) if knobs.trees else None
    curves, lines = _contributions((trees, linear), fold, task, at)
    found = blend(at.table_oof, (curves, lines), rows, at.link, knobs)
    groups = np.unique(examples.group, return_inverse=True)[1]
    found = judged(found, at.table_oof, rows, at.link, groups)
    metrics = {"gain": found.gain, "gain_error": found.gain_error}
    if found.gain <= max(knobs.min_gain_se * found.gain_error, 0.0):
        return Learned(), at.table_oof, metrics
    learned = _refit((trees, linear), found, task, at)
    metrics |= {"trees": float(learned.booster.num_trees() if learned.booster else 0)}
    metrics |= {"tree_weight": learned.tree_weight, "linear": found.choice.linear_weight}
    metrics["advantage"] = float(task is not None and found.choice.trees < len(knobs.trees))
    types_known = learned.booster is not None and bool((shown != "").all())
    return learned._replace(types_known=types_known), found.oof, metrics


def _tasks(examples: Examples, at: _Started) -> np.ndarray | None:
    """Task of each row (n,) where tasks ran on several candidates; else None: advantage is the residual."""
    if at.link == "identity" or "advantage" not in at.knobs.targets:
        return None
    task = tasks_of(examples.features, examples.group)
    return task if (np.bincount(task)[task] > 1).mean() >= _SHARED_TASKS else None


def _targets(task: np.ndarray | None, at: _Started) -> list[str]:
    """Targets to try, in the order of their curves; many rows try one only."""
    if task is None:
        return ["residual"]
    tried = list(at.knobs.targets)
    return tried[:1] if len(task) > at.knobs.many_rows else tried


def _contributions(
    learners: tuple[TreeLearner | None, LinearLearner | None],
    fold: np.ndarray,
    task: np.ndarray | None,
    at: _Started,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What each setting of trees and linear part adds to each row (n,), from learners blind to its group."""
    trees, linear = learners
    n, targets = len(fold), _targets(task, at)
    tried = ridges(at.knobs)
    curves = [np.zeros(n) for _ in range(len(targets) * len(at.knobs.trees))] if trees else []
    lines = [np.zeros(n) for _ in tried] if linear else []
    for f in range(int(fold.max()) + 1):
        inside = fold != f
        offset, outside = _without(at, ~inside), np.flatnonzero(~inside)
        beside = offset.copy()
        if linear is not None:
            for line, weights in zip(lines, linear.solve(inside, offset, tried), strict=True):
                line[outside] = linear.values(weights, outside)
            tried_lines = [np.zeros(len(outside)), *(line[outside] for line in lines)]
            scores = [loss(offset[outside] + f, at.rows.target[outside], at.link).sum() for f in tried_lines]
            beside[outside] += tried_lines[int(np.argmin(scores))]
        if trees is not None:
            inits = [_init(offset, task, name, at, inside) for name in targets]
            grown = np.concatenate(trees.curves(inside, inits, beside))
            for curve, values in zip(curves, grown, strict=True):
                curve[outside] = values
    return curves, lines


def _init(
    offset: np.ndarray, task: np.ndarray | None, target: str, at: _Started, inside: np.ndarray
) -> np.ndarray:
    """Starting values (n,) of the trees for one target; only those of the rows `inside` mean anything."""
    if target == "residual" or task is None:
        return offset
    init = offset.copy()
    inner = np.unique(task[inside], return_inverse=True)[1]
    init[inside] += task_intercepts(offset[inside], at.rows.target[inside], inner)
    return init


def _refit(
    learners: tuple[TreeLearner | None, LinearLearner | None],
    found: Blend,
    task: np.ndarray | None,
    at: _Started,
) -> Learned:
    """Fit what the blend chose on all rows."""
    choice, everything = found.choice, np.ones(len(at.table_oof), dtype=bool)
    booster, part = None, None
    trees, linear = learners
    if trees is not None and choice.tree_weight:
        target, number = divmod(choice.trees, len(at.knobs.trees))
        init = _init(at.table_oof, task, _targets(task, at)[target], at, everything)
        booster = trees.train(np.flatnonzero(everything), init, at.knobs.trees[number])
    if linear is not None and choice.linear_weight:
        (weights,) = linear.solve(everything, at.table_oof, [ridges(at.knobs)[choice.linear]])
        part = linear.part(weights).scaled(choice.linear_weight)
    return Learned(booster, choice.tree_weight if booster else 0.0, part)


def _choose_strength(rows: Coded, link: Link, n_folds: int, knobs: Knobs) -> tuple[float, np.ndarray]:
    """Find the strength of least out-of-fold loss and its values (n,); a lone group gets the middle one."""
    if n_folds == 1:
        middle = sorted(knobs.strengths)[len(knobs.strengths) // 2]
        spread = rows._replace(fold=np.arange(len(rows.target)) % 2)
        return middle, out_of_fold(spread, link, middle) if len(rows.target) > 1 else np.zeros(1)
    tried = [(s, out_of_fold(rows, link, s)) for s in knobs.strengths]
    return min(tried, key=lambda pair: float(np.mean(loss(pair[1], rows.target, link))))


def _without(at: _Started, outside: np.ndarray) -> np.ndarray:
    """Table value (n,) of each row, the rows `outside` (n,) bool taking part in none of them.

    Inside, the table is out of fold once more, and never knows what is held out.
    """
    fold = at.rows.fold
    rest = np.unique(fold[~outside])
    if len(rest) == 1:  # inside one fold there is nothing to fold but its rows
        inner, last = np.arange(len(fold)) % 2, 2
    else:
        inner, last = np.searchsorted(rest, fold), len(rest)
    rows = at.rows._replace(fold=np.where(outside, last, inner))
    return out_of_fold(rows, at.link, at.strength, without=last)
