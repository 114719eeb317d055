"""OpenAI Responses: requests, answers and stream events into the common shape."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from features.errors import BadInput
from features.wire import plain
from features.wire.drafts import Drafts
from features.wire.held import held, tools_hold
from features.wire.openai_chat import apart, part, tool_choice
from features.wire.types import (
    Frame,
    Item,
    Message,
    Part,
    PartKind,
    Pieces,
    Role,
    Said,
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
    input: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    tools: list[msgspec.Raw] | None = None
    max_output_tokens: plain.Count | None = None
    stream: bool | None = None
    tool_choice: Any = None
    reasoning: Any = None
    text: Any = None
    store: Any = None
    prompt: Any = None  # a template kept by the provider; it may stand in for the input
    previous_response_id: Any = None
    conversation: Any = None
    background: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    metadata: Any = None
    user: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    client_metadata: Any = None


_envelope = partial(plain.decode_body, msgspec.json.Decoder(_Body))
_said = msgspec.json.Decoder(str | list[Any] | None)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_NOTHING = (msgspec.Raw(), msgspec.Raw(b"null"))

_GOING_ON = ("queued", "in_progress")  # statuses of what is no answer yet

# Items in which the model speaks.
_ASSISTANT_SUFFIXES = ("_call", "reasoning", "program")


def open_request(body: bytes, memory: Unremembered) -> tuple[Frame, Pieces]:
    """Read all of a request body but its input; raises BadInput in one line naming the key."""
    envelope = _envelope(body)
    plain.bounded(envelope.tools, "tools", plain.MAX_TOOLS)
    earlier = plain.string(envelope.previous_response_id)
    if (
        envelope.input in _NOTHING
        and envelope.prompt is None
        and envelope.conversation is None
        and earlier is None
    ):
        raise BadInput("request body: missing `input`")
    tools, tool_markers = memory.tools(envelope.tools or (), plain.read_tools)
    instructions = _pieces(envelope.instructions, "instructions", "system")
    before = memory.each(instructions.kind, instructions.raws, instructions.read)
    effort = plain.string(plain.mapping(envelope.reasoning).get("effort"))
    cache_key = plain.string(envelope.prompt_cache_key)
    talk = plain.mapping(envelope.conversation).get("id") or envelope.conversation
    request = WireRequest(
        dialect="openai_responses",
        model=envelope.model,
        messages=Said().then(before).messages,
        tools=tools,
        stream=bool(envelope.stream),
        max_output_tokens=plain.count(envelope.max_output_tokens),
        tool_choice=tool_choice(envelope.tool_choice),
        thinking=None if effort is None else effort != "none",
        effort=effort,
        json_schema=plain.child(plain.mapping(envelope.text), "format").get("type") == "json_schema",
        cache_markers=tool_markers + (cache_key is not None),
        cache_lifetime=plain.word(envelope.prompt_cache_retention),
        previous_response_id=earlier,
        background=bool(envelope.background),
        kept=envelope.conversation is not None
        or envelope.prompt is not None
        or tools_hold(envelope.tools or ()),
        stored=envelope.store is not False,  # the provider's default is to
        session_id=plain.string(plain.mapping(envelope.metadata).get("session_id"))
        or plain.string(talk)
        or cache_key,
        user=plain.string(envelope.user) or plain.string(envelope.safety_identifier),
        service_tier=plain.word(envelope.service_tier),
        is_subagent=is_subagent(_turn_metadata(envelope.client_metadata).get("thread_source")),
    )
    return Frame(request, lives=True), _pieces(envelope.input, "input", "user")


def _turn_metadata(client_metadata: Any) -> dict[str, Any]:
    """What Codex says of its turn: an object written as text inside the body's client_metadata."""
    said = plain.mapping(client_metadata).get("x-codex-turn-metadata")
    return plain.decode_event(said.encode("utf-8", "replace")) or {} if isinstance(said, str) else {}


def is_subagent(thread_source: Any) -> bool | None:
    """Codex's word for who began a thread, the same in its requests and its session files."""
    return None if plain.string(thread_source) is None else thread_source == "subagent"


