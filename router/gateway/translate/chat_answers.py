"""Chat Completions answers: read into neutral events, and written from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from features.wire import plain, usage_from
from features.wire.openai_chat import usage_block
from router.gateway.translate.answer import (
    Answer,
    Began,
    Broke,
    Closed,
    Ended,
    Event,
    Grew,
    Kind,
    Opened,
    Stop,
)
from router.gateway.translate.failures import failure
from router.gateway.translate.sides import CUT, ODD, Asked, Reader, Writer, sse
from router.gateway.translate.talk import freeform_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.wire import Usage
    from router.gateway.translate.answer import Block
    from router.gateway.translate.talk import Names

_STOPS: dict[str, Stop] = {
    "stop": "end",
    "tool_calls": "tools",
    "function_call": "tools",
    "length": "length",
    "content_filter": "refusal",
}


class ChatReader(Reader):
    """Chat Completions; a stream's pieces have no ends of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._saying: str | None = None  # key of the text or the reasoning that is going on
        self._calls: dict[Any, tuple[Any, str]] = {}  # index -> (key, id) of its latest call
        self._nameless: dict[Any, tuple[Any, list[str]]] = {}  # calls whose name hasn't come yet
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._tier: str | None = None

    def event(self, event: dict[str, Any]) -> None:
        """Take one chunk."""
        if self.over:
            return
        if event.get("error") is not None:
            self.broke(event["error"])
            return
        self._begin(event.get("id"), event.get("model"))
        if (counts := usage_block(event.get("usage"), event.get("choices"))) is not None:
            self._usage = usage_from("openai_chat", counts) or self._usage
        self._tier = plain.word(event.get("service_tier")) or self._tier
        for choice in plain.objects(event.get("choices")):
            if choice.get("index") in (0, None):
                self._delta(plain.child(choice, "delta"))
                self._reason = plain.string(choice.get("finish_reason")) or self._reason

    def whole(self, body: dict[str, Any]) -> None:
        """Take a whole answer as a stream of one chunk."""
        choices = plain.objects(body.get("choices"))
        if body.get("error") is not None:
            self.broke(body["error"])
        elif not choices:
            self._last(ODD)
        else:
            message = dict(plain.child(choices[0], "message"))
            message["content"] = plain.flatten(message.get("content"))
            calls = plain.objects(message.get("tool_calls"))
            message["tool_calls"] = [{**call, "index": i} for i, call in enumerate(calls)]
            choice = {"delta": message, "finish_reason": choices[0].get("finish_reason")}
            self.event({**body, "choices": [choice]})
            self.done()

    def done(self) -> None:
        """[DONE] has come."""
        for key, (call_id, pieces) in list(self._nameless.items()):
            self._name(key, call_id, "", pieces)
        stop = _STOPS.get(self._reason or "stop", "end")
        if stop in ("end", "tools"):  # some say "stop" after calls, or "tool_calls" after none
            stop = "tools" if self.called else "end"
        self._end(Ended(stop, None, self._usage, self._tier))

    def closed(self) -> None:
        """The stream is over; some sellers leave [DONE] out."""
        if self._reason is not None:
            self.done()
        self._last(CUT)

    def _delta(self, delta: dict[str, Any]) -> None:
        self._say("thinking", delta.get("reasoning_content") or delta.get("reasoning"))
        self._say("text", delta.get("content"))
        self._say("text", delta.get("refusal"))
        for position, call in enumerate(plain.objects(delta.get("tool_calls"))):
            self._call(call.get("index", position), call)
        if isinstance(legacy := delta.get("function_call"), dict):
            self._call("legacy", {"id": legacy.get("name"), "function": legacy})

    def _say(self, kind: Kind, text: Any) -> None:
        if not isinstance(text, str) or not text:
            return
        if self._saying != kind:
            self._hush()
            self._start(kind, kind)
            self._saying = kind
        self._grow(kind, text)

    def _hush(self) -> None:
        if self._saying is not None:
            self._close(self._saying)
            self._saying = None

    def _call(self, index: Any, call: dict[str, Any]) -> None:
        """A piece of a call; some sellers give every call the same index, and then the id tells."""
        self._hush()
        function = plain.child(call, "function")
        call_id, name = plain.string(call.get("id")), plain.string(function.get("name"))
        key, known = self._calls.get(index, (None, ""))
        if key is None or (call_id and name and call_id != known):
            key = (index, call_id)
            self._calls[index] = (key, call_id or "")
            self._nameless[key] = (call_id, [])
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else plain.compact_json(arguments)
        if key not in self._nameless:
            self._grow(key, text)
        elif name:
            waited_id, pieces = self._nameless[key]
            self._name(key, call_id or waited_id, name, [*pieces, text])
        else:
            self._nameless[key][1].append(text)

    def _name(self, key: Any, call_id: Any, name: str, pieces: list[str]) -> None:
        del self._nameless[key]
        self._start(key, "call", call_id, name)
        self._grow(key, "".join(pieces))


