"""One call over HTTP/1.1 on aiohttp's connections: its pool, DNS, TLS and parser, without its session.

A session follows redirects, keeps cookies, signs, traces and retries; for a call that wants none of that,
this was two thirds of what a call cost. What is used here of aiohttp is its connector's `connect`, what that
gives, and the body as its parser gives it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # in a head: what would end a line of it


class Answer:
    """An answer whose head is there; its body comes by `content`. It was asked with the headers `sent`."""

    __slots__ = ("_connection", "content", "headers", "raw_headers", "sent", "status")

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
        if not _sending(connection):
            content.on_eof(connection.release)  # as soon as others can have it

    @property
    def content_type(self) -> str:
        """The body's media type, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Read the whole body."""
        return await self.content.read()

    def release(self) -> None:
        """Give the connection back, or close it if there is more on it, or more yet to be sent."""
        if _sending(self._connection):
            self._connection.close()
        else:
            self._connection.release()


def _sending(connection: Connection) -> bool:
    transport = connection.transport
    return transport is not None and transport.get_write_buffer_size() > 0


class _Place(NamedTuple):
    """Where requests go: what a connection is found by, and how they name it."""

    found_by: aiohttp.ClientRequest
    host: str
    path: str


async def ask(
    connector: aiohttp.TCPConnector,
    timeout: aiohttp.ClientTimeout,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Answer:
    """Send a request and wait for the head of its answer; of `timeout`, `sock_connect` and `sock_read` count.

    Raises aiohttp's errors, TimeoutError, and ValueError for a header that can't be sent.
    """
    place = _place(url)
    connection = await connector.connect(place.found_by, [], timeout)
    try:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            read_until_eof=True, auto_decompress=False, read_timeout=timeout.sock_read
        )
        head = _head(method, place, headers, body)
        transport.writelines((head, body) if body else (head,))
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


def _head(method: str, place: _Place, headers: Mapping[str, str], body: bytes | None) -> bytes:
    said = [f"{method} {place.path} HTTP/1.1", f"Host: {place.host}"]
    said += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        said.append(f"Content-Length: {len(body)}")
    if _FORBIDDEN.search("".join(said)):
        raise ValueError("a header holds what none can")
    return "\r\n".join((*said, "", "")).encode()


@lru_cache(maxsize=1024)
def _place(url: str) -> _Place:
    address = URL(url, encoded=True)
    request = aiohttp.ClientRequest("POST", address)  # a connector asks it for nothing but the address
    return _Place(request, address.host_port_subcomponent or "", address.raw_path_qs)
