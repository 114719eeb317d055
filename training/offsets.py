"""Offsets that a bundle starts with: how far repositories lie apart in its log, and where each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.offset import DEFAULT_VARIANCES, Level, OffsetCard, Offsets, State, Where, prequential
from training.calibrate import logit

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIANCES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
MIN_NAMES = 5  # repositories, or tenants, that their variance can be estimated over
MAX_TASKS = 300  # of one, that its variance is estimated from: more say nothing new
LEVELS: tuple[Level, ...] = ("repo", "tenant")


def fit_offsets(p: np.ndarray, success: np.ndarray, where: np.ndarray, task: np.ndarray) -> OffsetCard | None:
    """Variances by marginal likelihood, and each repository's and tenant's posterior.

    p (n,) is P(success) from folds without the row's group, NaN unlabelled; `where` (n, 2) names repository
    and tenant, "" unknown; `task` (n,) says which rows hang together. None where no row names either.
    """
    known = np.isfinite(p) & np.isfinite(success) & (where != "").any(axis=1)
    if not known.any():
        return None
    odds, success, where, task = logit(p[known]), success[known], where[known], task[known]
    variances: dict[Level, float] = {}
    for column, level in enumerate(LEVELS):
        found = _variance(odds, success, where[:, column], task)
        if found is not None:
            variances[level] = found
    variances = {**DEFAULT_VARIANCES, **variances}
    offsets = Offsets(OffsetCard(variances))
    for rows in _in_order(task):
        repo, tenant = where[rows[0]]
        for row in rows:
            offsets.learn(Where(repo or None, tenant or None), odds[row], success[row], 1.0 / len(rows))
    states: dict[Level, dict[str, State]] = {}
    for (level, name), state in offsets.copy().items():
        states.setdefault(level, {})[str(name)] = State(*(round(float(number), 6) for number in state))
    return OffsetCard(variances, states)


def _variance(odds: np.ndarray, success: np.ndarray, name: np.ndarray, task: np.ndarray) -> float | None:
    """The variance (of VARIANCES) under which each task is foretold best from those before; None: too few."""
    names = np.unique(name[name != ""])
    if len(names) < MIN_NAMES:
        return None
    loss = np.zeros(len(VARIANCES))
    for each in names:
        rows = np.flatnonzero(name == each)
        tasks = list(_in_order(task[rows]))[:MAX_TASKS]
        loss += prequential(((odds[rows[of]], success[rows[of]]) for of in tasks), VARIANCES)
    return float(VARIANCES[loss.argmin()])


def _in_order(task: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of each task, tasks in the order in which they first appear."""
    _, first, where = np.unique(task, return_index=True, return_inverse=True)
    order = np.argsort(where, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(where))[:-1])
    yield from (parts[number] for number in np.argsort(first, kind="stable"))
