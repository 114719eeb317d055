"""The scripted upstream as an ASGI app: choose the step, count tokens, answer, fail as told, remember."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import xxhash
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from features.errors import BadInput
from router.scripted import chat, messages, responses
from router.scripted.batches import Batches
from router.scripted.faults import PlacedFaults
from router.scripted.reading import Conversation, read_conversation
from router.scripted.reply import CREATED_S, Event, Reply, make_reply, sse
from router.scripted.script import Fault, FilledStep, Script, choose_step
from router.scripted.usage import BYTES_PER_TOKEN, PrefixCache, count

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from features.wire.types import Dialect

_ERROR_TYPES: dict[int, tuple[str, str]] = {  # status -> type in the OpenAI dialects, in Messages
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("invalid_api_key", "authentication_error"),
    403: ("permission_denied", "permission_error"),
    404: ("model_not_found", "not_found_error"),
    413: ("request_too_large", "request_too_large"),
    429: ("rate_limit_exceeded", "rate_limit_error"),
    503: ("server_error", "api_error"),
    529: ("server_error", "overloaded_error"),
}
_PATHS: dict[Dialect, str] = {
    "openai_chat": "/v1/chat/completions",
    "anthropic_messages": "/v1/messages",
    "openai_responses": "/v1/responses",
}
_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "cookie"})


class _Writer(NamedTuple):
    """How one dialect writes a reply."""

    body: Callable[[Reply], dict[str, Any]]
    events: Callable[[Reply], list[Event]]
    error_event: Callable[[str, str], Event]


_WRITERS: dict[Dialect, _Writer] = {
    "openai_chat": _Writer(chat.body, chat.events, chat.error_event),
    "anthropic_messages": _Writer(messages.body, messages.events, messages.error_event),
    "openai_responses": _Writer(responses.body, responses.events, responses.error_event),
}


def key_digest(value: str) -> str:
    """Return what `/_requests` shows in place of a header that carries a key."""
    key = value.removeprefix("Bearer ")  # clients send the same key either bare or as a bearer token
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()[:12]


class Upstream(Starlette):
    """The app, with a way to abort the connection that works beneath Starlette's own wrapping of `send`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; `scope["abort"]` closes it hard."""
        transport = getattr(getattr(send, "__self__", None), "transport", None)  # uvicorn's request cycle
        scope["abort"] = getattr(transport, "abort", None)
        await super().__call__(scope, receive, send)


def create_upstream(script: Script, record: Path | None = None) -> Upstream:
    """Build the scripted upstream; `record` names a folder that gets each request's body as a file."""
    serving = _Serving(script, record)
    return Upstream(
        routes=[
            *(Route(path, serving.answer(dialect), methods=["POST"]) for dialect, path in _PATHS.items()),
            Route("/v1/messages/count_tokens", serving.count_tokens, methods=["POST"]),
            *(
                Route("/{at}" + path, serving.answer(dialect), methods=["POST"])
                for dialect, path in _PATHS.items()
            ),
            *serving.faults.routes(),
            Route("/v1/models", serving.models),
            Route("/_requests", serving.seen, methods=["GET"]),
            Route("/_requests", serving.forget, methods=["DELETE"]),
            *Batches(script.batch_polls, serving.batched).routes(serving.remember, _key),
        ]
    )


