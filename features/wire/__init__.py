"""Provider payloads into one shape and back out of it: the dialects behind four functions and a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.errors import BadInput
from features.wire import anthropic_messages, openai_chat, openai_responses, plain
from features.wire.sse import StreamReader
from features.wire.types import (
    Dialect,
    Frame,
    Item,
    Message,
    Part,
    PartKind,
    Pieces,
    Role,
    Said,
    Tool,
    Unremembered,
    Usage,
    WireRequest,
    WireResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Dialect",
    "Message",
    "Part",
    "PartKind",
    "Role",
    "StreamReader",
    "Tool",
    "Unremembered",
    "Usage",
    "WireRequest",
    "WireResponse",
    "messages_from",
    "open_request",
    "parse_request",
    "parse_response",
    "usage_from",
]

_ANY = msgspec.json.Decoder()
_ANEW = Unremembered()
_OPENS: dict[Dialect, Callable[[bytes, Unremembered], tuple[Frame, Pieces]]] = {
    "openai_chat": openai_chat.open_request,
    "anthropic_messages": anthropic_messages.open_request,
    "openai_responses": openai_responses.open_request,
}
_MESSAGES: dict[Dialect, Callable[[Sequence[Any]], list[Message]]] = {
    "openai_chat": openai_chat.messages,
    "anthropic_messages": anthropic_messages.messages,
    "openai_responses": openai_responses.messages,
}
_RESPONSES: dict[Dialect, Callable[[dict[str, Any]], WireResponse]] = {
    "openai_chat": openai_chat.read_response,
    "anthropic_messages": anthropic_messages.read_response,
    "openai_responses": openai_responses.read_response,
}
_USAGES: dict[Dialect, Callable[[Any], Usage | None]] = {
    "openai_chat": openai_chat.usage,
    "anthropic_messages": anthropic_messages.usage,
    "openai_responses": openai_responses.usage,
}


class Opened(NamedTuple):
    """A request body, read: all but its conversation, that unread, and its pieces as they are read."""

    frame: Frame
    pieces: Pieces
    items: list[Item]


def parse_request(dialect: Dialect, body: bytes) -> WireRequest:
    """Read a request body; raises BadInput in one line naming the key, never echoing a value."""
    opened = open_request(dialect, body, _ANEW)
    said = Said.behind(opened.frame.request.messages)
    return opened.frame.around(said.then(opened.items), len(body))


def open_request(dialect: Dialect, body: bytes, memory: Unremembered) -> Opened:
    """Read a request body piece by piece; BadInput as `parse_request` raises it."""
    try:
        frame, pieces = _OPENS[dialect](body, memory)
        return Opened(frame, pieces, memory.each(pieces.kind, pieces.raws, pieces.read))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # in a piece read by itself
        plain.decode_body(_ANY, body)  # tells where in the body
        if isinstance(error, RecursionError):  # a piece is read from deeper within than a body is
            raise BadInput(plain.TOO_DEEP) from None
        raise


def parse_response(dialect: Dialect, body: bytes) -> WireResponse:
    """Read a whole answer; an answer that isn't a JSON object comes back as the error "not_json"."""
    answer = plain.decode_event(body)
    if answer is None:
        return WireResponse(error="not_json", complete=False)
    return _RESPONSES[dialect](answer)


def messages_from(dialect: Dialect, plain_messages: Sequence[Any]) -> tuple[Message, ...]:
    """Messages that are decoded JSON already, as logs hold them; raises BadInput naming the first bad one."""
    return tuple(_MESSAGES[dialect](plain_messages))


def usage_from(dialect: Dialect, plain_usage: Any) -> Usage | None:
    """A usage block that is decoded JSON already, normalised; None for anything but an object."""
    return _USAGES[dialect](plain_usage)
