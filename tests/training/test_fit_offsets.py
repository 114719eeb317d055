"""Offsets of a log's repositories: their spread is found, or that there is none; tasks count once."""

from __future__ import annotations

import numpy as np
import pytest

from models.offset import DEFAULT_VARIANCES
from training.calibrate import sigmoid
from training.offsets import VARIANCES, fit_offsets


def logged(
    rng: np.random.Generator, spread: float, repos: int = 30, tasks: int = 60, answers: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """p, success, where, task and offsets of a log whose repositories lie `spread` log-odds apart."""
    n = repos * tasks
    repo = np.repeat(np.arange(repos), tasks * answers)
    task = np.repeat(np.arange(n), answers)
    odds = rng.normal(0, 1, n * answers)
    offset = rng.normal(0, spread, repos)
    hard = rng.normal(0, 1.0, n) if answers > 1 else np.zeros(n)
    success = (rng.random(n * answers) < sigmoid(odds + offset[repo] + hard[task])).astype(float)
    names = np.char.add("r", repo.astype(str))
    return (
        sigmoid(odds),
        success,
        np.stack([names, np.full(len(names), "")], axis=1),
        task.astype(str),
        offset,
    )


@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_how_far_repositories_lie_apart_is_found(spread: float) -> None:
    p, success, where, task, offset = logged(np.random.default_rng(0), spread)
    card = fit_offsets(p, success, where, task)
    assert card is not None
    assert card.variances["repo"] == pytest.approx(spread**2, abs=0.2 * spread + 0.02)
    if not spread:
        return
    means = np.array([card.states["repo"][f"r{n}"].mean for n in range(len(offset))])
    assert np.corrcoef(means, offset)[0, 1] > 0.8
    assert all(state.outcomes == 60 for state in card.states["repo"].values())


def test_answers_to_one_hard_task_are_no_offset_of_its_repository() -> None:
    p, success, where, task, _ = logged(np.random.default_rng(1), 0.0, tasks=40, answers=10)
    card = fit_offsets(p, success, where, task)
    assert card is not None
    assert card.variances["repo"] <= VARIANCES[2]


def test_few_repositories_have_the_default_and_a_log_without_has_none() -> None:
    p, success, where, task, _ = logged(np.random.default_rng(2), 0.5, repos=3)
    card = fit_offsets(p, success, where, task)
    assert card is not None
    assert card.variances == DEFAULT_VARIANCES
    assert fit_offsets(p, success, np.full((len(p), 2), ""), task) is None
    assert fit_offsets(np.full(len(p), np.nan), success, where, task) is None


def test_a_tenant_with_one_repository_isn_t_counted_twice() -> None:
    p, success, where, task, _ = logged(np.random.default_rng(4), 0.6)
    alone = fit_offsets(p, success, where, task)
    tenant = np.char.add("of ", where[:, 0])
    both = fit_offsets(p, success, np.stack([where[:, 0], tenant], axis=1), task)
    assert alone is not None
    assert both is not None
    assert both.variances == {**alone.variances, "tenant": 0.0}


def test_repositories_of_the_same_name_are_one_each_of_every_tenant() -> None:
    p, success, where, task, offset = logged(np.random.default_rng(5), 0.8, repos=20)
    named = np.stack([np.full(len(p), "app"), where[:, 0]], axis=1)
    card = fit_offsets(p, success, named, task)
    assert card is not None
    assert card.variances["repo"] == pytest.approx(0.64, abs=0.3)
    assert len(card.states["repo"]) == len(offset)


def test_tenants_are_told_apart_where_there_are_enough() -> None:
    rng = np.random.default_rng(3)
    p, success, where, task, _ = logged(rng, 0.0)
    tenant = np.char.add("t", (np.arange(len(p)) // 180).astype(str))
    worse = np.isin(tenant, ["t1", "t4", "t7"])
    success = np.where(worse & (rng.random(len(p)) < 0.5), 0.0, success)
    card = fit_offsets(p, success, np.stack([where[:, 0], tenant], axis=1), task)
    assert card is not None
    assert card.variances["tenant"] > 0.05
    assert card.states["tenant"]["t1"].mean < -0.3 < card.states["tenant"]["t2"].mean
