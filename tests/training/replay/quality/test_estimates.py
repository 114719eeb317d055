"""Every estimator's word on the page and in the JSON: the package's own, in parts, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_answers import row, what_if
from replay_logs import CHEAP, write_log
from typer.testing import CliRunner

import samediff
from training.estimators.bandit import Bandit
from training.estimators.estimate import estimate
from training.estimators.intervals import wilson
from training.estimators.model import table_model
from training.replay.quality.estimates import every_estimate
from training.replay.quality.evidence import Evidence
from training.replay.quality.judge import Judge
from training.shadow.sampling import clopper_pearson

if TYPE_CHECKING:
    from pathlib import Path


def logged(n: int = 600, seed: int = 0) -> Bandit:
    rng = np.random.default_rng(seed)
    chance = np.tile([0.7, 0.3], (n, 1))
    action = (rng.random(n) < 0.3).astype(int)
    reward = (rng.random(n) < np.array([0.8, 0.6])[action]).astype(float)
    return Bandit(("a", "b"), action, reward, chance, np.arange(n) // 4, np.zeros(n, dtype=bool))


def part(log: Bandit) -> Evidence:
    return Evidence(log, np.zeros(log.n, dtype=int), log.n, 0, np.zeros((2, 2)))


def said_of(log: Bandit, target: np.ndarray, cuts: int = 1) -> dict[str, dict[str, Any]]:
    """What is said of one policy, the log being cut into so many parts of whole clusters."""
    at = [np.flatnonzero(np.isin(log.cluster, some)) for some in np.array_split(np.unique(log.cluster), cuts)]
    one = [target[rows] for rows in at].__getitem__
    judge = Judge([part(log.rows(rows)) for rows in at])
    return {said["method"]: said for said in every_estimate(judge, {"b": (one, judge.of(one))})["b"]}


def test_they_are_those_of_the_estimators() -> None:
    log = logged()
    target = np.tile([0.1, 0.9], (log.n, 1))
    whole = said_of(log, target)
    theirs = estimate(log, target, table_model(log, np.zeros(log.n, dtype=int)))
    for method in ("ips", "snips", "dr", "dr_clipped", "dr_switch", "replay", "dm"):
        other = theirs.named(method)
        assert other is not None
        assert whole[method]["value"] == pytest.approx(other.quality)
        if other.quality_ci is not None:
            assert whole[method]["interval"] == pytest.approx(other.quality_ci, abs=2e-3)
            assert whole[method]["ess"] <= other.ess


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.integers(2, 40), paired=st.booleans())
def test_how_a_log_is_cut_into_parts_says_nothing(seed: int, cuts: int, paired: bool) -> None:
    """Thresholds tuned in each part of 40 once made 0.806 of 0.736, and every part drew the same numbers."""
    rng = np.random.default_rng(seed)
    n = 1_600
    rare = np.where(rng.random(n) < 0.1, 0.02, 0.4)
    chance = np.stack([1 - rare, rare], axis=1)
    action = (rng.random(n) < rare).astype(int)
    reward = (rng.random(n) < np.where(rare < 0.1, 0.3, 0.8)).astype(float)
    reward[rng.random(n) < np.array([0.5, 0.1])[action]] = np.nan
    log = Bandit(("a", "b"), action, reward, chance, np.arange(n) // 3, np.zeros(n, dtype=bool))
    if paired:
        asked = np.where(rng.random((n, 2)) < 0.5, (rng.random((n, 2)) < 0.6).astype(float), np.nan)
        asked[np.arange(n), action] = np.nan
        log = log._replace(paired=asked, paired_chance=np.where(np.isfinite(asked), 0.5, np.nan))
    target = rng.dirichlet([0.3, 1.0], n)
    whole, parts = said_of(log, target), said_of(log, target, cuts)
    assert whole.keys() == parts.keys() >= {"ips", "ips_bernstein", "dr_clipped", "dr_switch", "replay", "dm"}
    for method, one in whole.items():
        assert parts[method]["value"] == pytest.approx(one["value"], rel=1e-9), method
        if method != "dm":
            assert parts[method]["ess"] == pytest.approx(one["ess"], rel=1e-9), method
            assert parts[method]["interval"] == pytest.approx(one["interval"], rel=1e-7), method


def test_whom_sessions_belong_to_is_whole_in_parts_too() -> None:
    log, target = logged(1_200), np.tile([0.1, 0.9], (1_200, 1))
    users = np.arange(300) % 40

    def said(cuts: int) -> list[dict[str, Any]]:
        at = np.array_split(np.arange(log.n), cuts)
        judge = Judge([part(log.rows(rows)) for rows in at], None, users)
        one = [target[rows] for rows in at].__getitem__
        return every_estimate(judge, {"b": (one, judge.of(one))})["b"]

    for one, other in zip(said(1), said(6), strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-9)
        if one["interval"] is not None:
            assert other["interval"] == pytest.approx(one["interval"], rel=1e-7)


def test_luck_makes_no_effective_decisions_here_either() -> None:
    """Where the improbable didn't happen, the weights that did said 1,758 decisions, and the quality 167."""
    n, rng = 2_000, np.random.default_rng(3)
    apart = rng.random(n) < 0.1
    action = (rng.random(n) < 0.01).astype(int)
    action[apart] = 0
    reward = (rng.random(n) < 0.8).astype(float)
    log = Bandit(
        ("a", "b"), action, reward, np.tile([0.99, 0.01], (n, 1)), np.arange(n), np.zeros(n, dtype=bool)
    )
    target = np.where(apart[:, None], [0.0, 1.0], [1.0, 0.0])
    support = estimate(log, target, np.full((n, 2), 0.8)).support
    said = said_of(log, target)
    for method in ("ips", "snips", "dr", "dr_clipped", "dr_switch", "replay"):
        assert said[method]["ess"] == pytest.approx(support.ess)
    assert support.ess < 200
    low, high = said["ips_bernstein"]["interval"]
    assert low <= 0.5
    assert high == 1.0  # what was never seen may be anything


