"""OpenAI Chat Completions, and whoever else speaks it: requests, answers and chunks into the common shape."""

from __future__ import annotations

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
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None  # what tools were called before 2023-11
    max_tokens: plain.Count | None = None
    max_completion_tokens: plain.Count | None = None
    stream: bool | None = None
    tool_choice: Any = None
    function_call: Any = None
    reasoning_effort: Any = None
    reasoning: Any = None  # OpenRouter
    thinking: Any = None  # DeepSeek, GLM and Kimi write Anthropic's field
    enable_thinking: Any = None  # Qwen
    response_format: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    session_id: Any = None
    metadata: Any = None
    user: Any = None
    safety_identifier: Any = None
    service_tier: Any = None


_envelope = partial(plain.decode_body, msgspec.json.Decoder(_Body))


def open_request(body: bytes, memory: Unremembered) -> tuple[Frame, Pieces]:
    """Read all of a request body but its messages; raises BadInput in one line naming the key."""
    envelope = _envelope(body)
    plain.bounded(envelope.messages, "messages", plain.MAX_MESSAGES)
    plain.bounded(envelope.tools, "tools", plain.MAX_TOOLS)
    offered = [*(envelope.tools or ()), *(envelope.functions or ())]
    tools, tool_markers = memory.tools(offered, plain.read_tools)
    effort = plain.string(envelope.reasoning_effort) or plain.string(
        plain.mapping(envelope.reasoning).get("effort")
    )
    cache_key = plain.string(envelope.prompt_cache_key)
    metadata = plain.mapping(envelope.metadata)
    choice = envelope.function_call if envelope.tool_choice is None else envelope.tool_choice
    limit = envelope.max_tokens if envelope.max_completion_tokens is None else envelope.max_completion_tokens
    request = WireRequest(
        dialect="openai_chat",
        model=envelope.model,
        tools=tools,
        stream=bool(envelope.stream),
        max_output_tokens=plain.count(limit),
        tool_choice=tool_choice(choice),
        thinking=_thinking(envelope, effort),
        effort=effort,
        json_schema=plain.mapping(envelope.response_format).get("type") == "json_schema",
        cache_markers=tool_markers + (cache_key is not None),
        cache_lifetime=plain.word(envelope.prompt_cache_retention),
        session_id=plain.string(envelope.session_id) or plain.string(metadata.get("session_id")) or cache_key,
        user=plain.string(envelope.user) or plain.string(envelope.safety_identifier),
        service_tier=plain.word(envelope.service_tier),
    )
    return Frame(request, lives=True), Pieces("chat message", envelope.messages, _item)


def tool_choice(choice: Any) -> Literal["auto", "none", "required", "named"] | None:
    """`tool_choice` of both OpenAI dialects: a word, or an object that names a tool or narrows the list."""
    if isinstance(choice, dict):
        return tool_choice(choice.get("mode")) if choice.get("type") == "allowed_tools" else "named"
    words: dict[Any, Literal["auto", "none", "required"]] = {
        "auto": "auto",
        "none": "none",
        "required": "required",
        "any": "required",  # Mistral
    }
    return words.get(choice) if isinstance(choice, str) else None


def _thinking(envelope: _Body, effort: str | None) -> bool | None:
    if isinstance(envelope.enable_thinking, bool):
        return envelope.enable_thinking
    if kind := plain.string(plain.mapping(envelope.thinking).get("type")):
        return kind != "disabled"
    return None if effort is None else effort != "none"


def _item(at: int, raw: msgspec.Raw) -> Item:
    where = f"messages[{at}]"
    item = plain.object_of(raw, where)
    return Item((plain.turned(_message(item, where)),), _markers(item))


def _markers(message: dict[str, Any]) -> int:
    """Anthropic's cache_control, which several gateways take on chat messages and on their blocks."""
    blocks = plain.objects(message.get("content"))
    return ("cache_control" in message) + sum(1 for b in blocks if b.get("cache_control") is not None)


def messages(items: Sequence[Any]) -> list[Message]:
    """Decoded messages into the common shape; raises BadInput for a message that isn't one."""
    items = plain.objects_only(items, "messages")
    return plain.join_turns(_message(item, f"messages[{i}]") for i, item in enumerate(items))


