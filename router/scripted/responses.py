"""A reply in the Responses dialect: one body, or its numbered events."""

from __future__ import annotations

from typing import Any

import msgspec

from router.scripted.reply import CREATED_S, Event, Reply, pieces

_ECHOED = (
    "instructions", "max_output_tokens", "metadata", "previous_response_id", "prompt_cache_key",
    "reasoning", "store", "temperature", "text", "top_p", "truncation", "user",
)  # fmt: skip


def body(reply: Reply) -> dict[str, Any]:
    """Write the whole answer as one JSON object."""
    return _response(reply, "incomplete" if reply.stop == "length" else "completed", _items(reply))


def events(reply: Reply) -> list[Event]:
    """Write created, in_progress, each output item from added to done, completed; sequence numbers from 0."""
    told: list[dict[str, Any]] = [
        {"type": f"response.{state}", "response": _response(reply, "in_progress", [])}
        for state in ("created", "in_progress")
    ]
    for index, item in enumerate(_items(reply)):
        told += _item_events(item, index, reply.chunk_chars)
    ending = body(reply)
    told.append({"type": f"response.{ending['status']}", "response": ending})
    numbered = [{**event, "sequence_number": n} for n, event in enumerate(told)]
    return [(event["type"], msgspec.json.encode(event)) for event in numbered]


def _item_events(item: dict[str, Any], index: int, size: int) -> list[dict[str, Any]]:
    """All events of one output item."""
    kind = item["type"]
    at = {"output_index": index, "item_id": item["id"]}
    if kind == "message":
        opening = {**item, "status": "in_progress", "content": []}
        inner = _text_events(item["content"][0], at, size)
    elif kind == "reasoning":
        opening = {**item, "summary": []}
        inner = _summary_events(item["summary"][0], at, size)
    else:
        field, name = ("input", "custom_tool_call_input") if kind == "custom_tool_call" else (
            "arguments", "function_call_arguments")  # fmt: skip
        opening = {**item, field: "", "status": "in_progress"}
        inner = [{"type": f"response.{name}.delta", **at, "delta": p} for p in pieces(item[field], size)]
        done = {"type": f"response.{name}.done", **at, field: item[field]}
        inner.append(done if kind == "custom_tool_call" else {**done, "name": item["name"]})
    return [
        {"type": "response.output_item.added", "output_index": index, "item": opening},
        *inner,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _text_events(part: dict[str, Any], at: dict[str, Any], size: int) -> list[dict[str, Any]]:
    at = {**at, "content_index": 0}
    return [
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", **at, "delta": p, "logprobs": []}
            for p in pieces(part["text"], size)
        ),
        {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
    ]


def _summary_events(part: dict[str, Any], at: dict[str, Any], size: int) -> list[dict[str, Any]]:
    at, stem = {**at, "summary_index": 0}, "response.reasoning_summary"
    return [
        {"type": f"{stem}_part.added", **at, "part": {**part, "text": ""}},
        *({"type": f"{stem}_text.delta", **at, "delta": p} for p in pieces(part["text"], size)),
        {"type": f"{stem}_text.done", **at, "text": part["text"]},
        {"type": f"{stem}_part.done", **at, "part": part},
    ]


def _items(reply: Reply) -> list[dict[str, Any]]:
    """List the output: reasoning, then the message, then the tool calls."""
    items: list[dict[str, Any]] = []
    if reply.thinking:
        items.append(
            {
                "id": f"rs_{reply.id}",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": reply.thinking}],
                "encrypted_content": f"c2NyaXB0ZWQ{reply.id}",
            }
        )
    if reply.text or not reply.calls:
        items.append(
            {
                "id": f"msg_{reply.id}",
                "type": "message",
                "role": "assistant",
                "status": "incomplete" if reply.stop == "length" else "completed",
                "content": [{"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}],
            }
        )
    for call in reply.calls:
        kind, field = ("custom_tool_call", "input") if call.freeform else ("function_call", "arguments")
        items.append(
            {
                "id": f"{'ctc' if call.freeform else 'fc'}_{call.id}",
                "type": kind,
                "call_id": f"call_{call.id}",
                "name": call.name,
                field: call.json,
                "status": "completed",
            }
        )
    return items


def _response(reply: Reply, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    asked = reply.talk.body
    over = status != "in_progress"
    return {
        "id": f"resp_{reply.id}_t{reply.turn}",
        "object": "response",
        "created_at": CREATED_S,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": reply.model,
        "output": output,
        **{key: asked.get(key) for key in _ECHOED},
        "parallel_tool_calls": bool(asked.get("parallel_tool_calls", True)),
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "service_tier": "default",
        "usage": _usage(reply) if over else None,
    }


def _usage(reply: Reply) -> dict[str, Any]:
    used = reply.tokens
    return {
        "input_tokens": used.prompt,
        "input_tokens_details": {"cached_tokens": used.cached, "cache_write_tokens": used.cache_write},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.prompt + used.output,
    }


def error_event(kind: str, message: str) -> Event:
    """Write the error event sent in the middle of a stream."""
    event = {"type": "error", "code": kind, "message": message, "param": None, "sequence_number": 999}
    return "error", msgspec.json.encode(event)
