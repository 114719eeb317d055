"""Shapes in which providers and those who speak like them are known to stream, beside the textbook's.

Each says the same in every dialect that it is known of; where a dialect hasn't got it, the textbook's stream
stands in. The words are ours, the shapes are those that SDKs' tests, provider documents and logs show.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from router.conformance.case import TOKENS, Case, Events, across

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from features.wire.types import Dialect

    Builder = Callable[[], list[dict[str, Any]]]

TEXT, CMD = "It subtracts; I'll mend it — naïvely.", '{"cmd": "ls -la"}'
_PIECES = ("It subtracts; ", "I'll mend it ", "— naïvely.")
_PROMPT = {"input_tokens": TOKENS.uncached, "cache_read_input_tokens": TOKENS.cached}
_WROTE = {"cache_creation_input_tokens": 0, "output_tokens": TOKENS.output}


def _message(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], **more: Any) -> list[dict[str, Any]]:
    """Events of Messages: blocks as (their start, their deltas), and what differs in the frame."""
    head: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
    }
    head |= {"stop_reason": None, "stop_sequence": None}
    if more.get("counted", True):
        head["usage"] = {**_PROMPT, **_WROTE, "output_tokens": 1}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": head}]
    for i, (start, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": i, "content_block": start})
        events += [{"type": "content_block_delta", "index": i, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": i})
    delta = {"stop_reason": more.get("stop", "end_turn"), "stop_sequence": None, **more.get("delta", {})}
    usage = more.get("usage", {"output_tokens": TOKENS.output})
    return [*events, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


_SAID = (
    {"type": "text", "text": ""},
    [{"type": "text_delta", "text": piece} for piece in _PIECES],
)


def _use(start_input: dict[str, Any], *pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    start = {"type": "tool_use", "id": "toolu_1", "name": "sh", "input": start_input}
    return start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _thinking() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    deltas = [{"type": "thinking_delta", "thinking": word} for word in ("Let me ", "see.")]
    signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
    return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]


def _server_tool() -> list[dict[str, Any]]:
    asked = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"query": ', '"add"}')]
    found = [
        {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "eA"}
    ]
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found}
    return _message((asked, pieces), (result, []), _SAID)


def _odd_company() -> list[dict[str, Any]]:
    """Events and fields that no document names stand among the others."""
    events = _message(_SAID, delta={"stop_details": None, "container": {"id": "container_1"}})
    note = {"type": "vendor_note", "note": {"text": "not for you"}}
    return [piece for event in events for piece in ({**event, "vendor": {"id": 7}}, {"type": "ping"}, note)][
        :-2
    ]


def _compacted() -> list[dict[str, Any]]:
    start = {"type": "compaction", "content": None, "encrypted_content": None}
    deltas = [{"type": "compaction_delta", "content": "Earlier: ", "encrypted_content": "b3BhcXVl"}]
    return _message((start, deltas), _SAID)


def _chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more.pop("choice", {})}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [] if delta is None else [choice], **more}


_COUNTS = {
    "prompt_tokens": TOKENS.prompt,
    "completion_tokens": TOKENS.output,
    "total_tokens": TOKENS.prompt + TOKENS.output,
    "prompt_tokens_details": {"cached_tokens": TOKENS.cached},
}


def _chat_text(**each: Any) -> list[dict[str, Any]]:
    first = _chunk({"role": "assistant", "content": ""}, **each)
    return [first, *(_chunk({"content": piece}, **each) for piece in _PIECES)]


def _chat_call(*pieces: dict[str, Any]) -> list[dict[str, Any]]:
    calls = [_chunk({"tool_calls": [piece]}) for piece in pieces]
    return [_chunk({"role": "assistant", "content": None}), *calls, _chunk({}, "tool_calls", usage=_COUNTS)]


def _filtered() -> list[dict[str, Any]]:
    """Azure speaks of its filters first, and of them in every chunk."""
    checked = {"choice": {"content_filter_results": {"hate": {"filtered": False}}}}
    first = _chunk(None, prompt_filter_results=[{"prompt_index": 0}]) | {"id": "", "model": ""}
    return [first, *_chat_text(), _chunk({}, "stop", **checked), _chunk(None, usage=_COUNTS)]


def _details() -> list[dict[str, Any]]:
    """OpenRouter's reasoning, in two fields at once, with content that is empty."""
    said = [{"type": "reasoning.text", "text": "Let me see.", "index": 0}]
    thought = _chunk(
        {"role": "assistant", "content": "", "reasoning": "Let me see.", "reasoning_details": said}
    )
    return [thought, *_chat_text()[1:], _chunk({"content": ""}, "stop"), _chunk(None, usage=_COUNTS)]


