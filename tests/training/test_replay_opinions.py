"""Every estimator's word on the page and in the JSON: the package's own, in parts, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from replay_logs import CHEAP, write_log
from test_what_if import row, what_if
from typer.testing import CliRunner

import samediff
from training.estimators.bandit import Bandit
from training.estimators.estimate import estimate
from training.replay.entries import Entry
from training.replay.evidence import Evidence
from training.replay.judge import Judge
from training.replay.opinions import opinions

if TYPE_CHECKING:
    from pathlib import Path


def logged(n: int = 600) -> Bandit:
    rng = np.random.default_rng(0)
    chance = np.tile([0.7, 0.3], (n, 1))
    action = (rng.random(n) < 0.3).astype(int)
    reward = (rng.random(n) < np.array([0.8, 0.6])[action]).astype(float)
    return Bandit(("a", "b"), action, reward, chance, np.arange(n) // 4, np.zeros(n, dtype=bool))


def part(log: Bandit) -> Evidence:
    return Evidence(log, np.zeros(log.n, dtype=int), log.n, 0, np.zeros((2, 2)))


def entry(target: list[np.ndarray]) -> Entry:
    return Entry(name="b", usd=np.zeros(1), parts={}, target=target.__getitem__)


def test_they_are_those_of_the_estimators_whole_and_in_parts() -> None:
    log = logged()
    target = np.tile([0.1, 0.9], (log.n, 1))
    whole = {said["method"]: said for said in opinions(Judge([part(log)]), [entry([target])])["b"]}
    theirs = estimate(log, target, np.full((log.n, 2), 0.7))  # these methods need no model
    for method in ("ips", "snips", "replay"):
        other = theirs.named(method)
        assert other is not None
        assert whole[method]["value"] == pytest.approx(other.quality)
        assert whole[method]["interval"] == pytest.approx(other.quality_ci, abs=2e-3)
    halves = [part(log.rows(np.arange(log.n) < 300)), part(log.rows(np.arange(log.n) >= 300))]
    parts = {s["method"]: s for s in opinions(Judge(halves), [entry([target[:300], target[300:]])])["b"]}
    for method in ("ips", "snips", "dr", "dm"):
        assert parts[method]["value"] == pytest.approx(whole[method]["value"])


def test_the_json_has_all_of_them_and_the_model_has_no_interval(tmp_path: Path) -> None:
    result = what_if(write_log(tmp_path / "log", sessions=500, epsilon=0.6))
    pin = row(result, f"pin:{CHEAP}")
    said = {one["method"]: one for one in pin["estimates"]}
    assert set(said) == {"ips", "snips", "dr", "dr_clipped", "dr_switch", "replay", "dm"}
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
