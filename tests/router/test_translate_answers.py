"""Answers of one dialect as another's, held against what the scripted provider writes in that dialect."""

import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.wire import StreamReader, parse_response
from router.gateway.translate import Target, translate
from router.scripted import chat, messages, responses
from router.scripted.reply import Call, Reply, sse
from router.scripted.usage import Tokens

SCRIPTED = {"openai_chat": chat, "anthropic_messages": messages, "openai_responses": responses}
DIALECTS = tuple(SCRIPTED)
PAIRS = [(client, upstream) for client in DIALECTS for upstream in DIALECTS if client != upstream]
TOKENS = Tokens(uncached=100, cached=2_000, cache_write=0, output=57, reasoning=11)
TOOLS = ("sh", "read")


def request_of(client, *, stream=True):
    """A request of a dialect with two tools."""
    schema = {"type": "object", "properties": {"cmd": {"type": "string"}}}
    told = {"model": "auto", "stream": stream}
    if client == "anthropic_messages":
        tools = [{"name": name, "input_schema": schema} for name in TOOLS]
        return told | {"max_tokens": 9, "tools": tools, "messages": [{"role": "user", "content": "Hi"}]}
    if client == "openai_responses":
        tools = [{"type": "function", "name": name, "parameters": schema} for name in TOOLS]
        return told | {"store": False, "tools": tools, "input": "Hi"}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in TOOLS]
    shown = {"stream_options": {"include_usage": True}} if stream else {}
    return told | shown | {"tools": tools, "messages": [{"role": "user", "content": "Hi"}]}


def translation(client, upstream, *, stream=True, **more):
    body = json.dumps(request_of(client, stream=stream) | more).encode()
    return translate(client, body, Target(upstream, "zai", "glm-5"), "req_1", 1_795_000_000)


def reply(text="", thinking="", calls=(), stop=None, tokens=TOKENS):
    made = tuple(Call(f"{n:02d}", name, json.dumps(a), freeform=False) for n, (name, a) in enumerate(calls))
    stop = stop or ("tools" if made else "end")
    talk = SimpleNamespace(body={})
    return Reply("abc", "glm-5", text, thinking, made, stop, tokens, 0, 7, True, talk)


def streamed(dialect, said):
    return b"".join(sse(event) for event in SCRIPTED[dialect].events(said))


def spoken(answer):
    """What an answer says, without ids of its own and without reasoning."""
    return [
        (p.kind, json.loads(p.text) if p.kind == "tool_call" else p.text, p.name)
        for p in answer.parts
        if p.kind != "thinking" and (p.text or p.kind != "text")
    ]


def read(dialect, stream):
    reader = StreamReader(dialect)
    reader.feed(stream)
    return reader.response()


TERMINAL = {
    "openai_chat": (b"data: [DONE]", b'data: {"error"'),
    "anthropic_messages": (b"event: message_stop", b"event: error"),
    "openai_responses": (
        b"event: response.completed",
        b"event: response.incomplete",
        b"event: response.failed",
    ),
}


def terminals(dialect, stream):
    return sum(stream.count(mark) for mark in TERMINAL[dialect])


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
arguments = st.dictionaries(st.text("abc", min_size=1, max_size=3), texts | st.integers(0, 9), max_size=3)
replies = st.builds(
    reply,
    text=texts,
    thinking=texts,
    calls=st.lists(st.tuples(st.sampled_from(TOOLS), arguments), max_size=3),
)


@given(pair=st.sampled_from(PAIRS), said=replies, cuts=st.lists(st.integers(0, 5_000), max_size=6))
@settings(max_examples=150, deadline=None)
def test_a_translated_stream_says_what_the_dialect_itself_would_have_said(pair, said, cuts) -> None:
    client, upstream = pair
    source = streamed(upstream, said)
    stream = translation(client, upstream).stream()
    edges = [0, *sorted(cut for cut in cuts if cut < len(source)), len(source)]
    pieces = [stream.feed(source[a:b]) for a, b in itertools.pairwise(edges)]
    told = b"".join(pieces) + stream.end()
    ours, own = read(client, told), read(client, streamed(client, said))
    assert ours.complete
    assert spoken(ours) == spoken(own)
    assert ours.finish_reason == own.finish_reason
    expected = own.usage
    if upstream == "anthropic_messages":  # which doesn't count reasoning apart
        assert ours.usage.output_tokens == expected.output_tokens
        assert ours.usage.cached_tokens == expected.cached_tokens
        assert ours.usage.input_tokens_uncached == expected.input_tokens_uncached
    elif client != "anthropic_messages":
        assert ours.usage == expected
    assert terminals(client, told) == 1


