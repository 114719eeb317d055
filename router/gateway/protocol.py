"""The server's HTTP connections, bounded: how long a head or trailers may be, how long a head may take."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from router.gateway.leaving import LEAVING, Leaving

HEAD_BYTES = 64 * 2**10
_AHEAD_BYTES = 16 * HEAD_BYTES  # that a client may send ahead of its answer and still be seen to leave
_LINGER_S = 2.0  # a client that still sends may read its answer meanwhile; a closed socket would reset it
_REFUSED = {
    408: b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
}
_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, which by itself waits for a head for ever and takes one of any length."""

    head_s = 30.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._in_head = True
        self._unread = 0  # bytes since the last that were of use: of a head, or of trailers
        self._in_message = True
        self._of_use = False
        self._trailers = 0  # bytes of those read since the last piece of body
        self._upgrading = False
        self._refused = False
        self._patience: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None  # `cycle` is the last that was read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.head_s, self._refuse, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        if self._answering is not None:  # what waits behind it isn't begun any more
            self.cycle = self._answering
            self.pipeline.clear()
        super().connection_lost(exc)
        if self.cycle is not None and self.cycle.disconnected:
            self.cycle.scope["state"][LEAVING].left()

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the head or the trailers they belong to have grown too long."""
        if self._refused:
            return
        self._of_use = False
        self._unset_keepalive_if_required()
        self._feed(data)
        self._unread = self._trailers if self._of_use else self._unread + len(data)
        if self._in_message and self._unread > HEAD_BYTES and not self._refused:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """A head begins; on a kept connection that is when its time begins too."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._unread = 0
        if self._patience is None:
            self._patience = self.loop.call_later(self.head_s, self._refuse, 408)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or, after the body, a trailer, which nobody asks for."""
        if self._in_head:
            super().on_header(name, value)
        else:
            self._trailers += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        """The head is whole: answer it if it is of a reasonable length."""
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._stop_waiting()
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse(431)
        if not self._refused:
            self.scope["state"][LEAVING] = Leaving()
            super().on_headers_complete()
            self.cycle.__class__ = _Answering  # uvicorn's protocol makes its own kind
            self._read_on()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._of_use, self._trailers = True, 0
        if not self._refused:
            super().on_body(body)
            self._read_on()

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._upgrading:
            return
        self._in_message = False
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Hang up after an answer to a request that is still being sent: nobody reads the rest of it."""
        super().on_response_complete()
        unread = self.cycle.response_complete and self.cycle.more_body
        if unread and not self.transport.is_closing():
            self._stop_waiting()
            self._refused = True
            self._unset_keepalive_if_required()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._patience = self.loop.call_later(_LINGER_S, self.transport.close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _read_on(self) -> None:
        """Read what waits for its turn, up to a bound: only who is read from is seen to leave."""
        if self.pipeline and self._ahead() < _AHEAD_BYTES:
            self.flow.resume_reading()

    def _ahead(self) -> int:
        return sum(HEAD_BYTES + len(cycle.body) for cycle, _ in self.pipeline)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request as if it had not asked for another protocol; the parser would drop its body."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.send_400_response("This is no proxy.")
            return
        self._upgrading = False
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _OF_UPGRADES]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: int) -> None:
        """Answer a head that can't be served and hang up; on_body and the rest hear nothing of it."""
        self._stop_waiting()
        self._refused = True
        if not self.transport.is_closing():
            now = self._answering
            if now is None or now.response_complete or not now.response_started:
                self.transport.write(_REFUSED[status])
            self.transport.close()


class _Answering(RequestResponseCycle):
    """uvicorn's; an answer fits its request: to HTTP/1.0 not in chunks, to half a request the last one."""

    _plain = _early = False

    async def send(self, message: Any) -> None:
        """Send the head of an answer, or a piece of its body."""
        if message["type"] == "http.response.start":
            if self.more_body and self.keep_alive:
                self._early, self.keep_alive = True, False  # says connection: close
            if self.scope["http_version"] == "1.0" and all(
                name.lower() != b"content-length" for name, _ in message.get("headers", ())
            ):
                self._plain, self.chunked_encoding = True, False
            self.transport = _Together(self.transport)  # type: ignore[assignment]
        else:
            if self._plain:
                self.expected_content_length = len(message.get("body", b""))
            if self._early and self.more_body:
                self.keep_alive = True  # the protocol itself closes, once its client has read this
        await super().send(message)


class _Together:
    """A transport for one answer: its head goes out with what follows in the same breath, or else alone."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Send bytes; the first are the head."""
        if self._head is None:
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            self.write(b"")

    def close(self) -> None:
        """Hang up once all is sent."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._transport.is_closing()