class _Serving:
    """The endpoints and the little state they share: the prefix cache, the tries, the requests seen."""

    def __init__(self, script: Script, record: Path | None) -> None:
        self.faults = PlacedFaults(script.faults)
        self._script = script
        self._record = record
        self._cache = PrefixCache(script.cache_floor_tokens)
        self._tries: Counter[int] = Counter()
        self._requests: list[dict[str, Any]] = []

    def answer(self, dialect: Dialect) -> Callable[[Request], Any]:
        """Make the endpoint of one dialect."""

        async def endpoint(request: Request) -> Response:
            raw = await request.body()
            entry = self.remember(request, raw)
            try:
                talk = read_conversation(dialect, raw)
            except BadInput as error:
                entry["status"] = 400
                return _failure(dialect, Fault(status=400, message=str(error)))
            step = choose_step(self._script, talk)
            fault = self.faults.take(request.path_params.get("at", "")) or self._fault(step, raw)
            entry.update(model=talk.model, turn=talk.turns, stream=talk.stream, fault=fault is not None)
            if fault is not None:
                await asyncio.sleep(fault.delay_ms / 1000)
                if fault.status is not None:
                    entry["status"] = fault.status
                    return _failure(dialect, fault)
            entry["status"] = 200
            return self._reply(talk, step, fault, _key(request))

        return endpoint

    def batched(self, dialect: Dialect, raw: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body of one request of a batch; looking twice changes nothing."""
        try:
            talk = read_conversation(dialect, raw)
        except BadInput as error:
            return 400, _error(dialect, Fault(status=400, message=str(error)))
        step = choose_step(self._script, talk)
        if step.fault is not None and step.fault.status is not None:
            return step.fault.status, _error(dialect, step.fault)
        tokens = count(talk, step, 0)  # in a batch nothing is promised to find a cache
        reply = make_reply(talk, step, tokens, self._script.chunk_chars)
        return 200, _WRITERS[dialect].body(reply)

    def _reply(self, talk: Conversation, step: FilledStep, fault: Fault | None, key: str) -> Response:
        tokens = count(talk, step, self._cache.shared_bytes(key, talk))
        reply = make_reply(talk, step, tokens, self._script.chunk_chars)
        reply = reply._replace(model=self._script.serves.get(talk.model, talk.model))
        writer = _WRITERS[talk.dialect]
        headers = {
            "request-id" if talk.dialect == "anthropic_messages" else "x-request-id": f"req_{reply.id}"
        }
        headers.update({} if fault is None else fault.headers)
        if talk.stream:
            return Scripted(writer, writer.events(reply), fault, headers)
        payload = msgspec.json.encode(writer.body(reply))
        if fault is not None and fault.then is not None:
            headers["content-type"] = "application/json"
            half = len(payload) // 2
            return Scripted(writer, [(None, payload[:half]), (None, payload[half:])], fault, headers)
        return Response(payload, media_type="application/json", headers=headers)

    def _fault(self, step: FilledStep, raw: bytes) -> Fault | None:
        """Return the step's fault, unless it has already happened as often as it should for this body."""
        if step.fault is None or step.fault.times is None:
            return step.fault
        digest = xxhash.xxh3_64_intdigest(raw)
        self._tries[digest] += 1
        return step.fault if self._tries[digest] <= step.fault.times else None

    def remember(self, request: Request, raw: bytes) -> dict[str, Any]:
        """Note a request for `/_requests`."""
        number = len(self._requests)
        entry: dict[str, Any] = {
            "number": number,
            "method": request.method,
            "path": request.url.path,
            "query": request.url.query,
            "bytes": len(raw),
            "body_xxh64": xxhash.xxh3_64_hexdigest(raw),
            "headers": {k: key_digest(v) if k in _SECRET_HEADERS else v for k, v in request.headers.items()},
        }
        self._requests.append(entry)
        if self._record is not None:
            self._record.mkdir(parents=True, exist_ok=True)
            (self._record / f"{number:04d}.json").write_bytes(raw)
        return entry

    async def count_tokens(self, request: Request) -> Response:
        """POST /v1/messages/count_tokens."""
        raw = await request.body()
        self.remember(request, raw)
        try:
            talk = read_conversation("anthropic_messages", raw)
        except BadInput as error:
            return _failure("anthropic_messages", Fault(status=400, message=str(error)))
        return _json({"input_tokens": max(1, talk.size // BYTES_PER_TOKEN)})

    async def models(self, request: Request) -> Response:
        """GET /v1/models in the dialect that the caller's headers speak."""
        names = self._script.offers
        if "anthropic-version" in request.headers:
            made = "2025-10-09T08:53:20Z"
            rows = [{"type": "model", "id": n, "display_name": n, "created_at": made, "lifecycle": "active"}
                    for n in names]  # fmt: skip
            return _json({"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]})
        listed = [{"id": n, "object": "model", "created": CREATED_S, "owned_by": "scripted"} for n in names]
        return _json({"object": "list", "data": listed})

    async def seen(self, _: Request) -> Response:
        """GET /_requests: what has arrived so far, without bodies."""
        return _json(self._requests)

    async def forget(self, _: Request) -> Response:
        """DELETE /_requests."""
        self._requests.clear()
        return _json([])


class Scripted(Response):
    """Sends events (or one plain body) one by one and breaks off where the fault says."""

    def __init__(
        self, writer: _Writer, events: list[Event], fault: Fault | None, headers: dict[str, str]
    ) -> None:
        self._plain = "content-type" in headers
        self._writer = writer
        self._events = events
        self._fault = fault or Fault()
        self.status_code = 200
        self.background = None
        self.init_headers({"content-type": "text/event-stream", "cache-control": "no-cache", **headers})
        if "content-length" in self.headers:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, stopping at once when the client leaves."""
        fault = self._fault
        if fault.then == "drop" and fault.after_events is None:
            return _abort(scope)
        leaving = asyncio.create_task(_gone(receive))
        sending = asyncio.create_task(self._send(scope, send))
        try:
            await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not sending.done():
                sending.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        if not sending.cancelled() and sending.done():
            sending.result()
        return None

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for chunk in self._chunks():
            if chunk is None:
                return _abort(scope)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None

    async def _chunks(self) -> AsyncIterator[bytes | None]:
        """Yield the chunks to send; None means: abort the connection here."""
        fault = self._fault
        last = len(self._events) - 1
        breaks_at = min(fault.after_events or 0, last) if fault.then is not None else None
        for n, event in enumerate(self._events):
            if n == breaks_at:
                if fault.then in ("drop", "stall"):
                    await asyncio.sleep(3600 if fault.then == "stall" else 0.01)  # let what was sent go out
                    yield None
                    return
                if fault.then == "error" and not self._plain:
                    kind = fault.error_type or "server_error"
                    yield sse(self._writer.error_event(kind, fault.message))
                if fault.then in ("end", "error"):
                    return
                yield b'\x00\xff}{ not an event\n\ndata: {"broken": \n\n'
            await asyncio.sleep(fault.event_delay_ms / 1000)
            yield event[1] if self._plain else sse(event)


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _abort(scope: Scope) -> None:
    if scope.get("abort") is None:  # an in-process transport: the nearest thing to a broken connection
        raise ConnectionResetError("scripted drop of the connection")
    scope["abort"]()


def _key(request: Request) -> str:
    return key_digest(request.headers.get("x-api-key") or request.headers.get("authorization") or "")


def _failure(dialect: Dialect, fault: Fault) -> Response:
    """Write an error answer in the dialect's own shape."""
    after = {} if fault.retry_after_s is None else {"retry-after": f"{fault.retry_after_s:g}"}
    headers = {**after, **fault.headers}
    return _json(_error(dialect, fault), fault.status or 500, headers)


def _error(dialect: Dialect, fault: Fault) -> dict[str, Any]:
    ours, theirs = _ERROR_TYPES.get(fault.status or 500, ("server_error", "api_error"))
    if dialect == "anthropic_messages":
        inner = messages.error(fault.error_type or theirs, fault.message)
        return {"type": "error", "error": inner, "request_id": "req_scripted"}
    return {"error": chat.error(fault.error_type or ours, fault.message)}


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
