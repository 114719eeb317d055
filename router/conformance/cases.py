"""What the provider says in each case, how it says it, and what a client must see of it: a table."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from router.conformance.case import Case, Events, bytewise
from router.conformance.shapes import SHAPES

if TYPE_CHECKING:
    from features.wire.types import Dialect

UNICODE = "Grüße aus Köln: naïve 日本語 👩‍💻 Ω — done."


def _inside_characters(stream: bytes, _: int) -> list[bytes]:
    """Cut before every continuation byte."""
    edges = [0, *(i for i, byte in enumerate(stream) if byte & 0xC0 == 0x80), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def _comments(_: Dialect, events: Events) -> Events:
    return [piece for event in events for piece in (b": still here\n\n", event)]


def _crlf(_: Dialect, events: Events) -> Events:
    return [event.replace(b"\n", b"\r\n") for event in events]


def _no_space(_: Dialect, events: Events) -> Events:
    return [event.replace(b"data: ", b"data:") for event in events]


def _quiet(dialect: Dialect, event: bytes) -> list[bytes]:
    """Deltas without anything in them beside a text delta."""
    if dialect == "openai_chat" and b'"delta":{' in event and b'"finish_reason":null' in event:
        head, _, tail = event.partition(b'"delta":{')
        rest = tail[tail.index(b"}") :] if b"tool_calls" not in tail else None
        empty = [head + b'"delta":{' + rest, head + b'"delta":{"content":""' + rest] if rest else []
        return [event, *empty]
    marks = (b'"text_delta"', b'"response.output_text.delta"')
    if any(mark in event for mark in marks):
        name, _, data = event.partition(b"data: ")
        value = json.loads(data)
        if "sequence_number" in value:  # numbers must go on; an empty delta would have one of its own
            return [event]
        value["delta"]["text"] = ""
        return [event, name + b"data: " + json.dumps(value).encode() + b"\n\n"]
    return [event]


def _empty_deltas(dialect: Dialect, events: Events) -> Events:
    return [piece for event in events for piece in _quiet(dialect, event)]


def _without_end(dialect: Dialect, events: Events) -> Events:
    """All but what ends the answer and says why it stopped."""
    return events[: -(3 if dialect == "openai_chat" else 2 if dialect == "anthropic_messages" else 1)]


def _half(_: Dialect, events: Events) -> Events:
    return events[: max(3, len(events) // 2)]


_ERRORS: dict[Dialect, bytes] = {
    "openai_chat": b'data: {"error":{"message":"too many of you","type":"server_error","code":null}}\n\n',
    "anthropic_messages": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
    b'"message":"too many of you"}}\n\n',
    "openai_responses": b'event: error\ndata: {"type":"error","code":"server_error",'
    b'"message":"too many of you","param":null,"sequence_number":99}\n\n',
}


def _fails(dialect: Dialect, events: Events) -> Events:
    return [*_half(dialect, events), _ERRORS[dialect]]


def _interleaved(dialect: Dialect, events: Events) -> Events:
    """The pieces of two calls in turns, where the dialect lets a provider send them so."""
    if dialect != "openai_chat":
        return events
    first = [e for e in events if b'"tool_calls":[{"index":0' in e]
    second = [e for e in events if b'"tool_calls":[{"index":1' in e]
    others = [e for e in events if b'"tool_calls":[' not in e]
    mixed: Events = []
    for i in range(max(len(first), len(second))):
        mixed += [*first[i : i + 1], *second[i : i + 1]]
    return [others[0], *mixed, *others[1:]]


_LS = ("sh", {"cmd": "ls -la"})
_PATCH = ("sh", {"cmd": 'printf \'%s\' "{\\"a\\": [1, 2]}" > ä.json\n' * 400})
_HTML = b"<html><body>502 Bad Gateway</body></html>"

STREAMS = (
    Case("whole text", text="Hello there.", stream=False),
    Case("whole tool calls", text="Let me look.", calls=(_LS, ("read", {"path": "a.py"})), stream=False),
    Case("whole at its limit", text="Hello there.", length=True, stream=False),
    Case("text", text="Hello there, this is a stream."),
    Case("text at its limit", text="Hello there, this is a", length=True),
    Case("parallel tool calls", text="Let me look.", calls=(_LS, ("read", {"path": "a.py"}))),
    Case(
        "interleaved tool calls",
        calls=(_LS, ("read", {"path": "src/very/long/name.py"})),
        events=_interleaved,
    ),
    Case("tool call without arguments", calls=(("sh", {}),)),
    Case("arguments of 17 kB", calls=(_PATCH,)),
    Case("arguments that break the schema", calls=(("sh", {"cmd": 7, "more": None}),)),
    Case("arguments that are no JSON", calls=(("sh", '{"cmd": "ls", "then": tru'),), loose=True),
    Case("reasoning", text="Yes.", thinking="Let me think about that for a while."),
    Case("unicode cut inside characters", text=UNICODE, cut=_inside_characters),
    Case("byte by byte", text=UNICODE, calls=(_LS,), cut=bytewise),
    Case("keep-alive comments", text="Hello there, this is slow.", events=_comments),
    Case("CRLF line ends", text="Hello there.", calls=(_LS,), events=_crlf),
    Case("data without a space", text="Hello there.", calls=(_LS,), events=_no_space),
    Case("empty deltas", text="Hello there.", calls=(_LS,), events=_empty_deltas),
    Case("2,000 events", text="word " * 2_800),
)
ENDINGS = (
    Case("error in mid-stream", text="Hello there, my friend, and", events=_fails, ends="error"),
    Case("missing terminal event", text="Hello there, my friend", events=_without_end, ends="cut"),
    Case("stream cut in two", text="Hello there, my friend, and", events=_half, ends="cut"),
    Case("connection dropped", text="Hello there, my friend, and", events=_half, broken=True, ends="cut"),
    Case("truncated JSON", stream=False, body=b'{"id":"x","choices":[{"mess', ends="cut"),
    Case("HTML for an answer", stream=False, body=_HTML, media_type="text/html", ends="cut"),
    Case("HTML for an error", stream=False, body=_HTML, media_type="text/html", status=502, ends="error",
         statuses=(500, 502, 503)),
    *(
        Case(f"error {status}", status=status, stream=stream, ends="error", statuses=seen, retry_after=wait)
        for status, seen, wait in (
            (400, (400,), None), (413, (400, 413), None), (429, (429,), "1"), (500, (500, 502, 503), None),
            (503, (500, 502, 503, 529), None), (529, (500, 502, 503, 529), None),
        )
        for stream in (False,)
    ),
    Case("error 429 before a stream", status=429, ends="error", statuses=(429,), retry_after="1"),
)  # fmt: skip
REQUESTS = (
    Case("request: tools", text="Ok.", request="tools"),
    Case("request: forced tool", calls=(_LS,), request="forced"),
    Case("request: one call at a time", calls=(_LS,), request="alone"),
    Case("request: tool results", text="Ok.", request="results"),
    Case("request: image", text="Ok.", request="image"),
    Case("request: JSON schema", text='{"zeta": 1, "alpha": 2}', request="schema"),
    Case("request: output limit", text="Ok.", request="limit"),
    Case("request: unknown field", text="Ok.", request="unknown"),
    Case("request: beta header", text="Ok.", request="beta"),
)
CASES = {case.name: case for case in (*STREAMS, *SHAPES, *ENDINGS, *REQUESTS)}
