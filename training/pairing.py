"""A newcomer's first outcomes held against what known models made of the same tasks: a control variate.

Its few tasks may have been easy or hard ones. Where known models answered them too, their luck there says so,
and taking it away is worth a third to a half more outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from training.examples import Coded

NEWCOMER_ROWS = 300  # labelled rows below which a candidate is one; known ones have as many or more
MIN_PAIRS = 30  # rows that a slope is estimated on
_MAX_EXPLAINED = 0.9  # of an outcome's variance; runs of one task differ whatever the others say


class Answers(NamedTuple):
    """Outcomes as codes, aligned (n,): who answered which task of which type, and with what success."""

    candidate: np.ndarray
    task: np.ndarray
    task_type: np.ndarray
    success: np.ndarray


class Pairing(NamedTuple):
    """What is taken off each outcome (n,), and the rows that it counts for (n,); 0 and 1 where nothing is."""

    shift: np.ndarray
    weight: np.ndarray


def newcomers_of(candidate: np.ndarray) -> np.ndarray:
    """Codes of the candidates with fewer than NEWCOMER_ROWS rows, where others have as many."""
    rows = np.bincount(candidate)
    few = (rows > 0) & (rows < NEWCOMER_ROWS)
    return np.flatnonzero(few) if (rows >= NEWCOMER_ROWS).any() else np.empty(0, np.int64)


def evened(rows: Coded, task: np.ndarray) -> Coded:
    """The rows with what pairing takes off the newcomers' outcomes; `task` (n,) str, "" unknown.

    Unchanged where no newcomer shares a task with a known candidate. The means that luck is measured from are
    of the known candidates over all folds; a newcomer's own outcomes never reach another fold by them.
    """
    newcomers = newcomers_of(rows.candidate)
    if not len(newcomers):
        return rows
    number = np.unique(task, return_inverse=True)[1]
    number = np.where(task != "", number, int(number.max()) + 1 + np.arange(len(task)))
    found = paired(Answers(rows.candidate, number, rows.task_type, rows.target), newcomers)
    return rows if (found.weight == 1.0).all() else rows._replace(shift=found.shift, weight=found.weight)


def paired(answers: Answers, newcomers: np.ndarray) -> Pairing:
    """Correct the newcomers' outcomes (codes) for how easy their tasks proved for the known models.

    success − slope · (mean over the known models on the task of their success − their mean over its type).
    The slope and what it explains (R²) come from the known models, each against the others, or where they
    share too few tasks from the newcomer's own pairs. An outcome counts for 1 / (1 − R²) rows.
    """
    known = ~np.isin(answers.candidate, newcomers)
    n_tasks = int(answers.task.max()) + 1 if len(answers.task) else 0
    luck = _luck(answers, known)
    sums = np.bincount(answers.task[known], weights=luck[known], minlength=n_tasks)
    count = np.bincount(answers.task[known], minlength=n_tasks)
    shift, weight = np.zeros(len(luck)), np.ones(len(luck))
    several = np.flatnonzero(known & (count[answers.task] > 1))
    others = (sums[answers.task] - luck)[several] / (count[answers.task][several] - 1)
    common = _slope(luck[several], others)
    for newcomer in newcomers:
        mine = np.flatnonzero((answers.candidate == newcomer) & (count[answers.task] > 0))
        ease = sums[answers.task[mine]] / count[answers.task[mine]]
        own = _luck(answers, answers.candidate == newcomer)[mine]
        found = common or _slope(own, ease)
        if found is not None:
            shift[mine], weight[mine] = found[0] * ease, found[1]
    return Pairing(shift, weight)


def _luck(answers: Answers, which: np.ndarray) -> np.ndarray:
    """Success (n,) less the candidate's mean over the type, of some rows; 0 elsewhere."""
    types = int(answers.task_type.max()) + 1 if len(answers.task_type) else 1
    cell = answers.candidate * types + answers.task_type
    size = int(cell.max()) + 1 if len(cell) else 0
    total = np.bincount(cell[which], weights=answers.success[which], minlength=size)
    rows = np.bincount(cell[which], minlength=size)
    return np.where(which, answers.success - (total / np.maximum(rows, 1))[cell], 0.0)


def _slope(luck: np.ndarray, ease: np.ndarray) -> tuple[float, float] | None:
    """Slope of luck on the others' luck, at least 0, and 1 / (1 − R²); None with fewer than MIN_PAIRS."""
    if len(luck) < MIN_PAIRS:
        return None
    slope = max(0.0, float(luck @ ease / max(float(ease @ ease), 1e-9)))
    left = float(np.sum((luck - slope * ease) ** 2)) / max(float(np.sum(luck**2)), 1e-9)
    left *= len(luck) / (len(luck) - 1)  # the slope itself was found on them
    return slope, 1.0 / max(min(left, 1.0), 1.0 - _MAX_EXPLAINED)
