"""Anthropic Messages: requests, answers and stream events into the common shape."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from features.wire import plain
from features.wire.drafts import Drafts
from features.wire.held import held
from features.wire.types import (
    Frame,
    Item,
    Message,
    Part,
    Pieces,
    Unremembered,
    Usage,
    WireRequest,
    WireResponse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Body(msgspec.Struct):
    """The part of a request body that we read; the rest is passed on unread."""

    model: str
    messages: list[msgspec.Raw]
    system: msgspec.Raw = msgspec.Raw()
    tools: list[msgspec.Raw] | None = None
    max_tokens: plain.Count | None = None
    stream: bool | None = None
    tool_choice: Any = None
    thinking: Any = None
    output_config: Any = None
    output_format: Any = None
    metadata: Any = None
    container: Any = None
    cache_control: Any = None
    service_tier: Any = None


_envelope = partial(plain.decode_body, msgspec.json.Decoder(_Body))
_content = msgspec.json.Decoder(str | list[Any] | None)
_CHOICES: dict[Any, Literal["auto", "none", "required", "named"]] = {
    "auto": "auto",
    "none": "none",
    "any": "required",
    "tool": "named",
}
_SESSION = re.compile(r"^(?P<user>.*?)_?session_(?P<session>[0-9a-fA-F-]{8,64})$", re.DOTALL)


def open_request(body: bytes, memory: Unremembered) -> tuple[Frame, Pieces]:
    """Read all of a request body but its messages; raises BadInput in one line naming the key."""
    envelope = _envelope(body)
    plain.bounded(envelope.messages, "messages", plain.MAX_MESSAGES)
    plain.bounded(envelope.tools, "tools", plain.MAX_TOOLS)
    tools, markers = memory.tools(envelope.tools or (), plain.read_tools)
    before = memory.each("anthropic system", [envelope.system] if envelope.system else (), _system)
    system = before[0].messages if before else ()
    user, session = _who(plain.mapping(envelope.metadata).get("user_id"))
    config = plain.mapping(envelope.output_config)
    thinking = plain.mapping(envelope.thinking).get("type")
    automatic = _automatic(envelope)
    marked = [item for item in (*before, automatic) if item.markers]
    formats = (config.get("format"), envelope.output_format)
    request = WireRequest(
        dialect="anthropic_messages",
        model=envelope.model,
        messages=system,
        tools=tools,
        stream=bool(envelope.stream),
        max_output_tokens=plain.count(envelope.max_tokens),
        tool_choice=_CHOICES.get(plain.string(plain.mapping(envelope.tool_choice).get("type"))),
        thinking=None if not isinstance(thinking, str) else thinking != "disabled",
        effort=plain.string(config.get("effort")),
        json_schema=any(isinstance(f, dict) and f.get("type") == "json_schema" for f in formats),
        cache_markers=markers + sum(item.markers for item in marked),
        cache_lifetime=marked[-1].lifetime if marked else None,
        session_id=session,
        user=user,
        service_tier=plain.word(envelope.service_tier),
        kept=bool(plain.string(envelope.container) or plain.mapping(envelope.container).get("id")),
        is_subagent=_is_subagent(system[0].parts[0].text) if system and system[0].parts else None,
    )
    return Frame(request, automatic.markers > 0), Pieces("anthropic message", envelope.messages, _item)


def _system(_: int, raw: msgspec.Raw) -> Item:
    content = plain.decode_part(_content, raw, "system")
    said = (Message(role="system", parts=_parts(content, "system")),) if content else ()
    return _marked(said, content)


def _item(at: int, raw: msgspec.Raw) -> Item:
    where = f"messages[{at}]"
    item = plain.object_of(raw, where)
    return _marked((plain.turned(_message(item, where)),), item.get("content"))


def _automatic(envelope: _Body) -> Item:
    """The marker that the provider moves along itself: it stands at the end of the prompt."""
    return _marked((), [{"cache_control": envelope.cache_control}])


def _marked(said: tuple[Message, ...], content: Any) -> Item:
    marks = _markers(content)
    if not marks:
        return Item(said)
    return Item(said, len(marks), plain.word(plain.mapping(marks[-1]).get("ttl")))


def _markers(content: Any) -> list[Any]:
    """The cache_control markers of content blocks, then those within results, each in their order."""
    found: list[Any] = []
    if isinstance(content, list):
        within: list[Any] = []
        for block in content:
            if isinstance(block, dict):
                if (mark := block.get("cache_control")) is not None:
                    found.append(mark)
                if block.get("type") == "tool_result" and isinstance(inner := block.get("content"), list):
                    within += _markers(inner)
        found += within
    return found


def _who(user_id: Any) -> tuple[str | None, str | None]:
    """metadata.user_id -> (user, session): Claude Code packs both into it, as JSON or joined by "_"."""
    if not isinstance(user_id, str):
        return None, None
    if user_id.startswith("{"):
        packed = plain.decode_event(user_id.encode("utf-8", "replace")) or {}
        user = plain.string(packed.get("account_uuid")) or plain.string(packed.get("device_id"))
        return user, plain.string(packed.get("session_id"))
    if match := _SESSION.match(user_id):
        return match["user"] or None, match["session"]
    return user_id or None, None


def _is_subagent(first_block: str) -> bool | None:
    """Claude Code's system prompt opens with a line about the call itself; other clients don't say."""
    if not first_block.startswith("x-anthropic-billing-header:"):
        return None
    return "cc_is_subagent=true" in first_block


def messages(items: Sequence[Any]) -> list[Message]:
    """Decoded messages into the common shape; raises BadInput for a message that isn't one."""
    items = plain.objects_only(items, "messages")
    return plain.join_turns(_message(item, f"messages[{i}]") for i, item in enumerate(items))


