"""One request's translation: the body that goes out, and what turns the answer into the client's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.errors import BadInput
from features.wire import StreamReader, parse_response, plain
from features.wire.sse import EventCutter
from router.gateway.translate import chat, messages, responses
from router.gateway.translate.answer import MAX_HELD_CHARS, Answer, Broke
from router.gateway.translate.chat_answers import ChatReader, ChatWriter, chat_body
from router.gateway.translate.failures import client_status, encode, failure, said_by
from router.gateway.translate.messages_answers import MessagesReader, MessagesWriter, messages_body
from router.gateway.translate.responses_answers import (
    OURS,
    ResponsesReader,
    ResponsesWriter,
    responses_body,
)
from router.gateway.translate.sides import Asked
from router.gateway.translate.talk import Untranslatable, plain_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from features.wire import Dialect, WireResponse
    from router.gateway.translate.sides import Reader, Writer
    from router.gateway.translate.talk import Talk, Target

_READ: dict[Dialect, Callable[[dict[str, Any]], Talk]] = {
    "openai_chat": chat.read,
    "anthropic_messages": messages.read,
    "openai_responses": responses.read,
}
_WRITE: dict[Dialect, Callable[[Talk, Target], dict[str, Any]]] = {
    "openai_chat": chat.write,
    "anthropic_messages": messages.write,
    "openai_responses": responses.write,
}
_READERS: dict[Dialect, Callable[[], Reader]] = {
    "openai_chat": ChatReader,
    "anthropic_messages": MessagesReader,
    "openai_responses": ResponsesReader,
}
_WRITERS: dict[Dialect, Callable[[Asked], Writer]] = {
    "openai_chat": ChatWriter,
    "anthropic_messages": MessagesWriter,
    "openai_responses": ResponsesWriter,
}
_BODIES: dict[Dialect, Callable[[Answer, Asked], dict[str, Any]]] = {
    "openai_chat": chat_body,
    "anthropic_messages": messages_body,
    "openai_responses": responses_body,
}
_ODD = (AttributeError, KeyError, TypeError, ValueError)  # what reading the wrong kind of value raises
SSE = "text/event-stream"
KEEP_ALIVE = b":\n\n"  # a comment: the provider is at work on something that isn't shown
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


class Whole(NamedTuple):
    """An answer that is passed on in one piece."""

    status: int
    media_type: str
    body: bytes


class Translation:
    """Both ways of one request; `body` is what goes out, `lost` names what was left out."""

    def __init__(self, client: Dialect, target: Target, talk: Talk, asked: Asked, body: bytes) -> None:
        self.client = client
        self.target = target
        self.upstream: Dialect = target.dialect
        self.body = body
        self.lost = tuple(talk.lost)
        self._streams = talk.stream
        self._asked = asked

    def stream(self) -> StreamTranslation:
        """Begin to translate a stream."""
        return StreamTranslation(_READERS[self.upstream](), _WRITERS[self.client](self._asked), self.client)

    def whole(self, status: int, body: bytes, content_type: str = "application/json") -> Whole:
        """Translate an answer that is at hand; what is no answer becomes an error of the client's dialect."""
        if status >= 400:
            return self.failed(client_status(self.client, status), said_by(body, status))
        reader = _READERS[self.upstream]()
        if content_type == SSE:
            _cut(body, reader)
        elif (plain_body := plain.decode_event(body)) is not None:
            _taken(reader, reader.whole, plain_body)
        events = reader.take()
        broke = next((event for event in events if isinstance(event, Broke)), None)
        if broke is not None or not reader.over:
            said = broke or Broke(502, "the provider's answer is not JSON")
            return self.failed(client_status(self.client, said.status), said.message)
        if self._streams:
            writer = _WRITERS[self.client](self._asked)
            return Whole(status, SSE, b"".join(piece for event in events for piece in writer.write(event)))
        answer = Answer()
        for event in events:
            answer.take(event)
        return Whole(status, "application/json", encode(_BODIES[self.client](answer, self._asked)))

    def failed(self, status: int, message: str) -> Whole:
        """An error of the client's dialect."""
        error = failure(self.client, status, message, self._asked.request_id)
        return Whole(status, "application/json", encode(error))

    def read(self, body: bytes, content_type: str) -> WireResponse:
        """A whole answer as its own dialect has it."""
        if content_type != SSE:
            return parse_response(self.upstream, body)
        reader = StreamReader(self.upstream)
        reader.feed(body)
        return reader.response()

    def seen(self, answer: WireResponse) -> WireResponse:
        """An answer, read in the upstream's dialect, as the client's next request will quote it."""
        parts = tuple(
            msgspec.structs.replace(part, call_id=plain_id(part.call_id)) if part.call_id else part
            for part in answer.parts
        )
        return msgspec.structs.replace(answer, parts=parts)