def _message(item: dict[str, Any], where: str) -> Message:
    role = plain.role_of(item.get("role"), where)
    content = item.get("content")
    if role == "tool":
        call_id = plain.string(item.get("tool_call_id")) or plain.string(item.get("name"))
        result = Part(kind="tool_result", text=plain.flatten(content), call_id=call_id, signed=held(content))
        images = [p for p in _content(content, where) if p.kind == "image"]
        return Message(role="tool", parts=(result, *images))
    return Message(role=role, parts=(*_thoughts(item), *_content(content, where), *_calls(item)))


def _thoughts(item: dict[str, Any]) -> list[Part]:
    """Reasoning that OpenAI-compatible providers hand out and want back: plain, or signed by its maker."""
    text = plain.string(item.get("reasoning_content")) or plain.string(item.get("reasoning"))
    details = plain.objects(item.get("reasoning_details"))
    signed = any(d.get("signature") or d.get("type") == "reasoning.encrypted" for d in details)
    signed = signed or bool(plain.mapping(item.get("audio")).get("id")) or held(item.get("extra_content"))
    return [Part(kind="thinking", text=text or "", signed=signed)] if text or signed else []


def _content(content: Any, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Part(kind="text", text=content)] if content else []
    if not isinstance(content, list):
        raise plain.not_content(where)
    plain.bounded(content, f"{where}.content", plain.MAX_BLOCKS)
    return [part(block) for block in content]


def part(block: Any) -> Part:
    """One content block of either OpenAI dialect."""
    if isinstance(block, str):
        return Part(kind="text", text=block)
    if not isinstance(block, dict):
        return plain.other(block)
    match block.get("type"):
        case "text" | "input_text" | "output_text":
            return Part(kind="text", text=plain.flatten(block.get("text")))
        case "refusal":
            return Part(kind="text", text=plain.flatten(block.get("refusal")))
        case "image_url" | "input_image" | "image":
            image = block.get("image_url") or block.get("file_id") or block.get("source")
            return Part(kind="image", digest=plain.digest(image), signed=held(block))
        case "thinking":  # Mistral
            return Part(kind="thinking", text=plain.flatten(block.get("thinking")))
    if "cache_control" in block:
        block = {key: value for key, value in block.items() if key != "cache_control"}
    return plain.other(block)


def _calls(item: dict[str, Any]) -> list[Part]:
    """Tool calls of an assistant message, the legacy single `function_call` and a refusal among them."""
    parts = []
    if refusal := plain.string(item.get("refusal")):
        parts.append(Part(kind="text", text=refusal))
    calls = plain.objects(item.get("tool_calls"))
    parts.extend(_call(call, call.get("function") or call.get("custom")) for call in calls)
    if isinstance(legacy := item.get("function_call"), dict):
        parts.append(_call({"id": legacy.get("name")}, legacy))
    return parts


def _call(call: dict[str, Any], function: Any) -> Part:
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments", function.get("input"))
    return Part(
        kind="tool_call",
        text=plain.compact_json(arguments),
        name=plain.string(function.get("name")),
        call_id=plain.string(call.get("id")),
        signed=held(call.get("extra_content")),
    )


def usage(block: Any) -> Usage | None:
    """A usage block: `prompt_tokens` is the whole prompt, cache reads and writes are parts of it."""
    if not isinstance(block, dict):
        return None
    inside = plain.child(block, "prompt_tokens_details")
    cached = _first(
        inside.get("cached_tokens"), block.get("prompt_cache_hit_tokens"), block.get("cached_tokens")
    )
    written, prompt = plain.count(inside.get("cache_write_tokens")), plain.count(block.get("prompt_tokens"))
    return Usage(
        input_tokens_uncached=apart(prompt, cached, written),
        cache_beside_prompt=prompt is not None and prompt < (cached or 0) + (written or 0),
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=plain.count(block.get("completion_tokens")),
        reasoning_tokens=plain.count(plain.child(block, "completion_tokens_details").get("reasoning_tokens")),
    )


