"""The answer to a forwarded request: upstream called, its bytes passed on, the client's leaving noticed.

A response class of its own, because the status must not be committed before upstream has answered, and
because a client that leaves, before the first byte or after it, must stop the spending at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from starlette.responses import Response

from features.wire import StreamReader, parse_response
from router.gateway.errors import UpstreamError, error_event, error_response
from router.gateway.recording import Trace
from router.gateway.upstream import response_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multidict import CIMultiDict
    from starlette.types import Receive, Scope, Send

    from features.wire import Dialect, WireResponse
    from router.gateway.upstream import Upstream

MAX_WHOLE_BYTES = 64 * 2**20  # a longer answer that is no stream is passed on without being read


class Exchange(NamedTuple):
    """One exchange with a provider, and who is told of it.

    `began` when a provider answers; `heard` as soon as the answer is whole, since a client that has read the
    last event may ask on before the provider has closed its stream; `ended` when nothing more can happen.
    """

    dialect: Dialect
    request_id: str
    url: str
    headers: CIMultiDict[str]
    body: bytes
    own: Mapping[str, str]  # headers of ours on the answer
    arrived: float  # by perf_counter
    began: Callable[[], None]
    heard: Callable[[WireResponse], None]
    ended: Callable[[Trace], None]


class Forwarded(Response):
    """Makes one exchange and passes the answer on."""

    def __init__(self, upstream: Upstream, exchange: Exchange) -> None:
        self.status_code = 200
        self.background = None
        self._upstream = upstream
        self._asked = exchange
        self._trace = Trace()
        self._committed = False  # the status has gone out
        self._through = False  # and so has everything else

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exchange with upstream until the answer is through or the client has left."""
        trace = self._trace
        exchange = asyncio.create_task(self._exchange(scope, receive, send))
        leaving = asyncio.create_task(_gone(receive))
        stopping = False
        try:
            await asyncio.wait({exchange, leaving}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the server stops and has waited long enough
            stopping = True
        if not exchange.done() and not self._through:
            trace.status = "cancelled"
            exchange.cancel()
        leaving.cancel()
        await asyncio.wait({exchange, leaving})
        trace.latency_ms = self._elapsed()
        self._asked.ended(trace)
        if stopping and not self._through:
            await self._say_goodbye(scope, receive, send)
        elif not exchange.cancelled():
            exchange.result()

    async def _say_goodbye(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell a client that the server stops before its answer is through."""
        dialect, request_id = self._asked.dialect, self._asked.request_id
        message = "samediff is being stopped"
        if not self._committed:
            await error_response(dialect, 503, message, request_id, self._asked.own)(scope, receive, send)
        else:
            await self._end(send, error_event(dialect, message, request_id))

    async def _end(self, send: Send, last: bytes = b"") -> None:
        """Send the end of the answer; a client that leaves from here on has got it all."""
        self._through = True
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked, trace = self._asked, self._trace
        trace.attempts = 1
        try:
            async with self._upstream.send(asked.url, asked.headers, asked.body) as answer:
                trace.http_status = answer.status
                trace.status = "ok" if answer.status < 400 else "error"
                if answer.status < 400:
                    asked.began()
                if answer.content_type == "text/event-stream":
                    await self._stream(answer, send)
                else:
                    await self._whole(answer, send)
        except UpstreamError as error:
            trace.status, trace.error_kind = "truncated" if self._committed else "error", error.kind
            if self._committed:  # too late for another answer; not ending this one makes the server hang up
                return
            failure = error_response(asked.dialect, error.status, str(error), asked.request_id, asked.own)
            self._through = True
            await failure(scope, receive, send)

    async def _stream(self, answer: aiohttp.ClientResponse, send: Send) -> None:
        """Pass events on as they come; each is read only after it was sent."""
        trace, dialect = self._trace, self._asked.dialect
        reader = StreamReader(dialect)
        readable = answer.headers.get("content-encoding", "identity") == "identity"
        try:
            await self._start(answer, send)
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if trace.first_byte_ms is None:
                    trace.first_byte_ms = self._elapsed()
                if readable:
                    self._read(reader, chunk)
            if readable and not reader.finished and trace.status == "ok":
                trace.status = "truncated"
        except (aiohttp.ClientError, TimeoutError) as error:
            trace.status = "truncated"
            trace.error_kind = "timeout" if isinstance(error, TimeoutError) else "dropped"
            broken = error_event(dialect, "the provider broke off its answer", self._asked.request_id)
            await send({"type": "http.response.body", "body": broken, "more_body": True})
            answer.close()
        finally:
            if trace.answer is None:
                self._take(reader.response())
        await self._end(send)

    def _read(self, reader: StreamReader, chunk: bytes) -> None:
        reader.feed(chunk)
        if self._trace.first_tool_call_ms is None and reader.tool_call_begun:
            self._trace.first_tool_call_ms = self._elapsed()
        if self._trace.answer is None and reader.finished:
            self._take(reader.response())

    def _take(self, answer: WireResponse) -> None:
        """Keep the answer, as much of it as there will be."""
        self._trace.answer = answer
        if self._trace.status != "error":
            self._asked.heard(answer)

    async def _whole(self, answer: aiohttp.ClientResponse, send: Send) -> None:
        """Pass on an answer that is no stream, whole: one that breaks off is an error, not half a body."""
        trace = self._trace
        pieces: list[bytes] = []
        size = 0
        chunks = answer.content.iter_any()
        async for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size > MAX_WHOLE_BYTES:
                break
        body = b"".join(pieces)
        over = size > MAX_WHOLE_BYTES
        await self._start(answer, send, None if over else size)
        trace.first_byte_ms = self._elapsed()
        if over:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self._end(send)
            return
        await self._end(send, body)
        told = parse_response(self._asked.dialect, body)
        if any(part.kind == "tool_call" for part in told.parts):
            trace.first_tool_call_ms = trace.first_byte_ms
        self._take(told)
        if answer.status >= 400:
            trace.error_kind = told.error or f"http_{answer.status}"

    async def _start(self, answer: aiohttp.ClientResponse, send: Send, length: int | None = None) -> None:
        """Commit the status: from here on nothing can switch."""
        headers = response_headers(answer)
        headers += [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in self._asked.own.items()
        ]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        self._committed = True
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})

    def _elapsed(self) -> float:
        return (time.perf_counter() - self._asked.arrived) * 1000


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
