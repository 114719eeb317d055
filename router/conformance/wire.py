"""What a stream must look like on the wire, whatever SDKs forgive: order, pairs, one end, nothing after."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from features.wire import plain
from features.wire.sse import EventCutter

if TYPE_CHECKING:
    from features.wire.types import Dialect

_ENDS = {
    "anthropic_messages": ("message_stop", "error"),
    "openai_responses": ("response.completed", "response.incomplete", "response.failed", "error"),
}


def events_of(stream: bytes) -> list[dict[str, Any] | None]:
    """The events of a stream; None for the mark [DONE], an empty object for what is no JSON."""
    cutter = EventCutter()
    return [
        None if data.strip() == b"[DONE]" else plain.decode_event(data) or {}
        for data in (*cutter.cut(stream), *cutter.end())
    ]


def problem(dialect: Dialect, stream: bytes) -> str | None:
    """What is wrong with a stream as it came over the wire; None if nothing is."""
    events = events_of(stream)
    if any(event == {} for event in events):
        return "an event is no JSON object"
    return _CHECKS[dialect](events)


def ends(dialect: Dialect, stream: bytes) -> tuple[int, int]:
    """How many events end the answer well, and how many as an error."""
    events = events_of(stream)
    if dialect == "openai_chat":
        return sum(e is None for e in events), sum(e is not None and bool(e.get("error")) for e in events)
    kinds = [e.get("type") for e in events if e]
    good = [k for k in _ENDS[dialect] if k not in ("error", "response.failed")]
    failed = kinds.count("error") + kinds.count("response.failed")
    # OpenAI itself says `error` and then `response.failed`
    return sum(kinds.count(k) for k in good), min(failed, 1) if dialect == "openai_responses" else failed


def _chat(events: list[dict[str, Any] | None]) -> str | None:
    if events.count(None) > 1 or (None in events and events[-1] is not None):
        return "[DONE] must come once, and last"
    reasons = [
        choice["finish_reason"]
        for event in events
        for choice in plain.objects((event or {}).get("choices"))
        if choice.get("finish_reason")
    ]
    return f"{len(reasons)} finish reasons" if len(reasons) > 1 else None


def _messages(events: list[dict[str, Any] | None]) -> str | None:
    now: Any = None
    expected, started, over = 0, False, False
    for event in events:
        kind = (event or {}).get("type")
        if over:
            return f"{kind} after the end"
        match kind:
            case "message_start":
                if started:
                    return "two message_start events"
                started = True
            case "content_block_start":
                if now is not None or event is None or event.get("index") != expected:
                    return "content blocks overlap or are counted wrongly"
                now, expected = expected, expected + 1
            case "content_block_delta" | "content_block_stop":
                if event is None or event.get("index") != now:
                    return f"{kind} outside its content block"
                now = None if kind == "content_block_stop" else now
            case "message_delta" if now is not None:
                return "message_delta inside a content block"
            case "message_stop" | "error":
                over = True
        if not started and kind not in ("ping", "error"):
            return f"{kind} before message_start"
    return None


def _responses(events: list[dict[str, Any] | None]) -> str | None:
    numbers = [e["sequence_number"] for e in events if e and isinstance(e.get("sequence_number"), int)]
    if any(b <= a for a, b in itertools.pairwise(numbers)):
        return "sequence numbers don't go up"
    kinds = [(e or {}).get("type") for e in events]
    if kinds and kinds[0] not in ("response.created", "response.failed", "error"):
        return f"begins with {kinds[0]}"
    if kinds.count("response.output_item.added") < kinds.count("response.output_item.done"):
        return "an item ends that never began"
    last = [i for i, kind in enumerate(kinds) if kind in _ENDS["openai_responses"]]
    if last and len(kinds) > last[-1] + 1:
        return f"{kinds[-1]} after the end"
    return None


_CHECKS = {"openai_chat": _chat, "anthropic_messages": _messages, "openai_responses": _responses}