def _pieces(value: msgspec.Raw, key: str, role: Role) -> Pieces:
    """The items of `input` or `instructions`, which may be a text too."""
    if value in _NOTHING:
        return Pieces(key, (), partial(_item, key), listed=False)
    if bytes(memoryview(value)[:1]) == b"[":
        raws = plain.decode_part(_items, value, key)
        plain.bounded(raws, key, plain.MAX_MESSAGES)
        return Pieces("responses item", raws, partial(_item, key))
    return Pieces(f"responses {role}", [value], partial(_text, key, role), listed=False)


def _item(key: str, at: int, raw: msgspec.Raw) -> Item:
    where = f"{key}[{at}]"
    return Item((plain.turned(_message(plain.object_of(raw, where), where)),))


def _text(key: str, role: Role, _: int, raw: msgspec.Raw) -> Item:
    text = plain.decode_part(_said, raw, key)
    return Item((Message(role=role, parts=(Part(kind="text", text=str(text)),)),) if text else ())


def messages(items: Sequence[Any], key: str = "input") -> list[Message]:
    """Decoded input items into the common shape; raises BadInput for an item that isn't one."""
    items = plain.objects_only(items, key)
    return plain.join_turns(_message(item, f"{key}[{i}]") for i, item in enumerate(items))


def _message(item: dict[str, Any], where: str) -> Message:
    kind = plain.string(item.get("type"))
    if kind in (None, "message"):
        return Message(
            role=plain.role_of(item.get("role"), where), parts=_content(item.get("content"), where)
        )
    return item_message(kind or "", item)


def _content(content: Any, where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Part(kind="text", text=content),)
    if content is None:
        return ()
    if not isinstance(content, list):
        raise plain.not_content(where)
    plain.bounded(content, f"{where}.content", plain.MAX_BLOCKS)
    return tuple(part(block) for block in content)


def item_message(kind: str, item: dict[str, Any]) -> Message:
    """One typed item: a call, its output, reasoning, or something we don't know."""
    if kind.endswith(("_call_output", "program_output")):
        images = [part(b) for b in plain.objects(item.get("output")) if b.get("type") == "input_image"]
        return Message(role="tool", parts=(_output(item), *images))
    if kind == "reasoning":
        text = plain.flatten(item.get("content")) or plain.flatten(item.get("summary"))
        return Message(role="assistant", parts=(Part(kind="thinking", text=text, signed=_signed(item)),))
    if kind.endswith(_ASSISTANT_SUFFIXES):
        return Message(role="assistant", parts=_call(kind, item))
    if kind == "compaction":  # the earlier conversation, encrypted by its provider
        return Message(
            role="assistant", parts=(Part(kind="thinking", signed=True, digest=plain.digest(item)),)
        )
    role = item.get("role")
    return Message(
        role=plain.ROLES.get(role, "user") if isinstance(role, str) else "user", parts=(plain.other(item),)
    )


def _signed(item: dict[str, Any]) -> bool:
    """Reasoning that only its provider can read: encrypted, or kept there under an id."""
    return bool(item.get("encrypted_content")) or (plain.string(item.get("id")) or "").startswith("rs_")


def _bound(item: dict[str, Any]) -> bool:
    """A call that only its provider can go on from; its arguments are the model's own words."""
    return bool(item.get("encrypted_content") or item.get("container_id"))


def _call(kind: str, item: dict[str, Any]) -> tuple[Part, ...]:
    """A call of a function, of a freeform tool, or of a provider's own tool, which answers in the item."""
    arguments = next(
        (item[k] for k in ("arguments", "input", "action", "operation", "code") if k in item), None
    )
    call_id = plain.string(item.get("call_id")) or plain.string(item.get("id"))
    name = plain.string(item.get("name")) or kind.removesuffix("_call")
    if space := plain.string(item.get("namespace")):
        name = f"{space.removesuffix('__')}__{name}"
    call = Part(
        kind="tool_call", text=plain.compact_json(arguments), name=name, call_id=call_id, signed=_bound(item)
    )
    if kind == "mcp_call" and (item.get("output") is not None or item.get("error") is not None):
        failed = item.get("error") is not None
        text = plain.flatten(item.get("error") if failed else item.get("output"))
        return call, Part(kind="tool_result", text=text, call_id=call_id, is_error=failed)
    return (call,)


