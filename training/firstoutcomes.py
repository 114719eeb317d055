"""A new model's first outcomes: which to ask for, and how to read them beside those of known models."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from training.calibrate import sigmoid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.descriptors import Descriptor
    from models.table import Table

_MAX_EXPLAINED = 0.9  # of an outcome's variance; runs of one task differ whatever the others say


class Ask(NamedTuple):
    """What is believed of a new model before its outcomes, by task type: covariance (T, T), the rest (T,)."""

    covariance: np.ndarray  # of the types' values, link scale
    p: np.ndarray  # expected success
    share: np.ndarray  # how often a type is asked for
    available: np.ndarray  # outcomes that could be had


def informative(ask: Ask, n: int) -> np.ndarray:
    """How many of n outcomes to take of each type (T,): greedily what most lowers the mean variance.

    An outcome of a type measures its value with variance 1 / (p (1 - p)); types inform each other through the
    covariance (A-optimal design, Chaloner and Verdinelli 1995).
    """
    covariance = ask.covariance.copy()
    noise = 1.0 / np.maximum(ask.p * (1.0 - ask.p), 0.02)
    counts = np.zeros(len(noise), dtype=np.int64)
    for _ in range(min(n, int(ask.available.sum()))):
        gain = (ask.share @ covariance**2) / (np.diag(covariance) + noise)
        t = int(np.argmax(np.where(counts < ask.available, gain, -1.0)))
        counts[t] += 1
        column = covariance[:, t]
        covariance = covariance - np.outer(column, column) / (column[t] + noise[t])
    return counts


def first_outcomes(
    table: Table, descriptor: Descriptor, share: Mapping[str, float], n: int
) -> dict[str, int]:
    """How many of a new model's first n outcomes to take of each task type; `share` is how often each occurs.

    Raises BadInput when the table was fitted before there was a prior for newcomers.
    """
    prior = table.newcomers
    if prior is None:
        raise BadInput("this bundle knows nothing of newcomers; train it again with this samediff")
    types = list(share)
    kinds = {name: effect.value for name, effect in table.task_types.items()}
    belief = prior.known(descriptor, kinds)
    loadings = np.array([prior.loading(t) for t in types])
    line = loadings @ belief.mean + np.array([kinds.get(t, 0.0) for t in types])
    covariance = loadings @ belief.covariance @ loadings.T + prior.cell_spread**2 * np.eye(len(types))
    weights = np.array(list(share.values()), dtype=np.float64)
    ask = Ask(covariance, sigmoid(line), weights / weights.sum(), np.full(len(types), n))
    return {t: int(k) for t, k in zip(types, informative(ask, n), strict=True)}


class Answers(NamedTuple):
    """Outcomes as codes, aligned (n,): who answered which task of which type, and with what success."""

    candidate: np.ndarray
    task: np.ndarray
    task_type: np.ndarray
    success: np.ndarray


def paired_sums(
    answers: Answers, newcomer: int, total: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cell sums (C, T + 1) with a newcomer's corrected for how hard its tasks proved for the known models.

    A control variate: success − slope · (known models' mean on the task − their mean over the type), the
    slope and what it explains (R²) taken from the known models, each against the others. Rows count
    1 / (1 − R²).
    """
    known = answers.candidate != newcomer
    n_tasks, n_types = int(answers.task.max()) + 1, rows.shape[1]
    sums = np.bincount(answers.task[known], weights=answers.success[known], minlength=n_tasks)
    count = np.bincount(answers.task[known], minlength=n_tasks)
    kinds = np.bincount(answers.task_type[known], weights=answers.success[known], minlength=n_types)
    of_type = kinds / np.maximum(np.bincount(answers.task_type[known], minlength=n_types), 1)
    several = known & (count[answers.task] > 1)
    task, kind, y = answers.task[several], answers.task_type[several], answers.success[several]
    rest = y - (total / np.maximum(rows, 1.0))[answers.candidate[several], kind]
    ease = (sums[task] - y) / (count[task] - 1) - of_type[kind]
    slope = float(rest @ ease / max(float(ease @ ease), 1e-9))
    left = float(np.sum((rest - slope * ease) ** 2)) / max(float(np.sum(rest**2)), 1e-9)
    gain = 1.0 / max(min(left, 1.0), 1.0 - _MAX_EXPLAINED)
    mine = ~known & (count[answers.task] > 0)
    task, kind = answers.task[mine], answers.task_type[mine]
    shift = np.bincount(kind, weights=slope * (sums[task] / count[task] - of_type[kind]), minlength=n_types)
    total, rows = total.copy(), rows.copy()
    total[newcomer] = np.clip(total[newcomer] - shift, 0.0, rows[newcomer]) * gain
    rows[newcomer] *= gain
    return total, rows
