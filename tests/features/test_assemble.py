"""A request becomes its facts, alike when served and when read back from a log."""

import functools
import operator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import assemble, textfacts, wire
from features.assemble import facts_of, trajectory_of
from features.cache import PrefixMemory, prefix_chain
from features.facts import Facts
from features.sessionkind import CALL_NAMES
from features.textfacts import TEXT_NAMES, text_facts
from features.toolschema import OFFERED_NAMES, offered_values
from features.trajectory import TRAJECTORY_NAMES
from features.vector import featurize
from features.wire.types import Message, Part, Tool, WireRequest

SESSION = [
    {"role": "user", "content": "Fix the bug in src/app.py: `parse_row` fails. Why?"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "1", "name": "Read", "input": {"file_path": "a"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x = 1"}]},
]


def request(messages=SESSION, **knobs):
    body = {"model": "claude-sonnet-5", "messages": messages, "system": "be good", **knobs}
    return wire.parse_request("anthropic_messages", msgspec.json.encode(body))


def test_facts_of_a_request():
    tools = [
        {"name": n} for n in ("Read", "Edit", "Bash", "Grep", "Task", "TodoWrite", "WebFetch", "mcp__a__b")
    ]
    chosen = request(stream=True, max_tokens=100, tools=tools, output_config={"effort": "max"})
    memory = PrefixMemory()
    memory.remember("s", prefix_chain(chosen.messages[:2]), 500)
    facts = facts_of(
        chosen, cache=memory.lookup("s", prefix_chain(chosen.messages), 1_000), context_tokens_est=9.0
    )
    assert facts.body_bytes == chosen.body_bytes
    assert (facts.n_messages, facts.n_user_messages, facts.n_assistant_messages) == (3, 1, 1)
    assert (facts.system_bytes, facts.stream, facts.effort, facts.turn) == (7, 1, 5, 1)
    assert (facts.in_tool_loop, facts.calls_read, facts.last_result_bytes) == (1, 1, 5)
    kinds = ("read", "search", "edit", "shell", "web", "plan", "agent", "mcp")
    assert [getattr(facts, f"tools_{kind}") for kind in kinds] == [1] * 8
    assert (facts.cache_age_ms, facts.context_tokens_est) == (500, 9)
    assert 0 < facts.cache_shared_share < 1
    assert (facts.lang_python, facts.verb_fix, facts.verb_explain, facts.text_questions) == (1, 1, 1, 1)


def test_every_value_has_its_place():
    """Facts are made in the order of their names: each run of names is one of the struct's."""
    fields = Facts.__struct_fields__
    for names in (OFFERED_NAMES, CALL_NAMES, TRAJECTORY_NAMES, TEXT_NAMES):
        first = fields.index(names[0])
        assert fields[first : first + len(names)] == names
    words = [Part(kind="text", text="fix it"), Part(kind="image"), Part(kind="image", signed=True)]
    asked = WireRequest(
        dialect="openai_chat",
        model="m",
        messages=(
            Message(role="system", parts=(Part(kind="text", text="12"),)),
            *[Message(role="assistant")] * 3,
            Message(role="user", parts=tuple(words)),
            Message(role="user", parts=(Part(kind="text", text="again"),)),
        ),
        body_bytes=50,
        max_output_tokens=60,
        effort="high",
        cache_markers=7,
        thinking=True,
        stream=True,
        json_schema=True,
        tool_choice="named",
        is_subagent=True,
    )
    facts = facts_of(asked, cache=(11, 12, 13), context_tokens_est=9, context_tokens_last=10, turn=14)
    found = msgspec.structs.astuple(facts)
    before, after = fields.index("n_tools"), fields.index("in_tool_loop")
    assert found[:before] == (50, 5, 2, 3, 2, 5, 1, 60, 1, 1, 3, 1, 2, 7, 1)
    assert found[fields.index("context_tokens_est") : after] == (9, 10, 11, 12, 13, 14, 1)
    assert {type(value) for value in found} <= {float, type(None)}


def test_unknown_is_none():
    facts = facts_of(request())
    for name in (
        "thinking",
        "effort",
        "max_output_tokens",
        "cache_shared_bytes",
        "cache_age_ms",
        "is_subagent",
    ):
        assert getattr(facts, name) is None
    hidden = facts_of(WireRequest(dialect="openai_responses", model="m", previous_response_id="r"))
    assert (hidden.turn, hidden.provider_bound) == (None, 1)


def test_a_given_trajectory_stands_in_for_the_messages():
    """A log reader walks its transcript once; the facts are those of the whole request."""
    whole = request()
    alone = msgspec.structs.replace(whole, messages=())
    assert facts_of(alone, trajectory=trajectory_of(whole)) == facts_of(whole)


def test_dialects_agree_about_the_same_session():
    chat = [
        {"role": "system", "content": "be good"},
        SESSION[0],
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "function": {"name": "Read", "arguments": '{"file_path":"a"}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "x = 1"},
    ]
    items = [
        SESSION[0],
        {"type": "function_call", "call_id": "1", "name": "Read", "arguments": '{"file_path":"a"}'},
        {"type": "function_call_output", "call_id": "1", "output": "x = 1"},
    ]
    bodies = {
        "openai_chat": {"model": "m", "messages": chat},
        "openai_responses": {"model": "m", "input": items, "instructions": "be good"},
        "anthropic_messages": {"model": "m", "messages": SESSION, "system": "be good"},
    }
    requests = [wire.parse_request(d, msgspec.json.encode(body)) for d, body in bodies.items()]
    facts = [facts_of(msgspec.structs.replace(r, body_bytes=1)) for r in requests]
    assert facts[0] == facts[1] == facts[2]
    assert len({tuple(prefix_chain(r.messages)[0]) for r in requests}) == 1


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", {}),
        (
            "fix src/a/b.go and main.rs",
            {"text_paths": 2, "lang_go_rust": 1, "verb_fix": 1, "text_identifiers": 2, "text_joins": 1},
        ),
        (
            "SELECT a FROM t WHERE x_y = 3",
            {"lang_sql": 1, "text_numbers": 1, "text_identifiers": 1, "text_capitals": 3},
        ),
        ("see https://a.b/c?d", {"text_urls": 1, "text_questions": 1, "text_identifiers": 1}),
        ("getUserName and Hello WORLD", {"text_identifiers": 1, "text_joins": 1, "text_capitals": 2}),
        ("Traceback (most recent call last):\nx", {"text_traceback": 1, "text_lines": 2, "text_capitals": 1}),
        ("```py\nx\n```", {"text_code_fences": 2, "lang_python": 1, "text_lines": 3}),
        ("diff --git a/x b/x", {"text_diff": 1}),
        (
            "Please rename it. Add a test.",
            {"verb_refactor": 1, "verb_add": 1, "verb_test": 1, "text_sentences": 2, "text_capitals": 2},
        ),
        ("été", {"text_bytes": 5, "text_non_ascii_share": 2 / 3}),
    ],
)
def test_text_facts(text, facts):
    found = text_facts(text)
    assert set(found) < set(Facts.__struct_fields__)
    expected = {"text_bytes": len(text), "text_lines": min(1, len(text)), **facts}
    if "text_paths" in facts or "/" not in text:
        assert {k: v for k, v in found.items() if v} == {k: v for k, v in expected.items() if v}
    else:
        assert expected.items() <= found.items()


@given(st.text())
def test_any_text_has_facts(text):
    assert all(value >= 0 for value in text_facts(text).values())


MARKS = (
    "def ",
    "@@ -1",
    "func f",
    "```c",
    "const x",
    "Caused by: x",
    "    at f",
    "fix a_b. And?",
    "…",
    "src/a.py",
    "",
)
PIECES = st.lists(
    st.lists(st.sampled_from(MARKS) | st.text(max_size=8), max_size=3).map("\n".join), max_size=4
)


@given(PIECES)
def test_a_text_has_the_same_facts_in_pieces_as_whole(pieces):
    assert text_facts(*pieces) == text_facts("\n\n".join(pieces))
    tools = (Tool(name="fix_def", digest=1), Tool(name="at", digest=2))
    assert offered_values(tools, pieces) == offered_values(tools, ["\n\n".join(pieces)])


BITS = dict(textfacts._MARKS)


@given(st.lists(st.sampled_from(list(BITS)) | st.text("`\n cdefjnpst", max_size=6)).map("".join))
def test_marks_are_found_wherever_they_stand(text):
    plain = [bit for mark, bit in BITS.items() if mark in text]
    assert textfacts._marked(text) == functools.reduce(operator.or_, plain, 0)


@pytest.mark.parametrize(("before", "said"), [(119, 1.0), (120, 0.0)])
def test_verbs_are_looked_for_among_the_first_words_of_all_pieces(before, said):
    words = ["word"] * before
    assert text_facts(" ".join([*words, "fix"]))["verb_fix"] == said
    assert text_facts(" ".join(words[:70]), " ".join(words[70:]), "fix fix")["verb_fix"] == said


def test_tools_are_known_again_by_what_they_are_and_not_by_their_place():
    for n in range(300):  # a tuple that is gone leaves its id to the next
        tools = tuple(Tool(name=f"fix_{at}", bytes=at, digest=at + 1) for at in range(n % 7 + 1))
        fresh = offered_values(list(tools), ["fix"])
        assert offered_values(tools, ["fix"]) == offered_values(tools, ["fix"]) == fresh
        assert fresh[0] == len(tools)


def test_the_vector_of_a_request_is_float32_and_whole():
    assert featurize(facts_of(request())).dtype == "float32"


ASKED = {
    "anthropic_messages": {"messages": SESSION, "system": "be good", "max_tokens": 9},
    "openai_chat": {"messages": [{"role": "user", "content": "Fix src/app.py, please"}]},
    "openai_responses": {"input": "Fix src/app.py, please", "previous_response_id": "resp_1"},
}


@pytest.mark.parametrize("dialect", ASKED)
@pytest.mark.parametrize("tools", [[], [{"type": "function", "name": "Read", "input_schema": {}}]])
def test_the_facts_made_are_the_struct_s_no_more_and_no_less(dialect, tools, monkeypatch):
    """What is stored lets unknown facts pass, a newer version's; what is made here may have none."""
    fields = [(name, float | None) for name in Facts.__struct_fields__]
    strict = msgspec.defstruct("Strict", fields)  # has no defaults
    monkeypatch.setattr(assemble, "Facts", strict)
    body = {"model": "m", "tools": tools, **ASKED[dialect]}
    for chosen in (body, {**body, "input": []}, {**body, "messages": []}):
        made = facts_of(wire.parse_request(dialect, msgspec.json.encode(chosen)))
        assert type(made) is strict


def test_facts_of_another_version_are_read():
    assert msgspec.json.decode(b'{"turn": 3.0}', type=Facts) == Facts(turn=3.0)
    assert msgspec.json.decode(b'{"turn": 3.0, "of_tomorrow": 1.0}', type=Facts) == Facts(turn=3.0)
