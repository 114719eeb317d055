"""Anthropic Messages answers: read into neutral events, and written from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from features.wire import Usage, anthropic_messages, plain
from router.gateway.translate.answer import (
    Answer,
    Began,
    Broke,
    Closed,
    Ended,
    Event,
    Grew,
    InOrder,
    Opened,
    Stop,
    without_thinking,
)
from router.gateway.translate.failures import failure
from router.gateway.translate.sides import CUT, ODD, Asked, Reader, Writer, named, sse
from router.gateway.translate.talk import arguments_of, json_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.gateway.translate.answer import Block
    from router.gateway.translate.talk import Names

_STOPS: dict[str, Stop] = {
    "end_turn": "end",
    "tool_use": "tools",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "stop_sequence": "sequence",
    "refusal": "refusal",
    "pause_turn": "pause",
}


class MessagesReader(Reader):
    """Anthropic Messages."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = anthropic_messages.Events()  # adds up the usage of a stream
        self._inputs: dict[Any, Any] = {}  # of calls that came whole in their start
        self._reason: str | None = None
        self._sequence: str | None = None

    def event(self, event: dict[str, Any]) -> None:
        """Take one event."""
        if self.over:
            return
        index = event.get("index")
        match event.get("type"):
            case "content_block_delta":
                self._delta(index, plain.child(event, "delta"))
            case "content_block_start":
                self._block(index, plain.child(event, "content_block"))
            case "content_block_stop":
                self._stop(index)
            case "message_start":
                message = plain.child(event, "message")
                self._counts.begun(message)
                self._begin(message.get("id"), message.get("model"))
            case "message_delta":
                delta = plain.child(event, "delta")
                self._counts.told(delta.get("stop_reason"), event.get("usage"))
                self._reason = plain.string(delta.get("stop_reason")) or self._reason
                self._sequence = plain.string(delta.get("stop_sequence"))
            case "message_stop":
                self._finish()
            case "error":
                self.broke(event.get("error"))

    def whole(self, body: dict[str, Any]) -> None:
        """Take a whole answer as the stream it would have been."""
        if body.get("type") == "error" or "error" in body:
            self.broke(body.get("error"))
        elif not isinstance(body.get("content"), list):
            self._last(ODD)
        else:
            self.event({"type": "message_start", "message": body})
            for i, block in enumerate(plain.objects(body["content"])):
                self._block(i, block)
                self._stop(i)
            self.event({"type": "message_delta", "delta": body, "usage": body.get("usage")})
            self._finish()

    def closed(self) -> None:
        """The stream is over; what said why it stopped was whole."""
        if self._reason is not None:
            self._finish()
        self._last(CUT)

    def _finish(self) -> None:
        told = self._counts.response()
        for index in list(self._inputs):
            self._stop(index)
        stop = _STOPS.get(self._reason or "end_turn", "end")
        self._end(Ended(stop, self._sequence, told.usage, told.service_tier))

    def _block(self, index: Any, block: dict[str, Any]) -> None:
        match block.get("type"):
            case "text":
                self._start(index, "text")
                self._grow(index, block.get("text"))
            case "thinking":
                self._start(index, "thinking")
                self._grow(index, block.get("thinking"))
            case "tool_use":
                self._start(index, "call", block.get("id"), block.get("name"))
                if block.get("input"):
                    self._inputs[index] = block["input"]

    def _delta(self, index: Any, delta: dict[str, Any]) -> None:
        if index not in self._numbers:
            return
        match delta.get("type"):
            case "text_delta":
                self._grow(index, delta.get("text"))
            case "thinking_delta":
                self._grow(index, delta.get("thinking"))
            case "input_json_delta":
                if delta.get("partial_json"):
                    self._inputs.pop(index, None)
                self._grow(index, delta.get("partial_json"))

    def _stop(self, index: Any) -> None:
        if index in self._inputs:
            self._grow(index, json_text(self._inputs.pop(index)))
        self._close(index)


