"""Requests and answers that nobody sends: translated, refused in one line or called broken, never a crash."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_translate_answers import DIALECTS, PAIRS, SCRIPTED, reply, terminals, translation
from test_translate_requests import MODELS, SELLERS, TALKS

from features.errors import BadInput
from features.wire import parse_request
from router.gateway.translate import Target, translate

FULL = {
    "openai_chat": {
        "stop": ["X"], "temperature": 0.2, "tool_choice": "auto", "reasoning_effort": "low", "stream": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "stream_options": {"include_usage": True}, "functions": [], "metadata": {}, "n": 1, "reasoning": {},
    },
    "anthropic_messages": {
        "stop_sequences": ["X"], "tool_choice": {"type": "auto"}, "thinking": {"type": "enabled"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}}, "stream": True,
        "output_format": {}, "top_p": 1, "cache_control": {},
    },
    "openai_responses": {
        "reasoning": {"effort": "low"}, "text": {"format": {"type": "json_schema", "schema": {}}},
        "tool_choice": "auto", "parallel_tool_calls": True, "stream": True, "metadata": {},
    },
}  # fmt: skip
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "id"]), inner)
    ),
    max_leaves=4,
)


def places(value, path=()):
    """Every place inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoiled(value, place, with_what):
    spoilt = copy.deepcopy(value)
    inner = spoilt
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = with_what
    return spoilt


@given(pair=st.sampled_from(PAIRS), data=st.data(), value=odd)
@settings(max_examples=600, deadline=None)
def test_odd_requests_are_translated_or_refused(pair, data, value) -> None:
    client, upstream = pair
    whole = {"model": "auto", **TALKS[client], **FULL[client]}
    body = spoiled(whole, data.draw(st.sampled_from(list(places(whole)))), value)
    encoded = json.dumps(body).encode()
    try:
        parse_request(client, encoded)  # as the gateway does before it decides
        made = translate(client, encoded, Target(upstream, SELLERS[upstream], MODELS[upstream]), "r", 0)
    except BadInput:
        return
    parse_request(upstream, made.body)
    assert all(name.isascii() and name.isprintable() for name in made.lost)


@given(pair=st.sampled_from(PAIRS), data=st.data(), value=odd)
@settings(max_examples=400, deadline=None)
def test_odd_answers_are_whole_or_broken(pair, data, value) -> None:
    client, upstream = pair
    said = reply("Hi there", thinking="Hm", calls=[("sh", {"cmd": "ls"})])
    body = json.loads(json.dumps(SCRIPTED[upstream].body(said)))
    spoilt = spoiled(body, data.draw(st.sampled_from(list(places(body)))), value)
    whole = translation(client, upstream, stream=False).whole(200, json.dumps(spoilt).encode())
    assert whole.status in (200, 400, 401, 402, 403, 404, 413, 429, 500, 502, 503, 504, 529)
    json.loads(whole.body)
    events = [json.loads(e) if e != b"[DONE]" else None for _, e in SCRIPTED[upstream].events(said)]
    at = data.draw(st.integers(0, len(events) - 2))
    found = list(places(events[at]))
    events[at] = spoiled(events[at], data.draw(st.sampled_from(found)), value)
    stream = translation(client, upstream).stream()
    lines = [b"data: %b\n\n" % (b"[DONE]" if e is None else json.dumps(e).encode()) for e in events]
    told = b"".join(stream.feed(line) for line in lines) + stream.end()
    assert terminals(client, told) == 1


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_an_event_that_is_no_json_breaks_the_stream(client, upstream) -> None:
    stream = translation(client, upstream).stream()
    first = SCRIPTED[upstream].events(reply("Hi"))[0][1]
    told = stream.feed(b"data: " + first + b'\n\ndata: {"a": \xff\xfe}\n\n') + stream.end()
    assert terminals(client, told) == 1
    assert b"not JSON" in told


@pytest.mark.parametrize("client", DIALECTS)
def test_a_stream_without_end_is_ended_where_it_would_have_to_be_kept(client, monkeypatch) -> None:
    monkeypatch.setattr("router.gateway.translate.translation.MAX_HELD_CHARS", 1_000)
    upstream = "openai_chat" if client == "anthropic_messages" else "anthropic_messages"
    events = SCRIPTED[upstream].events(reply(calls=[("sh", {"cmd": "x" * 9_000})]))
    stream = translation(client, upstream).stream()
    told = b"".join(stream.feed(b"data: " + data + b"\n\n") for _, data in events) + stream.end()
    assert terminals(client, told) == 1
    assert (b"longer than any model writes" in told) == (client != "openai_chat")  # which keeps nothing