def usage_block(usage: Any, choices: Any) -> Any:
    """Where a chunk counts: at its top, or, at Moonshot, in the choice that ends."""
    if usage is not None:
        return usage
    return next((choice["usage"] for choice in plain.objects(choices) if choice.get("usage")), None)


def _first(*values: Any) -> int | None:
    return next((number for value in values if (number := plain.count(value)) is not None), None)


def apart(prompt: int | None, cached: int | None, written: int | None) -> int | None:
    """The tokens of a prompt that were neither read from nor written to the cache.

    A provider whose cache figures exceed its prompt counts them beside the prompt, not inside it.
    """
    if prompt is None:
        return None
    rest = prompt - (cached or 0) - (written or 0)
    return rest if rest >= 0 else prompt


def read_response(answer: dict[str, Any]) -> WireResponse:
    """Read a whole answer, or an error body."""
    if answer.get("error") is not None:
        return WireResponse(error=plain.error_type(answer.get("error")))
    choice = next(iter(plain.objects(answer.get("choices"))), {})
    message = plain.child(choice, "message")
    content = message.get("content")
    readable = content if isinstance(content, str | list) else None
    return WireResponse(
        response_id=plain.string(answer.get("id")),
        model=plain.string(answer.get("model")),
        parts=(*_thoughts(message), *_content(readable, "message"), *_calls(message)),
        finish_reason=plain.string(choice.get("finish_reason")),
        usage=usage(answer.get("usage")),
        service_tier=plain.word(answer.get("service_tier")),
    )


class _Chunk(msgspec.Struct, gc=False):  # JSON holds no circle
    """What is read of one chunk; nothing that can be wrong with it is an error of ours."""

    id: Any = None
    model: Any = None
    service_tier: Any = None
    choices: Any = None
    usage: Any = None
    error: Any = None


class Events:
    """The chunks of one stream, in order; `[DONE]` is the terminal one."""

    decode = msgspec.json.Decoder(list[_Chunk]).decode

    def __init__(self) -> None:
        self.drafts = Drafts()
        self.finished = False
        self._id: str | None = None
        self._model: str | None = None
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._tier: str | None = None
        self._error: str | None = None

    def take(self, chunks: Sequence[_Chunk]) -> None:
        """Take decoded chunks."""
        for chunk in chunks:
            self._id = self._id or plain.string(chunk.id)
            self._model = self._model or plain.string(chunk.model)
            if chunk.service_tier is not None:
                self._tier = plain.word(chunk.service_tier) or self._tier
            if (counts := usage_block(chunk.usage, chunk.choices)) is not None:
                self._usage = usage(counts) or self._usage
            if chunk.error is not None:
                self._error = plain.error_type(chunk.error)
            for choice in plain.objects(chunk.choices):
                if choice.get("index") in (0, None):  # further choices are alternatives to the first
                    self._finish_reason = plain.string(choice.get("finish_reason")) or self._finish_reason
                    self._delta(plain.child(choice, "delta"))

    def _delta(self, delta: dict[str, Any]) -> None:
        for key in ("reasoning_content", "reasoning"):
            if delta.get(key):
                self.drafts.add("thinking", "thinking", delta[key])
                break
        for key in ("content", "refusal"):
            if delta.get(key):
                self.drafts.add("text", "text", delta[key])
        for position, call in enumerate(plain.objects(delta.get("tool_calls"))):
            self._call(call.get("index", position), call, plain.child(call, "function"))
        if isinstance(legacy := delta.get("function_call"), dict):
            self._call("legacy", {"id": legacy.get("name")}, legacy)

    def _call(self, index: Any, call: dict[str, Any], function: dict[str, Any]) -> None:
        key = f"call {index}"
        self.drafts.name(key, plain.string(function.get("name")), plain.string(call.get("id")))
        self.drafts.add(key, "tool_call", function.get("arguments"))

    def response(self) -> WireResponse:
        """What the chunks add up to so far."""
        return WireResponse(
            response_id=self._id,
            model=self._model,
            parts=self.drafts.parts(),
            finish_reason=self._finish_reason,
            usage=self._usage,
            service_tier=self._tier,
            error=self._error,
            complete=self.finished,
        )
