"""Certificates hold as often as they say, refuse without evidence, and never look at what isn't known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student_t

from training.certify import DELTA, LEAST_RHO, LEVELS, TAUS, Routed, certify, routed_rows, upper_bound
from training.examples import Examples
from training.shadow.sampling import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Iterable


def routed(rng: np.random.Generator, n: int, harm: float, *, groups: int | None = None) -> Routed:
    """Two candidates: the cheap one's p says nothing of the harm, which is the same at every threshold."""
    p = np.stack([rng.uniform(0.4, 1.0, n), np.full(n, 0.9)], axis=1)
    worse = rng.random(n) < harm
    success = np.stack([np.where(worse, 0.0, 1.0), np.ones(n)], axis=1)
    group = np.arange(n) if groups is None else rng.integers(0, groups, n)
    return Routed(("cheap", "dear"), 1, p, success, group.astype(str))


def test_the_risk_at_a_certified_threshold_is_too_high_in_at_most_delta_of_runs() -> None:
    rng = np.random.default_rng(0)
    wrong = sum(certify(routed(rng, 400, 0.055), "worse_if_cheap").tau is not None for _ in range(400))
    assert wrong <= 400 * DELTA + 3 * np.sqrt(400 * DELTA * (1 - DELTA))


def test_what_is_safe_is_certified_with_enough_rows_and_not_with_few() -> None:
    rng = np.random.default_rng(1)
    found = certify(routed(rng, 3000, 0.01), "worse_if_cheap")
    assert found.tau == min(TAUS)
    assert found.policy == "learned:max_loss=1,tau=0.5"
    assert "with 95% confidence" in found.said
    assert found.said.endswith("groups)")
    anew = msgspec.structs.replace(found, refitted=True)
    assert anew.said.endswith('train and serve with policy = "learned:certified=worse_if_cheap"')
    few = certify(routed(rng, 60, 0.0), "worse_if_cheap")
    assert few.tau is None
    assert few.policy is None
    assert few.said.endswith("so the reference stays")


def test_sixty_clean_rows_of_one_threshold_are_what_five_percent_take() -> None:
    found, effective = upper_bound(np.zeros(59), np.arange(59), 0.05)
    assert effective == 59
    assert found == pytest.approx(1 - 0.05 ** (1 / 59))
    assert found == pytest.approx(0.0495, abs=0.0005)
    assert upper_bound(np.zeros(400), np.arange(400), 0.05)[0] < 0.01
    assert upper_bound(np.zeros(0), np.zeros(0), 0.05)[0] == 1.0
    assert upper_bound(np.zeros(900), np.zeros(900), 0.05)[0] == 1.0  # one repository says nothing of others


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.integers(2, 12))
def test_a_bound_is_above_the_mean_and_wider_for_rows_that_hang_together(
    values: list[float], groups: int
) -> None:
    array = np.array(values)
    apart, rows = upper_bound(array, np.arange(len(array)), 0.05)
    together, fewer = upper_bound(array, np.arange(len(array)) % groups, 0.05)
    assert apart >= array.mean() - 1e-12
    assert together >= apart - 1e-12
    assert fewer <= rows + 1e-9


@pytest.mark.parametrize(("groups", "rho"), [(6, 0.05), (12, 0.1), (40, 0.1)])
def test_the_risk_of_new_groups_is_too_high_in_at_most_delta_of_runs(groups: int, rho: float) -> None:
    """Repositories differ (beta-binomial): the certified threshold's risk over all of them, not these."""
    rng = np.random.default_rng(7)
    a, b, runs, level = 0.05 * (1 - rho) / rho, 0.95 * (1 - rho) / rho, 150, 0.0499
    wrong = 0
    for _ in range(runs):
        group = np.repeat(np.arange(groups), rng.integers(10, 80, groups))
        rows = routed(rng, len(group), 0.0)
        worse = rng.random(len(group)) < rng.beta(a, b, groups)[group]
        success = np.stack([np.where(worse, 0.0, 1.0), np.ones(len(group))], axis=1)
        found = certify(rows._replace(success=success, group=group), "worse_if_cheap", level=level)
        wrong += found.tau is not None
    assert wrong <= runs * DELTA + 3 * np.sqrt(runs * DELTA * (1 - DELTA))


def test_the_certified_threshold_holds_where_the_risk_depends_on_it() -> None:
    """Learn-then-test: the harm of what is routed rises as tau falls, and the certificate picks the tau."""
    rng = np.random.default_rng(8)
    fresh = rng.uniform(0.4, 1.0, 400_000)
    harm = 0.3 * (1.0 - fresh)
    true = {tau: float(harm[fresh >= tau].mean()) for tau in TAUS}
    wrong = certified = 0
    for _ in range(120):
        rows = routed(rng, 1500, 0.0)
        worse = rng.random(1500) < 0.3 * (1.0 - rows.p[:, 0])
        rows = rows._replace(success=np.stack([np.where(worse, 0.0, 1.0), np.ones(1500)], axis=1))
        tau = certify(rows, "worse_if_cheap").tau
        certified += tau is not None
        wrong += tau is not None and true[tau] > LEVELS["worse_if_cheap"]
    assert certified > 80
    assert wrong <= 120 * DELTA


