"""One call over HTTP/1.1 on aiohttp's connections: its DNS and TLS, without its session and its parser.

A session follows redirects, keeps cookies, signs, traces and retries, and its reader takes every chunk of a
body by itself; for a call that wants none of that, this was most of what a call cost. So aiohttp only
connects, and during a call a connection's transport talks to an `Answer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import httptools

from features.value import Value
from router.gateway.lines import CONTROL, Silence

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from router.gateway.lines import Line
    from router.gateway.pool import Pool
    from router.gateway.splice import Pieces

_VALUE_BYTES = 8190  # of a header
_HEAD_BYTES = 2**20  # of a head, or of trailers
_AHEAD_BYTES = 2**19  # that have come and aren't asked for; no more is read then


class Headers(Value, frozen=True):
    """Headers of a request: the bytes of their lines, how many these are, and the key of ours in them."""

    lines: bytes = b""
    count: int = 0
    key: str | None = None

    def __repr__(self) -> str:
        """Say how many there are; any of them may be a credential."""
        return f"Headers({self.count} lines{', a key of ours' if self.key else ''})"


class Answer:
    """The answer to one request, as it comes: its head, then its body.

    `headers` has the first of each name, in lower case; `sent` are those it was asked with. With its last
    byte its connection goes back to the pool, or is closed where nothing else can be asked on it.
    """

    def __init__(self, line: Line, sent: Headers, silence: Silence) -> None:
        self._line, self._silence = line, silence
        self._transport = line.transport
        self._loop = silence.loop
        self.sent = sent
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.begun = self._over = False  # the head is there, and all of the body
        self._given = False  # some of the body was asked for
        self._kept = self._framed = False  # the connection goes on after it; the body ends sooner than that
        self._broken: tuple[type[Exception], str] | None = None
        self._pieces: list[bytes] = []  # of the body, that have come and aren't asked for
        self.on_body = self._pieces.append
        self._ahead = self._unread = 0  # bytes since the last were asked for, and since the last of a body
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._unsent, self._since = 0, 0.0  # bytes of the request, and when that changed or something came
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # aiohttp's: there are such providers
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def ask(self, request: Pieces) -> None:
        """Send the request."""
        self._line.answer = self
        self._since = self._loop.time()
        self._transport.writelines(request)
        self._silence.watch(self)

    async def readany(self) -> bytes:
        """Give what has come of the body, or wait for more; b"" once it is over.

        Of a body that breaks before any of it was asked for nothing is given: another can still be asked.
        """
        pieces = self._pieces
        while (not pieces and not self._over) or (self._broken is not None and not self._given):
            await self.news()
        self._given = True
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._ahead = 0
        if self._paused and self._parser is not None:
            self._paused = False
            self._since = self._loop.time()
            self._transport.resume_reading()
        return body

    def __aiter__(self) -> Answer:
        """Give the body as it comes."""
        return self

    async def __anext__(self) -> bytes:
        """Give what has come of the body, or wait for more."""
        if body := await self.readany():
            return body
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """Read the rest of the body."""
        return b"".join([body async for body in self])

    def at_eof(self) -> bool:
        """Whether all of the body has come and was asked for."""
        return self._over and not self._pieces

    @property
    def content_type(self) -> str:
        """The body's media type, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def release(self) -> None:
        """Hang up if there is more to come: it would be taken for the next answer."""
        self._break(aiohttp.ClientConnectionError, "the answer was left")

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer, unless it was left."""
        if self._parser is None:
            return
        self._since = self._loop.time()
        known, bad = len(self._pieces), False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            bad = True
        self._ahead += len(data)
        self._unread = 0 if len(self._pieces) > known else self._unread + len(data)
        if self._over:  # what is bad then comes after it
            self._end(keep=self._kept and not bad)
        elif bad or self._unread > _HEAD_BYTES:
            self._break(aiohttp.ClientPayloadError, "the answer is no HTTP")
        else:
            if self._pieces and self._ahead > _AHEAD_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            self._wake()

    def connection_lost(self) -> None:
        """End the answer: well, if nothing else says where its body ends."""
        if self.begun and not self._framed and self._parser is not None:
            self._over = True
            self._end(keep=False)
        self._break(aiohttp.ServerDisconnectedError, "the connection was lost")

    def on_message_begin(self) -> None:
        """Refuse what comes after the answer: nobody has asked for it."""
        if self._over:
            raise ValueError("another answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which nobody asks for."""
        if self.begun:
            return
        if len(name) > _VALUE_BYTES or len(value) > _VALUE_BYTES or b"\0" in value:
            raise ValueError("a header holds what none can")
        self.raw_headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is there; or what comes before it, which says nothing."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.raw_headers.clear()
            return
        self.status, self.begun, self._kept = status, True, self._parser.should_keep_alive()
        said = self.headers = {
            name.decode("latin-1"): value.decode("utf-8", "surrogateescape")
            for name, value in reversed(self.raw_headers)
        }
        self._framed = "content-length" in said or ("transfer-encoding" in said and self._chunked())

    def _chunked(self) -> bool:
        """Whether the last coding of the body says where it ends; others end with the connection."""
        codings = b",".join(value for name, value in self.raw_headers if name == b"transfer-encoding")
        return codings.rpartition(b",")[2].strip().lower() == b"chunked"

    def on_message_complete(self) -> None:
        """All of the body is there."""
        self._over = self.begun

    def look(self, now: float, silence_s: float) -> None:
        """Break off after silence: nothing comes, and nothing of the request is taken."""
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent or self._paused:
            self._unsent, self._since = unsent, now
        if now >= self._since + silence_s:
            self._break(TimeoutError, "silence")

    def news(self) -> asyncio.Future[None]:
        """What is done as soon as there is something new; raises what has broken the answer."""
        if self._broken is not None:
            kind, said = self._broken
            raise kind(said)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, kind: type[Exception], said: str) -> None:
        """End an answer that isn't over."""
        if self._parser is not None:
            self._broken = (kind, said)
            self._end(keep=False)

    def _end(self, *, keep: bool) -> None:
        """Part from the connection."""
        self._parser = None
        self._line.answer = None
        self._silence.leave(self)
        unsent = self._transport.get_write_buffer_size() > 0
        if unsent or not self._over:  # closing would first send the rest, to who may not take it
            self._transport.abort()
        elif keep and self._paused:
            self._transport.resume_reading()
        self._line.pool.back(self._line, keep=keep and not unsent)
        self._wake()


