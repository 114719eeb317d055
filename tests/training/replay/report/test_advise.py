"""The recommendation says what the rows say: no more, no less, and names the pin where the pin is enough."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.replay.report.advise import MARGIN, advise
from training.replay.report.comparisons import Field, is_pin
from training.replay.report.result import Row


def row(name, cost, gain=0.0, *, role="policy", reach=0.01, supported=True, switches=0.0, **more):
    """A policy of this cost beside a logged one of 100, `gain` better in success."""
    saving = 1 - cost / 100
    known = {
        "quality": 0.8 + gain,
        "quality_ci": (0.8 + gain - reach, 0.8 + gain + reach),
        "quality_gain": gain,
        "quality_gain_ci": (gain - reach, gain + reach),
        "quality_how": "dr",
    }
    return Row(
        name=name,
        role=role,
        cost_usd=cost,
        saving=saving,
        saving_ci=(saving - 0.01, saving + 0.01),
        switches=switches,
        unsafe_switches=0.0,
        ess=1_000.0 if supported else 10.0,
        supported=supported,
        why=None if supported else "10 effective decisions are known, 400 are needed",
        share={name: 1.0},
        **(known if supported else {}),
        **more,
    )


def logged(supported=True):
    return row("logged", 100.0, role="logged", reach=0.0, supported=supported)


def test_a_pin_that_is_as_good_and_cheaper_is_advised():
    found = advise([logged(), row("pin:small", 40.0, 0.0, role="pin")])
    assert found.policy == "pin:small"
    assert found.sentence.startswith("Pin small: it saves 60% (59% to 61%)")


def test_a_router_must_beat_the_pin_and_the_mix():
    pin, mix = row("pin:small", 40.0, role="pin"), row("random_mix", 30.0, -0.1, role="control")
    assert advise([logged(), pin, mix, row("learned", 45.0)]).policy == "pin:small"
    assert advise([logged(), pin, mix, row("learned", 20.0)]).policy == "learned"
    no_better = row("random_mix", 20.0, 0.05, role="control")
    assert advise([logged(), pin, no_better, row("learned", 20.0)]).policy == "pin:small"


def test_what_loses_more_than_the_margin_is_not_advised():
    found = advise([logged(), row("pin:small", 40.0, -0.05, role="pin")])
    assert found.policy == "logged"
    assert found.sentence.startswith("Stay with what is logged")
    assert "success -6.0 to -4.0 points" in found.sentence


def test_what_is_not_supported_is_not_advised_but_its_price_is_told():
    unknown = row(
        "pin:small", 40.0, role="pin", supported=False, missing={"half_width": 0.03, "pairs": 390, "usd": 4.2}
    )
    found = advise([logged(), unknown])
    assert found.policy is None
    assert found.sentence == (
        "Not enough evidence to change anything. pin:small would cost 60% (59% to 61%) less, but nothing "
        "shows that its diffs are as good; 390 shadow calls (≈ $4.20) and tests of their answers would tell "
        "it to ±3%."
    )


def test_without_outcomes_of_what_is_logged_nothing_is_advised():
    found = advise([logged(supported=False), row("pin:small", 40.0, role="pin")])
    assert found.policy is None
    assert found.sentence.startswith("Not enough evidence: 10 effective decisions")


def test_nothing_that_saves_means_staying():
    found = advise([logged(), row("pin:big", 150.0, 0.0, role="pin")])
    assert found.policy == "logged"
    assert found.sentence.endswith("Nothing that was played would cost less.")


@given(
    pins=st.lists(
        st.tuples(st.floats(1, 300), st.floats(-0.2, 0.15), st.floats(0, 0.1), st.booleans()), max_size=8
    ),
    routers=st.lists(
        st.tuples(st.floats(1, 300), st.floats(-0.2, 0.15), st.floats(0, 0.1), st.booleans()), max_size=3
    ),
)
@settings(max_examples=200, deadline=None)
def test_every_number_in_the_sentence_stands_in_the_rows(pins, routers):
    rows = [logged()]
    rows += [
        row(f"pin:p{i}", cost, gain, reach=reach, supported=known, role="pin")
        for i, (cost, gain, reach, known) in enumerate(pins)
    ]
    rows += [
        row(f"learned:max_loss=0.0{i}", cost, gain, reach=reach, supported=known)
        for i, (cost, gain, reach, known) in enumerate(routers)
    ]
    found = advise(rows)
    if found.policy in (None, "logged"):
        assert found.sentence.startswith(("Not enough evidence", "Stay with what is logged"))
        return
    chosen = next(r for r in rows if r.name == found.policy)
    assert chosen.supported
    assert chosen.saving_ci[0] > 0
    assert chosen.quality_gain_ci[0] >= -MARGIN
    assert found.sentence.startswith("Pin " if is_pin(chosen) else "Use learned")
    assert f"it saves {chosen.saving:.0%}" in found.sentence
    told = re.search(r"difference ([+-][\d.]+) to ([+-][\d.]+) points", found.sentence)
    field = Field.of(rows, rows[0])
    wide = field.wide(chosen.quality_gain_ci)
    assert wide[0] <= chosen.quality_gain_ci[0]
    assert [float(t) for t in told.groups()] == pytest.approx([end * 100 for end in wide], abs=0.051)
    assert (f"intervals hold for all {field.asked} at once" in found.sentence) == (field.asked > 1)


def test_what_refuses_more_than_today_saves_nothing():
    """A pin that a budget stops at once costs nothing, and answers nothing."""
    today = logged()
    today.refused = 10
    stopped = row("pin:big", 0.0, role="pin", refused=5_000)
    found = advise([today, stopped])
    assert found.policy is None
    assert found.sentence == (
        "Not enough evidence to change anything. "
        "All that would cost less refuses more calls than today under this budget."
    )
    answering = row("pin:small", 60.0, role="pin", refused=10)
    assert advise([today, stopped, answering]).policy == "pin:small"
    router = row("learned", 30.0, refused=11)
    assert advise([today, stopped, answering, router]).policy == "pin:small"


def test_a_saving_without_an_interval_is_still_told():
    unknown = row("pin:small", 40.0, role="pin", supported=False)
    unknown.saving_ci = None
    assert "pin:small would cost 60% (its interval is unknown) less" in advise([logged(), unknown]).sentence


def test_of_ten_routers_as_good_as_the_pin_and_dearer_hardly_one_is_advised():
    """The best of ten by luck: told by intervals of one alone, 22 % of such questions named a router."""
    rng, hits, draws = np.random.default_rng(0), 0, 400
    mix = row("random_mix", 41.0, -0.2, reach=0.0, role="control")
    for _ in range(draws):
        luck = rng.normal(0, 0.01 / 1.96 * 2**0.5, 10)
        routers = [row(f"learned:max_loss=0.0{i}", 41.0, gain) for i, gain in enumerate(luck)]
        hits += (
            advise([logged(), row("pin:small", 40.0, 1e-6, role="pin"), mix, *routers]).policy != "pin:small"
        )
    assert hits / draws < 0.06


def test_a_pin_that_gains_nothing_at_all_is_not_taken_for_what_is_logged():
    """Its own interval counts against a router as that of any other pin does."""
    rows = [row("random_mix", 41.0, -0.2, reach=0.0, role="control"), row("learned", 41.0, 0.017)]
    for gain in (0.0, 1e-9):
        assert advise([logged(), row("pin:small", 40.0, gain, role="pin"), *rows]).policy == "pin:small"


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (row("random_mix", 20.0, supported=False, role="control"), "nothing is known of sessions given"),
        (None, "nothing is known of sessions given"),
        (row("random_mix", 20.0, 0.0139, role="control"), "it isn't shown to be better than sessions given"),
        (row("random_mix", 20.0, 0.0, role="control"), "it isn't shown to be better than sessions given"),
    ],
)
def test_a_router_that_no_mix_is_shown_to_be_worse_than_is_not_advised(mix, said):
    beside = [] if mix is None else [mix]
    found = advise([logged(), row("pin:small", 40.0, 0.0, role="pin"), *beside, row("learned", 20.0)])
    assert found.policy == "pin:small"
    assert f"learned isn't advised: {said}" in found.sentence
    alone = advise([logged(), *beside, row("learned", 20.0)])
    assert alone.policy is None
    assert f"learned isn't advised: {said}" in alone.sentence


def test_every_router_is_held_to_a_mix_of_its_own_cost():
    """Not to that of the learned policy: one that is cheaper and as good stands before it."""
    pin, mix = row("pin:small", 40.0, role="pin"), row("random_mix", 20.0, 0.0, role="control")
    assert advise([logged(), pin, mix, row("cascade:a,b", 35.0)]).policy == "pin:small"
    ends = [row("cheapest", 10.0, -0.4, role="control"), row("best_single", 90.0, 0.0, role="control")]
    field = Field.of([logged(), *ends], logged())
    low, high = field.beyond_mix(row("cascade:a,b", 30.0, 0.0))
    assert (low + high) / 2 == pytest.approx(0.3)
    assert advise([logged(), pin, *ends, row("cascade:a,b", 30.0)]).policy == "cascade:a,b"
    assert advise([logged(), pin, *ends, row("cascade:a,b", 30.0, -0.295)]).policy == "pin:small"


def test_a_router_cheaper_than_anything_that_could_be_mixed_need_only_be_as_good():
    pin = row("pin:small", 40.0, role="pin")
    ends = [row("cheapest", 40.0, role="control"), row("best_single", 90.0, role="control")]
    assert advise([logged(), pin, *ends, row("learned", 20.0, reach=0.005)]).policy == "learned"
    assert advise([logged(), pin, *ends, row("learned", 39.0, reach=0.005)]).policy == "pin:small"


def test_a_saving_that_may_be_anything_is_no_evidence():
    wide = row("pin:small", 45.0, role="pin", supported=False)
    wide.saving_ci = (-9.62, 1.0)
    found = advise([logged(), wide])
    assert "Not enough evidence of costs either: pin:small" in found.sentence
    assert "%" not in found.sentence.split("either:")[1]
