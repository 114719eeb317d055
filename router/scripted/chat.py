"""A reply in the Chat Completions dialect: one body, or its chunks."""

from __future__ import annotations

from typing import Any

import msgspec

from router.scripted.reply import CREATED_S, Event, Reply, pieces

_FINISH = {"end": "stop", "tools": "tool_calls", "length": "length"}


def body(reply: Reply) -> dict[str, Any]:
    """Write the whole answer as one JSON object."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = [
            {"id": f"call_{c.id}", "type": "function", "function": {"name": c.name, "arguments": c.json}}
            for c in reply.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[reply.stop]}
    return {**_head(reply, "chat.completion"), "choices": [choice], "usage": _usage(reply)}


def events(reply: Reply) -> list[Event]:
    """Write the chunks: role first, text, tool calls by index, finish_reason, usage if asked for, [DONE]."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "" if reply.text else None}]
    deltas += [{"content": piece} for piece in pieces(reply.text, reply.chunk_chars)]
    for index, call in enumerate(reply.calls):
        opening = {"name": call.name, "arguments": ""}
        deltas.append(
            {
                "tool_calls": [
                    {"index": index, "id": f"call_{call.id}", "type": "function", "function": opening}
                ]
            }
        )
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in pieces(call.json, reply.chunk_chars)
        ]
    chunks = [_chunk(reply, [_choice(delta, None)]) for delta in deltas]
    chunks.append(_chunk(reply, [_choice({}, _FINISH[reply.stop])]))
    if reply.include_usage:
        chunks = [{**c, "usage": None} for c in chunks]
        chunks.append({**_chunk(reply, []), "usage": _usage(reply)})
    return [*((None, msgspec.json.encode(chunk)) for chunk in chunks), (None, b"[DONE]")]


def _choice(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _chunk(reply: Reply, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {**_head(reply, "chat.completion.chunk"), "choices": choices}


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": kind,
        "created": CREATED_S,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _usage(reply: Reply) -> dict[str, Any]:
    used = reply.tokens
    return {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.output,
        "total_tokens": used.prompt + used.output,
        "prompt_tokens_details": {
            "cached_tokens": used.cached,
            "cache_write_tokens": used.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def error_event(kind: str, message: str) -> Event:
    """Write the error chunk sent in the middle of a stream."""
    return None, msgspec.json.encode({"error": error(kind, message)})


def error(kind: str, message: str) -> dict[str, Any]:
    """Write the inner object of an OpenAI error body."""
    return {"message": message, "type": kind, "param": None, "code": kind}
