"""Offsets that a bundle starts with: how far repositories lie apart in its log, and where each is."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.offset import (
    DEFAULT_VARIANCES,
    MIN_VARIANCE,
    Key,
    Level,
    OffsetCard,
    Offsets,
    State,
    Where,
)
from training.calibrate import logit, sigmoid

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIANCES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
MIN_NAMES = 5  # repositories, or tenants, that their variance can be estimated over
MAX_TASKS = 300  # of one repository, that variances are estimated from: more say nothing new
EDGE = 1e-9
TIE = 1e-6  # nats
LEVELS: tuple[Level, ...] = ("repo", "tenant")


class _Rows(NamedTuple):
    """Labelled answers: log-odds, successes and tasks, all (n,), and repository and tenant (n, 2)."""

    odds: np.ndarray
    success: np.ndarray
    where: np.ndarray
    task: np.ndarray


def fit_offsets(p: np.ndarray, success: np.ndarray, where: np.ndarray, task: np.ndarray) -> OffsetCard | None:
    """Variances by marginal likelihood, and each repository's and tenant's posterior.

    p (n,) is P(success) from folds without the row's group, NaN unlabelled; `where` (n, 2) names repository
    and tenant, "" unknown; `task` (n,) says which rows hang together. None where no row names either.
    """
    known = np.isfinite(p) & np.isfinite(success) & (where != "").any(axis=1)
    if not known.any():
        return None
    odds, success, where, task = logit(p[known]), success[known], where[known], task[known]
    variances = {**DEFAULT_VARIANCES, **_variances(_Rows(odds, success, where, task))}
    offsets = Offsets(OffsetCard(variances))
    for rows in _in_order(task):
        repo, tenant = where[rows[0]]
        for row in rows:
            offsets.learn(Where(repo or None, tenant or None), odds[row], success[row], 1.0 / len(rows))
    states: dict[Level, dict[str, State]] = {}
    for (level, name), state in offsets.copy().items():
        states.setdefault(level, {})[str(name)] = State(*(round(float(number), 6) for number in state))
    return OffsetCard(variances, states)


def _variances(rows: _Rows) -> dict[Level, float]:
    """The variances (of VARIANCES) under which each task is foretold best from those before.

    Both at once, as both are added to one request: a tenant with one repository shows the sum alone, and
    all of it is then the repository's. A level of fewer than MIN_NAMES names isn't estimated.
    """
    keys = [Where(repo or None, tenant or None).keys() for repo, tenant in rows.where]
    many = {level: len({k for of in keys for k in of if k[0] == level}) >= MIN_NAMES for level in LEVELS}
    default = np.array([DEFAULT_VARIANCES["repo"]])
    each_tenant, each_repo = np.meshgrid(
        VARIANCES if many["tenant"] else VARIANCES[:1], VARIANCES if many["repo"] else default, indexing="ij"
    )
    tried: dict[Level, np.ndarray] = {"repo": each_repo.ravel(), "tenant": each_tenant.ravel()}
    loss = _foretold(rows, keys, tried)
    # Ties, and what rounding makes of them, go to the smallest variance of tenants.
    best = int(np.flatnonzero(loss <= loss.min() + TIE)[0])
    return {level: float(tried[level][best]) for level in LEVELS if many[level]}


def _foretold(rows: _Rows, keys: list[list[Key]], tried: dict[Level, np.ndarray]) -> np.ndarray:
    """Log-loss (k,) of tasks, each foretold from those before it, for each of k pairs of variances.

    By the chain rule that is their marginal likelihood (Dawid 1984); the filter is the one that serves. The
    answers of a task hang together, so that they count as one outcome between them.
    """
    loss = np.zeros(len(tried["repo"]))
    mean: dict[Key, np.ndarray] = defaultdict(lambda: np.zeros(len(loss)))
    left: dict[Key, np.ndarray] = {}
    seen: Counter[Key] = Counter()
    for of in _in_order(rows.task):
        mine = keys[of[0]]
        if not mine or seen[mine[0]] >= MAX_TASKS:
            continue
        seen[mine[0]] += 1
        odds = rows.odds[of][:, None] + sum(mean[key] for key in mine)
        p, success = np.clip(sigmoid(odds), EDGE, 1.0 - EDGE), rows.success[of][:, None]
        loss -= (success * np.log(p) + (1.0 - success) * np.log(1.0 - p)).mean(axis=0)
        information = (p * (1.0 - p)).mean(axis=0)
        now = {key: left.get(key, tried[key[0]]) for key in mine}
        total = 1.0 / information + sum(now.values())
        step = (success - p).mean(axis=0) / information / total
        for key, variance in now.items():
            mean[key] = mean[key] + variance * step
            left[key] = np.maximum(variance - variance**2 / total, np.minimum(variance, MIN_VARIANCE))
    return loss


def _in_order(task: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of each task, tasks in the order in which they first appear."""
    _, first, where = np.unique(task, return_index=True, return_inverse=True)
    order = np.argsort(where, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(where))[:-1])
    yield from (parts[number] for number in np.argsort(first, kind="stable"))
