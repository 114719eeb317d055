"""The server's HTTP connections, bounded: how long a head or trailers may be, how long a head may take.

What is no request that could be given to an endpoint is refused here, in the dialect of its path as far as
that was heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.gateway.answering import Answering
from router.gateway.errors import dialect_at, last_words
from router.gateway.leaving import LEAVING, Leaving

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

HEAD_BYTES = 64 * 2**10
_BODY_BYTES = 256 * 2**10  # of a body that is read before it is asked for: as much as comes at once
_AHEAD_BYTES = 16 * HEAD_BYTES  # that a client may send ahead of its answer and still be seen to leave
_LINGER_S = 2.0  # a client that still sends may read its answer meanwhile; a closed socket would reset it
_REFUSED = {
    400: "this is no HTTP request, or not one that can be understood",
    408: "the head of the request did not come in time",
    431: f"address, headers or trailers of the request are over {HEAD_BYTES // 1024} kB",
}
_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, which by itself waits for a head for ever and takes one of any length."""

    head_s = 30.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._proxied = self.app  # for who comes through a proxy, and says so in the headers it looks for
        self._direct = self.app.app if isinstance(self.app, ProxyHeadersMiddleware) else self.app
        self._forwarded = False
        self._in_head = True
        self._head_bytes = 0
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
        if self._refused or not self._in_message:
            return
        if not self._in_head and self._cycle.size > _BODY_BYTES:
            self.flow.pause_reading()  # not where it is whole: it costs two calls of the system
            self._read_on()
        if self._unread > HEAD_BYTES:
            self._refuse(431)
        elif self._in_head and self._patience is None:  # begun on a kept connection, and not whole yet
            self._patience = self.loop.call_later(self.head_s, self._refuse, 408)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._unread = self._head_bytes = 0
        self._forwarded = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or, after the body, a trailer, which nobody asks for."""
        if not self._in_head:
            self._trailers += len(name) + len(value) + 4
            return
        name = name.lower()
        self._head_bytes += len(name) + len(value)
        self.headers.append((name, value))
        if name == b"expect":
            self.expect_100_continue = self.expect_100_continue or value.lower() == b"100-continue"
        elif name.startswith(b"x-forwarded-"):
            self._forwarded = True

    def on_headers_complete(self) -> None:
        """The head is whole: answer it if it is of a reasonable length."""
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._stop_waiting()
        self._in_head = False
        if len(self.url) + self._head_bytes > HEAD_BYTES:
            self._refuse(431)
        if not self._refused:
            self.scope["state"][LEAVING] = Leaving()
            self.app = self._proxied if self._forwarded else self._direct
            super().on_headers_complete()
            self.cycle.__class__ = Answering  # uvicorn's protocol makes its own kind
            self._cycle.pieces = []
            self._read_on()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._of_use, self._trailers = True, 0
        cycle = self._cycle
        if self._refused or cycle.response_complete:
            return
        cycle.pieces.append(body)
        cycle.size += len(body)
        cycle.message_event.set()
        self._read_on()

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._upgrading:
            return
        self._in_message = False
        cycle = self._cycle
        if not self._refused and not cycle.response_complete:
            cycle.more_body = False
            cycle.scope["state"][LEAVING].asked = True
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Hang up after an answer to a request that is still being sent: nobody reads the rest of it."""
        super().on_response_complete()
        unread = self.cycle.response_complete and self.cycle.more_body
        if unread and not self.transport.is_closing():
            self._hang_up()

    @property
    def _cycle(self) -> Answering:
        """The request that is read."""
        assert isinstance(self.cycle, Answering)
        return self.cycle

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _read_on(self) -> None:
        """Read what waits for its turn, up to a bound: only who is read from is seen to leave."""
        if self.pipeline and self._ahead() < _AHEAD_BYTES:
            self.flow.resume_reading()

    def _ahead(self) -> int:
        return sum(HEAD_BYTES + cycle.size for cycle, _ in self.pipeline if isinstance(cycle, Answering))

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request as if it had not asked for another protocol; the parser would drop its body."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self._refuse(400)  # this is no proxy
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
        if self.transport.is_closing():
            return
        now = self._answering
        if now is not None and now.response_complete:
            now = None
        if now is None or not now.response_started:
            path = getattr(self, "url", b"").decode("latin-1")
            self.transport.write(last_words(dialect_at(path), status, _REFUSED[status]))
        if now is None:
            self._hang_up()
        else:  # it is over with the request before, too
            self.transport.close()

    def _hang_up(self) -> None:
        """Say no more, and close once a client that still sends had time to read what was said."""
        self._stop_waiting()
        self._refused = True
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._patience = self.loop.call_later(_LINGER_S, self.transport.close)
