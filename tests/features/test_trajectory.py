"""Evidence in the session so far, from the vocabulary of real agents and from their recorded transcripts."""

import json
import pickle
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import corrections, prompt, wire
from features.cache import prefix_chain
from features.trajectory import TRAJECTORY_NAMES, SessionTrajectories, Trajectory
from features.wire.types import Message, Part

RECORDED = Path(__file__).parents[2] / "sample" / "logs"


def follow(messages):
    trajectory = Trajectory()
    for message in messages:
        trajectory.add(message)
    return trajectory


def person(text):
    return Message(role="user", parts=(Part(kind="text", text=text),))


def says(text):
    return Message(role="assistant", parts=(Part(kind="text", text=text),))


def call(name, call_id="1", **arguments):
    text = msgspec.json.encode(arguments).decode()
    return Message(role="assistant", parts=(Part(kind="tool_call", name=name, call_id=call_id, text=text),))


def result(text, call_id="1", *, is_error=None):
    return Message(
        role="tool", parts=(Part(kind="tool_result", text=text, call_id=call_id, is_error=is_error),)
    )


def facts_of(trajectory):
    return dict(zip(TRAJECTORY_NAMES, trajectory.values(), strict=True))


def known(trajectory):
    return {name: value for name, value in facts_of(trajectory).items() if value}


def test_an_empty_session_knows_nothing():
    facts = facts_of(Trajectory())
    unknown = {name for name, value in facts.items() if value is None}
    assert unknown == {
        *("last_tool_error", "last_tests_passed", "last_tests_failed_count", "last_result_bytes"),
    }
    assert not any(facts[name] for name in facts.keys() - unknown)


def test_a_repair_as_claude_code_does_it():
    lines = (RECORDED / "claude_code").rglob("601856c0*.jsonl")
    entries = [json.loads(line) for path in lines for line in path.read_text().splitlines()]
    said = [e["message"] for e in entries if e["type"] in ("user", "assistant")]
    trajectory = follow(wire.messages_from("anthropic_messages", said))
    facts = known(trajectory)
    assert (facts["calls_read"], facts["calls_edit"], facts["calls_shell"]) == (2, 3, 2)
    assert (facts["n_edit_failures"], facts["n_tool_errors"], facts["n_files_edited"]) == (1, 1, 1)
    assert (facts["n_test_runs"], facts["last_tests_passed"], facts["user_corrections"]) == (2, 1, 1)
    assert trajectory.task.startswith("add() in calc.py is broken")


def test_a_repair_as_codex_does_it():
    (path,) = (RECORDED / "codex").rglob("*.jsonl")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    items = [e["payload"] for e in entries if e["type"] == "response_item"]
    trajectory = follow(wire.messages_from("openai_responses", items))
    facts = known(trajectory)
    assert (facts["calls_read"], facts["calls_edit"], facts["calls_shell"]) == (2, 2, 2)
    assert (facts["n_test_runs"], facts["last_tests_passed"], facts["n_files_edited"]) == (2, 1, 1)
    assert trajectory.n_user_messages == 2
    assert trajectory.signed


def test_tests_are_read_and_are_no_tool_errors():
    trajectory = follow(
        [
            person("fix"),
            call("Bash", command="pytest -q"),
            result("Exit code 1\n2 failed, 3 passed in 0.1s", is_error=True),
        ]
    )
    assert known(trajectory)["last_tests_failed_count"] == 2
    assert facts_of(trajectory)["last_tests_passed"] == 0
    assert facts_of(trajectory)["n_tool_errors"] == 0
    assert facts_of(trajectory)["turns_since_progress"] == 1
    trajectory.add(call("Bash", command="pytest -q"))
    trajectory.add(result("5 passed in 0.1s"))
    assert facts_of(trajectory)["last_tests_passed"] == 1
    assert facts_of(trajectory)["turns_since_progress"] == 0
    assert facts_of(trajectory)["repeated_actions"] == 1


@pytest.mark.parametrize(
    ("command", "output", "is_error", "runs", "passed"),
    [
        ("make test", "all good", False, 1, 1),
        ("make test", "boom", True, 1, 0),
        ("make test | tail -1", "all good", False, 1, None),
        ("pytest", "Exit code 127\nbash: pytest: command not found", True, 0, None),
        ("cat report.txt", "5 passed in 0.1s", None, 0, None),
        ("./run.sh", "5 passed in 0.1s", None, 1, 1),
    ],
)
def test_what_counts_as_a_test_run(command, output, is_error, runs, passed):
    facts = facts_of(follow([call("Bash", command=command), result(output, is_error=is_error)]))
    assert (facts["n_test_runs"], facts["last_tests_passed"]) == (runs, passed)


