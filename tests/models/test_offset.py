"""Offsets: shrunken by how far repositories lie apart, order and merging as evidence adds up, bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.offset import (
    DEFAULT_VARIANCES,
    MIN_VARIANCE,
    OffsetCard,
    Offsets,
    State,
    Where,
    joined,
    log_odds_of,
    shifted,
)

APP = Where("acme/app")


def after(outcomes: list[float], p: float = 0.5, card: OffsetCard | None = None) -> Offsets:
    offsets = Offsets(card)
    for outcome in outcomes:
        offsets.learn(APP, log_odds_of(p), outcome)
    return offsets


def test_no_outcome_no_offset_and_no_name_no_repository() -> None:
    assert Offsets().of(APP) is None
    offsets = after([1.0])
    assert offsets.of(Where("acme/other")) is None
    assert offsets.of(Where()) is None
    offsets.learn(Where(), 0.0, 1.0)
    assert len(offsets) == 1


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_an_offset_goes_the_way_of_the_outcomes_and_less_far_than_their_share(
    outcomes: list[float], p: float
) -> None:
    offsets = after(outcomes, p)
    found, rows = offsets.of(APP) or (0.0, 0.0)
    assert rows == len(outcomes)
    share = np.clip(np.mean(outcomes), 1e-6, 1 - 1e-6)
    if len(set(outcomes)) == 1:  # all one way: the sign is theirs, the size is bounded by the prior
        assert found * (share - p) > 0
        assert abs(found) < 8 * DEFAULT_VARIANCES["repo"] ** 0.5


def test_many_outcomes_find_the_truth_and_few_hardly_move() -> None:
    rng = np.random.default_rng(0)
    truth = shifted(np.array([0.6]), -0.9)[0]
    many = after([float(rng.random() < truth) for _ in range(600)], 0.6).of(APP)
    assert many is not None
    assert many[0] == pytest.approx(-0.9, abs=0.3)
    one = after([0.0], 0.6).of(APP)
    assert one is not None
    assert -0.15 < one[0] < 0


def test_repositories_that_do_not_differ_have_no_offset() -> None:
    assert after([0.0] * 20, card=OffsetCard({"repo": 0.0})).of(APP) is None


def test_a_tenant_shares_its_evidence_with_repositories_that_have_none() -> None:
    offsets = Offsets(OffsetCard({"repo": 0.1, "tenant": 0.3}))
    for n in range(40):
        offsets.learn(Where(f"app{n % 4}", "acme"), 0.0, 0.0)
    fresh = offsets.of(Where("app9", "acme"))
    assert fresh is not None
    assert fresh[0] < -0.3
    assert offsets.of(Where("app1")) is None  # another's repository of that name
    assert offsets.of(Where("app1", "else")) is None


def test_evidence_of_two_processes_adds_up() -> None:
    rng = np.random.default_rng(1)
    outcomes = [float(rng.random() < 0.4) for _ in range(30)]
    start = State(0.0, DEFAULT_VARIANCES["repo"], 0.0)
    one, two, both = after(outcomes[:15]), after(outcomes[15:]), after(outcomes)
    (change,) = two.taken().values()
    assert change[0] == start
    assert not two.taken()
    found = joined(one.copy()["repo", "acme/app"], *change)
    whole = both.copy()["repo", "acme/app"]
    assert found.mean == pytest.approx(whole.mean, abs=0.08)
    assert found.variance == pytest.approx(whole.variance, rel=0.05)
    assert found.outcomes == 30
    assert joined(None, *change) == change[1]


def test_what_others_know_is_taken_over_beside_what_changed_meanwhile() -> None:
    here, there = after([1.0] * 5), after([1.0] * 9)
    here.taken()
    here.learn(APP, 0.0, 1.0)
    here.take_over(there.copy())
    assert here.copy()["repo", "acme/app"].outcomes == 10
    assert [after.outcomes - before.outcomes for before, after in here.taken().values()] == [1.0]


def test_changes_that_could_not_be_written_are_owed() -> None:
    here = after([1.0] * 3)
    changes = here.taken()
    here.learn(APP, 0.0, 0.0)
    here.untaken(changes)
    ((before, now),) = here.taken().values()
    assert (before.outcomes, now.outcomes) == (0.0, 4.0)


def test_repositories_are_bounded_the_least_recently_used_out_first() -> None:
    offsets = Offsets(limit=3)
    for n in range(3):
        offsets.learn(Where(f"r{n}"), 0.0, 1.0)
    offsets.of(Where("r0"))
    offsets.learn(Where("r3"), 0.0, 1.0)
    assert len(offsets) == 3
    assert offsets.of(Where("r0")) is not None
    assert offsets.of(Where("r1")) is None
    assert len(offsets.taken()) == 3


def test_an_old_offset_can_still_move() -> None:
    offsets = after([1.0] * 2000)
    state = offsets.copy()["repo", "acme/app"]
    assert state.variance >= MIN_VARIANCE
    for _ in range(400):
        offsets.learn(APP, 0.0, 0.0)
    assert offsets.copy()["repo", "acme/app"].mean < 0 < state.mean


@given(st.floats(0, 1), st.floats(-3, 3))
def test_a_shift_keeps_order_and_range(p: float, log_odds: float) -> None:
    found = shifted(np.array([p, min(p + 0.1, 1.0)]), log_odds)
    assert ((found >= 0) & (found <= 1)).all()
    assert found[0] <= found[1]
