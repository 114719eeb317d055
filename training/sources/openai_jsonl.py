"""Request and response bodies, one call a line: Chat Completions, Responses or Anthropic Messages.

A line is {request, response} (or {body, response}), a line of an OpenAI batch's input or output, or a bare
request or response body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.errors import BadInput
from features.records import RequestRecord, Status
from features.wire import Dialect, WireRequest, WireResponse, parse_request, parse_response
from training.ids import own_id
from training.sources.base import OTHER_FORMAT, Item, ReadOptions, Refusal, Row, SourceFile, read_objects
from training.sources.describe import Memory, request_fields, response_fields, usage_fields
from training.sources.values import identity, mapping, ms, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_REQUEST = "a request body that can't be read"

_REQUEST_KEYS = ("request", "body", "request_body", "input_body")
_TIME_KEYS = ("ts_ms", "ts", "timestamp", "time", "created_at", "created", "start_time", "startTime", "date")
_SESSION_KEYS = ("session_id", "session", "conversation_id", "thread_id", "chat_id", "trace_id")
_ID_KEYS = ("request_id", "custom_id", "id")
_LATENCY_KEYS = ("latency_ms", "duration_ms", "elapsed_ms")


class Call(NamedTuple):
    """The two bodies of one line, as decoded JSON; {} where there is none."""

    request: dict[str, Any]
    response: dict[str, Any]
    http_status: int | None = None
    failed: bool = False


def looks_like(item: dict[str, Any]) -> bool:
    """Tell whether this line holds a request or a response body."""
    call = call_of(item)
    return bool(call.request or call.response) and dialect_of(call, item) is not None


def read(file: SourceFile, options: ReadOptions) -> Iterator[Item]:
    """Read one call a line; a line that holds neither body is refused."""
    memory = Memory()
    modified_ms = file.path.stat().st_mtime_ns // 1_000_000
    for row in read_objects(file, options):
        yield row if isinstance(row, Refusal) else _record(file, options, row, memory, modified_ms)


def call_of(item: dict[str, Any]) -> Call:
    """Find the two bodies in a line."""
    outer = mapping(item.get("response"))
    response, status = outer, None
    if "body" in outer and ("status_code" in outer or "request_id" in outer):  # a batch's output
        response = mapping(outer.get("body"))
        status = outer["status_code"] if isinstance(outer.get("status_code"), int) else None
    request: dict[str, Any] = next((found for key in _REQUEST_KEYS if (found := mapping(item.get(key)))), {})
    if not request and not response:
        if isinstance(item.get("messages"), list) or ("input" in item and "model" in item):
            request = item
        elif item.get("object") in ("chat.completion", "response") or item.get("type") == "message":
            response = item
    failed = bool(item.get("error") or response.get("error")) or (status or 200) >= 400
    return Call(request, response, status, failed)


def dialect_of(call: Call, item: dict[str, Any]) -> Dialect | None:
    """Tell the dialect by the bodies' own fields, then by the path they were sent to."""
    request, response = call.request, call.response
    where = str(item.get("url") or item.get("path") or item.get("endpoint") or "")
    if response.get("object") == "response" or "/responses" in where:
        return "openai_responses"
    if response.get("type") == "message" or "/messages" in where:
        return "anthropic_messages"
    if "choices" in response or "/chat/completions" in where:
        return "openai_chat"
    if isinstance(request.get("messages"), list):
        return "anthropic_messages" if _anthropic(request) else "openai_chat"
    return "openai_responses" if "input" in request else None


def _anthropic(request: dict[str, Any]) -> bool:
    if "system" in request or "anthropic_version" in request:
        return True
    tools = request.get("tools")
    if isinstance(tools, list) and tools and isinstance(tools[0], dict):
        return "input_schema" in tools[0]
    blocks = (
        block.get("type")
        for message in request["messages"]
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
        if isinstance(block, dict)
    )
    return any(kind in ("tool_use", "tool_result", "thinking") for kind in blocks)


def parse_call(call: Call, dialect: Dialect) -> tuple[WireRequest | None, WireResponse | None]:
    """Parse both bodies; raises BadInput for a request that lacks what its dialect needs."""
    body = call.request
    if body and "model" not in body and call.response:
        body = {"model": call.response.get("model") or "", **body}
    request = parse_request(dialect, msgspec.json.encode(body)) if body else None
    response = parse_response(dialect, msgspec.json.encode(call.response)) if call.response else None
    return request, response


def _first(item: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _record(file: SourceFile, options: ReadOptions, row: Row, memory: Memory, modified_ms: int) -> Item:
    number_, item = row
    call = call_of(item)
    dialect = dialect_of(call, item)
    if dialect is None or not (call.request or call.response or item.get("error")):
        return Refusal(file.name, number_, OTHER_FORMAT)
    try:
        request, response = parse_call(call, dialect)
    except BadInput:
        return Refusal(file.name, number_, BAD_REQUEST)
    said_ms = _time(item, call)
    ts_ms = modified_ms if said_ms is None else said_ms
    said_id = identity(call.response.get("id")) or identity(_first(item, _ID_KEYS))
    request_id = own_id(said_id, item)
    session = identity(_first(item, _SESSION_KEYS)) or (request.session_id if request else None)
    session = session or memory.conversation(request) or request_id
    fields = request_fields(request, session, ts_ms, options, memory) if request else {"dialect": dialect}
    fields |= response_fields(response, options)
    fields |= usage_fields(dialect, call.response.get("usage"))
    memory.told(session, fields)
    flags = [*(fields.pop("flags", None) or []), *(["time_from_file"] if said_ms is None else [])]
    return RequestRecord(
        request_id=request_id,
        session_id=session,
        ts_ms=ts_ms,
        source="openai_jsonl",
        source_file=file.name,
        source_row=number_,
        user=text(item.get("user")) or (request.user if request else None),
        http_status=call.http_status,
        status=_status(call, response),
        latency_ms=number(_first(item, _LATENCY_KEYS)),
        flags=flags or None,
        **fields,
    )


def _time(item: dict[str, Any], call: Call) -> int | None:
    for source in (item, call.response) if item is not call.request else (call.response,):
        for key in _TIME_KEYS:
            moment = ms(source.get(key))
            if moment is not None:
                return moment
    return None


def _status(call: Call, response: WireResponse | None) -> Status:
    if call.failed:
        return "error"
    return "unknown" if response is None else "ok"