def test_errors_in_a_row():
    steps = [call("Read", file_path="x"), result("Error: no such file"), call("Bash", command="frob")]
    trajectory = follow([*steps, result("bash: frob: command not found")])
    assert facts_of(trajectory)["consecutive_tool_errors"] == 2
    trajectory.add(call("Grep", pattern="x"))
    trajectory.add(result("No matches found"))
    facts = facts_of(trajectory)
    assert (facts["n_tool_errors"], facts["consecutive_tool_errors"], facts["last_tool_error"]) == (2, 0, 0)


def test_grep_without_a_match_is_no_error():
    facts = facts_of(follow([call("shell", command=["bash", "-lc", "rg x"]), result("Exit code: 1\n")]))
    assert facts["n_tool_errors"] == 0


def test_what_a_file_says_is_not_the_tools_failure():
    text = "Process exited with code 1\nTraceback (most recent call last)\nString to replace not found"
    for tool in ("Read", "Grep", "WebFetch"):
        assert facts_of(follow([call(tool), result(text)]))["n_tool_errors"] == 0
    assert facts_of(follow([call("exec_command", cmd="cat x"), result(text)]))["n_tool_errors"] == 1


def test_a_refused_call_is_a_correction():
    refused = "The user doesn't want to proceed with this tool use. The tool use was rejected"
    facts = facts_of(follow([call("Bash", command="rm -rf x"), result(refused, is_error=True)]))
    assert (facts["user_corrections"], facts["n_tool_errors"]) == (1, 0)


@pytest.mark.parametrize(
    ("text", "corrects"),
    [
        ("No, that is wrong", True),
        ("It still fails with the same error", True),
        ("this doesn't work", True),
        ("please revert that", True),
        ("Thanks! Now add a test", False),
        ("Note that the API changed", False),
        ("<system-reminder>no</system-reminder>", False),
    ],
)
def test_corrections(text, corrects):
    assert facts_of(follow([person("a"), says("b"), person(text)]))["user_corrections"] == corrects
    assert facts_of(follow([person(text)]))["user_corrections"] == 0


SAYS = st.sampled_from(
    [
        *("still", "fails", "ſtill", "doesn't", "didnt", "Does", "not", "work", "fix", "what", "i", "meant"),
        *("try", "do", "it", "again", "same", "error", "roll", "back", "undo", "revert", "that", "the", "."),
        *("You", "broke", "forgot", "bac\u212a"),
    ]
)


@given(st.lists(st.tuples(SAYS, st.sampled_from([" ", " ", " ", "\n", "  ", ""])), max_size=9))
def test_hints_of_a_correction_miss_none(words):
    text = "".join(map("".join, words))
    found = corrections._OBJECTS.match(text) or corrections._CORRECTS.search(text)
    assert corrections.corrects(text) == (found is not None)


def test_agents_that_write_their_commands():
    steps = [
        person("fix it"),
        says("THOUGHT: look\n```bash\nsed -i 's/a/b/' a.py\n```"),
        person("<returncode>0</returncode>\n<output>\n</output>"),
        says("test\n```bash\npython -m pytest\n```"),
        person("<returncode>1</returncode>\n<output>\n1 failed in 0.1s\n</output>"),
    ]
    trajectory = follow(steps)
    assert trajectory.n_user_messages == 1
    assert known(trajectory) == {
        "in_tool_loop": 1,
        "calls_edit": 1,
        "calls_shell": 1,
        "n_files_edited": 1,
        "n_test_runs": 1,
        "last_tests_failed_count": 1,
        "turns_since_progress": 1,
        "last_result_bytes": facts_of(trajectory)["last_result_bytes"],
    }


def test_aider_edits_count_unless_they_fail():
    edit = says("a.py\n```\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n```")
    assert known(follow([person("x"), edit, person("now y")]))["calls_edit"] == 1
    failed = person("# 1 SEARCH/REPLACE block failed to match!")
    assert known(follow([person("x"), edit, failed]))["n_edit_failures"] == 1