def _message(item: dict[str, Any], where: str) -> Message:
    return Message(role=plain.role_of(item.get("role"), where), parts=_parts(item.get("content"), where))


def _parts(content: Any, where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Part(kind="text", text=content),)
    if content is None:
        return ()
    if not isinstance(content, list):
        raise plain.not_content(where)
    if len(content) > plain.MAX_BLOCKS:
        plain.bounded(content, f"{where}.content", plain.MAX_BLOCKS)
    parts: list[Part] = []
    for block in content:
        if isinstance(block, dict):
            part = _part(block)
            parts.append(part)
            if part.kind == "tool_result" and isinstance(inner := block.get("content"), list):
                # A screenshot inside a result still needs a model that sees.
                parts += [_part(b) for b in plain.objects(inner) if b.get("type") == "image"]
        else:
            parts.append(Part(kind="text", text=block) if isinstance(block, str) else plain.other(block))
    return tuple(parts)


def _part(block: dict[str, Any]) -> Part:
    """One content block of a request or an answer."""
    kind = block.get("type")
    if kind == "text":
        text = block.get("text")
        cited = "citations" in block and held(block["citations"])
        return Part(kind="text", text=text if isinstance(text, str) else plain.flatten(text), signed=cited)
    if not isinstance(kind, str):
        return plain.other(block)
    if kind.endswith("tool_use"):  # also server_tool_use and mcp_tool_use
        return Part(
            kind="tool_call",
            text=plain.compact_json(block.get("input")),
            name=plain.string(block.get("name")),
            call_id=plain.string(block.get("id")),
        )
    if kind.endswith("tool_result"):  # also the results of server tools and of MCP
        error = block.get("is_error")
        return Part(
            kind="tool_result",
            text=plain.flatten(block.get("content")),
            call_id=plain.string(block.get("tool_use_id")),
            is_error=error if isinstance(error, bool) else None,
            signed=held(block.get("content")),
        )
    if kind == "thinking":
        return Part(
            kind="thinking", text=plain.flatten(block.get("thinking")), signed=bool(block.get("signature"))
        )
    if kind == "redacted_thinking":
        return Part(kind="thinking", signed=True, digest=plain.digest(block.get("data")))
    if kind == "image":
        return Part(kind="image", digest=plain.digest(block.get("source")), signed=held(block))
    if "cache_control" in block:
        block = {key: value for key, value in block.items() if key != "cache_control"}
    return plain.other(block)