class Calls:
    """Calls over a pool's connections, broken off after so many seconds of silence."""

    def __init__(self, pool: Pool, silence_s: float) -> None:
        self._pool, self._silence = pool, Silence(silence_s)

    async def ask(self, method: str, url: str, headers: Headers, body: Pieces | None) -> Answer:
        """Send a request and wait for the head of its answer.

        Raises aiohttp's errors, TimeoutError, and ValueError for a header that can't be sent.
        """
        address, _, query = url.partition("?")  # which may hold a client's own key, and is kept nowhere
        place = self._pool.place(address)
        head = _head(method, f"{place.path}?{query}" if query else place.path, place.host, headers, body)
        answer = Answer(await self._pool.line(place), headers, self._silence)
        try:
            answer.ask((head, *body) if body else (head,))
            while not answer.begun:
                await answer.news()
        except BaseException:
            answer.release()
            raise
        return answer


def _head(method: str, path: str, host: str, headers: Headers, body: Pieces | None) -> bytes:
    first, last, count = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n", b"\r\n", 3 + headers.count
    if body is not None:
        last, count = b"Content-Length: %d\r\n\r\n" % sum(map(len, body)), count + 1
    head = b"".join((first.encode(), headers.lines, last))
    if len(head) - len(head.translate(None, CONTROL)) != 2 * count:
        raise ValueError("a header holds what none can")
    return head
