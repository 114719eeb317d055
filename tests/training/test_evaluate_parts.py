"""The parts of `samediff evaluate` held to their laws: mixes, intervals, abstention, learners."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluate.assess import reliability
from training.evaluate.bootstrap import Bootstrap, beats, mean_known
from training.evaluate.choose import mix_weights, operate
from training.evaluate.design import CS, KS, design, logistic, neighbours
from training.evaluate.policies import Scored

pins = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 1000)), min_size=2, max_size=7)


@given(pins, st.floats(0, 1))
def test_a_mix_is_on_budget_and_no_mix_of_two_pins_beats_it(points, where):
    cost, quality = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    best = cost[quality == quality.max()].min()
    budget = cost.min() + where * (best - cost.min())
    weights = mix_weights(cost, quality, np.array([budget]))[0]
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    assert weights @ cost == pytest.approx(budget, abs=1e-6)
    for a in range(len(cost)):
        for b in range(len(cost)):
            if cost[a] <= budget <= cost[b] and cost[a] < cost[b]:
                share = (budget - cost[a]) / (cost[b] - cost[a])
                assert (1 - share) * quality[a] + share * quality[b] <= weights @ quality + 1e-6


def test_more_money_than_the_best_pin_buys_nothing():
    weights = mix_weights(np.array([1.0, 5.0, 9.0]), np.array([0.2, 0.8, 0.7]), np.array([0.5, 99.0]))
    assert weights.tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("groups", [8, 60])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(groups):
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        group = np.repeat(np.arange(groups), 4)
        values = rng.normal(size=groups)[group] + rng.normal(size=len(group))
        boot = Bootstrap(group, 300, seed=trial)
        low, high = boot.interval(boot.means(values[None, :])[:, 0], values.mean())
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.995


def test_the_bootstrap_leaves_unknown_values_out():
    group = np.arange(50)
    values = np.where(np.arange(50) % 2, 3.0, np.nan)[None, :]
    assert mean_known(values)[0] == 3.0
    assert np.all(Bootstrap(group, 50, 0).means(values) == 3.0)


def test_equal_rows_beat_nothing():
    assert not beats(np.zeros(100), np.arange(100))
    assert not beats(np.full(100, 1e-15), np.arange(100))
    assert beats(np.ones(100), np.arange(100))
    assert not beats(np.ones(100), np.zeros(100))


def test_a_router_that_only_trades_money_for_quality_abstains():
    rng = np.random.default_rng(0)
    pin = (rng.random(400) < 0.8).astype(float)
    cheap = (rng.random(400) < 0.5).astype(float)
    quality, cost = np.stack([pin, cheap]), np.stack([np.full(400, 10.0), np.ones(400)])
    op = operate(quality, cost, pin, quality, np.arange(400))
    assert op.headline is None
    assert op.parity is None


def test_neighbours_and_logistic_learn_a_line_and_never_see_the_scored_rows():
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(400, 2)).astype(np.float32)
    vector[::7, 1] = np.nan
    truth = (vector[:, 0] > 0).astype(float)
    success = np.stack([truth, 1 - truth], axis=1)
    train = np.arange(400) < 300
    rows = np.flatnonzero(~train)
    x = design(vector, np.full(400, ""), train)
    for predicted, knobs in (
        (neighbours(x, success, train, rows), KS),
        (logistic(x, success, train, rows), CS),
    ):
        assert predicted.shape == (len(knobs), 100, 2)
        right = (predicted.argmax(axis=2) == success[rows].argmax(axis=1)).mean(axis=1)
        assert right.max() > 0.9
    hidden = np.where(train[:, None], success, np.nan)
    again = neighbours(x, hidden, train, rows)
    assert np.array_equal(again, neighbours(x, success, train, rows))


def test_a_bin_s_interval_is_over_groups() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(100):
        groups, tasks, models = 12, 30, 3
        group = np.repeat(np.arange(groups), tasks)
        p = 0.5 + rng.normal(0, 0.001, (len(group), models))
        own = rng.normal(0, 0.12, groups)[group]
        y = (rng.random(p.shape) < 0.5 + own[:, None]).astype(float)
        at = Scored(np.arange(len(group)), np.zeros(len(group), int), y, y)
        (only,) = reliability(p, at, group, bins=1)
        low, high = only["mean_success_ci"]
        held += low <= 0.5 <= high
    assert held >= 90