def usage(block: Any) -> Usage | None:
    """A usage block: `input_tokens` already leaves out what was read from and written to the cache."""
    if not isinstance(block, dict):
        return None
    get, count = block.get, plain.count
    return Usage(
        input_tokens_uncached=count(get("input_tokens")),
        cached_tokens=count(get("cache_read_input_tokens")),
        cache_write_tokens=count(get("cache_creation_input_tokens")),
        cache_write_1h_tokens=count(plain.child(block, "cache_creation").get("ephemeral_1h_input_tokens")),
        output_tokens=count(get("output_tokens")),
        reasoning_tokens=count(plain.child(block, "output_tokens_details").get("thinking_tokens")),
    )


def read_response(answer: dict[str, Any]) -> WireResponse:
    """Read a whole answer, or an error body."""
    if answer.get("type") == "error" or "error" in answer:
        return WireResponse(error=plain.error_type(answer.get("error")))
    return WireResponse(
        response_id=plain.string(answer.get("id")),
        model=plain.string(answer.get("model")),
        parts=tuple([_part(block) for block in plain.objects(answer.get("content"))]),
        finish_reason=plain.string(answer.get("stop_reason")),
        usage=usage(answer.get("usage")),
        service_tier=plain.word(plain.child(answer, "usage").get("service_tier")),
    )


class _Delta(msgspec.Struct, gc=False):
    """What is read of what an event adds."""

    type: Any = None
    text: Any = None
    partial_json: Any = None
    thinking: Any = None
    stop_reason: Any = None


class _Event(msgspec.Struct, gc=False):  # JSON holds no circle
    """What is read of one event, of any kind; nothing that can be wrong with it is an error of ours."""

    type: Any = None
    index: Any = None
    delta: _Delta | list[Any] | str | float | bool | None = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    error: Any = None


class Events:
    """The events of one stream, in order."""

    decode = msgspec.json.Decoder(list[_Event]).decode

    def __init__(self) -> None:
        self.drafts = Drafts()
        self.finished = False
        self._head: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._error: str | None = None

    def take(self, events: Sequence[_Event]) -> None:
        """Take decoded events; nearly all add a piece of something."""
        add = self.drafts.add
        for event in events:
            delta = event.delta
            if event.type != "content_block_delta":
                self._other(event)
            elif isinstance(delta, _Delta):
                kind = delta.type
                if kind == "text_delta":
                    add(event.index, "text", delta.text)
                elif kind == "input_json_delta":
                    add(event.index, "tool_call", delta.partial_json)
                elif kind == "thinking_delta":
                    add(event.index, "thinking", delta.thinking)
                elif kind == "signature_delta":
                    self.drafts.sign(event.index)

    def _other(self, event: _Event) -> None:
        delta = event.delta
        match event.type:
            case "content_block_start":
                part = _part(plain.mapping(event.content_block))
                if part.kind == "tool_call" and part.text == "{}":  # the arguments follow as deltas
                    part = msgspec.structs.replace(part, text="")
                self.drafts.start(event.index, part)
            case "message_start":
                self.begun(plain.mapping(event.message))
            case "message_delta":
                self.told(delta.stop_reason if isinstance(delta, _Delta) else None, event.usage)
            case "message_stop":
                self.finished = True
            case "error":
                self._error = plain.error_type(event.error)

    def begun(self, message: dict[str, Any]) -> None:
        """The message that a `message_start` brings."""
        self._head = message
        self._count(message.get("usage"))

    def told(self, stop_reason: Any, usage: Any) -> None:
        """What a `message_delta` says: why the answer ended, and its counts."""
        self._finish_reason = plain.string(stop_reason) or self._finish_reason
        self._count(usage)

    def _count(self, block: Any) -> None:
        """Stream counts are cumulative, and some proxies repeat them as 0: the largest is the true one."""
        for key, value in (block if isinstance(block, dict) else {}).items():
            number = plain.count(value)
            if number is None:
                self._usage[key] = self._usage.get(key) if value is None else value
            else:
                self._usage[key] = max(number, plain.count(self._usage.get(key)) or 0)

    def response(self) -> WireResponse:
        """What the events add up to so far."""
        return WireResponse(
            response_id=plain.string(self._head.get("id")),
            model=plain.string(self._head.get("model")),
            parts=self.drafts.parts(),
            finish_reason=self._finish_reason,
            usage=usage(self._usage) if self._usage else None,
            service_tier=plain.word(self._usage.get("service_tier")),
            error=self._error,
            complete=self.finished,
        )
