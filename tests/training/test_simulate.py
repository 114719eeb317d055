"""Power: what a made-up log can prove grows with its size and exploration; nothing is claimed of nothing."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from rich.console import Console

from features.errors import BadInput
from training.estimators.bandit import checked
from training.simulate.power import AGREEMENTS, EPSILONS, Cell, bandit, of_cell, power, render
from training.simulate.traffic import Traffic
from training.simulate.world import Asks, World, cells, success


def test_the_world_is_the_same_whenever_it_is_made() -> None:
    asks = Asks(np.arange(5) % 5, np.zeros(5, dtype=int), np.zeros(5), np.zeros(5))
    np.testing.assert_array_equal(success(World(), asks, 3), success(World(), asks, 3))
    assert (cells(World()) != cells(World(seed=1))).any()


def test_stronger_arms_succeed_more_often_and_drift_lifts_the_others() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    kind, repo = rng.integers(0, 5, n), rng.integers(0, 8, n)
    calm = World(cell_spread=0.0)
    asks = Asks(kind, repo, np.zeros(n), np.zeros(n))
    means = success(calm, asks, 0).mean(axis=0)
    assert (np.diff(means) <= 0.005).all()
    drifting = msgspec.structs.replace(calm, drift=1.0)
    late = success(drifting, asks._replace(age=np.ones(n)), 0).mean(axis=0)
    assert (late[1:] > means[1:] + 0.03).all()
    assert late[0] == pytest.approx(means[0])


def test_logs_are_what_the_estimators_ask_for() -> None:
    for session in (1, 5):
        log, target, kind = bandit(World(), Traffic(), Cell(500, 0.1, 0.5, 0.02), session=session, seed=0)
        assert checked(log).n == len(target) == len(kind) == 500
        np.testing.assert_allclose(target.sum(axis=1), 1)
        assert len(np.unique(log.cluster)) == 500 // session


def test_power_grows_with_the_log_and_nothing_is_claimed_without_chances() -> None:
    traffic = Traffic(pairs=0.03)
    found = power(World(), traffic, (1_000, 8_000), runs=2)
    at = {(f.decisions, f.epsilon, f.agreement, f.pairs): f for f in found}
    assert len(at) == 2 * len(EPSILONS) * len(AGREEMENTS) * 2
    assert all(at[n, 0.0, a, 0.0].half_width is None for n in (1_000, 8_000) for a in AGREEMENTS)
    assert "never had a chance" in (at[8_000, 0.0, 0.1, 0.0].why or "")
    large, small = at[8_000, 0.3, 0.9, 0.0].half_width, at[1_000, 0.3, 0.9, 0.0].half_width
    assert large is not None
    assert small is None or large < small
    console = Console(width=160, record=True)
    with console.capture() as shown:
        for part in render(found, traffic):
            console.print(part)
    assert "refused" in shown.get()
    assert "3% pairs" in shown.get()
    assert "about 5,000 calls" in shown.get()


def test_half_widths_are_those_of_the_estimates_themselves() -> None:
    """Untold and mistaken outcomes included: 60 logs, whose spread is known to within a tenth."""
    traffic = Traffic(labelled=0.6, noise=0.1)
    found = of_cell(World(), traffic, Cell(3_000, 0.3, 0.9, 0.05), runs=60, session=3)
    assert found.refused == 0
    assert found.half_width == pytest.approx(found.seen, rel=0.25)
    whole = of_cell(World(), Traffic(labelled=1.0, noise=0.0), Cell(3_000, 0.3, 0.9, 0.05), runs=3, session=3)
    assert found.half_width is not None
    assert whole.half_width is not None
    assert whole.seen is None  # too few to tell
    assert whole.half_width < 0.9 * found.half_width


def test_hushed_failures_are_untold_and_say_that_they_bias() -> None:
    traffic = Traffic(labelled=1.0, noise=0.0, silent_failures=1.0)
    log, _, _ = bandit(World(), traffic, Cell(400, 0.3, 0.5, 0.0), session=1, seed=0)
    assert set(np.unique(log.reward[np.isfinite(log.reward)])) == {1.0}
    assert 0 < np.isnan(log.reward).mean() < 0.5
    assert any("bias" in str(part) for part in render([], traffic))


@pytest.mark.parametrize("arms", [{"a": 0.9}, {"a": 0.9, "b": 1.0}])
def test_a_world_that_cannot_be_is_refused(arms: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        World(arms=arms)


def test_few_labels_widen_what_pairs_say_as_much_as_they_should() -> None:
    """An answer whose outcome is untold isn't asked again: the told ones of its arm must speak for it."""
    found = of_cell(World(), Traffic(labelled=0.3), Cell(4_000, 0.0, 0.9, 0.05), runs=80, session=1)
    assert found.refused == 0
    assert found.half_width == pytest.approx(found.seen, rel=0.18)


def test_exploring_beside_pairs_costs_nothing() -> None:
    """A handful of improbable answers of huge weight must not drown what the pairs say."""
    traffic = Traffic(labelled=0.6)
    none, little, more = (
        of_cell(World(), traffic, Cell(12_000, epsilon, 0.9, 0.03), runs=3, session=1).half_width or 1.0
        for epsilon in (0.0, 0.02, 0.1)
    )
    assert little < 1.05 * none
    assert more < 1.05 * none
