"""A reply in the Anthropic Messages dialect: one body, or its events."""

from __future__ import annotations

from typing import Any

import msgspec

from router.scripted.reply import Event, Reply, pieces

_STOP = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens"}


def body(reply: Reply) -> dict[str, Any]:
    """Write the whole answer as one JSON object."""
    content: list[dict[str, Any]] = []
    if reply.thinking:
        content.append({"type": "thinking", "thinking": reply.thinking, "signature": _signature(reply)})
    if reply.text or not reply.calls:
        content.append({"type": "text", "text": reply.text})
    for call in reply.calls:
        inputs = msgspec.json.decode(call.json)
        content.append({"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": inputs})
    return {
        **_head(reply),
        "content": content,
        "stop_reason": _STOP[reply.stop],
        "stop_sequence": None,
        "usage": _usage(reply, reply.tokens.output),
    }


def events(reply: Reply) -> list[Event]:
    """Write message_start, then each block's start, deltas and stop (a ping after the first), the end."""
    opening = {**_head(reply), "content": [], "stop_reason": None, "stop_sequence": None}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**opening, "usage": _usage(reply, 1)}}
    ]
    for index, (start, deltas) in enumerate(_blocks(reply)):
        told.append({"type": "content_block_start", "index": index, "content_block": start})
        if index == 0:
            told.append({"type": "ping"})
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        told.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": _STOP[reply.stop], "stop_sequence": None}
    told.append({"type": "message_delta", "delta": end, "usage": _usage(reply, reply.tokens.output)})
    told.append({"type": "message_stop"})
    return [(event["type"], msgspec.json.encode(event)) for event in told]


def _blocks(reply: Reply) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each content block as it starts, with its deltas."""
    size = reply.chunk_chars
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if reply.thinking:
        deltas: list[dict[str, Any]] = [
            {"type": "thinking_delta", "thinking": p} for p in pieces(reply.thinking, size)
        ]
        deltas.append({"type": "signature_delta", "signature": _signature(reply)})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if reply.text or not reply.calls:
        words = [{"type": "text_delta", "text": p} for p in pieces(reply.text, size)]
        blocks.append(({"type": "text", "text": ""}, words))
    for call in reply.calls:
        start = {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": {}}
        parts = ["", *pieces(call.json, size)]
        blocks.append((start, [{"type": "input_json_delta", "partial_json": p} for p in parts]))
    return blocks


def _head(reply: Reply) -> dict[str, Any]:
    return {"id": f"msg_{reply.id}", "type": "message", "role": "assistant", "model": reply.model}


def _signature(reply: Reply) -> str:
    return f"c2NyaXB0ZWQ{reply.id}"


def _usage(reply: Reply, output: int) -> dict[str, Any]:
    used = reply.tokens
    hour = used.cache_write if '"ttl":"1h"' in str(msgspec.json.encode(reply.talk.body)) else 0
    return {
        "input_tokens": used.uncached,
        "cache_creation_input_tokens": used.cache_write,
        "cache_read_input_tokens": used.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.cache_write - hour,
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }


def error_event(kind: str, message: str) -> Event:
    """Write the error event sent in the middle of a stream."""
    return "error", msgspec.json.encode({"type": "error", "error": error(kind, message)})


def error(kind: str, message: str) -> dict[str, Any]:
    """Write the inner object of an Anthropic error body."""
    return {"type": kind, "message": message}