def _cut(body: bytes, reader: Reader) -> None:
    """Read a stream that came although none was asked for."""
    cutter = EventCutter()
    for data in (*cutter.cut(body), *cutter.end()):
        _event(reader, data)
    reader.closed()


def _event(reader: Reader, data: bytes) -> None:
    if data.strip() == b"[DONE]":
        reader.done()
    elif (event := plain.decode_event(data)) is not None:
        _taken(reader, reader.event, event)
    else:
        reader.broke({"message": "an event of the provider's is not JSON"}, 502)


def _taken(reader: Reader, take: Callable[[dict[str, Any]], None], value: dict[str, Any]) -> None:
    """Take an event or a body; one that isn't the dialect's own ends the answer."""
    try:
        take(value)
    except _ODD:
        reader.broke({"message": "the provider's answer is none that its dialect knows"}, 502)


class StreamTranslation:
    """Turns the bytes of one stream, cut anywhere, into those of another; ends with one terminal event."""

    def __init__(self, reader: Reader, writer: Writer, client: Dialect) -> None:
        self._reader = reader
        self._writer = writer
        self._cutter = EventCutter()
        self._quiet = PING if client == "anthropic_messages" else KEEP_ALIVE
        self._begun = False
        self.over = False

    @property
    def complete(self) -> bool:
        """Whether the answer has come to its end."""
        return self._reader.complete

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the upstream's; what can be told of them."""
        if self.over:
            return b""
        for data in self._cutter.cut(chunk):
            _event(self._reader, data)
        told = self._written()
        if told or not chunk.endswith(b"\n"):
            return told
        return self._quiet if self._begun else KEEP_ALIVE

    def end(self) -> bytes:
        """The upstream has ended its stream: what is left, and an error if it wasn't whole."""
        for data in self._cutter.end():
            _event(self._reader, data)
        self._reader.closed()
        return self._written()

    def broken(self, message: str) -> bytes:
        """The stream broke off: the error that ends it, unless it has been ended."""
        self._reader.broke({"message": message}, 502)
        return self._written()

    def _written(self) -> bytes:
        told = b"".join(piece for event in self._reader.take() for piece in self._writer.write(event))
        self._begun = self._begun or bool(told)
        self.over = self._reader.over
        if self._writer.held > MAX_HELD_CHARS and not self.over:
            return told + self.broken("the provider's answer is longer than any model writes")
        return told


def translate(client: Dialect, body: bytes, target: Target, request_id: str, now_s: int) -> Translation:
    """Translate a request; Untranslatable, one line, where it can't be said in the target's dialect."""
    request = plain.decode_event(body)
    if request is None:
        raise BadInput("the request body is not a JSON object")
    try:
        talk = _READ[client](request)
    except _ODD as error:  # a number where an object belongs, or the like
        raise Untranslatable(f"the request does not have the shape of {client}") from error
    if talk.forced is not None and talk.forced not in {tool.name for tool in talk.tools}:
        raise Untranslatable("tool_choice: the tool that must be called can't be had from another provider")
    written = _WRITE[target.dialect](talk, target)
    try:
        encoded = msgspec.json.encode(written)
    except UnicodeEncodeError as error:
        raise Untranslatable("a string of the request holds half of a surrogate pair") from error
    asked = Asked(request, talk.names, now_s, request_id)
    return Translation(client, target, talk, asked, encoded)


def refuse_ours(previous_response_id: str | None) -> None:
    """Refuse to go on from an answer that was translated: no provider has it."""
    if previous_response_id is not None and previous_response_id.startswith(OURS):
        raise BadInput(
            "previous_response_id: this answer came from a provider without stored answers; "
            "send the whole conversation as input"
        )
