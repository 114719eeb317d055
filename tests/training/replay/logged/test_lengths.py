"""Lengths of answers: shadow answers tell a candidate's own, else what beliefs miss by is in its interval."""

import json

import numpy as np
import polars as pl
import pytest

from router.gateway.settings import Settings
from training.replay.logged import lengths
from training.replay.logged.lengths import MIN_CALLS, Sizes
from training.replay.options import Options
from training.replay.run import run
from training.simulate.traffic import Traffic
from training.simulate.world import World
from training.simulate.write import Wanted, make

NEVER = "glm-5"  # served by nobody; shadow calls alone asked it
ARMS = {"claude-opus-4-6": 0.9, "kimi-k2.5": 0.8, NEVER: 0.6}
ASKED = Options(reference="claude-opus-4-6", frontier=False, draws=400)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made-up log and its truth: USD of each policy."""
    folder = tmp_path_factory.mktemp("lengths")
    mix = "mix:claude-opus-4-6=0.5,kimi-k2.5=0.5"
    wanted = Wanted(to=folder / "log", turns=300, policy=mix)
    traffic = Traffic(asks=2.0, turns=1.0, pairs=0.5)
    make(World(arms=ARMS, seed=5), traffic, wanted, Settings())
    truth = json.loads((folder / "log.truth.json").read_text(encoding="utf-8"))
    return folder / "log", {said["name"]: float(said["cost_usd"]) for said in truth["policies"]}


def test_shadow_answers_tell_how_long_a_candidate_writes_that_never_served(made):
    log, truth = made
    result = run(log, ASKED, Settings())
    row = result.row(f"pin:{NEVER}")
    assert result.output_tokens_by[NEVER] == "their shadow answers"
    assert row.cost_usd == pytest.approx(truth[row.name], rel=0.05)
    assert not any("believed by the bundle" in said and NEVER in said for said in result.caveats)


def test_without_them_the_interval_holds_what_the_beliefs_miss_by(made, monkeypatch):
    log, truth = made
    told = run(log, ASKED, Settings()).row(f"pin:{NEVER}")
    few = lengths.answers_of(log).filter(pl.col("candidate") == NEVER).head(MIN_CALLS - 1)
    monkeypatch.setattr(lengths, "answers_of", lambda _: few)
    result = run(log, ASKED, Settings())
    row = result.row(f"pin:{NEVER}")
    assert result.output_tokens_by[NEVER] == "the bundle"
    low, high = row.cost_usd_ci
    assert low <= truth[row.name] <= high
    assert high - low > 2 * (told.cost_usd_ci[1] - told.cost_usd_ci[0])
    assert any("believed by the bundle" in said and NEVER in said for said in result.caveats)
    kept = result.row("pin:kimi-k2.5")
    assert kept.cost_usd_ci[1] - kept.cost_usd_ci[0] < kept.cost_usd


def test_the_doubt_of_lengths_that_the_log_tells_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    many, mean = 400, 100.0
    out = np.stack([rng.gamma(4.0, mean / 4, many), rng.gamma(4.0, mean / 2, many)])
    sizes = Sizes(
        np.zeros((3, 1)),
        np.full((2, 1), float(many)),
        out.sum(axis=1)[:, None],
        (out**2).sum(axis=1)[:, None],
        np.zeros(2),
        np.array([""]),
    )
    expected = out.std(axis=1) / out.mean(axis=1) / np.sqrt(many)
    assert lengths.doubts_of(sizes, ()) == pytest.approx(expected, rel=1e-6)


def test_what_is_felt_adds_up_to_nothing_and_varies_by_the_doubt():
    wrote, doubts = np.array([0.0, 50.0]), np.array([0.3, 0.2])
    felt = lengths.felt(wrote, doubts, 200)
    assert felt.sum() == pytest.approx(0.0, abs=1e-9)
    assert np.sqrt((felt**2).sum()) == pytest.approx(10.0)
    assert lengths.felt(None, doubts, 200) == 0.0
