"""Responses answers: read into neutral events, and written from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from features.wire import plain, usage_from
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
    without_thinking,
)
from router.gateway.translate.chat_answers import chat_usage
from router.gateway.translate.failures import failure
from router.gateway.translate.sides import ODD, Asked, Reader, Writer, named
from router.gateway.translate.talk import freeform_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from features.wire import Usage
    from router.gateway.translate.answer import Block


_GROWS: dict[str, Kind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.reasoning_summary_text.delta": "thinking",
    "response.reasoning_text.delta": "thinking",
    "response.function_call_arguments.delta": "call",
}


class ResponsesReader(Reader):
    """OpenAI Responses."""

    def __init__(self) -> None:
        super().__init__()
        self._grown: set[Any] = set()

    def event(self, event: dict[str, Any]) -> None:
        """Take one event."""
        if self.over:
            return
        where, kind = event.get("output_index"), str(event.get("type"))
        if kind in _GROWS:
            if kind != "response.function_call_arguments.delta" or where in self._numbers:
                self._say(where, _GROWS[kind], event.get("delta"))
        elif kind in ("response.created", "response.in_progress"):
            response = plain.child(event, "response")
            self._begin(response.get("id"), response.get("model"))
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            response = plain.child(event, "response")
            if self._numbers and response.get("output") is None:  # some list nothing that they have streamed
                response = {**response, "output": []}
            self.whole(response)
        elif kind == "error":
            self.broke(event.get("error") or event)
        else:
            self._structure(where, kind, plain.child(event, "item"))

    def _structure(self, where: Any, kind: str, item: dict[str, Any]) -> None:
        """Where items and their parts begin and end."""
        if kind == "response.reasoning_summary_part.added" and where in self._grown:
            self._say(where, "thinking", "\n\n")
        elif kind == "response.output_item.added" and item.get("type") == "function_call":
            self._start(where, "call", item.get("call_id"), item.get("name"))
        elif kind == "response.output_item.done":
            self._item(where, item)

    def whole(self, body: dict[str, Any]) -> None:
        """Take a whole answer, or what is new in one that ends a stream."""
        if not isinstance(body.get("output"), list) or body.get("status") in ("failed", "cancelled"):
            error = body.get("error")
            self.broke(error) if error is not None else self._last(ODD)
            return
        self._begin(body.get("id"), body.get("model"))
        for i, item in enumerate(plain.objects(body["output"])):
            self._item(i, item)
        reason = plain.child(body, "incomplete_details").get("reason")
        stop: Stop = "tools" if self.called else "end"
        if body.get("status") == "incomplete":
            stop = "refusal" if reason == "content_filter" else "length"
        usage = usage_from("openai_responses", body.get("usage"))
        self._end(Ended(stop, None, usage, plain.word(body.get("service_tier"))))

    def _say(self, where: Any, kind: Kind, text: Any) -> None:
        if where not in self._numbers:
            self._start(where, kind)
        self._grown.add(where)
        self._grow(where, text)

    def _item(self, where: Any, item: dict[str, Any]) -> None:
        """An item that is whole; what its deltas have told isn't told again."""
        kind = item.get("type")
        if where not in self._grown:
            if kind == "message":
                blocks = plain.objects(item.get("content"))
                text = "".join(plain.flatten(b.get("text") or b.get("refusal")) for b in blocks)
                self._say(where, "text", text)
            elif kind == "function_call":
                if where not in self._numbers:
                    self._start(where, "call", item.get("call_id"), item.get("name"))
                self._say(where, "call", item.get("arguments"))
            elif kind == "reasoning":
                thought = plain.flatten(item.get("content")) or plain.flatten(item.get("summary"))
                if thought:
                    self._say(where, "thinking", thought)
        self._close(where)


_ECHOED = (
    "instructions", "max_output_tokens", "metadata", "prompt_cache_key", "reasoning", "safety_identifier",
    "temperature", "text", "top_p", "truncation", "user",
)  # fmt: skip
OURS = "resp_samediff_"  # no provider keeps what bears this id


def responses_usage(usage: Usage) -> dict[str, Any]:
    """A usage block: the prompt is counted whole, and its cached part again inside."""
    told = chat_usage(usage)
    return {
        "input_tokens": told["prompt_tokens"],
        "input_tokens_details": told["prompt_tokens_details"],
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": told["completion_tokens_details"],
        "total_tokens": told["total_tokens"],
    }


