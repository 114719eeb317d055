"""What a replayed decision expects arms to cost is what the served one does: cache, call and what follows."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from features.cache import CacheRequest, CacheState, after, read, rules_for
from features.wire.types import Usage
from router.cost import expected_cost
from router.outlook import Prospect, outlooks
from router.prices import Rates
from training.replay.policies.foresight import Facing, Held, Rulebook, expected

START = 1_790_000_000_000
MODELS = (("anthropic", "claude-opus-4-6"), ("openai", "gpt-5.4"), ("nobody", "unheard-of"))
RULES = [rules_for(provider, model, START, explicit=provider == "anthropic") for provider, model in MODELS]
KNOWN = [row for row in RULES if row is not None]
AT = [KNOWN.index(row) if row is not None else -1 for row in RULES]
BOOK = Rulebook.of(KNOWN)
HOUR = next(life.name for life in KNOWN[0].lifetimes if life.ttl_s == 3600)
RATES = (
    Rates(*map(Decimal, ("5", "25", "0.5", "6.25", "10"))),
    Rates(*map(Decimal, ("2.5", "15", "0.25", "2.5", "2.5"))),
    None,
)
AHEAD = (RATES[0], Rates(*map(Decimal, ("5", "22.5", "0.5", "5", "5"))), None)
sent = st.tuples(st.integers(0, 2), st.integers(100, 60_000), st.integers(0, 3_000), st.integers(0, 900_000))
some = st.one_of(st.none(), st.floats(0.05, 0.95))


@given(
    history=st.lists(sent, max_size=4),
    tokens=st.integers(100, 60_000),
    pause=st.integers(0, 4_000_000),
    output=st.lists(st.one_of(st.none(), st.integers(1, 4_000)), min_size=3, max_size=3),
    turns=st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=3, max_size=3),
    success=st.lists(some, min_size=3, max_size=3),
    retry=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=3, max_size=3),
    reference=st.integers(0, 2),
    hourly=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_expected_costs_are_the_served_ones(
    history, tokens, pause, output, turns, success, retry, reference, hourly
):
    state, now, asked = CacheState(), START, HOUR if hourly else None
    held = {name: np.full((1, 3), np.nan) for name in Held._fields}
    last = -1
    for arm, size, answer, waited in history:
        now += waited
        request = CacheRequest(str(arm), size, lifetime=asked)
        state = after(RULES[arm], state, request, Usage(output_tokens=answer), now)
        last = arm
        if RULES[arm] is not None and size >= RULES[arm].floor_tokens:
            held["prompt"][0, arm], held["answer"][0, arm], held["ts_ms"][0, arm] = size, answer, now
    now += pause
    prospects = []
    for arm, rules in enumerate(RULES):
        split = read(rules, state, CacheRequest(str(arm), tokens, lifetime=asked), now)
        age = None if np.isnan(held["ts_ms"][0, arm]) else now - held["ts_ms"][0, arm]
        prospects.append(
            Prospect(
                str(arm),
                AHEAD[arm],
                rules,
                asked,
                split,
                age,
                output[arm],
                turns[arm],
                success[arm],
                retry[arm],
            )
        )
    ahead = outlooks(prospects, None if last < 0 else str(last), str(reference))
    facing = Facing(
        ts_ms=np.array([float(now)]),
        tokens=np.full((1, 3), float(tokens)),
        output=_row(output),
        p=_row(success),
        turns=_row(turns),
        rates=_rates(RATES),
        ahead=_rates(AHEAD),
        retry=_row(retry),
        rules=BOOK.asked(np.array([AT]), np.array([hourly])),
        reference=np.array([reference]),
        last=np.array([last]),
    )
    found = expected(BOOK, facing, Held(**held))[0]
    for arm, prospect in enumerate(prospects):
        cost = expected_cost(RATES[arm], prospect.split, prospect.output_tokens)
        if cost is None:
            assert np.isnan(found[arm])
        else:
            assert found[arm] == pytest.approx(float(cost.total + ahead[arm].known()), rel=2e-5, abs=2e-6)


def _rates(table):
    return np.array([[[np.nan] * 5 if r is None else [float(x) / 1e6 for x in astuple(r)] for r in table]])


def _row(values):
    return np.array([[np.nan if value is None else float(value) for value in values]])
