"""The route that a replay walks is the one that serving would take, turn by turn, with its own caches."""

from decimal import Decimal

import numpy as np
import pytest
from msgspec.structs import replace
from replay_logs import CHEAP, STRONG, write_log

from features.cache import CacheRequest, CacheState, after, read
from features.wire.types import Usage
from router.cost import expected_cost
from router.gateway.settings import Settings
from router.outlook import Prospect, outlooks
from router.policy import Arm, Situation, choose, parse_policy
from router.prices import Rates
from training.replay.options import Options
from training.replay.policies.walk import walk
from training.replay.stage import set_up

PAUSE_MS = 700_000  # longer than five minutes and shorter than an hour


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("walk") / "log", sessions=12, turns=6, epsilon=0.5)
    world = set_up(log, Options(), Settings()).worlds.at(0)
    rng = np.random.default_rng(0)
    shape = world.tokens.shape
    locked = rng.random(shape[0]) < 0.2
    gone = rng.random(shape) < 0.1
    gone[np.arange(shape[0]), world.reference] = False
    beliefs = world.beliefs._replace(
        p=rng.uniform(0.6, 0.9, shape).astype(np.float32),
        spread=np.full(shape, 0.1, np.float32),
        output=rng.integers(50, 900, shape).astype(np.float32),
        turns=rng.integers(0, 9, shape).astype(np.float32),
    )
    times = world.calls.ts_ms + np.arange(shape[0]) * PAUSE_MS
    hourly = world.calls.session % 2 == 1
    return world._replace(
        beliefs=beliefs,
        excluded=gone,
        calls=world.calls._replace(locked=locked, ts_ms=times),
        caches=world.caches._replace(hourly=hourly),
    )


@pytest.mark.parametrize(
    "spec",
    ["learned:max_loss=0.05", "learned:max_loss=0.1,explore=0.3", "learned:max_loss=0.1,sticky=0",
     f"mix:{STRONG}=0.5,{CHEAP}=0.5", f"pin:{CHEAP}"],
)  # fmt: skip
def test_the_route_is_the_served_one(world, spec):
    policy = parse_policy(spec)
    found = walk(world, policy)
    assert found.route.tolist() == _served(world, policy)


def _served(world, policy):
    """Decide every turn with the code of serving."""
    calls, names, route = world.calls, world.arms.names, []
    for s in range(calls.sessions):
        state, last, used = CacheState(), None, {}
        for row in range(calls.starts[s], calls.starts[s + 1]):
            now = float(calls.ts_ms[row])
            arms, prospects = [], []
            for i, name in enumerate(names):
                rules = None if world.caches.at[row, i] < 0 else world.caches.rules[world.caches.at[row, i]]
                asked = _lifetime(world, row, rules)
                sent = CacheRequest(name, round(world.tokens[row, i]), lifetime=asked)
                split = read(rules, state, sent, now)
                output = float(world.beliefs.output[row, i])
                p = float(world.beliefs.p[row, i])
                cost = expected_cost(_rates(world.rates, row, i), split, output)
                age = now - used[i] if i in used else None
                turns = float(world.beliefs.turns[row, i])
                prospects.append(
                    Prospect(name, _rates(world.ahead, row, i), rules, asked, split, age, output, turns, p)
                )
                gone = "gone" if world.excluded[row, i] else None
                arms.append(Arm(name, gone, p, None if cost is None else cost.total, 0.1))
            holder = None if last is None else names[last]
            ahead = outlooks(prospects, holder, names[world.reference[row]])
            arms = [
                arm if arm.cost_usd is None else replace(arm, cost_usd=arm.cost_usd + seen.known())
                for arm, seen in zip(arms, ahead, strict=True)
            ]
            situation = Situation(
                names[world.reference[row]], holder, bool(calls.locked[row]), False, float(world.draw[row])
            )
            last = names.index(choose(policy, arms, situation).chosen)
            route.append(last)
            at = world.caches.at[row, last]
            rules = None if at < 0 else world.caches.rules[at]
            tokens, answer = round(world.tokens[row, last]), round(world.output[row, last])
            sent = CacheRequest(names[last], tokens, lifetime=_lifetime(world, row, rules))
            state = after(rules, state, sent, Usage(output_tokens=answer), now)
            if rules is not None and tokens >= rules.floor_tokens:
                used[last] = now
    return route


def _lifetime(world, row, rules):
    """What every second session asks for: an hour, where it is sold."""
    if rules is None or not world.caches.hourly[row]:
        return None
    return next((life.name for life in rules.lifetimes if life.ttl_s == 3600), None)


def _rates(rates, row, arm):
    if rates.at[row, arm] < 0:
        return None
    return Rates(*(Decimal(repr(round(float(x) * 1e6, 9))) for x in rates.table[rates.at[row, arm]]))
