"""A request becomes its facts, alike when served and when read back from a log."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import assemble, wire
from features.assemble import facts_of, trajectory_of
from features.cache import PrefixMemory, prefix_chain
from features.facts import Facts
from features.textfacts import text_facts
from features.toolschema import offered_facts
from features.vector import featurize
from features.wire.types import Tool, WireRequest

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
    assert offered_facts(tools, *pieces) == offered_facts(tools, "\n\n".join(pieces))


@pytest.mark.parametrize(("before", "said"), [(119, 1.0), (120, 0.0)])
def test_verbs_are_looked_for_among_the_first_words_of_all_pieces(before, said):
    words = ["word"] * before
    assert text_facts(" ".join([*words, "fix"]))["verb_fix"] == said
    assert text_facts(" ".join(words[:70]), " ".join(words[70:]), "fix fix")["verb_fix"] == said


def test_tools_are_known_again_by_what_they_are_and_not_by_their_place():
    for n in range(300):  # a tuple that is gone leaves its id to the next
        tools = tuple(Tool(name=f"fix_{at}", bytes=at, digest=at + 1) for at in range(n % 7 + 1))
        fresh = offered_facts(list(tools), "fix")
        assert offered_facts(tools, "fix") == offered_facts(tools, "fix") == fresh
        assert fresh["n_tools"] == len(tools)


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
    monkeypatch.setattr(assemble, "Facts", msgspec.defstruct("Strict", fields, forbid_unknown_fields=True))
    body = {"model": "m", "tools": tools, **ASKED[dialect]}
    for chosen in (body, {**body, "input": []}, {**body, "messages": []}):
        facts_of(wire.parse_request(dialect, msgspec.json.encode(chosen)))


def test_facts_of_another_version_are_read():
    assert msgspec.json.decode(b'{"turn": 3.0}', type=Facts) == Facts(turn=3.0)
    assert msgspec.json.decode(b'{"turn": 3.0, "of_tomorrow": 1.0}', type=Facts) == Facts(turn=3.0)
