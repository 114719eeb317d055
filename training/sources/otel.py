"""OpenTelemetry GenAI spans: OTLP JSON (resourceSpans → scopeSpans → spans), or one span a line.

Semantic conventions as of schema gen-ai/1.42, and the names before them. `gen_ai.usage.input_tokens` is the
whole prompt, cache reads and writes included. Spans of agents and tools sum up or surround model calls; they
are no calls, and so no rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.records import RequestRecord
from features.wire import Message, Part, Role, WireRequest
from training.ids import is_global, own_id
from training.sources.base import OTHER_FORMAT, Item, ReadOptions, Refusal, SourceFile, read_objects
from training.sources.describe import ENVELOPE, Memory, request_fields, tools_called
from training.sources.values import count, identity, listing, mapping, minus, ms, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = ("chat", "text_completion", "generate_content", "completion", "message", "responses")
_INDEXED = re.compile(r"gen_ai\.prompt\.(\d+)\.(role|content)")
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
}

# What we want -> the names it goes by, newest first.
_NAMES: dict[str, tuple[str, ...]] = {
    "provider": ("gen_ai.provider.name", "gen_ai.system"),
    "requested": ("gen_ai.request.model", "llm.request.model"),
    "served": ("gen_ai.response.model",),
    "response_id": ("gen_ai.response.id",),
    "session": ("gen_ai.conversation.id", "session.id", "thread.id", "langfuse.session.id"),
    "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cached": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
    ),
    "written": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
    ),
    "reasoning": ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.output_tokens.reasoning"),
    "error": ("error.type",),
    "user": ("user.id", "enduser.id"),
    "first_chunk_s": ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
}
_START = ("startTimeUnixNano", "start_time_unix_nano", "startTime", "start_time", "timestamp")
_END = ("endTimeUnixNano", "end_time_unix_nano", "endTime", "end_time")


class _Span(NamedTuple):
    """One model call's span, under the names that we use."""

    trace: str
    own: str | None
    start_ms: int | None
    end_ms: int | None
    status: dict[str, Any]
    attributes: dict[str, Any]


def looks_like(item: dict[str, Any]) -> bool:
    """Tell whether this is an OTLP document, or a span on a line of its own."""
    if "resourceSpans" in item or "resource_spans" in item:
        return True
    return "attributes" in item and any(key in item for key in _START)


def read(file: SourceFile, options: ReadOptions) -> Iterator[Item]:
    """Read the model calls among a file's spans; their row is that of the document they stand in."""
    memory = Memory()
    for row in read_objects(file, options):
        if isinstance(row, Refusal):
            yield row
            continue
        number_, item = row
        if not looks_like(item):
            yield Refusal(file.name, number_, OTHER_FORMAT)
            continue
        for span, resource in spans_of(item):
            attributes = flat(span.get("attributes"))
            if is_call(attributes):
                where = {"source": "otel", "source_file": file.name, "source_row": number_}
                where["harness"] = text(resource.get("service.name"))
                yield _record(_span_of(span, attributes), options, memory, where)