def _events(
    output: Any, *items: tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Events of Responses: items as (added, deltas, done), and what the last event lists."""
    head: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": []}
    usage: dict[str, Any] = {
        "input_tokens": TOKENS.prompt,
        "input_tokens_details": {"cached_tokens": TOKENS.cached},
        "output_tokens": TOKENS.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": TOKENS.prompt + TOKENS.output,
    }
    begun = {**head, "status": "in_progress"}
    events: list[dict[str, Any]] = [
        {"type": f"response.{kind}", "response": begun} for kind in ("created", "in_progress")
    ]
    for i, (added, deltas, done) in enumerate(items):
        events.append({"type": "response.output_item.added", "output_index": i, "item": added})
        events += [{"output_index": i, "item_id": added["id"], **delta} for delta in deltas]
        events.append({"type": "response.output_item.done", "output_index": i, "item": done})
    last = {**head, "status": "completed", "usage": usage, "output": output}
    events.append({"type": "response.completed", "response": last})
    return [{**event, "sequence_number": n} for n, event in enumerate(events)]


_PART = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
_BEGUN = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
_DONE = {**_BEGUN, "status": "completed", "content": [_PART]}
_CALLED = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "sh", "arguments": ""}
_MADE = {**_CALLED, "arguments": CMD, "status": "completed"}


def _told(**more: Any) -> list[dict[str, Any]]:
    where = {"content_index": 0}
    part = {"type": "response.content_part.added", **where, "part": {**_PART, "text": ""}}
    deltas = [
        {"type": "response.output_text.delta", **where, "delta": p, "logprobs": [], **more} for p in _PIECES
    ]
    text = {"type": "response.output_text.done", **where, "text": TEXT}
    return [part, *deltas, text, {"type": "response.content_part.done", **where, "part": _PART}]


def _padded() -> list[dict[str, Any]]:
    """OpenAI pads its deltas so that their length tells nothing, and reasons with a summary first."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "b3BhcXVl"}
    said = {"type": "summary_text", "text": "Let me see."}
    where = {"summary_index": 0}
    steps = [
        {"type": "response.reasoning_summary_part.added", **where, "part": {**said, "text": ""}},
        {
            "type": "response.reasoning_summary_text.delta",
            **where,
            "delta": "Let me see.",
            "obfuscation": "x9",
        },
        {"type": "response.reasoning_summary_part.done", **where, "part": said},
    ]
    done = {**thought, "summary": [said]}
    return _events([done, _DONE], (thought, steps, done), (_BEGUN, _told(obfuscation="Zk3"), _DONE))


_ARGUMENTS = [
    {"type": "response.function_call_arguments.delta", "delta": piece} for piece in (CMD[:5], CMD[5:])
]
_SHAPES: dict[str, tuple[bool, dict[Dialect, Builder]]] = {  # name -> whether it calls the tool, its streams
    "counts at the end only": (False, {
        "anthropic_messages": lambda: _message(_SAID, counted=False, usage={**_PROMPT, **_WROTE}),
        "openai_chat": lambda: [*_chat_text(), _chunk({}, "stop", usage=_COUNTS)],
    }),
    "counts in every event": (False, {
        "anthropic_messages": lambda: _message(_SAID, usage={**_PROMPT, **_WROTE}),
        "openai_chat": lambda: [*_chat_text(usage={**_COUNTS, "completion_tokens": 1}),
                                _chunk({}, "stop", usage=_COUNTS)],
    }),
    "counts in the choice": (False, {
        "openai_chat": lambda: [*_chat_text(), _chunk({}, "stop", choice={"usage": _COUNTS})],
    }),
    "events nobody knows": (False, {"anthropic_messages": _odd_company, "openai_chat": _filtered}),
    "reasoning in its own form": (False, {
        "anthropic_messages": lambda: _message(_thinking(), _SAID),
        "openai_chat": _details,
        "openai_responses": _padded,
    }),
    "a tool of the provider's own": (False, {"anthropic_messages": _server_tool}),
    "a compaction": (False, {"anthropic_messages": _compacted}),
    "an end that lists nothing": (False, {
        "openai_responses": lambda: _events(None, (_BEGUN, _told(), _DONE)),
    }),
    "text in its end only": (False, {"openai_responses": lambda: _events([_DONE], (_BEGUN, [], _DONE))}),
    "a call whole at once": (True, {
        "anthropic_messages": lambda: _message(_use({"cmd": "ls -la"}), stop="tool_use"),
        "openai_chat": lambda: _chat_call({"index": 0, "id": "call_1", "type": "function",
                                           "function": {"name": "sh", "arguments": CMD}}),
        "openai_responses": lambda: _events([_MADE], (_CALLED, [], _MADE)),
    }),
    "a call in odd pieces": (True, {
        "anthropic_messages": lambda: _message(_use({}, "", CMD[:5], "", CMD[5:]), stop="tool_use"),
        "openai_chat": lambda: _chat_call(
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "sh", "arguments": ""}},
            {"index": 0, "function": {"arguments": CMD[:5]}},
            {"index": 0, "id": "", "function": {"name": "", "arguments": CMD[5:]}},
        ),
        "openai_responses": lambda: _events(None, (_CALLED, _ARGUMENTS, _MADE)),
    }),
}  # fmt: skip


