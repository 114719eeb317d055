"""Off-policy estimates: unbiased by full enumeration, right on known values, refusing without support."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInput
from training.estimators import scores as of
from training.estimators.bandit import Bandit, checked
from training.estimators.estimate import MIN_ESS, estimate
from training.estimators.intervals import (
    GRID,
    as_difference,
    betting,
    clustered,
    effective_size,
    empirical_bernstein,
    wilson,
)
from training.estimators.model import table_model
from training.estimators.paired import paired, share_of_logged
from training.estimators.thresholds import AT, Risks
from training.replay.quality.bootstrap import apart_of
from training.shadow.sampling import clopper_pearson

ARMS = ("cheap", "middle", "dear")


def bandit(action: Any, reward: Any, propensity: Any, **more: Any) -> Bandit:
    n = len(action)
    given_ = {"cluster": np.arange(n), "locked": np.zeros(n, dtype=bool)} | more
    return Bandit(
        ARMS[: np.shape(propensity)[1]],
        np.asarray(action),
        np.asarray(reward, dtype=float),
        np.asarray(propensity, dtype=float),
        **given_,
    )


def simplex(k: int, least: float = 0.05) -> st.SearchStrategy[list[float]]:
    parts = st.lists(st.floats(least, 1.0), min_size=k, max_size=k)
    return parts.map(lambda x: [v / sum(x) for v in x])


@given(
    st.lists(simplex(2), min_size=3, max_size=3),
    st.lists(simplex(2, 1e-6), min_size=3, max_size=3),
    st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=3, max_size=3),
    st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=3, max_size=3),
)
def test_unbiased_over_everything_that_could_have_been_logged(
    propensity: list[list[float]],
    target: list[list[float]],
    reward: list[list[float]],
    model: list[list[float]],
) -> None:
    chances, wanted, truth, guess = (np.array(x) for x in (propensity, target, reward, model))
    value = float((wanted * truth).sum(axis=1).mean())
    mean = {"ips": 0.0, "dr": 0.0}
    rows = np.arange(3)
    for actions in itertools.product(range(2), repeat=3):
        taken = np.array(actions)
        log = bandit(taken, truth[rows, taken], chances)
        chance = float(np.prod(chances[rows, taken]))
        mean["ips"] += chance * float(of.ips(log, wanted).mean())
        mean["dr"] += chance * float(of.doubly_robust(log, wanted, guess).mean())
    assert mean["ips"] == pytest.approx(value, abs=1e-9)
    assert mean["dr"] == pytest.approx(value, abs=1e-9)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=4, max_size=4), st.integers(0, 15)
)
def test_pairs_are_unbiased_over_all_samples_without_any_chance_of_the_logger(
    reward: list[list[float]], actions: int
) -> None:
    truth = np.array(reward)
    taken = np.array([actions >> i & 1 for i in range(4)])
    rows, chance = np.arange(4), 0.3
    wanted = np.tile([0.25, 0.75], (4, 1))
    total = 0.0
    for picked in itertools.product((False, True), repeat=4):
        answers = np.where(np.array(picked)[:, None], truth, np.nan)
        answers[rows, taken] = np.nan
        log = bandit(
            taken,
            truth[rows, taken],
            np.full((4, 2), np.nan),
            cluster=np.zeros(4, dtype=int),  # one cluster: nothing is learned from the pairs
            paired=answers,
            paired_chance=np.full((4, 2), chance),
        )
        weight = chance ** sum(picked) * (1 - chance) ** (4 - sum(picked))
        total += weight * float(paired(log, wanted, np.full((4, 2), 0.4)).mean())
    assert total == pytest.approx(float((wanted * truth).sum(axis=1).mean()), abs=1e-9)


def test_the_logging_policy_itself_is_its_mean_reward() -> None:
    rng = np.random.default_rng(3)
    chances = np.tile([0.5, 0.3, 0.2], (600, 1))
    log = bandit(rng.integers(0, 3, 600), rng.integers(0, 2, 600), chances)
    answer = estimate(log, chances, np.full((600, 3), 0.5))
    for name in ("ips", "snips", "dr", "dr_clipped", "dr_switch", "replay"):
        found = answer.named(name)
        assert found is not None
        assert found.quality == pytest.approx(float(log.reward.mean()))
    assert answer.best == "dr"
    assert answer.support.ess == pytest.approx(600)


def test_a_model_that_is_right_leaves_nothing_to_correct() -> None:
    rng = np.random.default_rng(4)
    model = rng.random((50, 3))
    taken = rng.integers(0, 3, 50)
    log = bandit(taken, model[np.arange(50), taken], np.full((50, 3), 1 / 3))
    target = np.tile([0.0, 0.0, 1.0], (50, 1))
    np.testing.assert_allclose(of.doubly_robust(log, target, model), of.direct(target, model))


def test_snips_is_its_ratio_and_ignores_a_shift_of_all_rewards() -> None:
    rng = np.random.default_rng(5)
    log = bandit(rng.integers(0, 2, 40), rng.random(40) / 2, np.tile([0.7, 0.3], (40, 1)))
    target = np.tile([0.2, 0.8], (40, 1))
    w = of.weights(log, target)
    assert of.snips(log, target).mean() == pytest.approx(w @ log.reward / w.sum())
    moved = log._replace(reward=log.reward + 0.5)
    assert of.snips(moved, target).mean() - of.snips(log, target).mean() == pytest.approx(0.5)


def test_clipping_and_switching_only_matter_above_their_threshold() -> None:
    log = bandit([0, 1], [1.0, 1.0], [[0.9, 0.1], [0.9, 0.1]])
    target, model = np.array([[0.5, 0.5], [0.5, 0.5]]), np.full((2, 2), 0.25)
    plain = of.doubly_robust(log, target, model)
    np.testing.assert_allclose(of.doubly_robust(log, target, model, clip=5.0), plain)
    np.testing.assert_allclose(of.doubly_robust(log, target, model, clip=2.0)[1], 0.25 + 2 * 0.75)
    np.testing.assert_allclose(of.doubly_robust(log, target, model, switch=2.0)[1], 0.25)


def test_thresholds_are_not_taken_where_they_would_only_bias() -> None:
    rng = np.random.default_rng(6)
    chances = np.tile([0.95, 0.05], (4000, 1))
    taken = (rng.random(4000) < 0.05).astype(int)
    log = bandit(taken, rng.integers(0, 2, 4000), chances)
    pin = np.tile([0.0, 1.0], (4000, 1))
    for soft in (True, False):
        found = Risks.of(log, pin, np.full((4000, 2), 0.5)).threshold(soft=soft)
        plain = of.doubly_robust(log, pin, np.full((4000, 2), 0.5))
        name = "clip" if soft else "switch"
        np.testing.assert_allclose(
            of.doubly_robust(log, pin, np.full((4000, 2), 0.5), **{name: found}), plain
        )


@given(st.integers(0, 10_000), st.booleans())
def test_a_threshold_is_that_of_least_variance_and_squared_bias_by_its_scores(seed: int, soft: bool) -> None:
    rng = np.random.default_rng(seed)
    n = 300
    rare = np.where(rng.random(n) < 0.1, 10 ** -rng.uniform(1, 3), 0.5)
    chances = np.stack([1 - rare, rare], axis=1)
    taken = (rng.random(n) < rare).astype(int)
    reward = np.where(rng.random(n) < 0.8, rng.integers(0, 2, n), np.nan)
    log, target, model = bandit(taken, reward, chances), rng.dirichlet([1, 1], n), rng.random((n, 2))

    def risk(tau: float) -> float:
        scores = of.doubly_robust(log, target, model, **{"clip" if soft else "switch": tau})
        over = target / chances > tau
        lost = target - tau * chances if soft else target
        return float(scores.var() / n + (lost[over].sum() / n) ** 2)

    cut = n // 3
    parts = [
        Risks.of(log.rows(rows)._replace(whole=log.sums), target[rows], model[rows])
        for rows in (np.arange(cut), np.arange(cut, n))
    ]
    found = parts[0].plus(parts[1]).threshold(soft=soft)
    assert risk(found) == pytest.approx(min(risk(tau) for tau in (*AT, np.inf)), rel=1e-6)


def test_a_threshold_gives_up_little_of_what_is_hardly_known() -> None:
    rng = np.random.default_rng(9)
    n = 4000
    rare = np.where(np.arange(n) % 100 == 0, 0.002, 0.5)
    taken = (rng.random(n) < rare).astype(int)
    taken[0] = 1
    log = bandit(taken, rng.integers(0, 2, n), np.stack([1 - rare, rare], axis=1))
    pin, model = np.tile([0.0, 1.0], (n, 1)), np.full((n, 2), 0.5)
    risks = Risks.of(log, pin, model)
    for soft in (True, False):
        assert 2 <= risks.threshold(soft=soft) < 500


def test_rewards_unknown_by_arm_count_by_the_share_known() -> None:
    log = bandit([0, 0, 1, 1], [1.0, np.nan, 0.0, 1.0], np.full((4, 2), 0.5))
    np.testing.assert_allclose(of.heard(log), [2.0, 0.0, 1.0, 1.0])
    assert of.ips(log, np.full((4, 2), 0.5)).mean() == pytest.approx((2 * 1 + 0 + 0 + 1) / 4)


def test_sessions_weigh_by_the_product_of_their_free_decisions() -> None:
    log = bandit(
        [0, 1, 0, 1],
        [0, 0, 0, 0],
        np.tile([0.5, 0.5], (4, 1)),
        cluster=np.array([0, 0, 1, 1]),
        locked=np.array([False, False, True, False]),
    )
    target = np.tile([0.8, 0.2], (4, 1))
    product, scored = of.by_session(log, target, np.array([1.0, 0.5]))
    np.testing.assert_allclose(product, [1.6 * 0.4, 0.4])
    np.testing.assert_allclose(scored, [0.64, 0.2])
    none, _ = of.by_session(log, np.tile([1.0, 0.0], (4, 1)), np.ones(2))
    np.testing.assert_allclose(none, [0.0, 0.0])


def test_rejection_keeps_what_the_target_would_have_done() -> None:
    rng = np.random.default_rng(8)
    chances = np.tile([0.5, 0.5], (20_000, 1))
    log = bandit(rng.integers(0, 2, 20_000), np.ones(20_000), chances)
    draw = rng.random(20_000)
    kept = of.accepted(log, np.tile([0.9, 0.1], (20_000, 1)), draw)
    assert log.action[kept].mean() == pytest.approx(0.1, abs=0.02)
    pinned = of.accepted(log, np.tile([1.0, 0.0], (20_000, 1)), draw)
    assert (log.action[pinned] == 0).all()
    assert pinned.sum() == (log.action == 0).sum()


def test_rejection_keeps_arms_as_the_target_has_them_however_many_are_labelled() -> None:
    """Once 0.56 for 0.70, the arm of few labels being kept as seldom as it was labelled."""
    rng = np.random.default_rng(991)
    n = 20_000
    taken = rng.integers(0, 2, n)
    reward = (rng.random(n) < np.array([0.9, 0.5])[taken]).astype(float)
    reward[rng.random(n) > np.array([0.2, 1.0])[taken]] = np.nan
    log, target = bandit(taken, reward, np.full((n, 2), 0.5)), np.full((n, 2), 0.5)
    kept = of.accepted(log, target, rng.random(n))
    assert np.isfinite(log.reward[kept]).all()
    assert log.action[kept].mean() == pytest.approx(0.5, abs=0.03)
    found = estimate(log, target, np.full((n, 2), 0.5)).named("replay")
    assert found is not None
    assert found.quality == pytest.approx(0.7, abs=0.025)


def test_what_replay_keeps_is_exact_where_decisions_are_coins_and_clustered_where_they_are_not() -> None:
    log = bandit([1] * 40 + [0] * 40, [1.0] * 38 + [0.0] * 2 + [0.5] * 40, np.full((80, 2), 0.5))
    pin, model = np.tile([0.0, 1.0], (80, 1)), np.full((80, 2), 0.5)
    alone = estimate(log, pin, model).named("replay")
    assert alone is not None
    assert alone.quality_ci == pytest.approx(clopper_pearson(38, 40))
    twice = estimate(log._replace(cluster=np.arange(80) // 2), pin, model).named("replay")
    assert twice is not None
    assert twice.quality_ci == pytest.approx(wilson(log.reward[:40], np.arange(40) // 2)[1:3])
    graded = estimate(log._replace(reward=log.reward * 0.9), pin, model).named("replay")
    assert graded is not None
    assert graded.quality_ci == pytest.approx(wilson(log.reward[:40] * 0.9, np.arange(40))[1:3])


@given(st.integers(0, 10_000))
def test_no_score_of_ips_is_more_than_it_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    chances, target = rng.dirichlet([1, 1, 1], n), rng.dirichlet([1, 1, 1], n)
    taken = np.array([rng.choice(3, p=p) for p in chances])
    log = bandit(taken, np.where(rng.random(n) < 0.6, rng.random(n), np.nan), chances)
    assert (of.ips(log, target) <= of.most_ips(log, target) + 1e-9).all()
    never = log._replace(propensity=np.tile([1.0, 0.0, 0.0], (n, 1)))
    assert of.most_ips(never, target)[target[:, 1] > 0].min() == np.inf


@given(st.integers(2, 30), st.integers(0, 1000))
def test_clusters_of_copies_are_worth_one_row_each(n: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random(n)
    alone = clustered(scores, np.arange(n))
    copied = clustered(np.repeat(scores, 7), np.repeat(np.arange(n), 7))
    assert copied.error == pytest.approx(alone.error)
    assert alone.error == pytest.approx(scores.std(ddof=1) / math.sqrt(n))


def test_one_cluster_has_no_interval() -> None:
    found = clustered(np.array([0.2, 0.4]), np.array([3, 3]))
    assert found.low == -np.inf
    assert found.half_width == np.inf


def test_intervals_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    held = {"t": 0, "bootstrap": 0, "bernstein": 0}
    for run in range(300):
        values = (rng.random(120) < 0.2).astype(float)
        mean = float(values.mean())
        drawn = apart_of(values - mean, 199, run)
        assert drawn is not None
        plain = clustered(values, np.arange(120))
        bounded = empirical_bernstein(float(values.sum()), float(values @ values), 120, 1.0)
        for name, (low, high) in (
            ("t", (plain.low, plain.high)),
            ("bootstrap", (mean + drawn[0] / 120, mean + drawn[1] / 120)),
            ("bernstein", (bounded.low, bounded.high)),
        ):
            held[name] += low <= 0.2 <= high
    assert held["t"] >= 273
    assert held["bootstrap"] >= 273
    assert held["bernstein"] >= 297


def test_empirical_bernstein_is_its_formula() -> None:
    values = np.array([0.0, 2.0, 1.0, 1.5, 0.5] * 40)
    found = empirical_bernstein(float(values.sum()), float(values @ values), 200, 2.0)
    reach = math.sqrt(2 * values.var(ddof=1) * math.log(80) / 200) + 7 * 2 * math.log(80) / (3 * 199)
    assert found.half_width == pytest.approx(reach)
    assert found.mean == pytest.approx(1.0)
    assert empirical_bernstein(0.5, 0.25, 1, 2.0)[1:3] == (0.0, 2.0)


def test_a_confidence_sequence_is_that_of_the_paper() -> None:
    """Waudby-Smith & Ramdas, eq. 26 and theorem 3, one mean and one value at a time."""
    values = [1.0, 0.0, 0.3, 1.0, 1.0, 0.0, 1.0, 1.0, 0.9, 1.0] * 6
    low, high = betting(np.array(values))
    alpha, total, spread, variance = 0.05, 0.5, 0.25, 0.25
    up, down = [0.0] * GRID, [0.0] * GRID
    alive = set(range(GRID))
    for t, value in enumerate(values, start=1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(t + 1)))
        for i in range(GRID):
            m = (i + 0.5) / GRID
            up[i] += math.log(1 + min(bet, 0.5 / m) * (value - m))
            down[i] += math.log(1 - min(bet, 0.5 / (1 - m)) * (value - m))
            if max(up[i], down[i]) + math.log(0.5) >= math.log(1 / alpha):
                alive.discard(i)
        total += value
        spread += (value - total / (t + 1)) ** 2
        variance = spread / (t + 1)
        assert low[t - 1] == max(0.0, (min(alive) - 0.5) / GRID)
        assert high[t - 1] == min(1.0, (max(alive) + 1.5) / GRID)


def test_a_confidence_sequence_holds_at_all_times_at_once() -> None:
    rng = np.random.default_rng(12)
    held = 0
    for _ in range(60):
        low, high = betting((rng.random(400) < 0.3).astype(float))
        held += bool(((low <= 0.3) & (high >= 0.3)).all())
    assert held >= 54
    assert high[-1] - low[-1] < 0.25
    assert (np.diff(high - low) < 0.5).all()


def test_the_mixture_leans_to_whom_the_design_favours() -> None:
    rng = np.random.default_rng(15)
    n = 4000
    target = np.tile([0.0, 1.0], (n, 1))

    def share(epsilon: float, pairs: float) -> float:
        asked = np.where(rng.random((n, 1)) < pairs, 1.0, np.nan) * np.array([[np.nan, 1.0]])
        log = bandit(
            np.zeros(n, dtype=int),
            np.ones(n),
            np.tile([1 - epsilon, epsilon], (n, 1)),
            paired=asked,
            paired_chance=np.full((n, 2), pairs),
        )
        return share_of_logged(log, target)

    assert share(0.02, 0.02) == pytest.approx(0.5, abs=0.06)
    assert share(0.2, 0.02) > 0.85
    assert share(0.02, 0.2) < 0.15


def test_the_cross_fitted_table_never_saw_its_own_cluster() -> None:
    rng = np.random.default_rng(13)
    n = 200
    log = bandit(
        rng.integers(0, 2, n), rng.integers(0, 2, n), np.full((n, 2), 0.5), cluster=np.arange(n) // 4
    )
    kind = rng.integers(0, 3, n)
    before = table_model(log, kind)
    changed = log.reward.copy()
    changed[log.cluster == 7] = 1 - changed[log.cluster == 7]
    after = table_model(log._replace(reward=changed), kind)
    mine = log.cluster == 7
    np.testing.assert_array_equal(after[mine], before[mine])
    assert (after[~mine] != before[~mine]).any()


def pin_log(ess: int) -> Bandit:
    """A log in which a pin to arm 1 has exactly this many effective decisions."""
    chances = np.full((2 * ess, 2), 0.5)
    return bandit(np.arange(2 * ess) % 2, np.arange(2 * ess) % 3 == 0, chances)


def test_refusal_is_exactly_where_the_effective_size_says_so() -> None:
    for ess in (int(MIN_ESS) - 1, int(MIN_ESS)):
        log = pin_log(ess)
        answer = estimate(log, np.tile([0.0, 1.0], (log.n, 1)), np.full((log.n, 2), 0.4), call_usd=0.01)
        assert answer.support.ess == pytest.approx(ess)
        assert (answer.best is None) == (ess < MIN_ESS)
        if answer.best is None:
            assert "399 effective decisions" in (answer.refused or "")
            assert answer.quality is None
            assert answer.missing is not None
            assert answer.missing.usd == pytest.approx(0.01 * answer.missing.pairs)


def test_luck_makes_no_support() -> None:
    """Where the improbable didn't happen no weight is large, and yet nothing is known of it."""
    n = 2000
    chances = np.tile([0.996, 0.004], (n, 1))
    log = bandit(np.zeros(n, dtype=int), np.ones(n), chances)
    target = np.where(np.arange(n)[:, None] % 10 == 0, [0.0, 1.0], [1.0, 0.0])
    answer = estimate(log, target, np.full((n, 2), 0.5))
    assert answer.support.ess == pytest.approx(n / (0.9 / 0.996 + 0.1 / 0.004))
    assert answer.best is None


