"""Controls are held to the budget as everything else is, and the one blind to caches is blind indeed."""

import numpy as np
import pytest
from replay_logs import CHEAP, STRONG, write_log

from router.gateway.settings import Settings
from router.policy import parse_policy
from training.replay import controls
from training.replay.options import Options
from training.replay.stage import as_asked, set_up


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("controls") / "log", sessions=40, turns=6, epsilon=0.5)
    return set_up(log, Options(), Settings(), []).world


@pytest.fixture(scope="module")
def tight(world):
    """The same with a budget by session that not all calls fit."""
    return as_asked(world, Options(budget="0.15/session"))


def pair(world):
    return world.arms.at(CHEAP, "test"), world.arms.at(STRONG, "test")


def test_the_blind_control_moves_where_the_served_one_stays(world):
    """Beliefs that change from turn to turn move who knows of no cache, and let who does stay."""
    rng = np.random.default_rng(0)
    shape = world.tokens.shape
    beliefs = world.beliefs._replace(
        p=rng.uniform(0.7, 0.9, shape).astype(np.float32), spread=np.full(shape, 0.1, np.float32),
        output=np.full(shape, 400, np.float32), turns=np.full(shape, 2, np.float32),
    )  # fmt: skip
    found = controls.learned(world._replace(beliefs=beliefs), parse_policy("learned:max_loss=0.05"), None)
    assert found["blind"].switches > found["learned"].switches > 0
    assert found["blind"].usd.sum() != pytest.approx(found["learned"].usd.sum())
    assert found["sticky_session"].switches == 0


def test_a_cascade_keeps_to_the_budget(world, tight):
    free, held = (controls.cascade(w, pair(world), 0.1, "cascade") for w in (world, tight))
    assert free.refused == 0
    assert held.refused > 0
    assert held.usd.max() <= 0.15 < free.usd.max()
    assert sum(held.parts[part] for part in ("fresh", "cached", "written", "output")) == pytest.approx(
        held.usd.sum()
    )


def test_who_answers_nothing_is_not_the_cheapest(world):
    stopped = as_asked(world, Options(budget="0.03/session"))
    alone = controls.pins(stopped, np.zeros(len(stopped.arms.arms), dtype=bool), lambda: None)
    assert alone[STRONG].refused == world.book.n
    assert alone[STRONG].total == 0
    assert 0 < controls.cheapest(stopped, alone, 0).refused < world.book.n


def test_pins_chosen_on_the_other_half_keep_to_the_budget(tight):
    alone = controls.pins(tight, np.zeros(len(tight.arms.arms), dtype=bool), lambda: None)
    found = controls.cheapest(tight, alone, 0)
    fewest = min(alone.values(), key=lambda entry: entry.total)
    assert alone[STRONG].refused > 0
    assert found.refused == fewest.refused
    assert found.usd.sum() == pytest.approx(fewest.usd.sum())
    mix = controls.random_mix(tight, (alone[CHEAP], alone[STRONG]), 0.0)
    assert min(alone[CHEAP].refused, alone[STRONG].refused) <= mix.refused
