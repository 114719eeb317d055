"""The choice: propensities are exact, locks come before any price, and a spec means what it says."""

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from features.errors import BadInput
from router.policy import Arm, Policy, Situation, choose, parse_policy

NAMES = ["ref", "mid", "cheap", "odd"]
FREE = Situation("ref", None, in_tool_loop=False, provider_bound=False, draw=0.0)


def arms(**changes):
    rows = {
        "ref": Arm("ref", None, 0.90, Decimal("0.10"), 0.05),
        "mid": Arm("mid", None, 0.89, Decimal("0.02"), 0.05),
        "cheap": Arm("cheap", None, 0.50, Decimal("0.001"), 0.05),
    }
    for name, change in changes.items():
        rows[name] = replace(rows[name], **change)
    return list(rows.values())


probability = st.one_of(st.none(), st.floats(0, 1))
money = st.one_of(st.none(), st.decimals(0, 10, places=6))
any_arms = st.lists(st.sampled_from(NAMES), min_size=1, unique=True).flatmap(
    lambda names: st.tuples(
        *(
            st.builds(
                Arm, st.just(n), st.sampled_from([None, None, "no_key"]), probability, money, probability
            )
            for n in names
        )
    )
)
policies = st.one_of(
    st.builds(Policy, kind=st.just("pin"), candidate=st.sampled_from(NAMES), explore=st.floats(0, 1)),
    st.builds(
        Policy,
        kind=st.just("mix"),
        weights=st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 9), min_size=1),
        sticky=st.booleans(),
    ),
    st.builds(
        Policy,
        kind=st.just("learned"),
        max_loss=st.floats(0, 1),
        tau=st.floats(0, 1),
        explore=st.floats(0, 1),
        sticky=st.booleans(),
        max_spread=st.floats(0, 1),
    ),
)
situations = st.builds(
    Situation,
    reference=st.just("ref"),
    last_candidate=st.sampled_from([None, *NAMES]),
    in_tool_loop=st.booleans(),
    provider_bound=st.booleans(),
    draw=st.floats(0, 1, exclude_max=True),
    last_by_client=st.booleans(),
)


@given(policies, any_arms, situations)
def test_propensities_sum_to_one_over_arms_that_may_be_called(policy, rows, situation) -> None:
    choice = choose(policy, list(rows), situation)
    assert sum(choice.propensities.values()) == pytest.approx(1.0)
    assert choice.propensities[choice.chosen] > 0
    excluded = {a.candidate for a in rows if a.excluded_by} | set(choice.excluded)
    drawn_from = {name for name, chance in choice.propensities.items() if chance > 0}
    assert not (drawn_from - {"ref"}) & excluded
    if choice.locks:
        assert choice.propensities == {choice.chosen: 1.0}
    assert choose(policy, list(rows), situation) == choice
    assert [step.candidate for step in choice.plan] == [choice.chosen]


@given(policies)
def test_a_name_parses_back(policy) -> None:
    again = parse_policy(policy.name)
    assert (again.kind, again.candidate, again.sticky) == (policy.kind, policy.candidate, policy.sticky)
    assert again.explore == pytest.approx(policy.explore, rel=1e-5)
    assert again.weights == pytest.approx(policy.weights, rel=1e-5)


def test_draws_follow_the_propensities() -> None:
    policy = parse_policy("mix:ref=0.25,mid=0.75")
    drawn = Counter(choose(policy, arms(), replace(FREE, draw=i / 1000)).chosen for i in range(1000))
    assert drawn == {"ref": 250, "mid": 750}


def test_learned_takes_the_cheapest_within_the_loss() -> None:
    assert choose(parse_policy("learned"), arms(), FREE).chosen == "ref"
    assert choose(parse_policy("learned:max_loss=0.02"), arms(), FREE).chosen == "mid"
    assert choose(parse_policy("learned:max_loss=0.5"), arms(), FREE).chosen == "cheap"
    assert choose(parse_policy("learned:max_loss=0.5,tau=0.6"), arms(), FREE).chosen == "mid"


def test_an_unknown_price_is_never_chosen_by_its_cost() -> None:
    choice = choose(
        parse_policy("learned:max_loss=0.5,explore=0.3"),
        arms(cheap={"cost_usd": None}),
        replace(FREE, draw=0.5),
    )
    assert choice.chosen == "mid"
    assert choice.excluded == {"cheap": "unknown_price"}
    assert "cheap" not in choice.propensities


def test_exploration_has_exact_chances() -> None:
    choice = choose(parse_policy("learned:max_loss=0.02,explore=0.3"), arms(), replace(FREE, draw=0.05))
    assert choice.propensities == pytest.approx({"ref": 0.1, "mid": 0.8, "cheap": 0.1})
    assert choice.chosen == "ref"
    assert choice.explored


