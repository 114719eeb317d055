"""What receipts tell beside the request counts in a replayed decision as it did in the served one."""

import numpy as np
import pytest
import replay_logs
from msgspec.structs import replace
from replay_answers import row, what_if
from replay_logs import CHEAP, STRONG, write_log

from features.records import OffsetRecord
from models.belief import Belief
from models.bundle import Bundle
from router.arms import moved as moved_arms
from router.gateway.settings import Settings
from router.offline import bundle_folder
from router.policy import parse_policy
from training.replay.options import Options
from training.replay.policies.walk import constant, walk
from training.replay.stage import as_asked, set_up

DECISION = replay_logs._decision


def _written(monkeypatch, folder, change, **how):
    """A log whose receipts are changed as `change` says."""
    monkeypatch.setattr(replay_logs, "_decision", lambda *given: change(DECISION(*given)))
    return write_log(folder, **how)


def _pinned(receipt):
    """Every second session's client named its model; its request comes as the strong one's."""
    if int(receipt.session_id[1:]) % 2:
        return receipt
    arms = [replace(arm, propensity=float(arm.candidate == receipt.chosen)) for arm in receipt.arms]
    reasons = [f"the client asked for {receipt.chosen}"]
    return replace(receipt, policy=f"pin:{receipt.chosen}", arms=arms, reasons=reasons)


@pytest.fixture
def pinned(monkeypatch, tmp_path):
    return _written(monkeypatch, tmp_path / "log", _pinned, sessions=20, turns=3, epsilon=0.0)


def test_calls_whose_client_named_the_model_stay_there(pinned):
    named = f"mix:{CHEAP}=1", f"cascade:{CHEAP},{STRONG}"
    result = what_if(pinned, *(part for name in named for part in ("--policy", name)), "--check-noise", "0")
    assert row(result, named[1])["share"][STRONG] >= 0.5
    for name in (f"mix:{CHEAP}=1", f"pin:{CHEAP}"):
        assert row(result, name)["share"] == {STRONG: 0.5, CHEAP: 0.5}
    said = "30 of 60 calls named their model: no served policy moves these, so here they stay"
    assert any(caveat.startswith(said) for caveat in result["caveats"])


def test_they_are_routed_where_that_is_asked(pinned):
    result = what_if(pinned, "--policy", f"mix:{CHEAP}=1", "--as-auto")
    assert row(result, f"mix:{CHEAP}=1")["share"] == {CHEAP: 1.0}
    assert (
        "30 of 60 calls named their model, and are played as if they had asked for auto" in result["caveats"]
    )


def test_a_policy_that_pins_is_no_clients_pin(monkeypatch, tmp_path):
    """Its receipts name the same pin, and the alias that was asked for."""

    def served(receipt):
        return replace(receipt, policy=f"pin:{receipt.chosen}", reasons=["the policy pins it"])

    log = _written(monkeypatch, tmp_path / "log", served, sessions=5, epsilon=0.0, model_requested="auto")
    assert row(what_if(log, "--policy", f"pin:{CHEAP}"), f"pin:{CHEAP}")["share"] == {CHEAP: 1.0}


def test_nothing_stays_with_a_clients_own_choice(pinned):
    """A session whose last call was its client's own choice is decided anew by a sticky policy."""
    worlds = as_asked(set_up(pinned, Options(having=(CHEAP,)), Settings()).worlds, Options())
    world = worlds.at(0)
    alternating = np.arange(world.calls.n) % 2 == 0
    world = worlds.parts[0]._replace(served=world.served._replace(pinned=alternating))
    held = worlds._replace(parts=[world]).at(0)
    cheap = world.arms.names.index(CHEAP)
    assert (constant(held, cheap).route == np.where(alternating, world.arms.logged, cheap)).all()
    mixed = walk(held, parse_policy(f"mix:{STRONG}=0.0001,{CHEAP}=0.9999"))
    assert (mixed.route == np.where(alternating, world.arms.logged, cheap)).all()


def test_offsets_move_beliefs_as_served_and_only_those_of_their_bundle(monkeypatch, tmp_path):
    digest = Bundle.load(bundle_folder(Settings())).digest

    def offset(receipt):
        own = digest if int(receipt.session_id[1:]) % 2 else "another"
        by = OffsetRecord(log_odds=-1.5, outcomes=9.0)
        return replace(receipt, offset=by, bundle_digest=own)

    how = {"sessions": 4, "turns": 2, "epsilon": 0.0}
    bare = _written(monkeypatch, tmp_path / "bare", lambda receipt: receipt, **how)
    log = _written(monkeypatch, tmp_path / "log", offset, **how)
    plain, found = (set_up(one, Options(), Settings()).worlds.at(0) for one in (bare, log))
    own = found.calls.session % 2 == 1
    assert np.array_equal(found.beliefs.p[~own], plain.beliefs.p[~own], equal_nan=True)
    p, low, spread = plain.beliefs.p, plain.beliefs.low, plain.beliefs.spread
    for i in np.flatnonzero(own):
        of_arms = zip(p[i], low[i], low[i] + spread[i], strict=True)
        arms = (tuple(None if np.isnan(x) else float(x) for x in one) for one in of_arms)
        said = moved_arms(tuple(Belief(*one, None, None, None) for one in arms), -1.5)
        now = np.array([(a.p_success, a.p_success_low, a.p_success_high) for a in said], dtype=np.float64).T
        assert found.beliefs.p[i] == pytest.approx(now[0], abs=1e-6, nan_ok=True)
        assert found.beliefs.spread[i] == pytest.approx(now[2] - now[1], abs=1e-6, nan_ok=True)
    caveats = what_if(log)["caveats"]
    assert "4 calls are decided with their repository's offset as it was served" in caveats
    assert "4 calls were served with a repository's offset of another bundle: not applied" in caveats


def test_broken_tool_calls_count_against_who_made_them(monkeypatch, tmp_path):
    """An arm that never makes a tool call that can be carried out is not chosen for its price."""

    def broken(receipt):
        arms = [
            replace(arm, broken_calls=float(arm.candidate == CHEAP), retry_rate=0.1) for arm in receipt.arms
        ]
        return replace(receipt, arms=arms)

    how = {"sessions": 6, "turns": 2, "epsilon": 0.5}
    bare = _written(monkeypatch, tmp_path / "bare", lambda receipt: receipt, **how)
    log = _written(monkeypatch, tmp_path / "log", broken, **how)
    shares = []
    for one in (bare, log):
        world = set_up(one, Options(), Settings()).worlds.at(0)
        able = np.isin(world.arms.names, (STRONG, CHEAP))
        believed = world.beliefs._replace(
            p=np.where(able, np.full_like(world.beliefs.p, 0.8), np.float32(0.1)),
            spread=np.full_like(world.beliefs.p, 0.1),
            output=np.full_like(world.beliefs.p, 300.0),
            turns=np.full_like(world.beliefs.p, 3.0),
        )
        played = walk(world._replace(beliefs=believed), parse_policy("learned:max_loss=0.02"))
        shares.append(float((played.route == world.arms.names.index(CHEAP)).mean()))
    assert shares == [1.0, 0.0]
    said = "how often answers break off (known of 12 calls) or call tools in vain (12) is as it was seen"
    assert any(caveat.startswith(said) for caveat in what_if(log)["caveats"])