_WRITTEN: dict[Stop, str] = {
    "end": "stop",
    "tools": "tool_calls",
    "length": "length",
    "sequence": "stop",
    "refusal": "content_filter",
    "pause": "stop",
}


def chat_usage(usage: Usage) -> dict[str, Any]:
    """A usage block: the prompt is counted whole, and its cached part again inside."""
    parts = (usage.input_tokens_uncached, usage.cached_tokens, usage.cache_write_tokens)
    prompt, output = sum(part or 0 for part in parts), usage.output_tokens or 0
    cached = {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": usage.cache_write_tokens or 0}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": cached,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def _chat_call(block: Block, names: Names) -> dict[str, Any]:
    own = names.own(block.name)
    if own.freeform:
        custom = {"name": own.name, "input": freeform_text(block.text)}
        return {"id": block.id, "type": "custom", "custom": custom}
    function = {"name": own.name, "arguments": block.text or "{}"}
    return {"id": block.id, "type": "function", "function": function}


def _chat_head(asked: Asked, began: Began | Answer, kind: str) -> dict[str, Any]:
    return {
        "id": began.id or f"chatcmpl-{asked.request_id}",
        "object": kind,
        "created": asked.now_s,
        "model": began.model,
    }


def chat_body(answer: Answer, asked: Asked) -> dict[str, Any]:
    """A whole answer."""
    assert answer.ended is not None
    blocks = answer.blocks()
    text = "".join(b.text for b in blocks if b.kind == "text")
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
    if thoughts := "\n".join(b.text for b in blocks if b.kind == "thinking"):
        message["reasoning_content"] = thoughts
    if calls := [_chat_call(b, asked.names) for b in blocks if b.kind == "call"]:
        message["tool_calls"] = calls
    else:
        message["content"] = text
    choice = {"index": 0, "message": message, "logprobs": None}
    choice["finish_reason"] = _WRITTEN[answer.ended.stop]
    body = {**_chat_head(asked, answer, "chat.completion"), "choices": [choice]}
    if answer.ended.usage is not None:
        body["usage"] = chat_usage(answer.ended.usage)
    return body


class ChatWriter(Writer):
    """Chunks, and [DONE] behind the last."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._head: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # piece -> index of the call
        self._kept = Answer()  # freeform calls, whose text is known once they are whole
        self._kinds: dict[int, str] = {}
        options = asked.body.get("stream_options")
        self._usage = isinstance(options, dict) and options.get("include_usage") is True

    @property
    def held(self) -> int:
        """Characters of freeform calls."""
        return self._kept.size

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the chunks of one event."""
        match event:
            case Began():
                self._head = _chat_head(self._asked, event, "chat.completion.chunk")
                yield self._delta({"role": "assistant", "content": ""})
            case Opened(n, kind):
                self._kinds[n] = kind
                if kind == "call":
                    yield from self._call(event)
            case Grew(n, text):
                if self._kinds[n] == "freeform":
                    self._kept.take(event)
                elif self._kinds[n] == "call":
                    yield self._delta(self._piece(n, {"function": {"arguments": text}}))
                else:
                    key = "content" if self._kinds[n] == "text" else "reasoning_content"
                    yield self._delta({key: text})
            case Closed(n) if self._kinds[n] == "freeform":
                call = _chat_call(self._kept.block(n), self._asked.names)
                yield self._delta(self._piece(n, call))
            case Ended():
                yield self._delta({}, _WRITTEN[event.stop])
                if self._usage and event.usage is not None:
                    yield sse({**self._head, "choices": [], "usage": chat_usage(event.usage)})
                yield b"data: [DONE]\n\n"
            case Broke(status, message):
                yield sse(failure("openai_chat", status, message, self._asked.request_id))

    def _call(self, opened: Opened) -> Iterator[bytes]:
        self._calls[opened.n] = len(self._calls)
        own = self._asked.names.own(opened.name)
        if own.freeform:
            self._kinds[opened.n] = "freeform"
            self._kept.take(opened)
            return
        function = {"name": own.name, "arguments": ""}
        yield self._delta(self._piece(opened.n, {"id": opened.id, "type": "function", "function": function}))

    def _piece(self, n: int, call: dict[str, Any]) -> dict[str, Any]:
        return {"tool_calls": [{"index": self._calls[n], **call}]}

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        more = {"usage": None} if self._usage else {}
        return sse({**self._head, "choices": [choice], **more})
