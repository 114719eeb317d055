"""One call over HTTP/1.1 on aiohttp's connections: its pool, DNS, TLS and parser, without its session.

A session follows redirects, keeps cookies, signs, traces and retries; for a call that wants none of that,
this was two thirds of what a call cost. What is used here of aiohttp is its connector's `connect`, what that
gives, and the body as its parser gives it.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # in a head: what would end a line of it
_PLACES = 1024  # addresses known at most; there are as many as deployments
_LOOK_S = 0.25  # how often is looked whether a large request goes out


class Answer:
    """An answer whose head is there; its body comes by `content`. It was asked with the headers `sent`."""

    __slots__ = ("_connection", "_lost", "content", "headers", "raw_headers", "sent", "status")

    def __init__(
        self,
        connection: Connection,
        message: RawResponseMessage,
        content: aiohttp.StreamReader,
        sent: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self.status = message.code
        self.headers: Mapping[str, str] = message.headers
        self.raw_headers = message.raw_headers
        self.content = content
        self.sent = sent
        self._lost: asyncio.Future[None] | None = None
        if not _sending(connection):
            content.on_eof(connection.release)  # as soon as others can have it
        if not content.is_eof() and connection.protocol is not None:
            self._lost = connection.protocol.closed
            if self._lost is not None:
                self._lost.remove_done_callback(_noted)  # of a call before
                self._lost.add_done_callback(_noted)
                self._lost.add_done_callback(self._cut)

    @property
    def content_type(self) -> str:
        """The body's media type, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Read the whole body."""
        return await self.content.read()

    def release(self) -> None:
        """Give the connection back, or close it if there is more on it, or more yet to be sent."""
        if self._lost is not None:
            self._lost.remove_done_callback(self._cut)
            self._lost = None
        if _sending(self._connection):
            self._connection.close()
        else:
            self._connection.release()

    def _cut(self, _: asyncio.Future[None]) -> None:
        """End a body whose framing broke: aiohttp hangs up then, and tells nobody who waits for more."""
        if not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientPayloadError("the connection broke in the body"))


def _noted(lost: asyncio.Future[None]) -> None:
    """Look at why a connection was lost, also an idle one: what nobody looks at is logged as an error."""
    if not lost.cancelled():
        lost.exception()


def _sending(connection: Connection) -> bool:
    transport = connection.transport
    return transport is not None and transport.get_write_buffer_size() > 0


class _Place(NamedTuple):
    """Where requests go: what a connection is found by, and how they name it."""

    found_by: aiohttp.ClientRequest
    host: str
    path: str


class Calls:
    """Calls over a connector's connections; of `timeout`, `sock_connect` and `sock_read` count."""

    def __init__(self, connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout) -> None:
        self._connector, self._timeout = connector, timeout
        self._places: dict[str, _Place] = {}

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send a request and wait for the head of its answer.

        Raises aiohttp's errors, TimeoutError, and ValueError for a header that can't be sent.
        """
        address, _, query = url.partition("?")  # which may hold a client's own key, and is kept nowhere
        place = self._place(address)
        head = _head(method, f"{place.path}?{query}" if query else place.path, place.host, headers, body)
        connection, protocol = await self._connected(place)
        upload = None
        try:
            protocol.set_response_params(
                read_until_eof=True, auto_decompress=False, read_timeout=self._timeout.sock_read
            )
            assert connection.transport is not None
            connection.transport.writelines((head, body) if body else (head,))
            if _sending(connection):
                upload = _Upload(connection, protocol, self._timeout.sock_read)
            else:
                protocol.start_timeout()
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # an answer is yet to come
                message, content = await protocol.read()
            return Answer(connection, message, content, headers)
        except aiohttp.http.HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientPayloadError("the answer is no HTTP") from error
        except BaseException:
            connection.close()
            raise
        finally:
            if upload is not None:
                upload.stop()

    async def _connected(self, place: _Place) -> tuple[Connection, ResponseHandler]:
        """A connection on which nothing has come that nobody asked for: it would be taken for the answer."""
        while True:
            connection = await self._connector.connect(place.found_by, [], self._timeout)
            protocol = connection.protocol
            if protocol is None or connection.transport is None:
                raise aiohttp.ServerDisconnectedError
            if not protocol.should_close:
                return connection, protocol
            connection.close()
            if protocol.read_timeout is None:  # a new one: its provider speaks without having been asked
                raise aiohttp.ServerDisconnectedError

    def _place(self, address: str) -> _Place:
        found = self._places.get(address)
        if found is None:
            if len(self._places) >= _PLACES:
                self._places.clear()
            url = URL(address, encoded=True)
            request = aiohttp.ClientRequest("POST", url)  # a connector asks it for nothing but the address
            found = self._places[address] = _Place(request, url.host_port_subcomponent or "", url.raw_path)
        return found


class _Upload:
    """A request that its provider takes slowly: only silence counts against it, and no progress is that."""

    def __init__(self, connection: Connection, protocol: ResponseHandler, silence_s: float | None) -> None:
        self._connection, self._protocol, self._silence_s = connection, protocol, silence_s
        self._loop = asyncio.get_running_loop()
        self._left, self._since = -1, self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        transport, now = self._connection.transport, self._loop.time()
        left = 0 if transport is None else transport.get_write_buffer_size()
        if not left:
            self._protocol.start_timeout()
            return
        if left != self._left:
            self._left, self._since = left, now
        elif self._silence_s is not None and now - self._since >= self._silence_s:
            self._protocol.set_exception(aiohttp.SocketTimeoutError("the request isn't taken"))
            return
        self._timer = self._loop.call_later(min(_LOOK_S, self._silence_s or _LOOK_S), self._look)


def _head(method: str, path: str, host: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    said = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    said += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        said.append(f"Content-Length: {len(body)}")
    if _FORBIDDEN.search("".join(said)):
        raise ValueError("a header holds what none can")
    return "\r\n".join((*said, "", "")).encode()