def test_what_the_bundle_has_not_seen_is_not_chosen_by_its_success() -> None:
    policy = parse_policy("learned:max_loss=0.02")
    assert choose(policy, arms(mid={"spread": 0.5}), FREE).chosen == "ref"
    blind = choose(parse_policy("learned:max_loss=1"), arms(ref={"spread": 0.5}), FREE)
    assert blind.chosen == "ref"
    assert "no evidence on the reference ref" in blind.reasons[0]
    assert (
        choose(parse_policy("learned:max_loss=0.02,max_spread=1"), arms(mid={"spread": 0.5}), FREE).chosen
        == "mid"
    )


@given(policies, any_arms, situations)
def test_who_is_locked_asks_for_no_price_and_nobody_else_is_locked(policy, rows, situation) -> None:
    unpriced = [replace(arm, cost_usd=None) for arm in rows]
    choice = choose(policy, list(rows), situation)
    lock = situation.lock()
    assert choice.locks == (() if lock is None else (lock,))
    if lock is not None:  # as `router.arms.weighed` goes by
        assert choose(policy, unpriced, situation) == choice


def test_a_tool_loop_stays_with_who_began_it() -> None:
    begun = replace(FREE, in_tool_loop=True, last_candidate="cheap")
    choice = choose(parse_policy("learned:explore=1"), arms(), begun)
    assert (choice.chosen, choice.locks) == ("cheap", ("tool_loop",))
    assert choice.excluded == {"ref": "tool_loop", "mid": "tool_loop"}


def test_a_loop_begun_by_nobody_we_know_goes_to_the_reference() -> None:
    choice = choose(parse_policy("learned:max_loss=1"), arms(), replace(FREE, in_tool_loop=True))
    assert choice.chosen == "ref"
    assert "by whom is unknown" in choice.reasons[0]


def test_provider_bound_state_stays_even_against_a_pin() -> None:
    bound = replace(FREE, provider_bound=True, last_candidate="mid")
    assert choose(parse_policy("pin:cheap"), arms(), bound).chosen == "mid"


def test_a_session_stays_while_its_candidate_is_good_enough() -> None:
    policy, loose = parse_policy("learned:max_loss=0.02"), parse_policy("learned:max_loss=0.02,sticky=0")
    held, both = replace(FREE, last_candidate="mid"), arms(cheap={"p_success": 0.89})
    assert choose(policy, both, held).chosen == "mid"
    assert choose(loose, both, held).chosen == "cheap"
    fallen = arms(mid={"p_success": 0.4})
    assert choose(policy, fallen, held).chosen == "ref"


def test_a_session_that_fell_back_to_the_reference_may_leave_it() -> None:
    policy = parse_policy("learned:max_loss=0.02")
    assert choose(policy, arms(), replace(FREE, last_candidate="ref")).chosen == "mid"


def test_a_mix_stays_only_with_a_member_of_it_that_a_policy_chose() -> None:
    policy, draw = parse_policy("mix:ref=0.5,mid=0.5"), replace(FREE, draw=0.7)
    assert choose(policy, arms(), replace(draw, last_candidate="ref")).propensities["ref"] == 1
    for last, by_client in (("cheap", False), ("ref", True), ("cheap", True), ("gone", False)):
        choice = choose(policy, arms(), replace(draw, last_candidate=last, last_by_client=by_client))
        assert choice.propensities == {"ref": 0.5, "mid": 0.5, "cheap": 0}
        assert choice.chosen == "mid"


def test_learned_does_not_stay_with_what_a_client_asked_for() -> None:
    policy = parse_policy("learned:max_loss=0.02")
    before = replace(FREE, last_candidate="ref", last_by_client=True)
    assert choose(policy, arms(), before).chosen == "mid"
    assert choose(policy, arms(), replace(before, in_tool_loop=True)).chosen == "ref"


def test_without_the_reference_the_likeliest_stands_in() -> None:
    rows = arms(ref={"excluded_by": "context_too_long"})
    assert choose(parse_policy("learned"), rows, FREE).chosen == "mid"


def test_a_pin_that_cannot_serve_falls_back_and_says_so() -> None:
    choice = choose(parse_policy("pin:cheap"), arms(cheap={"excluded_by": "no_images"}), FREE)
    assert choice.chosen == "ref"
    assert "not eligible" in choice.reasons[0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("best", "unknown kind 'best'"),
        ("pin", "name a candidate"),
        ("mix:a", "'a' is no knob=value"),
        ("mix", "give weights"),
        ("learned:max_los=1", "unknown knob 'max_los'"),
        ("learned:max_loss=2", "from 0 to 1, not '2'"),
        ("learned:explore=nan", "explore must be a number"),
        ("mix:a=-1", "a must be a number"),
        ("learned:gpt", "'gpt' is no knob=value"),
    ],
)
def test_bad_specs_say_what_is_wrong(spec, said) -> None:
    with pytest.raises(BadInput, match=said):
        parse_policy(spec)


def test_an_unknown_length_is_not_called_an_unknown_price_and_the_reason_counts_it() -> None:
    unknown = arms(cheap={"cost_usd": None, "output_known": False, "p_success": 0.9})
    choice = choose(parse_policy("learned"), unknown, FREE)
    assert choice.excluded == {"cheap": "unknown_output_tokens"}
    assert "1 left out because their cost is unknown (unknown_output_tokens)" in choice.reasons
