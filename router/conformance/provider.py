"""The provider that the gateway under test calls: it answers in the dialect of the path, as its case says."""

from __future__ import annotations

import asyncio
import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from router.conformance.case import TOKENS, Case
from router.conformance.cases import CASES
from router.scripted import chat, messages, responses
from router.scripted.reply import Call, Reply, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from features.wire.types import Dialect

WRITERS: dict[Dialect, Any] = {
    "openai_chat": chat,
    "anthropic_messages": messages,
    "openai_responses": responses,
}
_MARK = re.compile(r"\[\[case:([^\]|]+)(?:\|(\d+))?\]\]")
PATHS: dict[str, Dialect] = {
    "/v1/chat/completions": "openai_chat",
    "/chat/completions": "openai_chat",
    "/v1/messages": "anthropic_messages",
    "/v1/responses": "openai_responses",
    "/responses": "openai_responses",
}
_PAUSE_S = 0.002  # between pieces, so that they arrive as pieces


def mark(case: Case) -> str:
    """The words in a prompt by which the provider knows its case."""
    return f"[[case:{case.name}|{case.at}]]"


def reply(case: Case, model: str, body: Any) -> Reply:
    """What the provider says in a case."""
    calls = tuple(
        Call(f"conf{n:04d}", name, text, freeform=False) for n, (name, text) in enumerate(case.arguments())
    )
    usage = isinstance(body, dict) and bool((body.get("stream_options") or {}).get("include_usage"))
    return Reply(
        id=f"conf{int(time.time() * 1000) % 10**9}",
        model=model,
        text=case.text,
        thinking=case.thinking,
        calls=calls,
        stop=case.stop,
        tokens=TOKENS,
        turn=0,
        chunk_chars=7,
        include_usage=usage,
        talk=SimpleNamespace(body=body),  # type: ignore[arg-type]  # all that the writers ask of it
    )


def stream_of(case: Case, dialect: Dialect, model: str = "m", body: Any = None) -> list[bytes]:
    """The provider's events in a case."""
    asked = {"stream_options": {"include_usage": True}} if body is None else body
    events = [sse(event) for event in WRITERS[dialect].events(reply(case, model, asked))]
    return events if case.events is None else case.events(dialect, events)


class Seen:
    """What has arrived, by case; the bodies are kept, since the kit wrote them."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[Dialect, dict[str, Any], dict[str, str]]] = {}
        self.gone: dict[str, float] = {}  # case -> when its client hung up, by perf_counter


def create_provider(seen: Seen) -> Callable[..., Any]:
    """Build the ASGI app."""

    async def answer(request: Request) -> Response:
        dialect = PATHS[request.url.path.removeprefix("/anthropic")]
        raw = await request.body()
        found = _MARK.search(raw.decode("utf-8", "replace"))
        try:
            body = msgspec.json.decode(raw)
        except RecursionError:  # how deep a gateway can read is its own affair
            return Response(_error(dialect, 400), 400, media_type="application/json")
        if found is None:
            return Response(msgspec.json.encode(_plain(dialect, body)), media_type="application/json")
        case = CASES.get(found[1], Case(found[1], text="Hello there. " * 40))
        case = case._replace(at=int(found[2] or 0))
        seen.last[case.name] = (dialect, body, dict(request.headers))
        if case.name == "client leaves":
            return Paced(_slowly(stream_of(case, dialect, str(body["model"]), body)), seen, case)
        return _answer(case, dialect, body, seen)

    async def count(request: Request) -> Response:
        await request.body()
        return Response(b'{"input_tokens":42}', media_type="application/json")

    routes = [Route(path, answer, methods=["POST"]) for path in PATHS]
    routes += [Route(f"/anthropic{path}", answer, methods=["POST"]) for path in ("/v1/messages",)]
    routes.append(Route("/v1/messages/count_tokens", count, methods=["POST"]))
    return _Aborting(Starlette(routes=routes))


class _Aborting:
    """Lets an endpoint break its connection beneath Starlette's wrapping."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = getattr(getattr(send, "__self__", None), "transport", None)  # uvicorn's request cycle
        scope["abort"] = getattr(transport, "abort", None)
        await self._app(scope, receive, send)


def _plain(dialect: Dialect, body: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = WRITERS[dialect].body(reply(Case("none", text="Ok."), str(body["model"]), body))
    return told


def _answer(case: Case, dialect: Dialect, body: dict[str, Any], seen: Seen) -> Response:
    headers = {"x-request-id": "req_conf", "request-id": "req_conf"}
    if case.retry_after is not None:
        headers["retry-after"] = case.retry_after
    if case.body is not None:
        return Response(case.body, case.status, headers, media_type=case.media_type or "application/json")
    if case.status >= 400:
        return Response(_error(dialect, case.status), case.status, headers, media_type="application/json")
    if not body.get("stream"):
        told = WRITERS[dialect].body(reply(case, str(body["model"]), body))
        return Response(msgspec.json.encode(told), 200, headers, media_type="application/json")
    events = stream_of(case, dialect, str(body["model"]), body)
    stream = b"".join(events)
    return Paced(case.cut(stream, case.at) if case.cut else events, seen, case)


def _error(dialect: Dialect, status: int) -> bytes:
    kinds = {400: "invalid_request_error", 413: "request_too_large", 429: "rate_limit_error"}
    inner = {"type": kinds.get(status, "api_error" if status == 500 else "overloaded_error")}
    inner["message"] = f"the provider says {status}"
    if dialect == "anthropic_messages":
        return msgspec.json.encode({"type": "error", "error": inner, "request_id": "req_conf"})
    return msgspec.json.encode({"error": {**inner, "param": None, "code": None}})


def _slowly(events: list[bytes]) -> list[bytes]:
    return [piece for event in events for piece in (event, b"")]


class Paced(Response):
    """Sends pieces one at a time; notes when the gateway hangs up before the end."""

    def __init__(self, pieces: Sequence[bytes], seen: Seen, case: Case) -> None:
        self._pieces = pieces
        self._seen = seen
        self._case = case
        self.status_code = 200
        self.background = None
        self.init_headers({"content-type": "text/event-stream", "x-request-id": "req_conf"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or as much as the gateway wants."""
        sending = asyncio.create_task(self._send(scope, send))
        leaving = asyncio.create_task(_gone(receive))
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            self._seen.gone[self._case.name] = time.perf_counter()
            sending.cancel()
        leaving.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for piece in self._pieces:
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if self._case.cut is not None and len(self._pieces) < 100:
                await asyncio.sleep(_PAUSE_S)
            elif not piece:
                await asyncio.sleep(0.1)
        if self._case.broken:
            await asyncio.sleep(0.02)  # let what was sent go out
            scope["abort"]()
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
