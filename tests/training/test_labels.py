"""Labels: the most exact name wins, then the strongest evidence, then the latest; unknown stays unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.records import OutcomeRecord, RequestRecord
from training.labels import resolve
from training.log import to_frame

if TYPE_CHECKING:
    import polars as pl


def requests(*rows: dict[str, object]) -> pl.DataFrame:
    blank = {"session_id": "s", "ts_ms": 0, "source": "test"}
    return to_frame(RequestRecord, [RequestRecord(**{**blank, **row}) for row in rows])


def outcomes(*rows: dict[str, object]) -> pl.DataFrame:
    blank = {"ts_ms": 0, "source": "test", "level": "score"}
    return to_frame(
        OutcomeRecord, [OutcomeRecord(**{**blank, "outcome_id": str(i), **row}) for i, row in enumerate(rows)]
    )


def test_a_request_without_evidence_is_unknown_not_a_failure() -> None:
    labels = resolve(requests({"request_id": "a"}), outcomes({"request_id": "b", "value": 0.0}))
    assert labels["value"].to_list() == [None]


def test_an_outcome_without_a_value_says_nothing() -> None:
    told = outcomes({"request_id": "a", "value": None, "level": "tests"}, {"request_id": "a", "value": 0.4})
    assert resolve(requests({"request_id": "a"}), told)["value"].to_list() == [0.4]


def test_a_score_defines_success_and_the_rest_adds_up_by_its_reliability() -> None:
    tests = {"request_id": "a", "value": 1.0, "level": "tests", "ts_ms": 1}
    person = {"request_id": "a", "value": 0.0, "level": "feedback", "ts_ms": 2}
    score = {"request_id": "a", "value": 0.5, "level": "score", "ts_ms": 3}
    both = resolve(requests({"request_id": "a"}), outcomes(tests, person)).row(0, named=True)
    # odds 0.80 : 0.20 for it, 0.90 : 0.10 against
    assert both["value"] == pytest.approx(4 / (4 + 9))
    assert (both["label_source"], both["label_ms"]) == ("test", 2)
    assert both["kinds"] == ["feedback", "tests"]
    assert both["disagree"]
    scored = resolve(requests({"request_id": "a"}), outcomes(tests, person, score)).row(0, named=True)
    assert (scored["value"], scored["level"], scored["label_ms"]) == (0.5, "score", 3)


def test_of_equal_evidence_the_latest_counts() -> None:
    told = outcomes(
        {"request_id": "a", "value": 1.0, "ts_ms": 5},
        {"request_id": "a", "value": 0.0, "ts_ms": 9},
    )
    assert resolve(requests({"request_id": "a"}), told)["value"].to_list() == [0.0]


def test_request_beats_session_beats_task_and_a_task_needs_its_candidate() -> None:
    asked = requests(
        {"request_id": "a", "session_id": "s1", "task_id": "t", "candidate": "x"},
        {"request_id": "b", "session_id": "s1", "task_id": "t", "candidate": "x"},
        {"request_id": "c", "session_id": "s2", "task_id": "t", "candidate": "x"},
        {"request_id": "d", "session_id": "s3", "task_id": "t", "candidate": "y"},
    )
    told = outcomes(
        {"task_id": "t", "candidate": "x", "value": 0.3},
        {"session_id": "s1", "value": 0.2},
        {"request_id": "a", "value": 0.1},
    )
    assert resolve(asked, told)["value"].to_list() == [0.1, 0.2, 0.3, None]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.integers(0, 5)), max_size=12))
def test_labels_keep_the_rows_and_do_not_depend_on_the_order_of_outcomes_at_different_times(
    told: list[tuple[str, float, int]],
) -> None:
    latest = {(name, at): value for name, value, at in told}  # one outcome per request and time
    rows = [{"request_id": n, "value": v, "ts_ms": at} for (n, at), v in latest.items()]
    asked = requests(*({"request_id": name} for name in "abcd"))
    forward, backward = resolve(asked, outcomes(*rows)), resolve(asked, outcomes(*rows[::-1]))
    assert len(forward) == 4
    assert forward["value"].to_list() == backward["value"].to_list()
    assert forward["value"].to_list()[3] is None
