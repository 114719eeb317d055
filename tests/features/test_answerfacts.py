"""Facts of an answer as a vector: one row is many, and the list of them is frozen."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.answerfacts import (
    AFTER_NAMES,
    EDIT_NAMES,
    AnswerFacts,
    RunTotals,
    after_hash,
    after_vector,
    totals_of,
)
from features.facts import Facts

numbers = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1e308, -1e308, 2**53 + 1.0])
answers = st.none() | st.dictionaries(st.sampled_from(EDIT_NAMES), numbers, max_size=6).map(
    lambda d: AnswerFacts(**d)
)
runs = st.none() | st.builds(RunTotals, run_steps=numbers, run_tests=numbers)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(answers, runs), min_size=1, max_size=5))
def test_one_row_is_many_rows(rows):
    many = after_vector([answer for answer, _ in rows], [run for _, run in rows])
    assert many.shape == (len(rows), len(AFTER_NAMES))
    assert many.dtype == np.float32
    for number, (answer, run) in enumerate(rows):
        assert after_vector([answer], [run]).tobytes() == many[number : number + 1].tobytes()
    assert not np.isinf(many).any()


def test_a_run_is_told_by_the_facts_of_its_last_request():
    run = totals_of(Facts(n_assistant_messages=7, last_tests_passed=1, body_bytes=10))
    assert (run.run_steps, run.run_tests_passed, run.run_reads) == (7, 1, None)
    row = dict(zip(AFTER_NAMES, after_vector([None], [run])[0], strict=True))
    assert row["run_steps"] == pytest.approx(math.log1p(7))
    assert math.isnan(row["files"])


def test_the_list_is_frozen_by_its_digest():
    """A new name changes it by itself; for a new meaning of an old name `_DEFINITION` counts up."""
    assert after_hash() == "ab7b670812204239"
