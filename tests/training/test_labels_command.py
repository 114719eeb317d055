"""`samediff label` on recorded sessions, on made-up turns, and on logs that are none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from features.errors import BadInput
from features.facts import Facts
from features.records import DecisionRecord, OutcomeRecord, RequestRecord
from router.gateway.outcomes import read_outcomes
from training.ingest import ingest
from training.labels.label import run
from training.labels.pairs import read_pairs
from training.labels.show import render
from training.labels.signals import FACTS, SETTLED_MS, Turn, read_signals
from training.log import LogStore
from training.sources.base import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE = Path(__file__).parents[2] / "sample/logs"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = tmp_path_factory.mktemp("labels") / "log"
    ingest([SAMPLE / "claude_code", SAMPLE / "codex"], log)
    return log


def told(log: Path) -> list[tuple[str, int | None, str, float | None]]:
    """(the session's end, turn, source, value) of the outcomes, in the order of the sessions."""
    store = LogStore(log)
    turns = store.scan("request").select("request_id", "turn").collect()
    found = store.scan("outcome").collect().join(turns, on="request_id")
    rows = found.select(pl.col("session_id").str.slice(0, 4), "turn", "source", "value").sort(pl.all())
    return rows.rows()


def test_every_signal_of_the_recorded_sessions_is_found_and_none_else(recorded: Path) -> None:
    report = run(recorded, now_ms=7)
    assert told(recorded) == [
        (
            "01a1",
            2,
            "correction",
            0.3,
        ),  # Codex: its patch mended the failing test, yet its user spoke against it
        ("01a1", 2, "tests_after_edit", 0.8),
        ("01a1", 4, "correction", 0.3),
        ("e473", 3, "edit_failed", 0.25),  # Claude Code: old_string wasn't there
        ("e473", 4, "correction", 0.3),
        ("e473", 4, "tests_after_edit", 0.8),
        ("e473", 6, "correction", 0.3),
        ("e473", 7, "accepted", 0.55),
        ("e473", 8, "accepted", 0.55),
    ]
    assert (report.requests, report.labelled, report.unknown, report.added) == (20, 7, 13, 9)
    assert report.disagreeing == 2
    assert report.verdict.startswith("nothing to train on yet: 2 answers")


def test_labelling_twice_adds_nothing_and_says_the_same(recorded: Path) -> None:
    first, again = run(recorded), run(recorded)
    assert (again.added, again.known_already) == (0, 9)
    assert again.coverage == first.coverage
    assert LogStore(recorded).scan("outcome").collect()["outcome_id"].is_unique().all()


def test_the_report_is_json_and_fits_a_terminal(recorded: Path) -> None:
    report = run(recorded)
    assert msgspec.json.decode(msgspec.json.encode(report))["requests"] == 20
    console = Console(width=80, record=True, file=io.StringIO())
    for part in render(report):
        console.print(part)
    shown = console.export_text()
    assert "tests_after_edit" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_path_that_is_no_log_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no such log; make one with"):
        run(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"no requests in it"):
        run(tmp_path)
    (tmp_path / "samediff-log.json").write_text('{"schema_version": 99}')
    with pytest.raises(BadInput, match=r"schema version 99"):
        run(tmp_path)


def request(name: str, **fields: Any) -> RequestRecord:
    return RequestRecord(
        **{"request_id": name, "session_id": name, "ts_ms": 1, "source": "journal", **fields}
    )


def test_pairs_of_logged_answers_need_the_decision_to_know_the_reference(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    edits = {"prefix_hashes": [5], "edit_digests": ["~L0:aa", "call:bb"]}
    store.append(
        "request", [request("a", candidate="cheap", **edits), request("b", candidate="dear", **edits)]
    )
    store.append(
        "decision",
        [
            DecisionRecord(
                request_id="a", session_id="a", ts_ms=1, policy="p", chosen="cheap", reference="dear"
            )
        ],
    )
    run(tmp_path)
    found = store.scan("outcome").sort("request_id").collect()
    assert found["reference"].to_list() == ["dear", None]
    assert found["level"].to_list() == ["L0", "L0"]
    assert found["value"].to_list() == [0.985, 0.71]


def test_outcomes_of_unknown_requests_are_counted_and_change_nothing(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.append("request", [request("a", candidate="cheap")])
    outcome = OutcomeRecord(
        outcome_id="o", ts_ms=1, source="api", request_id="gone", session_id="a", value=0.0
    )
    store.append("outcome", [outcome])
    report = run(tmp_path)
    assert (report.unmatched, report.labelled) == (1, 0)


def turn(n: int, *, session: str = "s", **known: Any) -> Turn:
    """Turn n of a thread whose prompt grows by two messages a turn; facts not named are 0."""
    of_turn = {name: known.pop(name) for name in list(known) if name in Turn._fields}
    facts = {name: None if name.startswith("last_") else 0.0 for name in FACTS} | known
    base = Turn(f"{session}{n}", session, n, n, "ok", "m", None, None, list(range(100, 101 + 2 * n)), facts)
    return base._replace(**of_turn)


def signals(turns: Sequence[Turn]) -> list[tuple[str, str, float | None]]:
    return sorted((r.request_id or "", r.source, r.value) for r in read_signals(turns))


def test_a_run_speaks_strongly_of_the_last_edit_and_weakly_of_those_before_it() -> None:
    turns = [
        turn(0),
        turn(1, calls_edit=1.0),
        turn(2, calls_edit=2.0),
        turn(3, calls_edit=2.0, n_test_runs=1.0, last_tests_passed=0.0),
        turn(4, calls_edit=3.0, n_test_runs=1.0, last_tests_passed=0.0),
        turn(5, calls_edit=3.0, n_test_runs=2.0, last_tests_passed=1.0),
    ]
    assert signals(turns) == [
        ("s0", "tests_later", 0.40),
        ("s1", "tests_after_edit", 0.25),
        ("s3", "tests_after_edit", 0.80),
    ]


def test_a_run_in_the_same_turn_as_the_edit_is_weaker_and_fewer_failures_are_no_verdict() -> None:
    assert signals([turn(0), turn(1, calls_edit=1.0, n_test_runs=1.0, last_tests_passed=1.0)]) == [
        ("s0", "tests_later", 0.65)
    ]
    fewer = [
        turn(0, last_tests_failed_count=5.0, last_tests_passed=0.0, n_test_runs=1.0),
        turn(1, last_tests_failed_count=5.0, last_tests_passed=0.0, n_test_runs=1.0, calls_edit=1.0),
        turn(2, last_tests_failed_count=2.0, last_tests_passed=0.0, n_test_runs=2.0, calls_edit=1.0),
    ]
    assert signals(fewer) == [("s0", "tests_after_edit", None)]


def test_refusals_reverts_and_edits_taken_back() -> None:
    turns = [
        turn(0, digests=["~L0:one", "undo:back"]),
        turn(1, calls_edit=1.0, digests=["~L0:back"]),
        turn(2, calls_edit=2.0, digests=["revert:git"]),
        turn(3, calls_edit=2.0),
        turn(4, calls_edit=2.0, user_corrections=1.0),
    ]
    assert signals(turns) == [("s0", "undone", 0.25), ("s1", "reverted", 0.25), ("s3", "rejection", 0.25)]


def test_a_tool_call_that_its_client_cannot_carry_out_speaks_against_the_answer(tmp_path: Path) -> None:
    assert signals([turn(0, broken=True), turn(1)]) == [("s0", "tool_call_broken", 0.30)]
    store = LogStore(tmp_path)
    store.append("request", [request("a", candidate="cheap", flags=["broken_tool_call"]), request("b")])
    report = run(tmp_path)
    assert (report.requests, report.labelled, report.added) == (2, 1, 1)
    found = store.scan("outcome").collect().row(0, named=True)
    assert (found["request_id"], found["candidate"], found["source"]) == ("a", "cheap", "tool_call_broken")
    assert run(tmp_path).added == 0


def test_a_session_is_abandoned_only_when_the_log_has_gone_on_for_a_day() -> None:
    open_end = turn(1, tools_called=["Edit"])
    later = turn(0, session="t", ts_ms=SETTLED_MS + 2, hashes=[7])
    assert signals([turn(0), open_end]) == []
    assert signals([turn(0), open_end, later]) == [("s1", "abandoned", 0.42)]
    assert signals([turn(0), turn(1, tools_called=[]), later]) == []


def test_another_conversation_of_the_session_is_not_taken_for_the_next_turn() -> None:
    side = turn(1, hashes=[900, 901], calls_edit=5.0, user_corrections=2.0)
    assert signals([turn(0), side]) == []
    shrunk = turn(1, calls_edit=0.0)
    assert signals([turn(0, calls_edit=4.0), shrunk]) == []


MOST = {"calls_edit": 2, "n_edit_failures": 1, "n_test_runs": 1, "n_user_messages": 1, "user_corrections": 2}
STEPS = st.lists(
    st.fixed_dictionaries({name: st.integers(0, most) for name, most in MOST.items()}), max_size=8
)


@given(STEPS, st.randoms())
def test_the_order_of_the_log_does_not_matter_and_ids_are_told_once_each(
    steps: list[dict[str, int]], random: Any
) -> None:
    total = dict.fromkeys(FACTS, 0.0) | {"last_tests_passed": 1.0}
    turns = [turn(0)]
    for n, step in enumerate(steps, start=1):
        total = {name: value + step.get(name, 0) for name, value in total.items()}
        turns.append(turn(n, **total))
    mixed = random.sample(turns, len(turns))
    first = list(read_signals(turns))
    assert first == list(read_signals(mixed))
    assert {r.outcome_id for r in first} == {f"label/{r.source}/{r.request_id}" for r in first}


def test_pairs_are_of_different_candidates_and_never_negative() -> None:
    same = turn(0, session="a", candidate="x", digests=["L0:1", "L1:2"])
    turns = [
        same,
        turn(0, session="b", candidate="y", digests=["L0:9", "L1:2"]),
        turn(0, session="c", candidate="z", digests=["L0:7", "undo:1"]),
        turn(0, session="d", candidate="x", digests=["L0:1"]),  # the same candidate again: no pair
        turn(0, session="e", candidate="w", digests=["revert:git"]),  # no edit
    ]
    found = list(read_pairs(turns, {}))
    assert len(found) == 6  # x, y and z each with both others
    assert {(r.request_id, r.level, r.value) for r in found if r.value is not None} == {
        ("a0", "L1", 0.71),
        ("b0", "L1", 0.71),
    }
    assert {r.level for r in found if r.value is None} == {"unknown"}


def test_facts_named_here_exist() -> None:
    assert set(FACTS) <= set(Facts.__struct_fields__)


@pytest.mark.parametrize(("prompts", "kept"), [("features", 5), ("none", 0)])
def test_readers_keep_digests_of_edits_unless_nothing_is_to_be_kept(
    tmp_path: Path, prompts: Any, kept: int
) -> None:
    ingest([SAMPLE / "claude_code", SAMPLE / "codex"], tmp_path, options=ReadOptions(prompts=prompts))
    digests = LogStore(tmp_path).scan("request").collect()["edit_digests"]
    assert len(digests) - digests.null_count() == kept
    assert run(tmp_path).added == (9 if kept else 0)  # without facts nothing can be told


def test_feedback_posted_without_a_level_is_a_persons_word(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.append("request", [request("a", candidate="cheap")])
    store.append("outcome", read_outcomes(b'{"request_id": "a", "value": 0}', 5))
    report = run(tmp_path)
    assert [(line.kind, line.bad) for line in report.coverage] == [("feedback", 1)]
    assert [(line.candidate, line.verdicts, line.bad) for line in report.support] == [("cheap", 1, 1)]


def test_sixty_clean_verdicts_are_enough_to_certify(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    names = [f"r{n}" for n in range(60)]
    store.append("request", [request(name, candidate="cheap") for name in names])
    store.append(
        "outcome",
        [
            OutcomeRecord(outcome_id=name, ts_ms=1, source="ci", request_id=name, level="tests", value=1.0)
            for name in names
        ],
    )
    report = run(tmp_path)
    assert report.verdict == "enough to certify: cheap (at most 4.9% bad, 60 verdicts)"


def test_shadow_pairs_show_by_candidate_and_level_and_the_reference_against_itself_does_not(
    tmp_path: Path,
) -> None:
    store = LogStore(tmp_path)
    store.append("request", [request("a", candidate="dear")])
    told = (("cheap", "L0", 1.0), ("cheap", "different", None), ("dear", "L0", 1.0))
    store.append(
        "outcome",
        [
            OutcomeRecord(
                outcome_id=str(n), ts_ms=1, source="shadow", request_id="a", session_id="a",
                candidate=candidate, reference="dear", level=level, value=value,
            )
            for n, (candidate, level, value) in enumerate(told)
        ],
    )  # fmt: skip
    report = run(tmp_path)
    assert (report.labelled, report.shadow_labels) == (0, 1)
    (cheap,) = report.support
    assert (cheap.candidate, cheap.pairs, cheap.same, cheap.verdicts) == ("cheap", 2, 1, 0)
    assert cheap.levels == {"L0": 1, "different": 1}
    told_of = {(line.candidate, line.level): line.requests for line in report.compared}
    assert told_of == {("cheap", "L0"): 1, ("cheap", "different"): 1, ("dear", "L0"): 1}
