"""Looking ahead: switching is asymmetric, as FACTS 1 has it; what is unknown of one arm counts for none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from router_servers import NOW_MS

from features.cache import Split, rules_for
from router.cost import expected_cost
from router.outlook import Prospect, cold_turn, outlooks, warm_turn
from router.prices import rates

PREFIX = 60_000
OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"


def prospect(name, *, warm=False, turns=10.0, p=0.8, age=0.0, provider="anthropic", **more):
    read = PREFIX if warm else 0
    split = Split(read, PREFIX - read, 0, 0, float(warm), 1.0, 0, "warm" if warm else "switched")
    found = rates(name, provider, NOW_MS, PREFIX)
    rules = rules_for(provider, name, NOW_MS)
    given_ = {"age_ms": age if warm else None, "output_tokens": 800.0, "turns_left": turns, "p_success": p}
    return Prospect(name, found, rules, None, split, **given_ | more)


def now(arm):
    cost = expected_cost(arm.rates, arm.split, arm.output_tokens)
    assert cost is not None
    return cost.total


def test_a_turn_costs_what_the_facts_say() -> None:
    """FACTS 1: 60k of prefix, 2k new, 800 out: warm Opus 5.5 0.038, cold 0.326; Haiku warm is far below."""
    opus = rates(OPUS, "anthropic", NOW_MS, 62_000)
    warm = expected_cost(opus, Split(60_000, 2_000, 0, 0, 1.0, 1.0, 0, "warm"), 800.0)
    cold = expected_cost(opus, Split(0, 62_000, 0, 0, 0.0, 1.0, 0, "switched"), 800.0)
    assert warm is not None
    assert cold is not None
    assert float(warm.total) == pytest.approx(0.038, abs=0.001)
    assert float(cold.total) == pytest.approx(0.326, abs=0.001)


@given(
    turns=st.floats(0, 60),
    p_stay=st.floats(0.3, 1),
    p_go=st.floats(0.05, 1),
    age=st.sampled_from([0.0, 200_000.0, 290_000.0]),
)
def test_switching_pays_exactly_where_the_rule_says(turns, p_stay, p_go, age) -> None:
    """E[T](warm A - warm B) > (cold B - warm B) + P(return) cold A + risk x redo, T with this turn."""
    stay = prospect(OPUS, warm=True, turns=turns, p=p_stay, age=age)
    go = prospect(HAIKU, turns=turns, p=p_go)
    ahead_stay, ahead_go = outlooks([stay, go], OPUS, OPUS)
    by_sums = now(go) + ahead_go.known() < now(stay) + ahead_stay.known()
    warm_a, warm_b, cold_a = (float(x) for x in (warm_turn(stay), warm_turn(go), cold_turn(stay)))
    alive = stay.rules.lifetimes[0].alive(age + (turns + 1) * 9_000)
    back = (1 - p_go) * (alive * warm_a + (1 - alive) * cold_a)
    redo = max(0.0, p_stay - p_go) * (turns + 1) * warm_a
    saved = turns * (warm_a - warm_b) + float(now(stay))
    margin = saved - float(now(go)) - back - redo
    assert by_sums == (margin > 0) or abs(margin) < 1e-6


def test_one_last_turn_is_not_worth_a_switch_and_a_long_rest_is() -> None:
    def goes(turns, p=0.95):
        arms = [prospect(OPUS, warm=True, turns=turns), prospect(HAIKU, turns=turns, p=p)]
        ahead = outlooks(arms, OPUS, OPUS)
        return now(arms[1]) + ahead[1].known() < now(arms[0]) + ahead[0].known()

    assert goes(30)
    assert not goes(0, p=0.2)
    # Going the other way is dear: a cold Opus against a warm Haiku.
    arms = [prospect(HAIKU, warm=True), prospect(OPUS)]
    ahead = outlooks(arms, HAIKU, HAIKU)
    assert now(arms[1]) + ahead[1].known() > 4 * (now(arms[0]) + ahead[0].known())


def test_coming_back_within_the_lifetime_costs_a_warm_turn() -> None:
    soon = outlooks([prospect(OPUS, warm=True), prospect(HAIKU, turns=2.0)], OPUS, OPUS)[1].back
    late = outlooks([prospect(OPUS, warm=True), prospect(HAIKU, turns=90.0)], OPUS, OPUS)[1].back
    assert soon is not None
    assert late is not None
    assert soon * 4 < late


def test_nobody_is_left_at_the_beginning_and_staying_is_free() -> None:
    arms = [prospect(OPUS), prospect(HAIKU)]
    assert [seen.back for seen in outlooks(arms, None, OPUS)] == [None, None]
    assert outlooks(arms, OPUS, OPUS)[0].back == 0
    assert outlooks(arms, OPUS, OPUS)[0].redo == 0


def test_what_is_unknown_of_one_arm_is_compared_of_none() -> None:
    arms = [prospect(OPUS, turns=4.0), prospect(HAIKU, turns=None), prospect("no-such-model")]
    seen = outlooks(arms, None, OPUS)
    assert [each.later for each in seen] == [None, None, None]
    assert seen[2].known() == 0
    assert outlooks([prospect(OPUS, p=None)], None, OPUS)[0].redo is None
    assert outlooks(arms[:1], None, OPUS)[0].later > Decimal("0.1")


def test_a_cache_that_holds_nothing_makes_every_later_turn_cold() -> None:
    warm, unmarked = prospect(OPUS, warm=True), prospect(OPUS)
    unmarked = replace(unmarked, split=Split(0, 0, 0, PREFIX, 0.0, 1.0, 0, "unmarked"))
    assert warm_turn(unmarked) > 5 * warm_turn(warm)
    assert warm_turn(replace(prospect(OPUS), rules=None)) > 5 * warm_turn(warm)


def test_extra_steps_of_a_weaker_model_are_priced_apart_and_nothing_is_counted_twice() -> None:
    stay, weak = outlooks([prospect(OPUS, turns=10.0), prospect(HAIKU, turns=25.0)], None, OPUS)
    assert stay.extra == 0
    turn = warm_turn(prospect(HAIKU, turns=25.0))
    assert (weak.later, weak.extra) == (10 * turn, 15 * turn)
    fewer = outlooks([prospect(OPUS, turns=10.0), prospect(HAIKU, turns=4.0)], None, OPUS)[1]
    assert fewer.extra < 0
    assert fewer.later + fewer.extra == 4 * warm_turn(prospect(HAIKU, turns=4.0))


def test_answers_that_break_off_are_paid_again_where_all_rates_are_known() -> None:
    arms = [prospect(OPUS, turns=9.0, retry_rate=0.2), prospect(HAIKU, turns=9.0, retry_rate=0.0)]
    shaky, sound = outlooks(arms, None, OPUS)
    assert float(shaky.retry) == pytest.approx(0.25 * 10 * float(warm_turn(arms[0])))
    assert sound.retry == 0
    half = outlooks([arms[0], prospect(HAIKU, turns=9.0)], None, OPUS)
    assert [each.retry for each in half] == [None, None]
    assert outlooks([prospect(OPUS, retry_rate=1.0)], None, OPUS)[0].retry is not None


def test_the_way_back_is_written_down_with_its_chance_and_time() -> None:
    stay, go = outlooks([prospect(OPUS, warm=True), prospect(HAIKU, turns=4.0, p=0.7)], OPUS, OPUS)
    assert (stay.p_back, stay.back_ms) == (0.0, None)
    assert go.p_back == pytest.approx(0.3)
    assert go.back_ms == 5 * 9_000
    unknown = outlooks([prospect(OPUS, warm=True), prospect(HAIKU, turns=None, p=None)], OPUS, OPUS)[1]
    assert (unknown.p_back, unknown.back_ms) == (1.0, None)
    assert unknown.back == cold_turn(prospect(OPUS))


def test_turns_to_come_are_written_for_as_long_as_the_client_asks() -> None:
    short, long = (warm_turn(replace(prospect(OPUS, warm=True), lifetime=name)) for name in (None, "1h"))
    assert short < long
    # An hour later the shorter one is gone and the longer isn't.
    back = [
        outlooks([replace(prospect(OPUS, warm=True), lifetime=name), prospect(HAIKU, turns=90.0)], OPUS, OPUS)
        for name in (None, "1h")
    ]
    assert back[0][1].back > 2 * back[1][1].back
