"""What was still to come in a session, and nothing where the log can't know."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.sessions import left

HOUR = 3_600_000


def requests(rows):
    """(session, parent or None, hours) -> the columns that are looked at."""
    return pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(len(rows))],
            "session_id": [s for s, _, _ in rows],
            "parent_session_id": pl.Series([p for _, p, _ in rows], dtype=pl.String),
            "ts_ms": [int(h * HOUR) for _, _, h in rows],
        }
    )


def closed(rows):
    """The same, with a call long after all, so that every session is over."""
    return requests([*rows, ("last", None, 1000.0)])


def test_calls_of_sub_agents_count_for_the_session_but_are_not_its_turns():
    rows = [("a", None, 0.0), ("a/1", "a", 0.1), ("a/1", "a", 0.2), ("a/1/x", "a/1", 0.25), ("a", None, 0.3)]
    found = left(closed(rows))
    assert found.turns[:5].tolist() == [1, 1, 0, 0, 0]
    assert found.calls[:5].tolist() == [4, 3, 2, 1, 0]
    assert np.isnan(found.turns[5])
    assert found.censored == 1


def test_the_order_of_the_rows_does_not_matter():
    rows = [("a", None, 0.2), ("b", None, 0.0), ("a", None, 0.0), ("a", None, 0.1)]
    assert left(closed(rows)).turns[:4].tolist() == [0, 0, 2, 1]


def test_a_session_that_may_still_run_and_all_that_began_after_it_are_unknown():
    """Sessions of 10 calls; the last hours hold short ones that ended and long ones of which half did not."""
    early = [(f"e{s}", None, s + c / 100) for s in range(100) for c in range(10)]
    short = [(f"s{s}", None, 100 + s / 10) for s in range(20)]
    long = [(f"l{s}", None, 100.05 + s / 10 + c) for s in range(20) for c in range(10)]
    found = left(requests([*early, *short, *long]))
    assert found.turns[:1000].mean() == pytest.approx(4.5)
    known = np.isfinite(found.turns)
    assert known[:1000].all()
    assert known[1000:1010].all()
    assert not known[1012:1020].any()  # ended, but as likely to be short as the open ones are to be long
    assert not known[1020 + 110 :].any()
    assert found.censored == int((~known).sum())


def test_a_log_of_single_calls_knows_nothing_of_sessions():
    found = left(closed([(f"s{i}", None, float(i)) for i in range(20)]))
    assert np.isnan(found.calls).all()
    assert found.censored == 0


def test_parents_that_name_each_other_end():
    found = left(closed([("a", "b", 0.0), ("b", "a", 0.1), ("c", "c", 0.2), ("c", "c", 0.3)]))
    assert np.isfinite(found.turns[:4]).all()


def test_an_empty_log():
    assert left(requests([])).censored == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50)), min_size=2, max_size=60))
def test_known_counts_are_those_of_the_log(rows):
    made = closed([(f"s{s}", None, h / 10) for s, h in rows])
    found = left(made)
    if np.isfinite(found.turns[:-1]).all():
        for session in {s for s, _ in rows}:
            mine = np.array([s == session for s, _ in rows])
            assert sorted(found.turns[:-1][mine]) == list(range(int(mine.sum())))