def _item(block: Block, asked: Asked, mark: str, status: str = "completed") -> dict[str, Any]:
    """An output item."""
    if block.kind == "text":
        content = [{"type": "output_text", "text": block.text, "annotations": [], "logprobs": []}]
        return {
            "id": f"msg_{mark}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }
    own = asked.names.own(block.name)
    space = {"namespace": own.namespace} if own.namespace else {}
    call = {"call_id": block.id, "name": own.name, **space, "status": status}
    if own.freeform:
        text = freeform_text(block.text) if status == "completed" else ""
        return {"id": f"ctc_{mark}", "type": "custom_tool_call", **call, "input": text}
    text = block.text or ("{}" if status == "completed" else "")
    return {"id": f"fc_{mark}", "type": "function_call", **call, "arguments": text}


def _response(answer: Answer, asked: Asked, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    ended = answer.ended
    reason = None
    if ended is not None and ended.stop in ("length", "refusal"):
        reason = "max_output_tokens" if ended.stop == "length" else "content_filter"
        status = "incomplete"
    given = asked.body
    return {
        "id": f"{OURS}{answer.id or asked.request_id}",
        "object": "response",
        "created_at": asked.now_s,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": answer.model,
        "output": output,
        **{key: given.get(key) for key in _ECHOED},
        "parallel_tool_calls": given.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "store": False,
        "tool_choice": given.get("tool_choice") or "auto",
        "tools": given.get("tools") or [],
        "usage": responses_usage(ended.usage) if ended is not None and ended.usage is not None else None,
    }


def responses_body(answer: Answer, asked: Asked) -> dict[str, Any]:
    """A whole answer."""
    shown = [block for block in answer.blocks() if block.kind != "thinking"]
    output = [_item(block, asked, f"{asked.request_id}_{i}") for i, block in enumerate(shown)]
    return _response(answer, asked, output, "completed")


class ResponsesWriter(Writer):
    """Numbered events; the last of them holds the whole answer."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._answer = Answer()
        self._hidden: set[int] = set()
        self._places: dict[int, int] = {}  # piece -> index of its item
        self._items: dict[int, dict[str, Any]] = {}  # whole ones, by index
        self._sequence = 0

    @property
    def held(self) -> int:
        """Characters of the answer so far."""
        return self._answer.size

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the events for one neutral event."""
        for shown in without_thinking([event], self._hidden):
            self._answer.take(shown)
            for told in self._told(shown):
                told["sequence_number"] = self._sequence
                self._sequence += 1
                yield named(told)

    def _told(self, event: Event) -> Iterable[dict[str, Any]]:
        match event:
            case Began():
                for state in ("created", "in_progress"):
                    response = _response(self._answer, self._asked, [], "in_progress")
                    yield {"type": f"response.{state}", "response": response}
            case Opened():
                yield from self._opened(event)
            case Grew(n, text):
                yield from self._grew(n, text)
            case Closed(n):
                yield from self._closed(n)
            case Ended():
                output = [self._items[i] for i in sorted(self._items)]
                response = _response(self._answer, self._asked, output, "completed")
                yield {"type": f"response.{response['status']}", "response": response}
            case Broke(status, message):
                output = [self._items[i] for i in sorted(self._items)]
                response = _response(self._answer, self._asked, output, "failed")
                error = failure("openai_responses", status, message, self._asked.request_id)["error"]
                response["error"] = {"code": error["code"] or "server_error", "message": message}
                yield {"type": "response.failed", "response": response}

    def _at(self, n: int) -> dict[str, Any]:
        place = self._places[n]
        item = _item(self._answer.block(n), self._asked, self._mark(place), "in_progress")
        return {"output_index": place, "item_id": item["id"]}

    def _mark(self, place: int) -> str:
        return f"{self._asked.request_id}_{place}"

    def _opened(self, opened: Opened) -> Iterable[dict[str, Any]]:
        place = self._places[opened.n] = len(self._places)
        item = _item(self._answer.block(opened.n), self._asked, self._mark(place), "in_progress")
        if opened.kind == "text":
            part = item["content"][0]
            item["content"] = []
        yield {"type": "response.output_item.added", "output_index": place, "item": item}
        if opened.kind == "text":
            at = {**self._at(opened.n), "content_index": 0}
            yield {"type": "response.content_part.added", **at, "part": part}

    def _grew(self, n: int, text: str) -> Iterable[dict[str, Any]]:
        opened = self._answer.opened(n)
        at = {"output_index": self._places[n], "item_id": self._ids(n)}
        if opened.kind == "text":
            kind = "response.output_text.delta"
            yield {"type": kind, **at, "content_index": 0, "delta": text, "logprobs": []}
        elif not self._asked.names.own(opened.name).freeform:
            yield {"type": "response.function_call_arguments.delta", **at, "delta": text}

    def _ids(self, n: int) -> str:
        opened = self._answer.opened(n)
        freeform = opened.kind == "call" and self._asked.names.own(opened.name).freeform
        kind = "msg" if opened.kind == "text" else "ctc" if freeform else "fc"
        return f"{kind}_{self._mark(self._places[n])}"

    def _closed(self, n: int) -> Iterable[dict[str, Any]]:
        block, place = self._answer.block(n), self._places[n]
        item = self._items[place] = _item(block, self._asked, self._mark(place))
        at = {"output_index": place, "item_id": item["id"]}
        if block.kind == "text":
            at["content_index"] = 0
            part = item["content"][0]
            yield {"type": "response.output_text.done", **at, "text": block.text, "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}
        elif item["type"] == "custom_tool_call":
            stem = "response.custom_tool_call_input"
            yield {"type": f"{stem}.delta", **at, "delta": item["input"]}
            yield {"type": f"{stem}.done", **at, "input": item["input"]}
        else:
            told = {"arguments": item["arguments"], "name": item["name"]}
            yield {"type": "response.function_call_arguments.done", **at, **told}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
