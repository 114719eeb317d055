"""Requests of all three dialects: every shape of content is read, and bad ones are refused in one line."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import wire
from features.errors import BadInput

DIALECTS = ("openai_chat", "anthropic_messages", "openai_responses")


def parse(dialect, **body):
    return wire.parse_request(dialect, msgspec.json.encode({"model": "m", **body}))


def kinds(request):
    return [(m.role, [p.kind for p in m.parts]) for m in request.messages]


def test_anthropic_reads_every_block():
    request = parse(
        "anthropic_messages",
        system=[{"type": "text", "text": "You are…", "cache_control": {"type": "ephemeral"}}],
        tools=[{"name": "Read", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}],
        max_tokens=1000,
        thinking={"type": "enabled", "budget_tokens": 5000},
        output_config={"effort": "high", "format": {"type": "json_schema"}},
        tool_choice={"type": "any"},
        messages=[
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "xx"},
                    {"type": "tool_use", "id": "t1", "name": "Read", "input": {"file_path": "a.py"}},
                    {"type": "server_tool_use", "id": "t2", "name": "web_search", "input": {}},
                    {"type": "web_search_tool_result", "tool_use_id": "t2", "content": {"error_code": "x"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "is_error": True,
                        "content": [
                            {"type": "text", "text": "no such file"},
                            {"type": "image", "source": {"type": "base64", "data": "abc"}},
                        ],
                    },
                    {"type": "tool_result", "tool_use_id": "t9"},
                    {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}},
                    {"type": "document", "source": {"type": "url", "url": "https://x"}},
                    {"type": "never_seen_before", "content": 5},
                ],
            },
        ],
    )
    assert kinds(request) == [
        ("system", ["text"]),
        ("user", ["text"]),
        ("assistant", ["thinking", "thinking", "tool_call", "tool_call", "tool_result"]),
        ("user", ["tool_result", "image", "tool_result", "text", "other", "other"]),
    ]
    result = request.messages[3].parts[0]
    assert (result.text, result.call_id, result.is_error) == ("no such file", "t1", True)
    assert request.messages[2].parts[2].text == '{"file_path":"a.py"}'
    assert [p.signed for p in request.messages[2].parts] == [True, True, False, False, False]
    assert (request.cache_markers, request.thinking, request.effort) == (2, True, "high")
    assert (request.tool_choice, request.json_schema, request.max_output_tokens) == ("required", True, 1000)
    assert [t.name for t in request.tools] == ["Read", "web_search"]


@pytest.mark.parametrize(
    ("user_id", "user", "session"),
    [
        ('{"device_id":"d","account_uuid":"","session_id":"s-1"}', "d", "s-1"),
        ("user_ab12_account_cd_session_5b1c2f2e-0000-4000-8000-00000000000a", "user_ab12_account_cd", "5b1c"),
        ("somebody", "somebody", None),
        ("{broken", None, None),
        (7, None, None),
    ],
)
def test_claude_code_session_from_user_id(user_id, user, session):
    request = parse("anthropic_messages", messages=[], metadata={"user_id": user_id})
    assert request.user == user
    assert (request.session_id or "").startswith(session or "")
    assert (request.session_id is None) == (session is None)


@pytest.mark.parametrize(
    ("opening", "is_subagent"),
    [
        ("x-anthropic-billing-header: cc_version=2.1.197.abe; cc_entrypoint=cli; cc_is_subagent=true;", True),
        ("x-anthropic-billing-header: cc_version=2.1.197.e42; cc_entrypoint=cli;", False),
        ("You are cc_is_subagent=true", None),
    ],
)
def test_claude_code_says_when_a_subagent_calls(opening, is_subagent):
    request = parse("anthropic_messages", messages=[], system=[{"type": "text", "text": opening}])
    assert request.is_subagent == is_subagent


def test_chat_reads_every_shape():
    request = parse(
        "openai_chat",
        reasoning_effort="low",
        max_tokens=5,
        max_completion_tokens=7,
        prompt_cache_key="k",
        tool_choice={"type": "function", "function": {"name": "f"}},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        functions=[{"name": "old"}],
        response_format={"type": "json_schema", "json_schema": {}},
        messages=[
            {"role": "developer", "content": "rules"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "data:"}},
                    {"type": "input_audio", "input_audio": {"data": "x"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "", "refusal": "no"},
            {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
            {"role": "function", "name": "old", "content": "three"},
        ],
    )
    assert kinds(request) == [
        ("system", ["text"]),
        ("user", ["text", "image", "other"]),
        ("assistant", ["tool_call"]),
        ("tool", ["tool_result", "tool_result"]),
        ("assistant", ["text", "tool_call"]),
        ("tool", ["tool_result"]),
    ]
    assert [t.name for t in request.tools] == ["f", "old"]
    assert request.messages[4].parts[1].call_id == request.messages[5].parts[0].call_id == "old"
    assert (request.max_output_tokens, request.tool_choice, request.effort) == (7, "named", "low")
    assert (request.json_schema, request.session_id, request.cache_markers) == (True, "k", 1)


def test_responses_reads_codex_items():
    request = parse(
        "openai_responses",
        instructions="You are Codex",
        store=False,
        prompt_cache_key="thread-1",
        reasoning={"effort": "xhigh"},
        tools=[
            {"type": "function", "name": "exec_command"},
            {"type": "custom", "name": "apply_patch"},
            {"type": "web_search"},
            {"type": "namespace", "name": "crm", "tools": [{"name": "find"}, {"name": "add"}]},
        ],
        input=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "x",
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look"}]},
            {"type": "function_call", "call_id": "1", "name": "exec_command", "arguments": '{"cmd":"ls"}'},
            {"type": "custom_tool_call", "call_id": "2", "name": "apply_patch", "input": "*** Begin Patch"},
            {"type": "local_shell_call", "call_id": "3", "action": {"type": "exec", "command": ["ls"]}},
            {"type": "function_call_output", "call_id": "1", "output": "a.py"},
            {
                "type": "custom_tool_call_output",
                "call_id": "2",
                "output": [{"type": "input_text", "text": "ok"}],
            },
            {
                "type": "apply_patch_call_output",
                "call_id": "4",
                "status": "failed",
                "output": "Invalid context",
            },
            {"type": "item_from_the_future", "x": [1]},
        ],
    )
    assert kinds(request) == [
        ("system", ["text"]),
        ("user", ["text"]),
        ("assistant", ["thinking", "text", "tool_call", "tool_call", "tool_call"]),
        ("tool", ["tool_result", "tool_result", "tool_result"]),
        ("user", ["other"]),
    ]
    assert [p.name for p in request.messages[2].parts] == [
        *(None, None, "exec_command", "apply_patch", "local_shell"),
    ]
    assert request.messages[2].parts[0].signed
    assert request.messages[3].parts[2].is_error
    assert [t.name for t in request.tools] == [
        *("exec_command", "apply_patch", "web_search", "crm__find", "crm__add"),
    ]
    assert (request.session_id, request.effort, request.thinking) == ("thread-1", "xhigh", True)


def test_responses_input_may_be_text_or_left_to_the_provider():
    assert kinds(parse("openai_responses", input="hello")) == [("user", ["text"])]
    assert parse("openai_responses", previous_response_id="resp_1").previous_response_id == "resp_1"


@pytest.mark.parametrize(
    ("dialect", "body", "named"),
    [
        ("anthropic_messages", b"", "not JSON"),
        ("anthropic_messages", b"[1]", "object"),
        ("anthropic_messages", b'{"model":"m"}', "`messages`"),
        ("openai_chat", b'{"messages":[]}', "`model`"),
        ("openai_chat", b'{"model":"m"}', "`messages`"),
        ("openai_chat", b'{"model":"m","messages":"SECRET"}', "`messages`"),
        ("openai_chat", b'{"model":"m","messages":["SECRET"]}', "`messages[0]`"),
        ("openai_chat", b'{"model":"m","messages":[{"content":"SECRET"}]}', "`messages[0].role`"),
        ("openai_chat", b'{"model":"m","messages":[{"role":"user","content":{"SECRET":1}}]}', "content"),
        ("openai_chat", b'{"model":"m","messages":[],"max_tokens":"SECRET"}', "`max_tokens`"),
        ("openai_chat", b'{"model":"m","messages":[],"tools":["SECRET"]}', "`tools[0]`"),
        ("openai_responses", b'{"model":"m"}', "`input`"),
        ("openai_responses", b'{"model":"m","input":7}', "`input`"),
        ("openai_responses", b"[" * 100_000, "object"),
        ("openai_responses", b'{"model":"m","input":' + b"[" * 1_000_000, "nested too deeply"),
        ("openai_responses", b'{"model":"\xff","input":"SECRET"}', "not JSON"),
    ],
)
def test_bad_bodies_are_one_line_that_names_the_key(dialect, body, named):
    with pytest.raises(BadInput) as caught:
        wire.parse_request(dialect, body)
    line = str(caught.value)
    assert named in line
    assert "\n" not in line
    assert "SECRET" not in line


def test_cache_markers_do_not_change_tools():
    plain = parse("anthropic_messages", messages=[], tools=[{"name": "a"}])
    marked = parse("anthropic_messages", messages=[], tools=[{"name": "a", "cache_control": {"type": "x"}}])
    assert (plain.tools, plain.cache_markers, marked.cache_markers) == (marked.tools, 0, 1)


def test_split_turns_are_joined_as_the_request_has_them():
    """Claude Code's transcript cuts a turn into a line per block; its requests don't."""
    blocks = [
        {"type": "text", "text": "I look"},
        {"type": "tool_use", "id": "1", "name": "Read", "input": {}},
    ]
    result = {"type": "tool_result", "tool_use_id": "1", "content": "x"}
    whole = [{"role": "assistant", "content": blocks}, {"role": "user", "content": [result, result]}]
    cut = [{"role": "assistant", "content": [b]} for b in blocks] + [
        {"role": "user", "content": [result]}
    ] * 2
    joined = wire.messages_from("anthropic_messages", cut)
    assert joined == wire.messages_from("anthropic_messages", whole)
    assert [m.role for m in joined] == ["assistant", "tool"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
WORDS = [
    "type",
    "role",
    "content",
    "text",
    "tool_use",
    "tool_result",
    "id",
    "name",
    "input",
    "output",
    "arguments",
    "function",
    "tool_calls",
    "image",
    "source",
    "thinking",
    "signature",
    "cache_control",
    "user",
    "assistant",
    "tool",
    "system",
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "summary",
    "mcp_call",
    "error",
    "is_error",
    "tool_use_id",
    "call_id",
    "refusal",
    "namespace",
    "tools",
]
likely = st.recursive(
    st.none() | st.sampled_from(WORDS) | st.integers(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=12,
)
messages = st.lists(st.dictionaries(st.sampled_from(WORDS), likely, max_size=6), max_size=4)


@settings(max_examples=150, deadline=None)
@given(json_values, st.sampled_from(DIALECTS))
def test_arbitrary_json_is_read_or_refused(value, dialect):
    read_or_refuse(dialect, msgspec.json.encode(value))


@settings(max_examples=120, deadline=None)
@given(messages, messages, likely, st.sampled_from(DIALECTS))
def test_likely_json_is_read_or_refused(items, tools, other, dialect):
    body = {"model": "m", "messages": items, "input": items, "tools": tools, "metadata": other}
    knobs = (
        "tool_choice",
        "thinking",
        "reasoning",
        "text",
        "output_config",
        "response_format",
        "conversation",
    )
    read_or_refuse(dialect, msgspec.json.encode({**body, **dict.fromkeys(knobs, other)}))


def read_or_refuse(dialect, body):
    try:
        request = wire.parse_request(dialect, body)
    except BadInput:
        return
    assert request.body_bytes == len(body)
    assert all(part.bytes >= 0 for message in request.messages for part in message.parts)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(DIALECTS))
def test_arbitrary_bytes_are_refused(body, dialect):
    read_or_refuse(dialect, body)
    assert wire.parse_response(dialect, body).parts is not None


def test_lone_surrogates_of_a_log_survive():
    """json.loads lets through what msgspec refuses; a log may hold it."""
    message = json.loads('{"role": "user", "content": ["\\ud800", {"type": "x", "y": "\\ud800"}]}')
    parts = wire.messages_from("openai_chat", [message])[0].parts
    assert parts[0].bytes == 3
    assert parts[1].kind == "other"
