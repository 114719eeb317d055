"""LiteLLM's spend logs: rows of LiteLLM_SpendLogs as JSON Lines, CSV or Parquet.

There `prompt_tokens` is the whole prompt, cache reads and writes included, and a model without a price has
spend 0; that spend is unknown, not free. An answer from LiteLLM's own cache costs nothing and is flagged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from features.errors import BadInput
from features.records import RequestRecord
from training.ids import own_id
from training.sources.base import OTHER_FORMAT, Item, ReadOptions, Refusal, Row, SourceFile
from training.sources.describe import Memory, request_fields, response_fields, usage_fields
from training.sources.openai_jsonl import Call, dialect_of, parse_call
from training.sources.rows import read_rows
from training.sources.values import count, identity, listing, mapping, ms, number, text, usd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.wire import Dialect

MARKS = frozenset({"request_id", "startTime", "model"})
COLUMNS = frozenset({
    "request_id", "call_type", "spend", "total_tokens", "prompt_tokens", "completion_tokens", "startTime",
    "endTime", "completionStartTime", "model", "model_id", "model_group", "custom_llm_provider", "user",
    "end_user", "metadata", "cache_hit", "team_id", "session_id", "status", "messages", "response",
    "proxy_server_request", "request_duration_ms",
})  # fmt: skip

# Calls that are no agent's: embeddings, images, speech. They are rows all the same, and are refused.
NO_CHAT = "a call of another kind than chat"
_CHAT = (
    "",
    "completion",
    "text_completion",
    "responses",
    "anthropic_messages",
    "generate_content",
    "pass_through",
)
_DIALECTS: dict[str, Dialect] = {"anthropic_messages": "anthropic_messages", "responses": "openai_responses"}
# Name in OpenAI's block -> LiteLLM's name for it there -> Anthropic's name, which LiteLLM keeps outside.
_CACHE_COUNTS = (
    ("cached_tokens", "cached_tokens", "cache_read_input_tokens"),
    ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens"),
)


def looks_like(names: frozenset[str]) -> bool:
    """Tell whether these are the columns, or the keys, of a spend log."""
    return names >= MARKS and bool({"spend", "call_type"} & names)


def read(file: SourceFile, options: ReadOptions) -> Iterator[Item]:
    """Read a spend log."""
    memory = Memory()
    for row in read_rows(file, options, COLUMNS):
        yield row if isinstance(row, Refusal) else _record(file, options, row, memory)


def _record(file: SourceFile, options: ReadOptions, row: Row, memory: Memory) -> Item:
    number_, item = row
    said_id = identity(item.get("request_id"))
    if said_id is None or "startTime" not in item:
        return Refusal(file.name, number_, OTHER_FORMAT)
    kind = (text(item.get("call_type")) or "").removeprefix("a").replace("nthropic", "anthropic")
    if not kind.startswith(_CHAT[1:]) and kind != "":
        return Refusal(file.name, number_, NO_CHAT)
    metadata = mapping(item.get("metadata"))
    start, end = ms(item.get("startTime")), ms(item.get("endTime"))
    told = (item.get(name) for name in ("session_id", "model", "prompt_tokens", "completion_tokens"))
    request_id = own_id(said_id, start, end, *map(str, told))
    session = identity(item.get("session_id")) or request_id
    hit = str(item.get("cache_hit")).lower() == "true"
    fields = _bodies(item, _DIALECTS.get(kind, "openai_chat"), session, start, options, memory)
    fields |= _usage(item, metadata)
    memory.told(session, fields)
    flags = [*(fields.pop("flags", None) or []), *(["response_cache_hit"] if hit else [])]
    said = {
        "model_requested": text(item.get("model_group")),
        "model_served": text(item.get("model")),
        "provider_response_id": said_id,  # LiteLLM's id is that of the answer
        "error_kind": text(mapping(metadata.get("error_information")).get("error_class")),
        **{name: value for name, value in fields.items() if value is not None},
    }
    return RequestRecord(
        request_id=request_id,
        session_id=session,
        ts_ms=start or 0,  # refused by the checks
        source="litellm",
        source_file=file.name,
        source_row=number_,
        user=text(item.get("end_user")) or text(item.get("user")),
        tenant=text(item.get("team_id")) or text(metadata.get("user_api_key_team_id")),
        provider=text(item.get("custom_llm_provider")),
        deployment=text(item.get("model_id")),
        **_cost(item, hit=hit),
        **_timing(item, start, end),
        status="error" if "failure" in (item.get("status"), metadata.get("status")) else "ok",
        flags=flags or None,
        **said,
    )


def _bodies(
    item: dict[str, Any],
    dialect: Dialect,
    session: str,
    ts_ms: int | None,
    options: ReadOptions,
    memory: Memory,
) -> dict[str, Any]:
    """Read the logged bodies, where LiteLLM was told to store them; a broken one says nothing."""
    sent = mapping(item.get("proxy_server_request"))
    if not (sent.get("messages") or sent.get("input")):
        messages = listing(item.get("messages"))
        sent = {"model": text(item.get("model")) or "", "messages": messages} if messages else {}
    call = Call(sent, mapping(item.get("response")))
    told = dialect_of(call, {}) or dialect
    try:
        request, response = parse_call(call, told)
    except BadInput:
        return {}
    fields = request_fields(request, session, ts_ms or 0, options, memory) if request else {}
    return fields | response_fields(response, options) | ({"dialect": told} if request or response else {})


def _usage(item: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """Token counts in our split, by the usage object where there is one."""
    usage = {**mapping(metadata.get("usage_object"))}
    inside = {**mapping(usage.get("prompt_tokens_details"))}
    for name, elsewhere, anthropic in _CACHE_COUNTS:
        found = (inside.get(name), inside.get(elsewhere), usage.get(anthropic))
        inside[name] = next((value for value in found if value is not None), None)
    usage["prompt_tokens_details"] = inside
    for name in ("prompt_tokens", "completion_tokens"):
        usage[name] = count(item.get(name)) if count(item.get(name)) is not None else usage.get(name)
    return usage_fields("openai_chat", usage)


def _cost(item: dict[str, Any], *, hit: bool) -> dict[str, Any]:
    spend = usd(item.get("spend"))
    if spend is None or (spend == 0 and not hit and count(item.get("total_tokens")) != 0):
        return {}
    return {"cost_usd": spend, "cost_source": "log"}


def _timing(item: dict[str, Any], start: int | None, end: int | None) -> dict[str, Any]:
    first = ms(item.get("completionStartTime"))
    streamed = start is not None and first is not None and first != end  # equal when it didn't stream
    duration = number(item.get("request_duration_ms"))
    if duration is None and start is not None and end is not None:
        duration = float(end - start)
    return {"latency_ms": duration, "first_byte_ms": float(first - start) if streamed else None}  # type: ignore[operator]