@given(pair=st.sampled_from(PAIRS), said=replies)
@settings(max_examples=80, deadline=None)
def test_a_whole_answer_says_the_same(pair, said) -> None:
    client, upstream = pair
    made = translation(client, upstream, stream=False)
    whole = made.whole(200, _encoded(SCRIPTED[upstream].body(said)))
    ours = parse_response(client, whole.body)
    own = parse_response(client, _encoded(SCRIPTED[client].body(said)))
    assert (whole.status, whole.media_type) == (200, "application/json")
    assert spoken(ours) == spoken(own)
    assert ours.finish_reason == own.finish_reason
    # what came as a stream although none was asked for, and the other way round
    collected = made.whole(200, streamed(upstream, said), "text/event-stream")
    assert spoken(parse_response(client, collected.body)) == spoken(ours)
    streaming = translation(client, upstream).whole(200, _encoded(SCRIPTED[upstream].body(said)))
    assert streaming.media_type == "text/event-stream"
    assert spoken(read(client, streaming.body)) == spoken(ours)


def _encoded(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_stream_cut_at_every_byte_is_the_same_stream(client, upstream) -> None:
    source = streamed(upstream, reply("Grüße 👋", calls=[("sh", {"cmd": "ls €"})]))
    whole = translation(client, upstream).stream()
    expected = _without_pauses(whole.feed(source) + whole.end())
    by_byte = translation(client, upstream).stream()
    told = b"".join(by_byte.feed(source[i : i + 1]) for i in range(len(source))) + by_byte.end()
    assert _without_pauses(told) == expected
    for cut in range(len(source)):
        stream = translation(client, upstream).stream()
        told = stream.feed(source[:cut]) + stream.feed(source[cut:]) + stream.end()
        assert _without_pauses(told) == expected


def _without_pauses(stream):
    return stream.replace(b":\n\n", b"").replace(b'event: ping\ndata: {"type":"ping"}\n\n', b"")


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_every_end_is_one_terminal_event(client, upstream) -> None:
    events = SCRIPTED[upstream].events(reply("Hi there, how are you?", calls=[("sh", {"cmd": "ls"})]))
    last = len(events) - (
        2 if upstream == "anthropic_messages" else 1
    )  # a stop reason without its stop is whole
    for kept in range(len(events)):
        stream = translation(client, upstream).stream()
        told = stream.feed(b"".join(sse(event) for event in events[:kept])) + stream.end()
        assert terminals(client, told) == 1
        answer = read(client, told)
        if upstream == "openai_chat" and kept >= len(events) - 2:  # nor does everybody send [DONE]
            continue
        if kept < last:
            assert answer.error is not None
            assert b"message_stop" not in told
            assert b"[DONE]" not in told


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_an_error_in_mid_stream_is_the_last_event_and_says_why(client, upstream) -> None:
    events = SCRIPTED[upstream].events(reply("Hi there"))
    stream = translation(client, upstream).stream()
    told = stream.feed(b"".join(sse(event) for event in events[:3]))
    told += stream.feed(sse(SCRIPTED[upstream].error_event("overloaded_error", "too many of you")))
    told += stream.feed(b"".join(sse(event) for event in events[3:])) + stream.end()
    assert terminals(client, told) == 1
    assert b"too many of you" in told
    broken = translation(client, upstream).stream()
    told = broken.feed(b"".join(sse(event) for event in events[:3])) + broken.broken("gone") + broken.end()
    assert terminals(client, told) == 1
    assert broken.broken("gone") == b""


def chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse((None, json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()))


def call(index, text=None, **given):
    function = {} if text is None else {"arguments": text}
    if "name" in given:
        function["name"] = given.pop("name")
    return chunk({"tool_calls": [{"index": index, **given, "function": function}]})


INTERLEAVED = (
    call(0, "", id="a", name="sh")
    + call(1, "", id="b", name="read")
    + call(2, "{}", id="c", name="sh")
    + call(0, '{"cmd":')
    + call(1, '{"cmd":"b"')
    + call(0, '"a"}')
    + call(1, "}")
    + chunk({}, "tool_calls")
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("client", ["anthropic_messages", "openai_responses"])
def test_interleaved_calls_keep_their_arguments_apart(client) -> None:
    stream = translation(client, "openai_chat").stream()
    told = stream.feed(INTERLEAVED) + stream.end()
    answer = read(client, told)
    wanted = [("a", {"cmd": "a"}), ("b", {"cmd": "b"}), ("c", {})]
    assert [(p.call_id, json.loads(p.text)) for p in answer.parts] == wanted
    if client == "anthropic_messages":  # one block at a time, each with one end
        order = [line for line in told.decode().splitlines() if line.startswith("event: content_block_st")]
        assert order == ["event: content_block_start", "event: content_block_stop"] * 3


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    source = call(0, '{"cmd":"a"}', id="a", name="sh") + call(0, '{"cmd":"b"}', id="b", name="sh")
    stream = translation("anthropic_messages", "openai_chat").stream()
    answer = read("anthropic_messages", stream.feed(source + chunk({}, "stop")) + stream.end())
    assert [(p.call_id, p.text) for p in answer.parts] == [("a", '{"cmd":"a"}'), ("b", '{"cmd":"b"}')]
    assert answer.finish_reason == "tool_use"  # whatever the provider called it


def test_ids_that_other_dialects_refuse_are_made_plain_the_same_way_every_time() -> None:
    made = translation("anthropic_messages", "openai_chat")
    stream = made.stream()
    source = call(0, "{}", id="functions.sh:0", name="sh") + chunk({}, "tool_calls")
    answer = read("anthropic_messages", stream.feed(source) + stream.end())
    assert answer.parts[0].call_id.startswith("functions_sh_0_")
    assert made.seen(read("openai_chat", source)).parts[0].call_id == answer.parts[0].call_id


@pytest.mark.parametrize("client", DIALECTS[1:])
def test_two_thousand_events_and_empty_deltas_pass(client) -> None:
    stream = translation(client, "openai_chat").stream()
    source = b"".join(chunk({"content": "x"}) + chunk({"content": ""}) + chunk({}) for _ in range(2_000))
    told = stream.feed(source + chunk({}, "stop") + b"data: [DONE]\n\n") + stream.end()
    assert spoken(read(client, told)) == [("text", "x" * 2_000, None)]


def test_reasoning_reaches_chat_clients_and_keeps_the_others_alive() -> None:
    said = reply("Yes.", thinking="Let me think about it")
    stream = translation("openai_chat", "anthropic_messages").stream()
    answer = read("openai_chat", stream.feed(streamed("anthropic_messages", said)) + stream.end())
    assert [p.text for p in answer.parts if p.kind == "thinking"] == ["Let me think about it"]
    quiet = translation("anthropic_messages", "openai_chat").stream()
    assert quiet.feed(chunk({"role": "assistant"})).startswith(b"event: message_start")
    assert quiet.feed(chunk({"reasoning_content": "hm"})).startswith(b"event: ping")


def test_cached_tokens_are_counted_once() -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 50}
    body = {
        "id": "m",
        "model": "c",
        "content": [],
        "stop_reason": "end_turn",
        "usage": usage | {"output_tokens": 7},
    }
    whole = translation("openai_chat", "anthropic_messages", stream=False).whole(200, _encoded(body))
    told = json.loads(whole.body)["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (960, 7, 967)
    assert told["prompt_tokens_details"]["cached_tokens"] == 900
    chat_body = {"id": "c", "model": "m", "usage": told, "choices": [{"message": {"content": "x"}}]}
    back = translation("anthropic_messages", "openai_chat", stream=False).whole(200, _encoded(chat_body))
    again = json.loads(back.body)["usage"]
    assert {key: again[key] for key in usage} == usage


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>busy</html>", "not JSON"),
        (200, b"{}", "none that its dialect knows"),
        (200, b'{"error":{"message":"nope","type":"server_error"}}', "nope"),
        (502, b"<html>busy</html>", "status 502"),
        (429, b'{"error":{"message":"slow down","type":"rate_limit_error"}}', "slow down"),
        (400, b'{"error":{"message":"m","code":"context_length_exceeded"}}', "prompt is too long"),
    ],
)
def test_what_is_no_answer_is_an_error_of_the_clients_dialect(status, body, said) -> None:
    whole = translation("anthropic_messages", "openai_chat", stream=False).whole(status, body)
    error = json.loads(whole.body)
    assert whole.status >= 400
    assert (whole.status == status) or status == 200
    assert error["type"] == "error"
    assert error["request_id"] == "req_1"
    assert said in error["error"]["message"]


