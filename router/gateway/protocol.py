"""The server's HTTP connections, bounded: how long a head or trailers may be, how long a head may take.

What is no request that could be given to an endpoint is refused here, in the dialect of its path as far as
that was heard.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from router.gateway.answering import Answering
from router.gateway.errors import dialect_at, last_words
from router.gateway.intake import IntakeProtocol
from router.gateway.leaving import LEAVING, Leaving

if TYPE_CHECKING:
    import asyncio

    from uvicorn._types import HTTPScope

HEAD_BYTES = 64 * 2**10
_BODY_BYTES = 256 * 2**10  # of a body in pieces that is read before it is asked for
_AHEAD_BYTES = 16 * HEAD_BYTES  # that a client may send ahead of its answer and still be seen to leave
_LINGER_S = 2.0  # a client that still sends may read its answer meanwhile; a closed socket would reset it
_REFUSED = {
    400: "this is no HTTP request, or not one that can be understood",
    408: "the head of the request did not come in time",
    431: f"address, headers or trailers of the request are over {HEAD_BYTES // 1024} kB",
}
_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})  # what uvicorn looks at
_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class BoundedProtocol(IntakeProtocol):
    """uvicorn's, which by itself waits for a head for ever and takes one of any length."""

    head_s = 30.0

    def refused(self, status: int) -> None:
        """Count what was refused before it got to an endpoint; here nobody counts."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.url = b""
        self._proxied = self.app  # for who comes through a proxy, and says so in the headers it looks for
        self._direct = self.app.app if isinstance(self.app, ProxyHeadersMiddleware) else self.app
        self._read = self._before = 0  # bytes that have come, and those before what is being read
        self._began = 0  # as many at least came before the head that is read
        self._unread = 0  # bytes since the last that were of use: of a head, or of trailers
        self._trailers = 0  # bytes of those read since the last piece of body
        self._upgrading = False
        self._last_words = b""  # to be said when all that is asked is answered
        self._patience: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None  # when every answer was out and nothing of another request here
        self._answering: Answering | None = None  # `cycle` is the last that was read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.head_s, self._refuse, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        if self._answering is not None:  # what waits behind it isn't begun any more
            self.cycle = self._answering
            self.pipeline.clear()
        super().connection_lost(exc)
        if self.cycle is not None and self.cycle.disconnected:
            self.cycle.scope["state"][LEAVING].left()

    def buffer_updated(self, count: int) -> None:
        """Take bytes, unless the head or the trailers they belong to have grown too long."""
        if not self._refused:
            self._of_use, self._before = False, self._read
            self._read += count
            self._feed(count)
            self._unread = self._trailers if self._of_use else self._unread + count
            if self._in_message:
                self._bound()
        if self._refused or not self._filled:
            self._give_back()

    def _bound(self) -> None:
        """Read no more of what is too long, or isn't asked for, and no head for ever."""
        if self._refused:
            return
        if not self._in_head and self.cycle.size > _BODY_BYTES:
            self.flow.pause_reading()  # not where it is whole: it costs two calls of the system
            if self.pipeline:
                self._read_on()
        if self._unread > HEAD_BYTES:
            self._refuse(431)
        elif self._in_head and self._patience is None:  # begun on a kept connection, and not whole yet
            self._patience = self.loop.call_later(self.head_s, self._refuse, 408)

    def on_message_begin(self) -> None:
        """A head begins."""
        self.url, self.headers = b"", []
        self._in_head = self._in_message = True
        self._unread, self._began, self._due = 0, self._before, 0
        self._idle_since = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or, after the body, a trailer, which nobody asks for."""
        if self._in_head:
            self.headers.append((name.lower(), value))
        else:
            self._trailers += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        """The head is whole: answer it if it is of a reasonable length, once those before it are answered.

        uvicorn's `limit_concurrency` counts for nothing here, nor an app that is put in another's place.
        """
        if self._refused:
            return
        if self._read - self._began > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            self._refuse(431)
            return
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._stop_waiting()
        named = dict(self.headers)
        self.expect_100_continue = named.get(b"expect", b"").lower() == b"100-continue"
        before, self.scope = self.cycle, self._scope()
        self._in_head = False
        keep_alive = self.scope["http_version"] != "1.0" and self.parser.should_keep_alive()
        self.cycle = Answering(self.scope, self, keep_alive=keep_alive)
        app = self._direct if _FORWARDED.isdisjoint(named) else self._proxied
        if before is None or before.response_complete:
            if b"transfer-encoding" not in named:
                self._due = int(named.get(b"content-length", 0))
            self._start_asgi_task(self.cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))
            self._read_on()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _scope(self) -> HTTPScope:
        """What is asked, as an app is told; raises the parser's error for a target that is no URL."""
        path, raw_path, query = (_target if b"?" in self.url else _known_target)(self.url)
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": self.parser.get_http_version(),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": self.parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": {**self.app_state, LEAVING: Leaving()},
        }

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._of_use, self._trailers, self._due = True, 0, 0
        if self._refused or (cycle := self.cycle).response_complete:
            return
        cycle.pieces.append(body)
        cycle.size += len(body)
        cycle.message_event.set()
        if self.pipeline:
            self._read_on()

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._upgrading:
            return
        self._in_message, self._of_use, self._trailers = False, True, 0
        if not self._refused and not (cycle := self.cycle).response_complete:
            cycle.more_body = False
            cycle.scope["state"][LEAVING].asked = True
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Go on with what waits, or wait for it; hang up on who still sends: nobody reads the rest of it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words or self.cycle.more_body:
            self.transport.write(self._last_words)
            self._hang_up()
        elif not self._in_message:
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._wait_idle(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Hang up on who has asked nothing for long; one timer lasts for many requests."""
        self.timeout_keep_alive_task = None
        if self._idle_since is not None:
            left = self._idle_since + self.timeout_keep_alive - self.loop.time()
            if left > 0:
                self._wait_idle(left)
            else:
                self.transport.close()

    def _wait_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _start_asgi_task(self, cycle: Answering, app: Any) -> None:  # type: ignore[override]
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _read_on(self) -> None:
        """Read what waits for its turn, up to a bound: only who is read from is seen to leave."""
        if len(self.pipeline) * HEAD_BYTES >= _AHEAD_BYTES:  # not added up for each of many
            return
        if sum(HEAD_BYTES + cycle.size for cycle, _ in self.pipeline) < _AHEAD_BYTES:
            self.flow.resume_reading()

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._refused:
                self._ignore_upgrade(bytes(data[upgrade.args[0] :]))
        except httptools.HttpParserError:
            self._refuse(400)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request as if it had not asked for another protocol; the parser would drop its body."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self._refuse(400, "This is no proxy.")
            return
        self._upgrading = False
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _OF_UPGRADES]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            lines.append(b"connection: close")
        self.parser = self._new_parser()
        self._parse(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: int, why: str | None = None) -> None:
        """Refuse what can't be served, once all before it is answered, and hang up; no more is heard."""
        if self._refused:
            return
        self._stop_waiting()
        self._refused = True
        if self.transport.is_closing():
            return
        now = self._answering
        if now is not None and now.response_complete:
            now = None
        bad = None if self._in_head or not self._in_message else self.cycle  # of what began well, else a head
        if self.pipeline and self.pipeline[0][0] is bad:
            self.pipeline.popleft()
        if self._read and (now is None or now is not bad):
            self.refused(status)  # of any other its endpoint tells
        words = last_words(dialect_at(self.url.decode("latin-1")), status, why or _REFUSED[status])
        if now is None:
            self.transport.write(words)
            self._hang_up()
        elif bad is None or now is not bad:
            self._last_words = words
        else:
            if not now.response_started:
                self.transport.write(words)
            self.transport.close()

    def _hang_up(self) -> None:
        """Say no more, and close once a client that still sends had time to read what was said."""
        self._stop_waiting()
        self._refused, self._idle_since = True, None
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._patience = self.loop.call_later(_LINGER_S, self.transport.close)


def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """The path of a target, raw too, and its query."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.path, parsed.query or b""


_known_target = lru_cache(maxsize=64)(_target)  # of no query: it may hold a client's own key