def test_what_the_log_never_gave_a_chance_is_refused() -> None:
    log = bandit([0] * 1000, [1.0] * 1000, np.tile([1.0, 0.0], (1000, 1)))
    answer = estimate(log, np.tile([0.5, 0.5], (1000, 1)), np.full((1000, 2), 0.5))
    assert answer.best is None
    assert "never had a chance" in (answer.refused or "")


def test_a_foreign_log_without_chances_is_answered_by_pairs_alone() -> None:
    rng = np.random.default_rng(14)
    n = 3000
    asked = np.full((n, 2), np.nan)
    asked[::5, 1] = rng.integers(0, 2, n // 5)
    log = bandit(
        [0] * n, [1.0] * n, np.full((n, 2), np.nan), paired=asked, paired_chance=np.full((n, 2), 0.2)
    )
    answer = estimate(log, np.tile([0.0, 1.0], (n, 1)), np.full((n, 2), 0.5))
    assert answer.best == "paired"
    assert answer.quality is not None
    assert answer.quality.quality == pytest.approx(float(np.nanmean(asked)), abs=0.02)
    assert {e.name for e in answer.estimates} == {"paired", "dm"}
    without = estimate(
        log._replace(paired=None, paired_chance=None), np.tile([0.0, 1.0], (n, 1)), np.full((n, 2), 0.5)
    )
    assert without.best is None
    assert "chances" in (without.refused or "")


def test_locked_decisions_belong_to_no_estimate() -> None:
    log = pin_log(500)
    locked = np.zeros(log.n, dtype=bool)
    locked[:100] = True
    changed = log._replace(locked=locked, reward=np.where(locked, 1.0, log.reward))
    target, model = np.tile([0.0, 1.0], (log.n, 1)), np.full((log.n, 2), 0.4)
    with_locked = estimate(changed, target, model)
    without = estimate(log.rows(~locked), target[~locked], model[~locked])
    assert with_locked.support.locked == 100
    assert [e.quality for e in with_locked.estimates] == [e.quality for e in without.estimates]
    everything = estimate(log._replace(locked=np.ones(log.n, dtype=bool)), target, model)
    assert everything.refused == "every decision of the log was locked"


def test_effective_size_of_equal_weights_is_their_number() -> None:
    assert effective_size(7 * 3.0, 7 * 9.0) == pytest.approx(7)
    assert effective_size(0.0, 0.0) == 0
    assert effective_size(5.0, math.inf) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reward": np.array([2.0, 0.0])}, "outside 0..1"),
        ({"action": np.array([0, 5])}, "isn't among those named"),
        ({"propensity": np.array([[0.5, 0.4], [0.5, 0.5]])}, "don't sum to 1"),
        ({"propensity": np.array([[0.0, 1.0], [0.5, 0.5]])}, "had no chance"),
        ({"propensity": np.ones((2, 3)) / 3}, "2 decisions x 2 arms"),
        ({"paired": np.zeros((2, 2))}, "paired_chance"),
        ({"paired": np.zeros((2, 2)), "paired_chance": np.zeros((2, 2))}, "a pair has no chance"),
    ],
)
def test_a_log_that_contradicts_itself_is_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    log = bandit([0, 1], [1.0, 0.0], np.full((2, 2), 0.5))._replace(**change)
    with pytest.raises(BadInput, match=said):
        checked(log)