_WRITTEN: dict[Stop, str] = {
    "end": "end_turn",
    "tools": "tool_use",
    "length": "max_tokens",
    "sequence": "stop_sequence",
    "refusal": "refusal",
    "pause": "pause_turn",
}


def messages_usage(usage: Usage | None) -> dict[str, Any]:
    """A usage block: what was read from the cache and written to it is counted apart."""
    told = usage or Usage()
    hour = told.cache_write_1h_tokens or 0
    written = told.cache_write_tokens or 0
    return {
        "input_tokens": told.input_tokens_uncached or 0,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": told.cached_tokens or 0,
        "cache_creation": {
            "ephemeral_5m_input_tokens": max(0, written - hour),
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens": told.output_tokens or 0,
    }


def _messages_head(asked: Asked, began: Began | Answer) -> dict[str, Any]:
    answer_id = began.id or asked.request_id
    return {
        "id": answer_id if answer_id.startswith("msg_") else f"msg_{answer_id}",
        "type": "message",
        "role": "assistant",
        "model": began.model,
    }


def messages_body(answer: Answer, asked: Asked) -> dict[str, Any]:
    """A whole answer."""
    assert answer.ended is not None
    content: list[dict[str, Any]] = []
    for block in answer.blocks():
        if block.kind == "text":
            content.append({"type": "text", "text": block.text})
        elif block.kind == "call":
            content.append(_tool_use(block, asked.names))
    return {
        **_messages_head(asked, answer),
        "content": content,
        "stop_reason": _WRITTEN[answer.ended.stop],
        "stop_sequence": answer.ended.sequence,
        "usage": messages_usage(answer.ended.usage),
    }


def _tool_use(block: Block, names: Names) -> dict[str, Any]:
    """A call; arguments that are no object reach the client as text, and its own checks say so."""
    arguments = arguments_of(block.text)
    told = {"arguments": block.text} if arguments is None else arguments
    return {"type": "tool_use", "id": block.id, "name": names.own(block.name).name, "input": told}


class MessagesWriter(Writer):
    """Blocks one after the other, their reasoning left out: it bears no signature of the dialect's."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._order = InOrder()
        self._hidden: set[int] = set()
        self._blocks: dict[int, int] = {}
        self._kinds: dict[int, str] = {}

    @property
    def held(self) -> int:
        """Characters of calls that are open or wait."""
        return self._order.held

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the events for one neutral event."""
        for shown in without_thinking([event], self._hidden):
            for told in self._order.take(shown):
                yield from self._write(told)

    def _write(self, event: Event) -> Iterator[bytes]:
        match event:
            case Began():
                head = {**_messages_head(self._asked, event), "content": []}
                head |= {"stop_reason": None, "stop_sequence": None, "usage": messages_usage(None)}
                yield named({"type": "message_start", "message": head})
            case Opened(n, kind):
                self._blocks[n], self._kinds[n] = len(self._blocks), kind
                block: dict[str, Any] = {"type": "text", "text": ""}
                if kind == "call":
                    name = self._asked.names.own(event.name).name
                    block = {"type": "tool_use", "id": event.id, "name": name, "input": {}}
                yield named({"type": "content_block_start", "index": self._blocks[n], "content_block": block})
            case Grew(n, text):
                delta = {"type": "text_delta", "text": text}
                if self._kinds[n] == "call":
                    delta = {"type": "input_json_delta", "partial_json": text}
                yield named({"type": "content_block_delta", "index": self._blocks[n], "delta": delta})
            case Closed(n):
                yield named({"type": "content_block_stop", "index": self._blocks[n]})
            case Ended():
                why = {"stop_reason": _WRITTEN[event.stop], "stop_sequence": event.sequence}
                yield named({"type": "message_delta", "delta": why, "usage": messages_usage(event.usage)})
                yield named({"type": "message_stop"})
            case Broke(status, message):
                yield sse(failure("anthropic_messages", status, message, self._asked.request_id), "error")