def test_what_is_too_long_for_a_window_is_said_in_the_words_clients_look_for() -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}'
    whole = translation("openai_responses", "anthropic_messages").whole(400, body)
    assert json.loads(whole.body)["error"]["code"] == "context_length_exceeded"
    assert translation("openai_chat", "anthropic_messages").whole(529, b"{}").status == 503


FREEFORM = {"tools": [{"type": "custom", "name": "apply_patch", "format": {"type": "text"}}]}


def test_a_freeform_call_comes_back_as_one() -> None:
    made = translation("openai_responses", "openai_chat", **FREEFORM)
    assert made.lost == ("tools.custom.format",)
    stream = made.stream()
    source = (
        call(0, '{"input":"*** Beg', id="a", name="apply_patch") + call(0, 'in\\nx"}') + chunk({}, "stop")
    )
    told = stream.feed(source) + stream.end()
    events = [json.loads(line[6:]) for line in told.decode().splitlines() if line.startswith("data: ")]
    item = events[-1]["response"]["output"][0]
    assert (item["type"], item["input"], item["call_id"]) == ("custom_tool_call", "*** Begin\nx", "a")
    assert [e["type"].rsplit(".", 2)[-1] for e in events if "custom" in e["type"]] == ["delta", "done"]
    assert [e["sequence_number"] for e in events] == list(range(len(events)))


def test_arguments_that_are_no_json_reach_the_client_as_they_are() -> None:
    source = call(0, '{"cmd": tru', id="a", name="sh") + chunk({}, "tool_calls") + b"data: [DONE]\n\n"
    stream = translation("anthropic_messages", "openai_chat").stream()
    assert read("anthropic_messages", stream.feed(source) + stream.end()).parts[0].text == '{"cmd": tru'