def _output(item: dict[str, Any]) -> Part:
    """The result of a call; shell outputs carry an exit code, patch outputs a status."""
    value = item.get("output")
    failed: bool | None = None
    if item.get("status") == "failed":
        failed = True
    for block in plain.objects(value):
        outcome = plain.child(block, "outcome")
        if "exit_code" in outcome or outcome.get("type") == "timeout":
            failed = bool(failed) or outcome.get("exit_code") != 0
    return Part(
        kind="tool_result",
        text=plain.flatten(value),
        call_id=plain.string(item.get("call_id")) or plain.string(item.get("id")),
        is_error=failed,
        signed=held(value) or bool(item.get("encrypted_content")),
    )


def usage(block: Any) -> Usage | None:
    """A usage block: `input_tokens` is the whole prompt, cache reads and writes are parts of it."""
    if not isinstance(block, dict):
        return None
    inside = plain.child(block, "input_tokens_details")
    cached, written = plain.count(inside.get("cached_tokens")), plain.count(inside.get("cache_write_tokens"))
    prompt = plain.count(block.get("input_tokens"))
    return Usage(
        input_tokens_uncached=apart(prompt, cached, written),
        cache_beside_prompt=prompt is not None and prompt < (cached or 0) + (written or 0),
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=plain.count(block.get("output_tokens")),
        reasoning_tokens=plain.count(plain.child(block, "output_tokens_details").get("reasoning_tokens")),
    )


def _spoken(item: dict[str, Any]) -> tuple[Part, ...]:
    """The parts of one output item; an answer is never refused, so odd content is left out."""
    kind = plain.string(item.get("type"))
    if kind not in (None, "message"):
        return item_message(kind or "", item).parts
    content = item.get("content")
    return _content(content, "output") if isinstance(content, str | list) else ()


def read_response(answer: dict[str, Any]) -> WireResponse:
    """Read a whole answer, or an error body."""
    error = answer.get("error")
    if error is not None and not isinstance(answer.get("output"), list):
        return WireResponse(error=plain.error_type(error))
    reason = plain.string(plain.child(answer, "incomplete_details").get("reason"))
    status = plain.string(answer.get("status"))
    going_on = status in _GOING_ON
    return WireResponse(
        response_id=plain.string(answer.get("id")),
        model=plain.string(answer.get("model")),
        parts=tuple(p for item in plain.objects(answer.get("output")) for p in _spoken(item)),
        finish_reason=reason or (None if going_on else status),
        usage=usage(answer.get("usage")),
        service_tier=plain.word(answer.get("service_tier")),
        error=None if error is None else plain.error_type(error),
        complete=not going_on,
    )


_DELTAS: dict[str, PartKind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.function_call_arguments.delta": "tool_call",
    "response.custom_tool_call_input.delta": "tool_call",
    "response.mcp_call_arguments.delta": "tool_call",
    "response.reasoning_text.delta": "thinking",
    "response.reasoning_summary_text.delta": "thinking",
}
_TERMINAL = ("response.completed", "response.incomplete", "response.failed")


class _Event(msgspec.Struct, gc=False):  # JSON holds no circle
    """What is read of one event, of any kind; nothing that can be wrong with it is an error of ours."""

    type: Any = None
    output_index: Any = None
    delta: Any = None
    item: Any = None
    response: Any = None
    error: Any = None
    code: Any = None


class Events:
    """The events of one stream, in order."""

    decode = msgspec.json.Decoder(list[_Event]).decode

    def __init__(self) -> None:
        self.drafts = Drafts()
        self.finished = False
        self._head: dict[str, Any] = {}
        self._error: str | None = None

    def take(self, events: Sequence[_Event]) -> None:
        """Take decoded events."""
        for event in events:
            kind = plain.string(event.type) or ""
            where = event.output_index
            if kind in _DELTAS:
                self.drafts.add(where, _DELTAS[kind], event.delta)
            elif kind in ("response.output_item.added", "response.output_item.done"):
                for n, spoken in enumerate(_spoken(plain.mapping(event.item))):
                    self.drafts.start(f"{where}.{n}" if n else where, spoken)
            elif kind == "error":
                self._error = plain.error_type(event.error or {"code": event.code})
            elif kind in _TERMINAL or kind == "response.created":
                self._head = {**self._head, **plain.mapping(event.response)}
                self.finished = self.finished or kind in _TERMINAL

    def response(self) -> WireResponse:
        """What the events add up to so far; the terminal event's own list of items wins over the pieces."""
        whole = read_response({"output": [], **self._head})
        parts = whole.parts or self.drafts.parts()
        return msgspec.structs.replace(
            whole, parts=parts, error=self._error or whole.error, complete=self.finished
        )
