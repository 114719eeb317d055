"""A call told by a transcript and by our journal counts once, and keeps the decisions and labels."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import pytest

from features.records import OutcomeRecord, RequestRecord
from training.labels import resolve
from training.log import LogStore

ANSWER = "msg_01XFDUDYJgAACzvnptvVoYEL"


def call(source: str) -> RequestRecord:
    said = {"session_id": "s", "ts_ms": 1_700_000_000_000, "provider_response_id": ANSWER}
    return RequestRecord(request_id=f"{source}-1", source=source, cost_usd=Decimal("0.5"), **said)


def label() -> OutcomeRecord:
    said = {"ts_ms": 1_700_000_000_001, "source": "ci", "level": "tests"}
    return OutcomeRecord(outcome_id="o", request_id="journal-1", value=1.0, **said)


@pytest.mark.parametrize("order", list(permutations(("journal", "claude_code", "journal"))))
def test_whatever_came_first_the_call_counts_once_and_keeps_its_label(tmp_path, order) -> None:
    for source in order:
        LogStore(tmp_path).append("request", [call(source)])
    LogStore(tmp_path).append("outcome", [label()])
    store = LogStore(tmp_path)
    requests = store.scan("request").collect()
    assert requests["cost_usd"].to_list() == [Decimal("0.5")]
    assert requests["request_id"].to_list() == ["journal-1"]
    assert resolve(requests, store.scan("outcome").collect())["value"][0] is not None


def test_one_run_of_both_and_a_second_one_change_nothing(tmp_path) -> None:
    for _ in range(2):
        LogStore(tmp_path).append("request", [call("codex"), call("journal"), call("claude_code")])
    assert LogStore(tmp_path).scan("request").collect()["request_id"].to_list() == ["journal-1"]


def test_requests_without_an_answers_id_are_never_left_out(tmp_path) -> None:
    plain = RequestRecord(request_id="p", session_id="s", ts_ms=1_700_000_000_000, source="table")
    LogStore(tmp_path).append("request", [plain, call("codex"), call("journal")])
    assert sorted(LogStore(tmp_path).scan("request").collect()["request_id"]) == ["journal-1", "p"]
