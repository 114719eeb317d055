"""One request and its answer on a client's connection: the body as it comes, the answer in few writes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from router.gateway.errors import dialect_at, last_words
from router.gateway.lines import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LOG = logging.getLogger(__name__)
_NOT_IN_NAMES = CONTROL + b'\t()<>@,;:[]={} \\"' + bytes(range(ord("A"), ord("Z") + 1))


class Answering(RequestResponseCycle):
    """uvicorn's, for what this gateway asks of it: a body that isn't copied, an answer in few writes.

    The head of an answer goes out with what follows. An answer fits its request: to HTTP/1.0 it isn't in
    chunks, to half a request it is the last one. uvicorn's `__init__` isn't called: it takes eleven arguments
    by name and makes what isn't asked for here.
    """

    def __init__(self, scope: Any, protocol: HttpToolsProtocol, *, keep_alive: bool) -> None:
        self.scope, self.keep_alive = scope, keep_alive
        self.transport, self.flow, self.logger = protocol.transport, protocol.flow, protocol.logger
        self.default_headers = protocol.server_state.default_headers
        self.message_event = asyncio.Event()
        self.on_response = protocol.on_response_complete
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.disconnected = self.response_started = self.response_complete = False
        self.more_body = True
        self.chunked_encoding: bool | None = None
        self.expected_content_length = 0
        self.pieces: list[bytes] = []  # of the body, that have come and aren't asked for yet
        self.size = 0  # bytes of them
        self._early = False
        self._head = b""

    async def run_asgi(self, app: Any) -> None:
        """Have it answered by an app; what breaks is logged, and who has heard nothing yet is told."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._fail(503, "samediff is being stopped; ask again")
        except Exception as error:  # the last that hears of it
            self.logger.error("Exception in ASGI application\n", exc_info=error)
            self._fail(500, "samediff failed on this request")
        else:
            if not self.response_complete and not self.disconnected:
                self.logger.error("ASGI callable returned without completing response.")
                self._fail(500, "samediff failed on this request")
        finally:
            self.on_response = _nothing  # the protocol knows of this, so this of it no more

    def _fail(self, status: int, said: str) -> None:
        """End an answer that doesn't come, or not all of it."""
        if self.response_started:
            self.transport.close()
        elif not self.disconnected:
            self.response_started, self._early, self.keep_alive = True, self.more_body, False
            self.transport.write(last_words(dialect_at(self.scope["path"]), status, said))
            self._end()

    async def receive(self) -> Any:
        """Give what has come of the body, or wait for it; or say that the client has left."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self.message_event.is_set():
                await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        pieces, self.pieces, self.size = self.pieces, [], 0
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        """Take the head of an answer, which waits for what follows, or send a piece of its body."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._head = self._begin(message["status"], message.get("headers", ()))
        elif self.response_complete:
            raise RuntimeError("something is sent after the end of the answer")
        else:
            self._go_on(message.get("body", b""), last=not message.get("more_body", False))

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The bytes of a head, which says how its body is told from what comes after it."""
        headers = [*self.default_headers, *headers]
        lines, named = [b"%b: %b\r\n" % header for header in headers], dict(headers)
        if not _can_be_sent(lines, b"".join(named)):
            headers = _sendable(headers)
            lines, named = [b"%b: %b\r\n" % header for header in headers], dict(headers)
        self.response_started = True
        self.waiting_for_100_continue = False
        if b"connection" in named:  # uvicorn's own last words
            self.keep_alive = False
        else:
            self._early = self.more_body and self.keep_alive
            self.keep_alive = self.keep_alive and not self.more_body
            if not self.keep_alive:
                lines.append(b"connection: close\r\n")
        if b"content-length" in named:
            self.chunked_encoding = False
            self.expected_content_length = int(named[b"content-length"])
        elif self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = self.scope["http_version"] != "1.0"
            if self.chunked_encoding:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.expected_content_length = -1  # it ends as the connection does
        return b"".join((STATUS_LINE[status], *lines, b"\r\n"))

    def _go_on(self, body: bytes, *, last: bool) -> None:
        """Send a piece of the body, and the head where that hasn't gone out."""
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"0\r\n\r\n" if last else b""
        elif self.expected_content_length >= 0:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (last and self.expected_content_length):
                raise RuntimeError("an answer isn't as long as its head says")
        if self._head:
            head, self._head = self._head, b""
            self.transport.writelines((head, body))
        else:
            self.transport.write(body)
        if last:
            self._end()

    def _end(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if self._early and self.more_body:
            self.keep_alive = True  # the protocol itself closes, once its client has read this
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _nothing() -> None:
    pass


def _can_be_sent(lines: list[bytes], names: bytes) -> bool:
    """Whether no header holds what none can, and all names are in lower case; seen without a look at each."""
    text = b"".join(lines)
    clean = len(text) - len(text.translate(None, CONTROL)) == 2 * len(lines)
    return clean and len(names.translate(None, _NOT_IN_NAMES)) == len(names)


def _sendable(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The header fields that can be sent; a provider's with a control byte in it is left out, and told of."""
    kept = []
    for name, value in headers:
        if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            _LOG.warning("left out a header of an answer that holds what none can: %r", name[:100])
        else:
            kept.append((name.lower(), value))
    return kept