def of_two_arms(known_of_second: float, n: int = 4000) -> Bandit:
    """Two arms drawn evenly, right in 9 and 5 of 10 answers; the second's outcomes are known in part."""
    rng = np.random.default_rng(21)
    action = rng.integers(0, 2, n)
    reward = (rng.random(n) < np.where(action == 0, 0.9, 0.5)).astype(float)
    reward[(action == 1) & (rng.random(n) >= known_of_second)] = np.nan
    return bandit(action, reward, np.full((n, 2), 0.5))


def test_an_arm_without_any_label_is_no_support() -> None:
    log = of_two_arms(0.0)
    answer = estimate(log, np.full((log.n, 2), 0.5), np.full((log.n, 2), 0.9))
    assert (answer.support.unsupported, answer.support.unlabelled) == (0.5, 0.5)
    assert answer.best is None
    assert "50% of what the policy would do is of arms without any known outcome" in (answer.refused or "")
    pin = estimate(log, np.tile([1.0, 0.0], (log.n, 1)), np.full((log.n, 2), 0.9))
    assert (pin.best, pin.support.unlabelled) == ("dr", 0.0)


def test_few_labels_of_an_arm_are_few_effective_decisions() -> None:
    log = of_two_arms(0.1)
    even = estimate(log, np.full((log.n, 2), 0.5), np.full((log.n, 2), 0.7)).support
    assert even.ess == pytest.approx(log.n / (0.5 + 0.5 / of.share_known(log)[1]), rel=0.05)
    assert even.ess < 0.4 * even.labelled


