"""Answers and streams: usage counted exactly, parts put together, however the bytes were cut."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features import wire
from features.wire import StreamReader
from features.wire.drafts import MAX_PART_CHARS
from features.wire.sse import EventCutter
from features.wire.types import Part, Usage


def sse(*events, named=False, end="\n"):
    lines = []
    for event in events:
        if named and isinstance(event, dict):
            lines.append(f"event: {event['type']}")
        lines += [f"data: {event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)}", ""]
    return end.join([*lines, ""]).encode()


def read(dialect, data):
    reader = StreamReader(dialect)
    reader.feed(data)
    return reader.response()


CHAT = [
    {
        "id": "c-1",
        "model": "gpt-5.2",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
    },
    {"id": "c-1", "choices": [{"index": 0, "delta": {"content": "Grüße 🎈"}}]},
    {
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {"index": 0, "id": "t0", "function": {"name": "edit", "arguments": ""}},
                        {"index": 1, "id": "t1", "function": {"name": "bash", "arguments": '{"c'}},
                    ]
                },
            }
        ]
    },
    {
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": 'md":"ls"}'}}]}}
        ]
    },
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    "[DONE]",
]
MESSAGES = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "model": "claude-sonnet-5",
            "usage": {
                "input_tokens": 12,
                "cache_read_input_tokens": 900,
                "cache_creation_input_tokens": 50,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
                "output_tokens": 1,
            },
        },
    },
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "naïve"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Ich schaue"}},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "t", "name": "Read", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a'}},
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '":1}'},
    },
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use"},
        "usage": {"input_tokens": 0, "output_tokens": 44},
    },
    {"type": "message_stop"},
]
RESPONSES = [
    {
        "type": "response.created",
        "response": {"id": "resp_1", "model": "gpt-5.2-codex", "status": "in_progress"},
    },
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "message", "role": "assistant"},
    },
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Schön"},
    {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {"type": "function_call", "call_id": "c", "name": "exec_command", "arguments": ""},
    },
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"cmd"'},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": ':"ls"}'},
    {
        "type": "response.completed",
        "response": {
            "id": "resp_1",
            "status": "completed",
            "output": [],
            "usage": {
                "input_tokens": 70,
                "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 2},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 3},
            },
        },
    },
]
STREAMS = {
    "openai_chat": sse(*CHAT),
    "anthropic_messages": sse(*MESSAGES, named=True),
    "openai_responses": sse(*RESPONSES, named=True),
}


def test_chat_stream():
    answer = read("openai_chat", STREAMS["openai_chat"])
    assert answer.parts == (
        Part(kind="text", text="Grüße 🎈"),
        Part(kind="tool_call", name="edit", call_id="t0", text="{}"),
        Part(kind="tool_call", name="bash", call_id="t1", text='{"cmd":"ls"}'),
    )
    assert answer.usage == Usage(
        input_tokens_uncached=30,
        cached_tokens=60,
        cache_write_tokens=10,
        output_tokens=20,
        reasoning_tokens=5,
    )
    assert (answer.finish_reason, answer.model, answer.complete) == ("tool_calls", "gpt-5.2", True)


def test_messages_stream():
    answer = read("anthropic_messages", STREAMS["anthropic_messages"])
    assert answer.parts == (
        Part(kind="thinking", text="naïve", signed=True),
        Part(kind="text", text="Ich schaue"),
        Part(kind="tool_call", name="Read", call_id="t", text='{"a":1}'),
    )
    assert answer.usage == Usage(
        input_tokens_uncached=12,
        cached_tokens=900,
        cache_write_tokens=50,
        cache_write_1h_tokens=30,
        output_tokens=44,
    )
    assert (answer.finish_reason, answer.response_id, answer.complete) == ("tool_use", "msg_1", True)


def test_responses_stream():
    answer = read("openai_responses", STREAMS["openai_responses"])
    assert answer.parts == (
        Part(kind="text", text="Schön"),
        Part(kind="tool_call", name="exec_command", call_id="c", text='{"cmd":"ls"}'),
    )
    assert answer.usage == Usage(
        input_tokens_uncached=4, cached_tokens=64, cache_write_tokens=2, output_tokens=9, reasoning_tokens=3
    )
    assert (answer.finish_reason, answer.model, answer.complete) == ("completed", "gpt-5.2-codex", True)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(STREAMS)),
    st.lists(st.integers(0, 4000), max_size=40),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
)
@example("anthropic_messages", list(range(4000)), b"\r\n", True)
def test_any_cut_reads_the_same(dialect, cuts, line_end, commented):
    data = STREAMS[dialect]
    expected = read(dialect, data)
    if commented:
        data = b"\xef\xbb\xbf: keep-alive\n\n" + data.replace(b"\n\n", b"\nid: 7\nretry: 5\n: hm\n\n")
    data = data.replace(b"\n", line_end)
    reader = StreamReader(dialect)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        reader.feed(data[start:end])
    assert reader.finished
    assert reader.tool_call_begun
    assert reader.response() == expected
    assert reader.dropped == 0


LINES = b"||data: {}|data:{}|data:  1|data: |data:|data|database: x|: hm|event: e".split(b"|")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(LINES), max_size=16),
    st.lists(st.integers(0, 200), max_size=5),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_events_are_cut_as_by_the_byte(lines, cuts, line_end, mark) -> None:
    data = mark + b"".join(line + line_end for line in lines)
    by_byte, cutter = EventCutter(), EventCutter()
    expected = [event for n in range(len(data)) for event in by_byte.cut(data[n : n + 1])] + by_byte.end()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found = [event for start, end in pairwise(edges) for event in cutter.cut(data[start:end])]
    assert found + cutter.end() == expected


def test_lines_of_data_without_an_empty_one_between_are_one_event() -> None:
    cutter = EventCutter()
    assert cutter.cut(b"data: {}\n\n") == [b"{}"]
    assert cutter.cut(b"data: 1\ndata: 2\n\ndata: 3\n\n") == [b"1\n2", b"3"]
    assert cutter.cut(b"data: 4\n\ndata: 5\ndata: 6\n\n") == [b"4", b"5\n6"]


def test_an_event_that_is_odd_costs_no_other() -> None:
    stream = sse(*CHAT[:2], "{", "{} {}", CHAT[5], "[DONE]")
    reader = StreamReader("openai_chat")
    reader.feed(stream)
    assert (reader.dropped, reader.finished) == (2, True)
    assert reader.response() == read("openai_chat", sse(*CHAT[:2], CHAT[5], "[DONE]"))


def test_a_signature_of_no_part_that_can_be_is_left_out() -> None:
    event = {"type": "content_block_delta", "index": [], "delta": {"type": "signature_delta"}}
    assert read("anthropic_messages", sse(event)).parts == ()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_never_raises(dialect, chunks):
    reader = StreamReader(dialect)
    for chunk in chunks:
        reader.feed(chunk)
        reader.feed(b"\ndata: " + chunk + b"\n\n")
    assert reader.response().parts is not None


ODD = st.recursive(
    st.none() | st.integers(-1, 2) | st.sampled_from(["text", "thinking", "tool_use", "message", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "index",
                    "delta",
                    "content_block",
                    "message",
                    "usage",
                    "choices",
                    "tool_calls",
                    "function",
                    "response",
                    "item",
                    "output_index",
                    "output",
                    "content",
                    "error",
                    "text",
                    "arguments",
                    "role",
                    "id",
                    "name",
                    "input",
                    "prompt_tokens",
                    "output_tokens",
                    "code",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
TYPES = [
    *(event["type"] for event in MESSAGES + RESPONSES),
    *("error", "response.failed", "response.output_item.done", None),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.sampled_from(TYPES), ODD, ODD)
def test_odd_events_never_raise(dialect, kind, first, second):
    keys = ("delta", "message", "content_block", "usage", "choices", "response", "item", "error", "content")
    event = {**dict.fromkeys(keys, first), "type": kind, "index": second, "output_index": second}
    streamed = read(dialect, sse(event, {"type": kind, "choices": [{"index": 0, "delta": first}]}))
    body = msgspec.json.encode({**event, "error": None, "output": [first, second]})
    for answer in (streamed, wire.parse_response(dialect, body)):
        assert msgspec.json.decode(msgspec.json.encode(answer), type=wire.WireResponse) == answer


@pytest.mark.parametrize("dialect", sorted(STREAMS))
def test_a_stream_cut_short_is_incomplete(dialect):
    answer = read(dialect, STREAMS[dialect][:-90].rpartition(b"\n\n")[0])
    assert not answer.complete
    assert answer.parts


def test_an_event_without_its_blank_line_counts():
    assert read("openai_chat", sse(*CHAT).rstrip()).complete


def test_errors_are_types_and_never_messages():
    secret = {"type": "overloaded_error", "message": "SECRET prompt"}
    assert read("anthropic_messages", sse({"type": "error", "error": secret})).error == "overloaded_error"
    assert read("openai_chat", sse({"error": {"code": 429, "message": "SECRET"}})).error == "429"
    failed = {"type": "response.failed", "response": {"error": {"code": "server_error"}, "status": "failed"}}
    answer = read("openai_responses", sse(failed))
    assert (answer.error, answer.complete, answer.finish_reason) == ("server_error", True, "failed")
    for dialect in STREAMS:
        body = msgspec.json.encode({"type": "error", "error": secret})
        assert wire.parse_response(dialect, body).error == "overloaded_error"
        assert wire.parse_response(dialect, b"<html>502").error == "not_json"


def test_parts_are_bounded():
    piece = {"choices": [{"index": 0, "delta": {"content": "x" * 100_000}}]}
    answer = read("openai_chat", sse(*[piece] * 5, "[DONE]"))
    assert len(answer.parts[0].text) == MAX_PART_CHARS


def test_whole_answers():
    chat = {
        "id": "1",
        "model": "m",
        "choices": [{"message": {"content": "hi", "reasoning_content": "hm"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 4},
    }
    answer = wire.parse_response("openai_chat", msgspec.json.encode(chat))
    assert [p.kind for p in answer.parts] == ["thinking", "text"]
    assert answer.usage == Usage(input_tokens_uncached=6, cached_tokens=4, output_tokens=2)
    responses = {
        "id": "r",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"type": "reasoning", "encrypted_content": "x"},
            {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
            {"type": "custom_tool_call", "name": "apply_patch", "call_id": "c", "input": "*** Begin Patch"},
        ],
    }
    answer = wire.parse_response("openai_responses", msgspec.json.encode(responses))
    assert [(p.kind, p.text, p.signed) for p in answer.parts] == [
        *(("thinking", "", True), ("text", "hi", False), ("tool_call", "*** Begin Patch", False)),
    ]
    assert (answer.finish_reason, answer.usage) == ("max_output_tokens", None)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_is_not_final_has_no_reason_to_have_ended(status):
    head = {"id": "r", "model": "m", "status": status, "output": []}
    answer = wire.parse_response("openai_responses", msgspec.json.encode(head))
    assert (answer.finish_reason, answer.complete, answer.model) == (None, False, "m")
    begun = {"type": "response.created", "response": head}
    answer = read("openai_responses", sse(begun, named=True))
    assert (answer.finish_reason, answer.complete) == (None, False)
    ended = {"type": "response.completed", "response": {"output": []}}  # some leave its status out
    answer = read("openai_responses", sse(begun, ended, named=True))
    assert (answer.finish_reason, answer.complete) == (None, True)


def test_usage_that_is_unknown_stays_unknown():
    assert wire.usage_from("openai_chat", None) is None
    assert wire.usage_from("openai_chat", {"prompt_tokens": -1, "completion_tokens": True}) == Usage()
    apart = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 80}}
    assert wire.usage_from("openai_chat", apart).input_tokens_uncached == 5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_three_classes_add_up_to_the_prompt(fresh, cached, written):
    prompt = fresh + cached + written
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    for dialect, block in (
        ("openai_chat", {"prompt_tokens": prompt, "prompt_tokens_details": details}),
        ("openai_responses", {"input_tokens": prompt, "input_tokens_details": details}),
        (
            "anthropic_messages",
            {
                "input_tokens": fresh,
                "cache_read_input_tokens": cached,
                "cache_creation_input_tokens": written,
            },
        ),
    ):
        usage = wire.usage_from(dialect, block)
        assert (usage.input_tokens_uncached, usage.cached_tokens, usage.cache_write_tokens) == (
            *(fresh, cached, written),
        )


@pytest.mark.parametrize(
    ("dialect", "body", "events"),
    [
        ("openai_chat", {"service_tier": "flex", "choices": []}, [{"service_tier": "flex", "choices": []}]),
        (
            "openai_responses",
            {"service_tier": "flex", "output": []},
            [
                {"type": "response.created", "response": {"service_tier": "auto"}},
                {"type": "response.completed", "response": {"service_tier": "flex", "output": []}},
            ],
        ),
        (
            "anthropic_messages",
            {"usage": {"service_tier": "flex"}},
            [
                {"type": "message_start", "message": {"usage": {"service_tier": "flex", "input_tokens": 1}}},
                {"type": "message_delta", "usage": {"output_tokens": 2}},
            ],
        ),
    ],
)
def test_the_service_tier_is_asked_for_and_answered_in_every_dialect(dialect, body, events):
    assert wire.parse_response(dialect, json.dumps(body).encode()).service_tier == "flex"
    assert read(dialect, sse(*events)).service_tier == "flex"
    asked = {"model": "m", "messages": [], "input": [], "service_tier": "priority"}
    assert wire.parse_request(dialect, json.dumps(asked).encode()).service_tier == "priority"
    odd = json.dumps({**asked, "service_tier": "x" * 1000}).encode()
    assert wire.parse_request(dialect, odd).service_tier is None
