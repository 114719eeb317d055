"""The shape that every provider dialect is read into: messages, parts, tools, usage.

Text stays in these objects for the time of one request and is never logged unless the log is told to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from features.toolschema import ToolShape
from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Dialect = Literal["openai_chat", "anthropic_messages", "openai_responses"]
Role = Literal["system", "user", "assistant", "tool"]
PartKind = Literal["text", "thinking", "tool_call", "tool_result", "image", "other"]


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One piece of a message.

    `text` is the plain text of a text or thinking part, the arguments of a tool call as JSON (or as the bare
    text a freeform tool takes), the flattened text of a tool result, and empty for images. `bytes` is the
    size of that text in UTF-8, `digest` tells apart contents that the text doesn't show, such as two images.
    """

    kind: PartKind
    text: str = ""
    name: str | None = None  # tool name of a tool_call
    call_id: str | None = None  # joins a tool_call to its tool_result
    is_error: bool | None = None  # of a tool_result, where the dialect or the harness says so
    signed: bool = False  # bound to its provider: signed or encrypted thinking, a file kept there
    digest: int = 0  # xxh3-64 of what `text` leaves out; 0 when it leaves out nothing

    @property
    def bytes(self) -> int:
        """Size of the text in UTF-8 bytes."""
        text = self.text
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One turn of the conversation, in order; tool results are role "tool" in every dialect.

    A user message that carries text beside results keeps role "user" and all its parts.
    """

    role: Role
    parts: tuple[Part, ...] = ()


class Tool(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A tool the client offers; `bytes` is the size of its whole definition, `digest` its xxh3-64."""

    name: str
    bytes: int = 0
    digest: int = 0  # of the definition without its cache_control marker; 0 = unknown
    shape: ToolShape = ToolShape()


class WireRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider request says, whatever its dialect."""

    dialect: Dialect
    model: str
    messages: tuple[Message, ...] = ()  # the system prompt comes first, as role "system"
    tools: tuple[Tool, ...] = ()
    stream: bool = False
    body_bytes: int = 0
    max_output_tokens: int | None = None
    tool_choice: Literal["auto", "none", "required", "named"] | None = None
    thinking: bool | None = None
    effort: str | None = (
        None  # "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" as the client wrote it
    )
    json_schema: bool = False
    cache_markers: int = 0  # cache_control blocks or prompt_cache_key set by the client
    cache_lifetime: str | None = None  # that the client asks its cache to live, in the provider's words
    previous_response_id: str | None = None
    kept: bool = False  # it rests on something else of its provider's: a conversation, a prompt
    background: bool = False  # the answer is to be fetched later
    stored: bool = False  # the answer is to be kept by its provider, and may be gone on from by its id
    session_id: str | None = (
        None  # found in the body (metadata.user_id of Claude Code, prompt_cache_key of Codex)
    )
    user: str | None = None
    is_subagent: bool | None = None  # where the client says so in the body
    service_tier: str | None = None  # as the client asks for it


class Item(Value, frozen=True):
    """A piece of a request body's conversation, read: an entry of its list, or what stands before that."""

    messages: tuple[Message, ...]
    markers: int = 0  # cache_control markers in it
    lifetime: str | None = None  # that the last of them asks for


class Said(Value, frozen=True):
    """What stands before a conversation and the conversation so far, read; of the latter, neighbours joined.

    Neighbours of the assistant's become one message, and of a tool's.
    """

    messages: tuple[Message, ...] = ()
    apart: int = 0  # of them stand before the conversation
    spoken: int = 0  # of them are the assistant's
    marked: tuple[Item, ...] = ()  # the pieces in which something is marked

    @classmethod
    def behind(cls, messages: tuple[Message, ...]) -> Said:
        """Nothing said yet, behind these messages."""
        return cls(messages, len(messages), [message.role for message in messages].count("assistant"))

    def then(self, items: Sequence[Item]) -> Said:
        """The same with more pieces behind it."""
        before, more = self.messages, list[Message]()
        spoken, marked = self.spoken, self.marked
        last = before[-1].role if len(before) > self.apart else None
        for item in items:
            if item.markers:
                marked = (*marked, item)
            for message in item.messages:
                role = message.role
                if role != last or (role != "assistant" and role != "tool"):
                    more.append(message)
                    spoken += role == "assistant"
                    last = role
                elif more:
                    more[-1] = Message(role=role, parts=more[-1].parts + message.parts)
                else:
                    before = (*before[:-1], Message(role=role, parts=before[-1].parts + message.parts))
        return Said(before + tuple(more), self.apart, spoken, marked)


class Pieces(NamedTuple):
    """The entries of a body's conversation, unread, and what reads one at its place."""

    kind: str  # pieces of one kind are all read alike
    raws: Sequence[msgspec.Raw]
    read: Callable[[int, msgspec.Raw], Item]
    listed: bool = True  # the conversation is a list of them, which may grow


class Frame(NamedTuple):
    """A request but for its conversation: its messages and markers are those outside of that."""

    request: WireRequest
    lives: bool = False  # how long its cache lives was said behind the conversation, or for all of it

    def around(self, said: Said, body_bytes: int) -> WireRequest:
        """The request with what was said behind its own messages."""
        request, marked = self.request, said.marked
        markers, lifetime = request.cache_markers, request.cache_lifetime
        if marked:
            markers += sum([item.markers for item in marked])
            lifetime = lifetime if self.lives else marked[-1].lifetime
        return msgspec.structs.replace(
            request,
            messages=said.messages,
            body_bytes=body_bytes,
            cache_markers=markers,
            cache_lifetime=lifetime,
        )


Tools = tuple[tuple[Tool, ...], int]  # and how many carry a cache_control marker


class Unremembered:
    """Reads every piece of a body anew; features.reading knows what it has read before."""

    def each(
        self, kind: str, raws: Sequence[msgspec.Raw], read: Callable[[int, msgspec.Raw], Item]
    ) -> list[Item]:
        """What `read` makes of each piece at its place; pieces of one `kind` are all read alike."""
        del kind
        return [read(at, raw) for at, raw in enumerate(raws)]

    def tools(self, raws: Sequence[msgspec.Raw], read: Callable[[Sequence[msgspec.Raw]], Tools]) -> Tools:
        """What `read` makes of all tool definitions."""
        return read(raws)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's own token counts; None where the provider didn't say.

    `input_tokens_uncached + cached_tokens + cache_write_tokens` is the whole prompt.
    `cache_write_1h_tokens` is the part of `cache_write_tokens` kept for an hour.
    """

    input_tokens_uncached: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None  # inside output_tokens for all three dialects
    cache_beside_prompt: bool = False  # its cache figures exceed its prompt, so they can't be parts of it


class WireResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider answered, read from a whole body or from a stream's events."""

    response_id: str | None = None
    model: str | None = None  # what the provider says it served
    parts: tuple[Part, ...] = ()
    finish_reason: str | None = None  # in the provider's words
    usage: Usage | None = None
    error: str | None = None  # error type in the provider's words, never the prompt
    service_tier: str | None = None  # that the provider says it served
    complete: bool = True  # False: a stream that ended without its terminal event, a body that isn't final
