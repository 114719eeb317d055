"""Chances that are really the chances: unbiased means, and intervals that hold what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from training.shadow.sampling import FLOOR, chance, clopper_pearson, sizes, uniform, weighted_share


def _draw(rng, size, cost, budget):
    """Ask in the order of u / s while there is room for the dearest, as a run does: (asked, threshold)."""
    rank = rng.random(len(size)) / size
    spent, last = 0.0, None
    asked = []
    for n in np.argsort(rank):
        if spent + cost.max() > budget:
            return asked[:-1], rank[last]
        spent, last = spent + cost[n], n
        asked.append(n)
    return asked, math.inf


def _population(rng, n=400):
    """Requests whose answers depend on their size and cost, which is what would bias a naive mean."""
    uncertainty = rng.uniform(0.05, 0.5, n)
    traffic = rng.integers(1, 6, n).astype(float)
    cost = rng.lognormal(-4, 0.7, n)
    size = sizes(uncertainty, traffic, cost)
    same = (rng.random(n) < np.clip(0.9 - 1.2 * uncertainty + 4 * cost, 0.05, 0.97)).astype(float)
    return size, traffic, cost, same


def test_the_mean_is_unbiased_and_its_interval_covers():
    rng = np.random.default_rng(7)
    size, traffic, cost, same = _population(rng)
    truth = float((same * traffic).sum() / traffic.sum())
    means, naive, covered = [], [], []
    for _ in range(1000):
        asked, threshold = _draw(rng, size, cost, budget=cost.sum() / 5)
        chances = np.array([chance(s, threshold) for s in size[asked]])
        means.append(float((traffic[asked] * same[asked] / chances).sum() / traffic.sum()))
        naive.append(same[asked].mean())
        share = weighted_share(same[asked], chances, traffic[asked])
        covered.append(share.low <= truth <= share.high)
    error = np.std(means) / math.sqrt(len(means))
    assert abs(np.mean(means) - truth) < 3 * error
    assert abs(np.mean(naive) - truth) > 20 * error  # what it is there for
    assert np.mean(covered) > 0.94


def test_a_budget_for_all_asks_all():
    rng = np.random.default_rng(1)
    size, traffic, cost, same = _population(rng, 30)
    asked, threshold = _draw(rng, size, cost, budget=2 * cost.sum())
    assert len(asked) == 30
    assert {chance(s, threshold) for s in size} == {1.0}
    share = weighted_share(same[asked], np.ones(30), traffic[asked])
    assert share.mean == pytest.approx((same * traffic).sum() / traffic.sum())


def test_no_size_is_below_the_floor():
    found = sizes(np.array([0.0, 0.5, 0.5]), np.array([1.0, 1.0, 100.0]), np.array([0.1, 0.1, 0.1]))
    assert found.min() == FLOOR
    assert found.argmax() == 2
    assert list(sizes(np.zeros(2), np.ones(2), np.ones(2))) == [1.0, 1.0]
    assert len(sizes(np.zeros(0), np.zeros(0), np.zeros(0))) == 0


def test_the_same_seed_draws_the_same():
    assert uniform(1, "r1") == uniform(1, "r1")
    assert len({uniform(seed, f"r{n}", about) for seed in (1, 2) for n in range(50) for about in "ab"}) == 200
    assert all(0 < uniform(3, str(n)) < 1 for n in range(1000))


@pytest.mark.parametrize(("successes", "rows"), [(0, 12), (12, 12), (3, 40), (39, 40), (1, 1)])
def test_intervals_are_the_exact_ones(successes, rows):
    exact = binomtest(successes, rows).proportion_ci(0.95, "exact")
    assert clopper_pearson(successes, rows) == pytest.approx((exact.low, exact.high))


@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.integers(1, 50), st.booleans()), min_size=1, max_size=60))
def test_an_interval_always_holds_its_share(rows):
    columns = np.array([(float(same), chance_, weight) for chance_, weight, same in rows])
    share = weighted_share(columns[:, 0], columns[:, 1], columns[:, 2])
    assert 0.0 <= share.low <= share.mean <= share.high <= 1.0
    assert share.effective_rows <= len(rows)
    if len(set(columns[:, 0])) == 1:
        assert share.mean == pytest.approx(columns[0, 0])
        assert share.high - share.low < 1.0


def test_rows_of_one_session_count_as_one():
    """Twenty sessions of five equal answers each tell what twenty answers tell."""
    rng = np.random.default_rng(5)
    answers = (rng.random(20) < 0.7).astype(float)
    five, ones = np.repeat(answers, 5), np.ones(100)
    together = weighted_share(five, ones, ones, np.repeat(np.arange(20), 5))
    apart = weighted_share(answers, ones[:20], ones[:20])
    assert together.mean == pytest.approx(apart.mean)
    assert together.effective_rows == pytest.approx(apart.effective_rows)
    assert weighted_share(np.ones(5), ones[:5], ones[:5], np.zeros(5)).effective_rows == 1


def test_nothing_compared_is_unknown():
    empty = np.zeros(0)
    assert weighted_share(empty, empty, empty) == (None, None, None, 0, 0.0)
