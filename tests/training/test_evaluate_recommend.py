"""The recommendation of `samediff evaluate` held to constructed figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluate.recommend import Case, better, recommend, supported
from training.evaluate.words import counted

ROUTERS = ("table", "logistic", "knn", "learned")


def gap(quality, saving=None):
    """A difference between policies: points and percent as (low, point, high); None is unknown."""
    parts = {"quality": 0.0, "quality_ci": None, "saving": None, "saving_ci": None}
    for name, value in (("quality", quality), ("saving", saving)):
        if value is not None:
            parts |= {name: value[1] / 100, f"{name}_ci": [value[0] / 100, value[2] / 100]}
    return parts


SAME = gap((0, 0, 0), (0, 0, 0))
UNSURE = gap((-2, 0.3, 2), (-10, 0, 10))
GAIN = gap((3, 5, 7), (20, 30, 40))
LOSS = gap((-5, -3, -1), (50, 60, 70))
SAVER = gap((-0.5, 0.1, 0.5), (20, 30, 40))


def router(against=UNSURE, mix=None, abstained=0):
    return {
        "vs_best_single": SAME if abstained == 5 else against,
        "vs_random_mix": mix or against,
        "abstained": abstained,
        "folds": 5,
    }


def case(*, routers=None, cascade=UNSURE, pairs=None, models=(), versus=None, **more):
    """A case of pins "a" (the best) and `models` (name, USD, difference); `versus` holds further pairs.

    more: `share`, who is best_single in the folds; `cheapest`, its model; `noise`.
    """
    known = {name: router() for name in ROUTERS} | (routers or {})
    share = more.get("share", {"a": 1.0})
    policies = known | {
        "best_single": {"share": share},
        "cheapest": {"share": {more.get("cheapest", "z"): 1.0}},
        "cascade": {
            "vs_best_single": cascade,
            "vs_random_mix": cascade,
            "pairs": pairs or {"cheap → a": 5},
        },
    }
    rows = [("a", 9.0, SAME), *models] if not any(m[0] == "a" for m in models) else models
    found = {f"pin/{name}": against for name, _, against in rows}
    found |= {name: entry["vs_best_single"] for name, entry in policies.items() if "vs_best_single" in entry}

    def difference(one, other):
        if (versus or {}).get((one, other)):
            return versus[one, other]
        return found[one] if other in ("best_single", "pin/a") else UNSURE

    entries = [{"model": name, "cost_usd": usd, "vs_best_single": against} for name, usd, against in rows]
    return Case(policies, entries, "a", difference, more.get("noise", 0.1))


def sentence_of(advice):
    assert advice.sentence.endswith(".")
    assert ". " not in advice.sentence
    return advice.sentence


@pytest.mark.parametrize(
    ("learned", "table", "expected"),
    [
        (router(GAIN), router(), "learned"),
        (router(GAIN), router(GAIN), "table"),
        (router(), router(), "best_single"),
        (router(), router(GAIN), "table"),
        (router(LOSS), router(LOSS), "best_single"),
        (router(gap((1, 2, 3))), router(), "learned"),
        (router(gap((-1, 2, 3))), router(), "best_single"),
        (router(gap(None)), router(gap(None)), "best_single"),
        (router(SAVER), router(), "best_single"),
        (router(SAVER, mix=GAIN), router(), "learned"),
        (router(SAVER, mix=GAIN, abstained=3), router(), "best_single"),
        (router(gap((1, 2, 3), (-90, -50, -10))), router(), "learned"),
        (router(gap((-1, 2, 3), (-90, -50, -10))), router(), "best_single"),
    ],
)
def test_a_router_is_advised_where_its_interval_says_so(learned, table, expected):
    advice = recommend(case(routers={"learned": learned, "table": table}))
    said = sentence_of(advice)
    assert advice.policy == expected
    assert advice.if_checked is None
    assert "check" not in said
    if expected == "best_single":
        assert said.startswith("Pin a: ")
        assert not supported(learned)
    else:
        against = (learned if expected == "learned" else table)["vs_best_single"]
        assert f"{100 * against['quality']:+.1f} points" in said
        word = "lower" if (against["saving"] or 0) >= 0 else "higher"
        money = against["saving"] and f"{abs(100 * against['saving']):.0f} % {word} cost"
        assert (money or "unknown cost") in said


@pytest.mark.parametrize("better_one", ROUTERS)
@pytest.mark.parametrize("by", [gap((0.2, 0.5, 0.8), (-30, -20, -10)), gap((-0.8, -0.1, 0.5), (5, 9, 12))])
def test_of_supported_routers_the_simplest_stands_that_no_other_beats(better_one, by):
    routers = {name: router(GAIN) for name in ROUTERS}
    versus = {(better_one, other): by for other in ROUTERS}
    assert recommend(case(routers=routers)).policy == "table"
    assert recommend(case(routers=routers, versus=versus)).policy == better_one


def test_a_simpler_router_that_is_as_good_and_cheaper_is_said_so():
    """The shape of coderouterbench."""
    routers = {
        "table": router(gap((6.5, 7.8, 9.2), (57, 60, 63))),
        "logistic": router(gap((6.4, 7.8, 9.1), (63, 66, 69))),
        "knn": router(gap((5.8, 7.1, 8.5), (53, 56, 59))),
        "learned": router(gap((6.5, 7.9, 9.2), (57, 61, 63))),
    }
    versus = {
        ("logistic", other): gap((-0.5, -0.1, 0.3), (11, 15, 18)) for other in ("table", "learned", "knn")
    }
    versus["learned", "logistic"] = gap((-0.3, 0.1, 0.5), (-22, -17, -12))
    cascade = gap((8.1, 9.1, 10.1), (44, 46, 49))
    versus["cascade", "logistic"] = gap((0.3, 1.3, 2.4), (-72, -59, -48))
    advice = recommend(case(routers=routers, cascade=cascade, versus=versus))
    said = sentence_of(advice)
    assert (advice.policy, advice.if_checked) == ("logistic", "cascade")
    assert "logistic router would do: +7.8 points (+6.4 to +9.1) of success at 66 % lower cost (63 to" in said
    assert "is what samediff serves: +7.9 points (+6.5 to +9.2) of success at 61 % lower cost" in said
    assert (
        "learned router adds nothing to it (+0.1 points (-0.3 to +0.5) of success at 17 % higher cost" in said
    )
    assert "+9.1 points (+8.1 to +10.1) of success at 46 % lower cost" in said


def test_a_cascade_is_advised_on_condition_of_its_check():
    """The shape of BFCL: no router gains beyond the interval, the cascade does at less cost."""
    made = case(
        routers={"learned": router(gap((-1, 0.3, 1.6), (19, 24, 29)))},
        cascade=gap((0.9, 1.8, 2.7), (16, 20, 23)),
    )
    advice = recommend(made)
    said = sentence_of(advice)
    assert (advice.policy, advice.if_checked) == ("best_single", "cascade")
    assert said.startswith("Pin a: the learned router's +0.3 points (-1.0 to +1.6)")
    assert "if you have a check that is wrong at most 10 % of the time (tests, a judge)" in said
    assert "the cascade cheap → a has +1.8 points (+0.9 to +2.7) of success at 20 % lower cost" in said
    assert "(16 to 23 %) against that pin" in said
    assert "a check that is never wrong" in recommend(made._replace(check_noise=0.0)).sentence


@pytest.mark.parametrize(
    ("cascade", "advised"),
    [(GAIN, True), (SAVER, True), (UNSURE, False), (LOSS, False), (gap(None), False), (gap((1, 2, 3)), True)],
)
def test_a_cascade_is_named_where_its_interval_says_so(cascade, advised):
    made = case(cascade=cascade)
    made.policies["cascade"]["vs_random_mix"] = GAIN
    advice = recommend(made)
    assert advice.policy == "best_single"
    assert (advice.if_checked == "cascade") == advised == ("cascade" in sentence_of(advice))


def test_a_cascade_that_adds_nothing_to_the_router_is_not_named():
    advice = recommend(case(routers={"table": router(GAIN)}, cascade=GAIN))
    assert (advice.policy, advice.if_checked) == ("table", None)


def test_a_cheap_pin_that_is_ahead_by_its_point_is_advised_with_its_interval():
    """The shape of SWE-bench Pro: the folds disagree, and the cheapest pin is not shown to be worse."""
    cheap = gap((-2.1, 1.2, 6.7), (34, 73, 88))
    advice = recommend(
        case(
            routers={name: router(abstained=5) for name in ROUTERS},
            models=[("a", 11.0, gap((-1, 2.1, 5), (-90, -54, -10))), ("b", 2.0, cheap)],
            share={"a": 0.6, "b": 0.4},
            cheapest="b",
            cascade=gap((8, 11, 17.3), (-174, -18, 46)),
            pairs={"b → a": 5},
            versus={
                ("pin/b", "pin/a"): gap((-5.3, -0.9, 6.3), (81, 83, 85)),
                ("cascade", "cheapest"): gap((6, 9.8, 14.7), (-400, -337, -291)),
            },
        )
    )
    said = sentence_of(advice)
    assert (advice.policy, advice.if_checked, advice.pins) == ("cheapest", "cascade", ())
    assert said.startswith("Pin b: +1.2 points (-2.1 to +6.7) of success at 73 % lower cost (34 to 88 %)")
    assert "against the best single model chosen per fold, not shown to be worse" in said
    assert "+11.0 points (+8.0 to +17.3) of success at 18 % higher cost (-46 to 174 %)" in said


def test_where_the_folds_disagree_the_pin_is_said_with_its_own_figures():
    """The shape of OpenHands: no pin saves beyond its interval, and the best one has a row of its own."""
    advice = recommend(
        case(
            routers={name: router(abstained=5) for name in ROUTERS},
            models=[
                ("a", 1.2, gap((-0.2, 1.0, 1.4), (-10, 45, 61))),
                ("b", 2.9, gap((-1, -0.2, 1))),
                ("worst", 0.3, LOSS),
            ],
            share={"b": 0.6, "a": 0.4},
            cascade=gap((3.3, 5.7, 7.3), (-17, 24, 39)),
            pairs={"c → a": 3, "a → b": 2},
            versus={
                ("cascade", "pin/a"): gap((2, 4.8, 7), (-70, -38, -5)),
                ("pin/worst", "pin/a"): LOSS,
            },
        )
    )
    said = sentence_of(advice)
    assert (advice.policy, advice.if_checked, advice.pins) == ("best_single", "cascade", ("a",))
    assert said.startswith(
        "Pin a, the best on all tasks: +1.0 points (-0.2 to +1.4) of success at 45 % lower"
    )
    assert "against the best single model chosen per fold" in said
    assert "a cascade, mostly c → a, has +5.7 points (+3.3 to +7.3) of success at 24 % lower cost" in said
    assert "(-17 to 39 %) against the same baseline" in said


def test_a_mid_priced_pin_that_beats_the_learned_router_is_advised():
    mid = gap((-0.8, -0.2, 0.4), (40, 50, 60))
    saver = router(SAVER, mix=GAIN)
    versus = {("learned", "pin/mid"): gap((-0.6, 0.3, 1.2), (-50, -40, -30))}
    advice = recommend(case(routers={"learned": saver}, models=[("mid", 4.0, mid)], versus=versus))
    said = sentence_of(advice)
    assert (advice.policy, advice.pins) == ("pin/mid", ("mid",))
    assert "Pin mid: -0.2 points (-0.8 to +0.4) of success at 50 % lower cost (40 to 60 %)" in said
    assert "learned router's +0.3 points (-0.6 to +1.2) of success at 40 % higher cost" in said
    versus = {("learned", "pin/mid"): gap((0.6, 1.3, 2.2), (-50, -40, -30))}
    assert (
        recommend(case(routers={"learned": saver}, models=[("mid", 4.0, mid)], versus=versus)).policy
        == "learned"
    )


@pytest.mark.parametrize(
    ("against", "told"),
    [
        (gap((-3, -1.5, 1), (80, 90, 95)), "not shown to be worse"),
        (gap((-12, -5, 2), (80, 90, 95)), "too few tasks to tell"),
        (gap((-5, -3, -1), (80, 90, 95)), None),
        (gap((-3, -1.5, 1), (-5, 30, 60)), None),
        (gap((-3, -1.5, 1)), None),
    ],
)
def test_a_cheaper_pin_that_is_not_shown_to_be_worse_is_named_with_its_interval(against, told):
    advice = recommend(case(models=[("close", 1.0, against), ("worse", 0.1, LOSS)]))
    said = sentence_of(advice)
    assert advice.policy == "best_single"
    assert ("close" in said) == (told is not None)
    assert "worse pinned" not in said
    if told:
        assert advice.pins == ("close",)
        assert f"{100 * against['quality']:+.1f} points" in said
        assert "at 90 % lower cost (80 to 95 %)" in said
        assert told in said


DISAGREE = {"a": 0.6, "b": 0.4}


@pytest.mark.parametrize(("against_best", "named"), [(GAIN, True), (UNSURE, False)])
def test_where_the_folds_disagree_what_is_advised_also_beats_the_pin_that_is_named(against_best, named):
    versus = {(name, "pin/a"): against_best for name in ("cascade", "table")}
    made = case(cascade=GAIN, share=DISAGREE, versus=versus)
    assert (recommend(made).if_checked == "cascade") == named
    made = case(routers={"table": router(GAIN)}, share=DISAGREE, versus=versus)
    assert recommend(made).policy == ("table" if named else "best_single")


def test_a_pin_that_is_shown_to_be_worse_than_the_best_on_all_tasks_is_not_advised():
    models = [("a", 9.0, UNSURE), ("b", 1.0, SAVER)]
    assert recommend(case(models=models, share=DISAGREE)).policy == "pin/b"
    made = case(models=models, share=DISAGREE, versus={("pin/b", "pin/a"): LOSS})
    assert recommend(made).policy == "best_single"
    assert "b pinned" not in recommend(made).sentence


def test_a_pin_that_is_shown_to_be_worse_than_the_baseline_is_not_named_beside_a_router():
    routers, saves = {"table": router(GAIN)}, gap((-2, 0, 2), (10, 20, 30))
    for against, named in ((LOSS, False), (UNSURE, True)):
        models = [("b", 1.0, against)]
        versus = {("pin/b", "table"): saves, ("pin/b", "pin/a"): saves}
        made = case(routers=routers, models=models, versus=versus)
        assert ("b pinned" in recommend(made).sentence) == named


def test_the_cheapest_of_the_pins_that_are_as_good_is_taken():
    models = [("dearer", 4.0, SAVER), ("cheap", 1.0, SAVER), ("dear", 6.0, SAVER)]
    assert recommend(case(models=models)).policy == "pin/cheap"
    close, far = gap((-3, -1.5, 1), (30, 40, 50)), gap((-12, -5, 2), (80, 90, 95))
    assert recommend(case(models=[("far", 0.1, far), ("close", 4.0, close)])).pins == ("close",)
    assert recommend(case(models=[("far", 0.1, far), ("near", 4.0, gap((-9, -4, 2), (3, 4, 5)))])).pins == (
        "near",
    )


ends = st.tuples(*[st.integers(-300, 300)] * 3).map(lambda t: tuple(v / 10 for v in sorted(t)))
gaps = st.builds(gap, st.none() | ends, st.none() | ends)


@given(*[gaps] * 7, st.booleans())
def test_whatever_is_advised_is_supported_and_a_shown_loss_never_is(
    one, two, three, four, pin, cascade, pair, agreed
):
    routers = {
        name: router(against, mix=pair)
        for name, against in zip(ROUTERS, (one, two, three, four), strict=True)
    }
    versus = {(a, b): pair for a in ROUTERS for b in (*ROUTERS, "pin/b")}
    share = {"a": 1.0} if agreed else {"a": 0.5, "b": 0.5}
    made = case(routers=routers, cascade=cascade, models=[("b", 1.0, pin)], versus=versus, share=share)
    advice = recommend(made)
    sentence_of(advice)
    if advice.policy in ROUTERS:
        assert supported(routers[advice.policy])
    if advice.policy == "pin/b":
        assert pin["quality_ci"][1] >= 0
        assert pin["quality_ci"][0] > 0 or pin["saving_ci"][0] > 0
    if advice.if_checked:
        assert supported(made.policies["cascade"])


@given(st.builds(gap, ends.map(lambda t: tuple(v / 30 for v in t)), ends))
def test_of_two_policies_only_one_is_better(there):
    low_high = there["quality_ci"] and [-end for end in reversed(there["quality_ci"])]
    saved = there["saving_ci"] and [-end for end in reversed(there["saving_ci"])]
    back = {**there, "quality_ci": low_high, "saving_ci": saved}
    assert not (better(there) and better(back))


def test_a_saving_does_not_make_better_what_is_shown_to_be_worse():
    assert better(gap((-0.9, -0.5, 0.1), (10, 20, 30)))
    assert not better(gap((-0.9, -0.5, -0.1), (10, 20, 30)))


def test_where_no_model_is_shown_to_be_worse_the_evidence_is_said_to_be_too_little():
    wide = gap((-12, -3, 4))
    said = sentence_of(recommend(case(models=[("b", 1.0, wide)])))
    assert said.startswith(
        "Not enough evidence to tell the models apart: pin a, the best so far; the learned"
    )
    split = case(models=[("a", 9.0, UNSURE), ("b", 1.0, wide)], share=DISAGREE)
    said = sentence_of(recommend(split))
    assert "pin a, the best so far on all tasks, has +0.3 points (-2.0 to +2.0) of success at" in said
    told = sentence_of(recommend(case(models=[("b", 1.0, wide), ("c", 1.0, LOSS)])))
    assert told.startswith("Pin a: ")


@pytest.mark.parametrize(
    ("over_two", "policy"),
    [(gap((1, 2, 3), (-30, -20, -10)), "cascade3"), (UNSURE, "cascade"), (LOSS, "cascade")],
)
def test_three_steps_are_advised_only_where_they_beat_two(over_two, policy):
    made = case(cascade=GAIN, versus={("cascade3", "cascade"): over_two})
    made.policies["cascade3"] = {**made.policies["cascade"], "pairs": {"x → y → a": 5}}
    advice = recommend(made._replace(versus=_with(made.versus, "cascade3", GAIN)))
    assert advice.if_checked == policy
    assert ("x → y → a" in sentence_of(advice)) == (policy == "cascade3")


def test_three_steps_are_advised_where_two_do_not_pay():
    """The shape of coderouterbench without its cheapest model."""
    made = case(cascade=UNSURE)
    made.policies["cascade3"] = {
        "vs_best_single": GAIN,
        "vs_random_mix": GAIN,
        "pairs": {"x → y → a": 5},
    }
    advice = recommend(made._replace(versus=_with(made.versus, "cascade3", GAIN)))
    assert advice.if_checked == "cascade3"
    assert "the cascade x → y → a has +5.0 points" in sentence_of(advice)


@pytest.mark.parametrize(
    ("adds", "said"),
    [
        (gap((0.5, 2, 3), (5, 10, 15)), "saved, has -0.5 points (-1.0 to +0.0)"),
        (gap((-1, 0.2, 1), (-7, 12, 28)), "is not shown to add to that check (+0.2 points (-1.0 to +1.0)"),
        (gap((-1, 0.2, 1)), "what evidence of runs adds to a check is unknown, since a cost is"),
    ],
)
def test_what_a_judge_adds_is_said_with_its_interval_and_its_check(adds, said):
    made = case(versus={("judged/parity", "static_cascade/parity"): adds})
    found = {"saving": 0.6, "ci": [0.5, 0.7]}
    even = {**found, "quality_difference": -0.005, "quality_difference_ci": [-0.01, 0]}
    made.policies["judged"] = {"cost_at_parity": even}
    advice = recommend(made._replace(reference="dear"))
    shown = sentence_of(advice)
    assert advice.if_checked is None
    assert said.removeprefix("saved, ") in shown
    if adds["saving"] is not None:
        assert "at the success of dear with a check that is wrong at most 10 % of the time" in shown
    if said.startswith("saved"):
        assert "of success at 60 % lower cost (50 to 70 %), beside the check alone +2.0 points" in shown


def _with(versus, name, against):
    """A further policy that has this difference to every pin."""

    def difference(one, other):
        return against if one == name and other in ("best_single", "pin/a") else versus(one, other)

    return difference


def test_one_of_a_thing_is_not_several():
    assert [counted(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert counted(1, "task has", "tasks have") == "1 task has"
