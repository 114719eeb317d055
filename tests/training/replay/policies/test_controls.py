"""Controls are held to the budget as everything else is, and the one blind to caches is blind indeed."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from replay_logs import CHEAP, STRONG, write_log

from router.gateway.settings import Settings
from router.policy import parse_policy
from training.replay.options import Options
from training.replay.policies import controls
from training.replay.policies.entries import halves
from training.replay.policies.playing import play_all
from training.replay.stage import as_asked, set_up


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("controls") / "log", sessions=40, turns=6, epsilon=0.5)
    return set_up(log, Options(), Settings()).worlds


@pytest.fixture(scope="module")
def tight(worlds):
    """The same with a budget by session that not all calls fit."""
    return as_asked(worlds, Options(budget="0.15/session"))


def played(worlds, *plays):
    return {entry.name: entry for entry in play_all(worlds, plays, lambda: None)}


def alone(worlds):
    nobody = np.zeros(len(worlds.arms.arms), dtype=bool)
    pins = played(worlds, *controls.pins(worlds, nobody))
    return {name.removeprefix("pin:"): entry for name, entry in pins.items()}


def cascade(worlds):
    pair = worlds.arms.at(CHEAP, "test"), worlds.arms.at(STRONG, "test")
    return played(worlds, controls.cascade(worlds, pair, 0.1, "cascade"))["cascade"]


def test_the_blind_control_moves_where_the_served_one_stays(worlds):
    """Beliefs that change from turn to turn move who knows of no cache, and let who does stay."""
    rng = np.random.default_rng(0)
    shape = worlds.at(0).tokens.shape
    beliefs = worlds.at(0).beliefs._replace(
        p=rng.uniform(0.7, 0.9, shape).astype(np.float32), spread=np.full(shape, 0.1, np.float32),
        output=np.full(shape, 400, np.float32), turns=np.full(shape, 2, np.float32),
    )  # fmt: skip
    moody = worlds.changed(lambda world: world._replace(beliefs=beliefs))
    found = played(moody, *controls.learned(parse_policy("learned:max_loss=0.05"), None))
    assert found["blind"].switches > found["learned"].switches > 0
    assert found["blind"].usd.sum() != pytest.approx(found["learned"].usd.sum())
    assert found["sticky_session"].switches == 0


def test_a_cascade_keeps_to_the_budget(worlds, tight):
    free, held = cascade(worlds), cascade(tight)
    assert free.refused == 0
    assert held.refused > 0
    assert held.usd.max() <= 0.15 < free.usd.max()
    assert sum(held.parts[part] for part in ("fresh", "cached", "written", "output")) == pytest.approx(
        held.usd.sum()
    )


def test_who_answers_nothing_is_not_the_cheapest(worlds):
    stopped = as_asked(worlds, Options(budget="0.03/session"))
    pins = alone(stopped)
    assert pins[STRONG].refused == worlds.n
    assert pins[STRONG].total == 0
    assert 0 < played(stopped, controls.cheapest(stopped, pins, 0))["cheapest"].refused < worlds.n


def test_pins_chosen_on_the_other_half_keep_to_the_budget(tight):
    pins = alone(tight)
    found = played(tight, controls.cheapest(tight, pins, 0))["cheapest"]
    fewest = min(pins.values(), key=lambda entry: entry.total)
    assert pins[STRONG].refused > 0
    assert found.refused == fewest.refused
    assert found.usd.sum() == pytest.approx(fewest.usd.sum())
    mix = controls.random_mix(tight, (pins[CHEAP], pins[STRONG]), 0.0)
    assert min(pins[CHEAP].refused, pins[STRONG].refused) <= mix.refused


def test_a_cascade_of_which_nothing_is_believed_has_no_known_cost(worlds):
    """Not that of a coin: where nobody can tell whether the first is right, calls are counted as unknown."""
    at = worlds.arms.at(CHEAP, "test")
    p = worlds.at(0).beliefs.p.copy()
    p[:12, at] = np.nan
    doubtful = worlds.changed(lambda world: world._replace(beliefs=world.beliefs._replace(p=p)))
    found = cascade(doubtful)
    assert np.isnan(found.usd[:2]).all()
    assert np.isfinite(found.usd[2:]).all()
    assert found.usd[2:] == pytest.approx(cascade(worlds).usd[2:])
    assert f"nothing says how often {CHEAP} is right on 12 of 240 calls" in found.said


def test_the_cheapest_is_chosen_on_the_half_that_it_is_not_scored_on(worlds):
    """Else luck alone would make it look cheaper than it is."""
    pins, half = alone(worlds), halves(worlds.sessions, 0)
    real = {name: pins[name].usd.copy() for name in (CHEAP, STRONG)}
    lures = {CHEAP: pins[CHEAP], STRONG: pins[STRONG]}
    lures[CHEAP].usd, lures[STRONG].usd = np.where(half, 0.0, 1.0), np.where(half, 1.0, 0.0)
    found = played(worlds, controls.cheapest(worlds, lures, 0))["cheapest"]
    assert found.usd[half] == pytest.approx(real[STRONG][half])
    assert found.usd[~half] == pytest.approx(real[CHEAP][~half])


def test_the_best_single_is_chosen_on_the_half_that_it_is_not_scored_on(worlds):
    pins, half = alone(worlds), halves(worlds.sessions, 0)

    class Taken(NamedTuple):
        """Finds one pin better than the other."""

        better: str

        def every(self, targets, _):
            names = (CHEAP, STRONG)
            return [
                SimpleNamespace(quality=float(name == self.better))
                for name, _ in zip(names, targets, strict=True)
            ]

    two = {CHEAP: pins[CHEAP], STRONG: pins[STRONG]}
    found = played(worlds, controls.best_single(worlds, two, (Taken(CHEAP), Taken(STRONG)), 0))["best_single"]
    assert found.usd[half] == pytest.approx(pins[STRONG].usd[half])
    assert found.usd[~half] == pytest.approx(pins[CHEAP].usd[~half])