def test_what_replay_keeps_is_exact_where_it_kept_one_of_a_session() -> None:
    log, pin = logged(), np.tile([0.0, 1.0], (600, 1))
    alone = log._replace(cluster=np.arange(log.n))
    rows = log.action == 1
    exact = clopper_pearson(float(log.reward[rows].sum()), float(rows.sum()))
    assert said_of(alone, pin)["replay"]["interval"] == pytest.approx(exact)
    clustered = wilson(log.reward[rows], log.cluster[rows])
    assert said_of(log, pin)["replay"]["interval"] == pytest.approx((clustered.low, clustered.high), rel=1e-2)


def test_bounds_of_ips_hold_at_any_size_and_are_wider() -> None:
    held = 0
    for seed in range(40):
        log = logged(seed=seed)
        said = said_of(log, np.tile([0.1, 0.9], (log.n, 1)))
        low, high = said["ips_bernstein"]["interval"]
        assert low < said["ips"]["interval"][0] < said["ips"]["interval"][1] < high
        held += low <= 0.62 <= high
    assert held == 40


def test_what_is_quoted_is_beside_its_bootstrap() -> None:
    log = logged(4_000)
    said = said_of(log, np.tile([0.1, 0.9], (log.n, 1)))
    assert [name for name, one in said.items() if one["quoted"]] == ["dr"]
    assert said["dr_bootstrap"]["value"] == said["dr"]["value"]
    assert said["dr_bootstrap"]["interval"] == pytest.approx(said["dr"]["interval"], abs=3e-3)


def test_the_json_has_all_of_them_and_the_model_has_no_interval(tmp_path: Path) -> None:
    result = what_if(write_log(tmp_path / "log", sessions=500, epsilon=0.6))
    pin = row(result, f"pin:{CHEAP}")
    said = {one["method"]: one for one in pin["estimates"]}
    assert set(said) == {
        *("ips", "ips_bernstein", "snips", "dr", "dr_clipped", "dr_switch", "replay", "dr_bootstrap", "dm")
    }
    assert [one["method"] for one in pin["estimates"] if one["quoted"]] == [pin["quality_how"]]
    assert said["dr"]["value"] == pytest.approx(pin["quality"])
    assert said["dr"]["interval"] == pytest.approx(pin["quality_ci"], abs=1e-6)
    assert said["dm"]["interval"] is None
    assert "nothing is advised by it" in said["dm"]["note"]
    assert all(abs(one["value"] - 0.9) < 0.1 for one in said.values())


def test_without_chances_only_pairs_and_the_model_speak(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", sessions=200, decided=False, pairs=0.5)
    said = [one["method"] for one in row(what_if(log), f"pin:{CHEAP}")["estimates"]]
    assert said == ["paired", "dm"]


def test_the_page_ends_with_them(tmp_path: Path) -> None:
    log, page = write_log(tmp_path / "log", sessions=60), tmp_path / "page.html"
    assert CliRunner().invoke(samediff.app, ["what-if", str(log), "--html", str(page)]).exit_code == 0
    appendix = page.read_text(encoding="utf-8").split("Appendix: every estimator")[1]
    assert "dm is what the model of outcomes believes" in appendix
    assert "dr_switch" in appendix