def _written(dialect: Dialect, events: Iterable[dict[str, Any]]) -> Events:
    """The events as bytes; Chat Completions has its mark behind the last."""
    data = [(event.get("type"), msgspec.json.encode(event)) for event in events]
    if dialect == "openai_chat":
        return [*(b"data: " + body + b"\n\n" for _, body in data), b"data: [DONE]\n\n"]
    return [f"event: {kind}\ndata: ".encode() + body + b"\n\n" for kind, body in data]


def shape(name: str, dialect: Dialect) -> Events | None:
    """The stream of a shape in a dialect; None where it isn't known of it."""
    build = _SHAPES[name][1].get(dialect)
    return None if build is None else _written(dialect, build())


def _asked_for(shaped: Events | None, textbook: Events) -> Events:
    """A shape under the name of the model that the textbook's stream bears."""
    found = _MODEL.search(b"".join(textbook))
    if shaped is None or found is None:
        return shaped or textbook
    return [event.replace(b'"model":"m"', found[0]) for event in shaped]


def _case(name: str) -> Case:
    called = _SHAPES[name][0]
    return Case(
        f"shape: {name}",
        text="" if called else TEXT,
        calls=(("sh", CMD),) if called else (),
        events=lambda dialect, textbook: _asked_for(shape(name, dialect), textbook),
        beyond=_BEYOND.get(name, ()),
        cut=across,
    )


_MODEL = re.compile(rb'"model":"[^"]+"')
_BEYOND: dict[str, tuple[Dialect, ...]] = {
    "counts at the end only": ("anthropic_messages",),
    "counts in the choice": ("openai_chat",),
}
NAMES = tuple(_SHAPES)
SHAPES = tuple(_case(name) for name in NAMES)
