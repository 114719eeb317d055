"""A log that is played in parts gives the answer of the same log in one piece, and leaves no files behind."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_answers import what_if
from replay_logs import CHEAP, STRONG, write_log

from training.estimators.bandit import Bandit
from training.estimators.estimate import estimate
from training.estimators.model import table_model
from training.replay.logged import parts
from training.replay.quality.evidence import Evidence
from training.replay.quality.judge import Judge

if TYPE_CHECKING:
    from pathlib import Path

ASKED = (
    "--policy", f"mix:{STRONG}=1,{CHEAP}=1", "--policy", f"cascade:{CHEAP},{STRONG}",
    "--policy", "learned:max_loss=0.3,explore=0.1", "--group-by", "user",
)  # fmt: skip


def same(one: Any, other: Any, where: str = "") -> None:
    """Hold two answers against each other; sums of floats may be off in their last digits."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"seconds"}:
            same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{where}[{i}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9), where
    else:
        assert one == other, where


@pytest.mark.parametrize(
    "more",
    [(), ("--budget", "1/user/day"), ("--cache", "ttl=60s", "--prices", "2026-09-01", "--without", "glm-5")],
)
def test_a_log_in_parts_gives_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    log = write_log(tmp_path / "log", sessions=110, turns=5, epsilon=0.8, pairs=0.05, pace_ms=3_600_000)
    whole = what_if(log, *ASKED, *more)
    monkeypatch.setattr(parts, "CALLS", 150)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    in_parts = what_if(log, *ASKED, *more)
    same(whole, in_parts)
    assert len(json.dumps(in_parts["routes"])) > 1_000
    assert not list((tmp_path / "spill").iterdir())


def test_what_cannot_be_played_is_counted_once_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "log", sessions=30, turns=4)
    write_log(
        log, sessions=9, turns=2, seed=1, request_id="x", session_id="y", model_served="no-such-model-7"
    )
    whole = what_if(log)
    monkeypatch.setattr(parts, "CALLS", 20)
    same(whole, what_if(log))
    assert whole["left_out"] == {"no price is known of their model": 1}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), told=st.booleans(), paired=st.booleans(), cuts=st.integers(1, 5))
def test_sums_over_parts_are_the_estimate_of_the_whole(
    seed: int, told: bool, paired: bool, cuts: int
) -> None:
    rng = np.random.default_rng(seed)
    n, k = 1_200, 3
    chances = rng.dirichlet(np.ones(k), n)
    action = np.array([rng.choice(k, p=p) for p in chances])
    reward = np.where(rng.random(n) < 0.8, (rng.random(n) < 0.7).astype(float), np.nan)
    if not told:
        chances[rng.random(n) < 0.1] = np.nan
    asked = np.where(rng.random((n, k)) < 0.5, (rng.random((n, k)) < 0.6).astype(float), np.nan)
    asked[np.arange(n), action] = np.nan
    pairs = (asked, np.where(np.isfinite(asked), 0.5, np.nan)) if paired else (None, None)
    cluster = np.sort(rng.integers(0, 100, n))
    log = Bandit(("a", "b", "c"), action, reward, chances, cluster, rng.random(n) < 0.2, *pairs)
    kind, target = rng.integers(0, 4, n), rng.dirichlet(np.ones(k), n)
    free = ~log.locked
    expected = estimate(log.rows(free), target[free], table_model(log.rows(free), kind[free]), call_usd=0.1)
    edges = np.searchsorted(cluster, np.linspace(0, 100, cuts + 1))
    pieces = [np.arange(a, b) for a, b in zip(edges, [*edges[1:-1], n], strict=False)]
    of_parts = [Evidence(log.rows(piece), kind[piece], 0, 0, np.zeros((2, k))) for piece in pieces]
    found = Judge(of_parts).of(lambda part: target[pieces[part]], 0.1)
    assert found.supported == (expected.refused is None)
    assert found.why == expected.refused
    if expected.quality is not None:
        assert found.quality == pytest.approx(expected.quality.quality, rel=1e-9)
        assert found.ci == pytest.approx(expected.quality.quality_ci, rel=1e-7)
        assert found.ess == pytest.approx(expected.quality.ess, rel=1e-9)
        assert found.missing == expected.missing