def test_what_was_logged_counts_each_arm_as_often_as_it_answered() -> None:
    whole, thin = of_two_arms(1.0), of_two_arms(0.15)
    np.testing.assert_array_equal(of.as_logged(whole), whole.reward)
    assert float(np.nanmean(thin.reward)) > 0.8
    found = clustered(of.as_logged(thin), thin.cluster)
    assert found.low < 0.7 < found.high
    assert found.mean == pytest.approx(float((of.heard(thin) * np.nan_to_num(thin.reward)).mean()))
    assert found.half_width > 1.5 * clustered(of.as_logged(whole), whole.cluster).half_width


def test_wilson_is_its_formula_for_coins() -> None:
    rewards = np.repeat([1.0, 0.0], [285, 15])
    plain = clustered(rewards, np.arange(300))
    found = wilson(rewards, np.arange(300))
    q, reach = 0.95, plain.half_width
    n = q * (1 - q) / reach**2  # rows, in units of the squared quantile
    for end in (found.low, found.high):
        assert (q - end) ** 2 == pytest.approx(end * (1 - end) / n)  # an end's own spread
    assert 0 < plain.low - found.low < reach / 3
    assert found.high < plain.high
    assert found.error == plain.error


@given(st.floats(0.0, 1.0), st.floats(0.0, 0.3), st.integers(0, 10_000))
def test_wilson_lies_in_0_to_1_holds_its_mean_and_turns_round_with_failures(
    mean: float, spread: float, seed: int
) -> None:
    scores = mean + spread * np.random.default_rng(seed).normal(size=60)
    found, other = wilson(scores, np.arange(60)), wilson(1 - scores, np.arange(60))
    assert 0 <= found.low <= min(max(found.mean, 0.0), 1.0) + 1e-12
    assert min(max(found.mean, 0.0), 1.0) - 1e-12 <= found.high <= 1
    assert (1 - other.high, 1 - other.low) == pytest.approx((found.low, found.high))