texts = st.sampled_from(
    [
        *(
            "",
            "fix it",
            "no",
            "1 failed in 0.1s",
            "Error: x",
            "<system-reminder>a</system-reminder>",
            "é" * 9,
        ),
        *(
            "<returncode>1</returncode>",
            "```bash\nls\n```",
            "updated",
            "x" * 5000,
            "[read_file for 'x'] Result:\ny",
        ),
    ]
)
parts = st.builds(
    Part,
    kind=st.sampled_from(["text", "tool_call", "tool_result", "image", "thinking", "other"]),
    text=texts,
    name=st.sampled_from([None, "Bash", "Edit", "Read"]),
    call_id=st.sampled_from([None, "1", "2"]),
    is_error=st.sampled_from([None, True, False]),
)
messages = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        parts=st.lists(parts, max_size=3).map(tuple),
    ),
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(messages)
def test_any_session_gives_facts_and_one_salient_text(session):
    trajectory = follow(session)
    assert all(value is None or value >= 0 for value in facts_of(trajectory).values())
    assert trajectory.salient_text() == prompt.salient_text(session)


def test_a_trajectory_keeps_no_whole_texts():
    big = "x" * 5_000_000
    session = [person(big), call("Read", file_path="a.py"), result(big), person(f"{big} again"), says("b")]
    trajectory = follow([*session, call("Bash", "2", command="cat a"), result(f"\n{big}\n", "2")])
    assert len(pickle.dumps(trajectory)) < 20_000
    assert facts_of(trajectory)["last_result_bytes"] == 5_000_002


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(messages, st.integers(0, 12), st.sampled_from([None, "a", "b"])), max_size=4))
def test_a_remembered_trajectory_equals_a_fresh_one(requests):
    memory = SessionTrajectories(max_sessions=1)
    earlier: list[Message] = []
    for more, kept, session in requests:
        earlier = [*earlier[:kept], *more]
        remembered = memory.follow(session, earlier, prefix_chain(earlier)[0])
        assert facts_of(remembered) == facts_of(follow(earlier))
        assert remembered.salient_text() == prompt.salient_text(earlier)
        assert len(memory) <= 1


changes = st.one_of(
    st.fixed_dictionaries({"is_error": st.sampled_from([None, True, False])}),
    st.fixed_dictionaries({"call_id": st.sampled_from([None, "1", "2"])}),
    st.fixed_dictionaries({"signed": st.booleans()}),
    st.fixed_dictionaries({"text": texts}),
)


@settings(max_examples=200, deadline=None)
@given(messages.filter(len), messages, changes, st.data())
def test_a_history_that_changed_in_one_part_is_read_anew(earlier, more, change, data):
    memory = SessionTrajectories()
    memory.follow("s", earlier, prefix_chain(earlier)[0])
    at = data.draw(st.integers(0, len(earlier) - 1))
    pieces = list(earlier[at].parts)
    if pieces:
        n = data.draw(st.integers(0, len(pieces) - 1))
        pieces[n] = msgspec.structs.replace(pieces[n], **change)
    edited = [*earlier[:at], msgspec.structs.replace(earlier[at], parts=tuple(pieces)), *earlier[at + 1 :]]
    now = [*edited, *more]
    remembered = memory.follow("s", now, prefix_chain(now)[0])
    fresh = follow(now)
    assert (facts_of(remembered), remembered.signed) == (facts_of(fresh), fresh.signed)


def test_a_result_whose_flag_changed_is_no_history_that_goes_on():
    memory = SessionTrajectories()
    for failed in (True, False):
        session = [person("a"), call("Bash", command="make"), result("built", is_error=failed)]
        facts = facts_of(memory.follow("s", session, prefix_chain(session)[0]))
        assert facts["n_tool_errors"] == failed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=40))
def test_remembered_trajectories_are_bounded_by_what_they_hold(calls):
    memory = SessionTrajectories(max_sessions=4, max_messages=12)
    for session, length in calls:
        messages = [person(f"{session} {n}") for n in range(length)]
        memory.follow(f"s{session}", messages, prefix_chain(messages)[0])
        assert len(memory) <= 4
        assert memory.n_messages <= 12
        assert memory.n_messages == sum(known.n_messages for _, _, known in memory._sessions.values())
