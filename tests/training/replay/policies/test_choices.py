"""The served policy over many requests is the served policy: one row at a time, `router.policy.choose`."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import CandidateView
from models.certificate import Certificate
from router.certified import held_to
from router.policy import Arm, Situation, choose, parse_policy
from training.replay.policies.choices import Certified, Seen, choose_many, held_many

NAMES = ("b", "a", "d", "c")
SPECS = (
    "pin:a", "mix:a=0.3,d=0.7", "mix:a=0.5,b=0.5,sticky=0", "learned", "learned:max_loss=0.05",
    "learned:max_loss=0.1,explore=0.2", "learned:max_loss=0.1,sticky=0", "learned:tau=0.6,max_spread=0.5",
    "mix:b=1,explore=0.4",
)  # fmt: skip
unknown = st.one_of(st.none(), st.sampled_from([0.2, 0.5, 0.55, 0.6, 0.9]))
arms = st.tuples(
    st.booleans(),
    unknown,
    st.one_of(st.none(), st.sampled_from([1, 2, 2, 5])),
    st.sampled_from([0.1, 0.25, 0.4]),
)
requests = st.tuples(
    st.lists(arms, min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(-1, 3),
    st.booleans(),
    st.floats(0, 0.999),
)


@pytest.mark.parametrize("spec", SPECS)
@given(rows=st.lists(requests, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_many_choices_are_the_served_choice(spec, rows):
    policy = parse_policy(spec)

    def column(i):
        return np.array([[np.nan if arm[i] is None else float(arm[i]) for arm in row[0]] for row in rows])

    seen = Seen(
        excluded=column(0) == 1,
        p=column(1),
        cost=column(2),
        spread=column(3),
        reference=np.array([row[1] for row in rows]),
        last=np.array([row[2] for row in rows]),
        locked=np.array([row[3] for row in rows]),
        draw=np.array([row[4] for row in rows]),
    )
    found = choose_many(policy, seen, NAMES)
    for i, (listed, reference, last, locked, draw) in enumerate(rows):
        weighed = [
            Arm(name, "gone" if gone else None, p, None if cost is None else Decimal(cost), spread)
            for name, (gone, p, cost, spread) in zip(NAMES, listed, strict=True)
        ]
        holder = None if last < 0 else NAMES[last]
        served = choose(policy, weighed, Situation(NAMES[reference], holder, locked, False, draw))
        assert NAMES[found.arm[i]] == served.chosen
        chances = {name: p for name, p in zip(NAMES, found.chances[i], strict=True) if p}
        assert chances == pytest.approx({n: p for n, p in served.propensities.items() if p})


@given(rows=st.lists(requests, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_a_certificate_leaves_is_what_it_leaves_served(rows):
    certificate = Certificate(
        risk="worse_of_all", level=0.02, delta=0.05, reference="a", tau=0.55, grid=(), groups=1,
        candidates=("d", "b", "a"),
    )  # fmt: skip
    p = np.array([[np.nan if arm[1] is None else arm[1] for arm in row[0]] for row in rows])
    gone = np.array([[arm[0] for arm in row[0]] for row in rows])
    reference = np.array([row[1] for row in rows])
    zero = np.zeros(len(rows))
    seen = Seen(gone, p, p, p, reference, reference, zero == 1, zero)
    found = held_many(Certified(0.55, (2, 0), 1), seen)
    views = [CandidateView(name, None, None) for name in NAMES]
    for i, (listed, _, _, _, _) in enumerate(rows):
        arms = [
            Arm(name, "gone" if out else None, success, None)
            for name, (out, success, _, _) in zip(NAMES, listed, strict=True)
        ]
        left = held_to(certificate, arms, views, NAMES[reference[i]])
        assert [None if np.isnan(x) else x for x in found.p[i]] == [arm.p_success for arm in left]