def test_wilson_of_means_beyond_an_end_is_not_wider_than_students() -> None:
    noise = np.random.default_rng(8).normal(size=400)
    for mean in (0.97, 0.99, 0.999, 1.0, 1.01):
        scores = mean + 0.2 * (noise - noise.mean())
        plain, found = clustered(scores, np.arange(400)), wilson(scores, np.arange(400))
        assert found.high - found.low < 1.3 * (plain.high - plain.low)


def test_wilson_misses_both_sides_alike_where_student_does_not() -> None:
    rng = np.random.default_rng(9)
    missed = {clustered: [0, 0], wilson: [0, 0]}
    for _ in range(1500):
        # a tenth of the rows carries most of the weight, and ten of these fail
        weight = rng.choice([0.2, 8.2], 2000, p=[0.9, 0.1])
        scores = 0.95 + weight * ((rng.random(2000) < 0.95) - 0.95)
        for of_, sides in missed.items():
            found = of_(scores, np.arange(2000))
            sides[0] += found.high < 0.95
            sides[1] += found.low > 0.95
    low, high = (n / 1500 for n in missed[clustered])
    assert (low, high) == (pytest.approx(0.007, abs=0.006), pytest.approx(0.06, abs=0.01))
    low, high = (n / 1500 for n in missed[wilson])
    assert (low, high) == (pytest.approx(0.025, abs=0.008), pytest.approx(0.025, abs=0.008))


@pytest.mark.parametrize("rows", [12, 30, 400])
def test_where_all_answers_are_right_the_interval_is_of_their_number(rows):
    for value, end in ((1.0, 0), (0.0, 1)):
        found = wilson(np.full(rows, value), np.arange(rows))
        ends = found.low, found.high
        assert ends[1 - end] == pytest.approx(value)
        # as the rule of three says, or a little wider
        assert 2.9 / rows < abs(ends[end] - value) <= 4 / rows


def test_sessions_all_alike_count_once_each():
    found = wilson(np.ones(400), np.arange(400) // 20)
    assert found.low == wilson(np.ones(20), np.arange(20)).low


def test_a_difference_that_no_row_shows_is_open_to_both_sides():
    flat = clustered(np.zeros(200), np.arange(200))
    found = as_difference(flat, 200)
    assert found.low == -found.high
    assert 0.014 < found.high < 0.02
    plain = clustered(np.tile([0.0, 1.0], 100), np.arange(200))
    assert as_difference(plain, 200) == plain