def spans_of(item: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Spans of a document or line, each with its resource's attributes."""
    groups = listing(item.get("resourceSpans") or item.get("resource_spans"))
    if not groups and "attributes" in item:
        yield item, flat(mapping(item.get("resource")).get("attributes"))
    for group in map(mapping, groups):
        resource = flat(mapping(group.get("resource")).get("attributes"))
        scopes = (
            group.get("scopeSpans") or group.get("scope_spans") or group.get("instrumentationLibrarySpans")
        )
        for scope in map(mapping, listing(scopes)):
            for span in map(mapping, listing(scope.get("spans"))):
                yield span, resource


def flat(attributes: Any) -> dict[str, Any]:
    """Attributes as a plain dict, from OTLP's list of {key, value} or from a dict already."""
    if isinstance(attributes, list):
        return {
            pair["key"]: plain(pair.get("value"))
            for pair in map(mapping, attributes)
            if isinstance(pair.get("key"), str)
        }
    return mapping(attributes)


def plain(value: Any) -> Any:
    """Turn an OTLP AnyValue into a plain value; 64-bit integers are text there."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    kind, inner = next(iter(value.items()))
    if kind in ("intValue", "int_value"):
        return count(inner)
    if kind in ("arrayValue", "array_value"):
        return [plain(item) for item in listing(mapping(inner).get("values"))]
    if kind in ("kvlistValue", "kvlist_value"):
        return flat(mapping(inner).get("values"))
    return inner


def is_call(attributes: dict[str, Any]) -> bool:
    """Tell whether this span is one model call; spans of agents may carry a usage and aren't."""
    operation = text(attributes.get("gen_ai.operation.name"))
    if operation is not None:
        return operation in _CALLS
    return any(name in attributes for name in _NAMES["requested"]) and any(
        n in attributes for n in _NAMES["input"]
    )


def _get(attributes: dict[str, Any], what: str) -> Any:
    return next((attributes[name] for name in _NAMES[what] if attributes.get(name) is not None), None)


def _first(item: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _record(span: _Span, options: ReadOptions, memory: Memory, where: dict[str, Any]) -> RequestRecord:
    attributes = span.attributes
    session = identity(_get(attributes, "session")) or span.trace
    answer_id = identity(_get(attributes, "response_id"))
    usage = _usage(attributes)
    fields = _asked(span, session, options, memory) | usage
    memory.told(session, fields)
    return RequestRecord(
        **where,
        **fields,
        **_outcome(span),
        request_id=answer_id
        if answer_id and is_global(answer_id)
        else own_id(f"{span.trace}:{span.own}", span.start_ms, span.end_ms, usage),
        provider_response_id=answer_id,
        session_id=session,
        ts_ms=span.start_ms or 0,  # refused by the checks
        model_served=text(_get(attributes, "served")),
        provider=text(_get(attributes, "provider")),
        user=text(_get(attributes, "user")),
    )


def _span_of(span: dict[str, Any], attributes: dict[str, Any]) -> _Span:
    context = mapping(span.get("context"))
    trace = identity(_first(span, ("traceId", "trace_id"))) or identity(context.get("trace_id"))
    return _Span(
        trace or "no-trace",
        identity(_first(span, ("spanId", "span_id"))) or identity(context.get("span_id")),
        ms(_first(span, _START)),
        ms(_first(span, _END)),
        mapping(span.get("status")),
        attributes,
    )


def _asked(span: _Span, session: str, options: ReadOptions, memory: Memory) -> dict[str, Any]:
    """What was asked: the model, and what the messages tell where the exporter was told to record them."""
    model = text(_get(span.attributes, "requested")) or text(_get(span.attributes, "served"))
    messages = prompt_of(span.attributes) if options.prompts != "none" else ()
    if not messages:
        return {"model_requested": model}
    request = WireRequest(dialect="openai_chat", model=model or "", messages=messages)
    fields = request_fields(request, session, span.start_ms or 0, options, memory)
    unknown = dict.fromkeys((*ENVELOPE, "context_tokens_est"))
    facts = msgspec.structs.replace(fields["facts"], **unknown)
    return fields | {"model_requested": model, "dialect": None, "stream": None, "facts": facts}


def _outcome(span: _Span) -> dict[str, Any]:
    """What came back: how it ended, how long it took, which tools it calls."""
    attributes, start, end = span.attributes, span.start_ms, span.end_ms
    error = text(_get(attributes, "error"))
    code = str(span.status.get("code") or span.status.get("status_code"))
    reasons = [text(reason) for reason in _list(attributes.get("gen_ai.response.finish_reasons"))]
    spoken = _messages(attributes.get("gen_ai.output.messages"))
    first_s = number(_get(attributes, "first_chunk_s"))
    return {
        "status": "error" if error or code in ("2", "ERROR") else "ok",
        "error_kind": error,
        "finish_reason": next((reason for reason in reasons if reason), None),
        "latency_ms": float(end - start) if start is not None and end is not None else None,
        "first_byte_ms": None if first_s is None else first_s * 1000,
        "tools_called": tools_called([p for message in spoken for p in message.parts]) if spoken else None,
    }


def _usage(attributes: dict[str, Any]) -> dict[str, Any]:
    cached, written = count(_get(attributes, "cached")), count(_get(attributes, "written"))
    reasoning = count(_get(attributes, "reasoning"))
    return {
        "input_tokens_uncached": minus(count(_get(attributes, "input")), cached, written),
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": count(_get(attributes, "output")),
        "reasoning_tokens": reasoning,
        "reasoning_in_output": True if reasoning is not None else None,
    }


def prompt_of(attributes: dict[str, Any]) -> tuple[Message, ...]:
    """Return the prompt's messages, where the exporter was told to record them."""
    instructions = _parts(_list(attributes.get("gen_ai.system_instructions")))
    system = (Message(role="system", parts=instructions),) if instructions else ()
    messages = _messages(attributes.get("gen_ai.input.messages"))
    if messages:
        return (*system, *messages)
    indexed: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        if found := _INDEXED.fullmatch(name):
            indexed.setdefault(int(found[1]), {})[found[2]] = value
    return tuple(
        Message(role=_ROLES.get(str(said.get("role")), "user"), parts=_parts(_list(said.get("content"))))
        for _, said in sorted(indexed.items())
    )


def _messages(value: Any) -> tuple[Message, ...]:
    return tuple(
        Message(
            role=_ROLES.get(str(said.get("role")), "user"),
            parts=_parts(_list(said.get("parts") or said.get("content"))),
        )
        for said in map(mapping, _list(value))
    )


def _list(value: Any) -> list[Any]:
    """Make a list of a list, a JSON list, or one value alone."""
    if value is None:
        return []
    return listing(value) or ([] if value in ([], "[]") else [value])


def _parts(values: list[Any]) -> tuple[Part, ...]:
    parts = []
    for value in values:
        part = mapping(value)
        kind = part.get("type")
        if not part:
            parts.append(Part(kind="text", text=str(value)))
        elif kind == "tool_call":
            name, call = text(part.get("name")), identity(part.get("id"))
            parts.append(Part(kind="tool_call", name=name, call_id=call, text=_json(part.get("arguments"))))
        elif kind == "tool_call_response":
            answer = part.get("response", part.get("result"))
            parts.append(Part(kind="tool_result", call_id=identity(part.get("id")), text=_json(answer)))
        elif kind == "reasoning":
            parts.append(Part(kind="thinking", text=_json(part.get("content"))))
        elif kind in ("text", None):
            parts.append(Part(kind="text", text=_json(part.get("content", part.get("text")))))
        else:
            parts.append(Part(kind="image" if part.get("modality") == "image" else "other"))
    return tuple(parts)


def _json(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()