def test_rows_that_fail_together_by_group_count_for_less() -> None:
    rng = np.random.default_rng(2)
    n = 3000
    group = rng.integers(0, 12, n)
    worse = rng.random(n) < np.array([0.0] * 11 + [0.3])[group]
    rows = routed(rng, n, 0.0)._replace(
        success=np.stack([np.where(worse, 0.0, 1.0), np.ones(n)], axis=1), group=group.astype(str)
    )
    apart = certify(rows._replace(group=np.arange(n).astype(str)), "worse_if_cheap")
    together = certify(rows, "worse_if_cheap")
    assert together.grid[0].effective < apart.grid[0].effective / 3
    assert apart.tau is not None
    assert together.tau is None


def test_outcomes_that_a_log_happens_to_know_are_no_smaller_risk() -> None:
    """Requests that stay are all known, of the routed one in ten: the harm of all mustn't shrink for it."""
    rng = np.random.default_rng(6)
    rows = routed(rng, 6000, 0.04)
    half = rows._replace(p=np.where(rng.random((6000, 1)) < 0.5, rows.p, [[0.0, 0.9]]))
    seen = half._replace(success=np.where(rng.random((6000, 1)) < 0.1, half.success, [[np.nan, 1.0]]))
    whole, part = certify(half, "worse_of_all"), certify(seen, "worse_of_all")
    for full, few in zip(whole.grid, part.grid, strict=True):
        assert few.bound > full.bound
        assert (few.cheap, few.requests) == (full.cheap, full.requests)
        assert few.known < full.known / 5


def test_another_level_is_read_off_the_same_evidence() -> None:
    found = certify(routed(np.random.default_rng(9), 3000, 0.02), "worse_if_cheap")
    assert found.tau is not None
    assert found.at_level(0.001).tau is None
    assert found.at_level(0.05) == found
    assert found.at_level(0.2).tau == min(TAUS)


def test_harm_over_all_requests_is_easier_to_bound_than_harm_of_the_routed() -> None:
    rng = np.random.default_rng(3)
    rows = routed(rng, 2000, 0.04)
    few = rows._replace(p=np.where(rng.random((2000, 1)) < 0.2, rows.p, [[0.0, 0.9]]))
    assert certify(few, "worse_if_cheap").tau is None
    assert certify(few, "worse_of_all").tau is not None


def test_a_reference_of_unknown_outcome_makes_every_failure_count() -> None:
    rng = np.random.default_rng(4)
    rows = routed(rng, 1000, 0.2)
    unknown = rows._replace(success=np.stack([rows.success[:, 0], np.full(1000, np.nan)], axis=1))
    found = certify(unknown, "worse_if_cheap")
    assert found.grid == certify(rows, "worse_if_cheap").grid
    assert found.assumed_worse > 0
    nothing = certify(rows._replace(success=np.full((1000, 2), np.nan)), "worse_if_cheap")
    assert nothing.tau is None
    assert all(t.known == 0 < t.cheap for t in nothing.grid)


def test_candidates_dearer_than_the_reference_are_no_saving() -> None:
    rng = np.random.default_rng(5)
    rows = routed(rng, 500, 0.0)
    first = rows._replace(reference=0)
    assert all(t.cheap == 0 for t in certify(first, "worse_if_cheap").grid)


def test_each_threshold_is_bounded_at_its_share_of_delta() -> None:
    rows = routed(np.random.default_rng(10), 900, 0.02)
    for tried in certify(rows, "worse_if_cheap").grid:
        goes = rows.p[:, 0] >= tried.tau
        worse = 1.0 - rows.success[goes, 0]
        assert tried.bound == upper_bound(worse, rows.group[goes], DELTA / len(TAUS))[0]
        assert tried.bound > upper_bound(worse, rows.group[goes], DELTA)[0]


def test_few_groups_cost_the_rows_that_korn_and_graubard_say() -> None:
    """Five groups of twenty with one failure each show no correlation: the least there may be counts."""
    group = np.repeat(np.arange(5), 20)
    values = (np.arange(100) % 20 == 0).astype(float)
    rows = 100 / (1 + 19 * LEAST_RHO) * (student_t.ppf(0.05, 99) / student_t.ppf(0.05, 4)) ** 2
    bound, effective = upper_bound(values, group, 0.05)
    assert LEAST_RHO == 0.1
    assert effective == pytest.approx(rows)
    assert bound == pytest.approx(clopper_pearson(0.05 * rows, rows, 0.9)[1])


class Certain:
    """Heads that believe in everybody."""

    def predict(self, features: np.ndarray, candidate: Iterable[str], task_type: Iterable[str]) -> np.ndarray:
        return np.full(len(list(candidate)), 0.99)


def test_repeated_outcomes_of_a_task_are_averaged() -> None:
    """Three tries of each candidate: that the cheap one's last went well doesn't undo the two before."""
    held = Examples(
        features=np.zeros((6, 3), np.float32),
        candidate=np.repeat(["cheap", "dear"], 3),
        task_type=np.full(6, ""),
        success=np.array([0.0, 0.0, 1.0, 1.0, 1.0, np.nan]),
        output_tokens=np.full(6, np.nan),
        group=np.full(6, "g"),
        prices={"cheap": (1.0, 1.0), "dear": (9.0, 9.0)},
    )
    rows = routed_rows(Certain(), held, held, np.full(6, "task"))
    assert rows is not None
    assert rows.success == pytest.approx(np.array([[1 / 3, 1.0]]))
