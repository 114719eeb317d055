"""Whole sessions: estimated near a truth that single decisions miss, refused where few went that way."""

from __future__ import annotations

import numpy as np
import pytest
from replay_answers import row, what_if
from replay_logs import CHEAP, STRONG, write_log

from training.estimators.bandit import Bandit
from training.replay.quality.by_session import BySession, Led, led_by, of_sessions, outcomes_of


def drawn(sessions: int, seed: int) -> tuple[Bandit, np.ndarray]:
    """Sessions of two decisions by chance; solved where both were arm 1, and half the time else."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 2, 2 * sessions)
    both = action.reshape(-1, 2).all(axis=1)
    outcome = np.where(both, 1.0, (rng.random(sessions) < 0.5).astype(float))
    cluster = np.repeat(np.arange(sessions), 2)
    chances = np.full((2 * sessions, 2), 0.5)
    free = np.zeros(2 * sessions, dtype=bool)
    return Bandit(("a", "b"), action, np.repeat(outcome, 2), chances, cluster, free), outcome


def test_a_session_is_judged_by_all_its_decisions() -> None:
    log, outcome = drawn(4_000, 0)
    always = np.tile([0.0, 1.0], (log.n, 1))
    found = of_sessions(led_by(log, always, outcome), same=False)
    assert found.supported
    assert found.quality == pytest.approx(1.0)
    assert found.quality_ci is not None  # none failed of some 1,000, of which three in a thousand might
    assert found.quality_ci[0] == pytest.approx(1 - 3.84 / found.ess, rel=1e-3)
    never = of_sessions(led_by(log, 1 - always, outcome), same=False)
    assert never.quality_ci is not None
    assert never.quality_ci[0] < 0.5 < never.quality_ci[1]


def test_its_interval_covers() -> None:
    missed = 0
    for seed in range(200):
        log, outcome = drawn(2_000, seed)
        ends = of_sessions(led_by(log, np.tile([1.0, 0.0], (log.n, 1)), outcome), same=False).quality_ci
        assert ends is not None
        missed += not ends[0] <= 0.5 <= ends[1]
    assert missed <= 20  # of 200 at 95 %


def rare(seed: int, share: float, epsilon: float, sessions: int = 1_000) -> BySession:
    """Sessions of three decisions, in a rare kind of which the policy takes the other arm, which is worse."""
    rng = np.random.default_rng(seed)
    odd = np.repeat(rng.random(sessions) < share, 3)
    action = (rng.random(odd.size) < epsilon / 2).astype(int)
    reward = (rng.random(odd.size) < np.where(odd & (action == 1), 0.2, 0.9)).astype(float)
    chances = np.tile([1 - epsilon / 2, epsilon / 2], (odd.size, 1))
    cluster = np.repeat(np.arange(sessions), 3)
    log = Bandit(("a", "b"), action, reward, chances, cluster, np.zeros(odd.size, dtype=bool))
    outcome = reward.reshape(-1, 3).mean(axis=1)
    return of_sessions(led_by(log, np.eye(2)[odd.astype(int)], outcome), same=False)


def test_what_never_happened_in_rare_sessions_is_no_support() -> None:
    found = [rare(seed, 0.1, 0.02) for seed in range(50)]
    assert not any(one.supported for one in found)  # all were, at 882 effective sessions, and none held
    assert max(one.ess for one in found) < 1


def test_where_rare_sessions_are_explored_its_interval_covers() -> None:
    found = [rare(seed, 0.1, 1.0, 12_000).quality_ci for seed in range(100)]
    ends = [one for one in found if one is not None]
    assert len(ends) == 100
    assert sum(low <= 0.83 <= high for low, high in ends) >= 90


def test_one_session_that_carries_a_twentieth_of_the_weight_is_refused() -> None:
    whole = Led(1_000, 0, 1_000.0, 49.0, 800.0, 2_000.0, 1_600.0, 1_600.0, 800.0, 800.0, 2_000.0)
    assert of_sessions(whole, same=False).supported
    found = of_sessions(whole._replace(largest=51.0), same=False)
    assert (found.quality, found.supported) == (None, False)
    assert (found.why or "").startswith("one session carries 5")


def test_the_logged_sessions_stand_for_themselves() -> None:
    log, outcome = drawn(500, 2)
    found = of_sessions(led_by(log, np.eye(2)[log.action], outcome), same=True)
    assert found.quality == pytest.approx(outcome.mean())
    assert found.ess == 500


def test_few_sessions_that_went_the_policys_way_are_refused() -> None:
    log, outcome = drawn(500, 1)
    found = of_sessions(led_by(log, np.tile([0.0, 1.0], (log.n, 1)), outcome), same=False)
    assert found.quality is None
    assert "effective sessions went as this policy would have led them" in (found.why or "")


def test_the_outcome_of_a_session_is_the_mean_of_those_known() -> None:
    found = outcomes_of(np.array([0, 0, 1, 2]), np.array([1.0, 0.0, np.nan, 1.0]), 3)
    assert found[0] == 0.5
    assert np.isnan(found[1])
    assert found[2] == 1.0


def test_a_log_whose_sessions_keep_what_they_drew_tells_pins_by_session(tmp_path) -> None:  # type: ignore[no-untyped-def]
    log = write_log(tmp_path / "log", sessions=1000, turns=2, epsilon=1.0, keeps=True, pace_ms=600_000)
    result = what_if(log)
    for arm in (STRONG, CHEAP):
        said = row(result, f"pin:{arm}")["by_session"]
        assert said["supported"]
        assert said["quality_ci"][0] < 0.9 < said["quality_ci"][1]
    watch = result["watch"]
    assert watch["sessions"] == 1000
    assert watch["ci"][0] < 0.9 < watch["ci"][1]
    assert watch["course"][0][1] <= watch["course"][-1][1]
