"""A request of any dialect as the script sees it: how many turns it holds, its tools, its prefix blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from features.wire.types import Dialect

_TURNS_IN_ID = re.compile(r"_t(\d+)$")  # our own response ids say how many turns came before
_LIST_KEY: dict[Dialect, str] = {
    "openai_chat": "messages",
    "anthropic_messages": "messages",
    "openai_responses": "input",
}


class Block(NamedTuple):
    """A piece of the prompt in cache order: its canonical bytes and whether the client marked it."""

    data: bytes
    marked: bool


class Conversation(NamedTuple):
    """What a request says, as far as choosing and answering a step needs it."""

    dialect: Dialect
    model: str
    turns: int  # assistant turns already in the conversation
    tools: dict[str, str]  # name -> kind, "function" or "custom"
    stream: bool
    include_usage: bool
    max_tokens: int | None
    text: str  # every string of the body, one per line
    last_user: str
    last_result: str
    blocks: tuple[Block, ...]
    body: dict[str, Any]
    size: int  # of the body, bytes


def read_conversation(dialect: Dialect, raw: bytes) -> Conversation:
    """Decode a request body; raises BadInput with the message a provider would send."""
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise BadInput(f"could not parse the JSON body of the request: {error}") from error
    key = _LIST_KEY[dialect]
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise BadInput("model: field required")
    items = body.get(key)
    if isinstance(items, str) and dialect == "openai_responses":
        items = [{"type": "message", "role": "user", "content": items}]
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        raise BadInput(f"{key}: field required")
    try:
        return _conversation(dialect, body, items, len(raw))
    except (AttributeError, KeyError, TypeError) as error:  # a list where an object belongs, or the like
        raise BadInput(f"the request does not have the shape of {dialect}") from error


def _conversation(
    dialect: Dialect, body: dict[str, Any], items: list[dict[str, Any]], size: int
) -> Conversation:
    options = body.get("stream_options") or {}
    return Conversation(
        dialect=dialect,
        model=body["model"],
        turns=_turns(dialect, items, body.get("previous_response_id")),
        tools=dict(_tools(body.get("tools") or [])),
        stream=bool(body.get("stream")),
        include_usage=bool(options.get("include_usage")),
        max_tokens=_max_tokens(body),
        text="\n".join(_strings(body)),
        last_user=_last(items, _is_user),
        last_result=_last(items, _is_result),
        blocks=tuple(_blocks(body, items)),
        body=body,
        size=size,
    )


def _max_tokens(body: dict[str, Any]) -> int | None:
    keys = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    return next((body[k] for k in keys if isinstance(body.get(k), int)), None)


def _turns(dialect: Dialect, items: list[dict[str, Any]], previous: Any) -> int:
    """Assistant turns: messages, or in Responses the runs of items that the model produced."""
    if dialect != "openai_responses":
        return sum(i.get("role") == "assistant" for i in items)
    ours = [_by_model(i) for i in items]
    turns = sum(now and not before for before, now in zip([False, *ours], ours, strict=False))
    found = _TURNS_IN_ID.search(previous) if isinstance(previous, str) else None
    return turns + (int(found[1]) + 1 if found else 0)


def _by_model(item: dict[str, Any]) -> bool:
    kind = str(item.get("type", "message"))
    if kind == "message":
        return item.get("role") == "assistant"
    return kind == "reasoning" or kind.endswith("_call")


def _tools(tools: Any) -> Iterator[tuple[str, str]]:
    """Names and kinds of the tools offered, those inside a namespace included."""
    for tool in tools:
        inner = tool.get("function") or tool
        if "tools" in tool:
            yield from _tools(tool["tools"])
        elif "name" in inner:
            yield inner["name"], "custom" if tool.get("type") == "custom" else "function"
        else:
            yield str(tool.get("type")), "hosted"


def _is_result(item: dict[str, Any]) -> bool:
    if item.get("role") == "tool" or str(item.get("type", "")).endswith("_call_output"):
        return True
    content = item.get("content")
    return isinstance(content, list) and any(p.get("type") == "tool_result" for p in content)


def _is_user(item: dict[str, Any]) -> bool:
    return item.get("role") == "user" and not _is_result(item)


def _last(items: list[dict[str, Any]], wanted: Any) -> str:
    """Return the text of the last item that is wanted, at most 2,000 characters."""
    item = next((i for i in reversed(items) if wanted(i)), None)
    if item is None:
        return ""
    value = item.get("output", item.get("content"))
    if isinstance(value, str):
        return value[:2000]
    parts = [p.get("text") or p.get("content") for p in value or [] if isinstance(p, dict)]
    return "\n".join("\n".join(_strings(p)) if not isinstance(p, str) else p for p in parts)[:2000]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _blocks(body: dict[str, Any], items: Iterable[dict[str, Any]]) -> Iterator[Block]:
    """Cache order: tools, then system, then messages, each part for itself, markers taken out."""
    system = body.get("system", body.get("instructions"))
    parts = [
        *(body.get("tools") or []),
        *(system if isinstance(system, list) else [system] if system else []),
    ]
    for part in parts:
        yield _block(part, "")
    for item in items:
        content = item.get("content")
        role = str(item.get("role", ""))
        if isinstance(content, list) and content:
            yield from (_block(part, role) for part in content)
        elif isinstance(content, str):  # the same block whether written short or as a list of one
            yield _block({"type": "text", "text": content}, role)
        else:
            yield _block(item, role)


def _block(part: Any, role: str) -> Block:
    marked = isinstance(part, dict) and part.get("cache_control") is not None
    plain = {k: v for k, v in part.items() if k != "cache_control"} if isinstance(part, dict) else part
    return Block(role.encode() + msgspec.json.encode(plain), marked)
