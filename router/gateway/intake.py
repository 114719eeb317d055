"""How clients' bytes are taken in: into memory that is lent, and a body of known length past the parser.

uvloop would copy all that it reads, the parser every body once more, and its pieces would have to be joined.
"""

from __future__ import annotations

import asyncio
import mmap
import re
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from router.gateway.answering import Answering

BUFFER_BYTES = 2**20  # as much of a body as is read at once; one that ends within them is copied only once
SMALL_BYTES = 2**16  # of what the parser gets at once, and of a buffer where memory is short
_HEAD_END = re.compile(rb"[^\r\n]\r\n\r\n")  # not one of many blank lines, where each would be a call
_SPARE: deque[memoryview] = deque(maxlen=8)  # buffers that nobody reads into, so warm ones are used again


def lent() -> memoryview:
    """A buffer, to be put back among those that are spare; of a new one only what is filled takes memory.

    It is a small one where there is no room for more, as slow clients' bodies may have taken it all.
    """
    if _SPARE:
        return _SPARE.pop()
    try:
        return memoryview(mmap.mmap(-1, BUFFER_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except OSError:
        return memoryview(bytearray(SMALL_BYTES))


class Intake(asyncio.BufferedProtocol):
    """What a connection's transport talks to: uvloop asks no asyncio.Protocol for a buffer."""

    def __init__(self, protocol: IntakeProtocol) -> None:
        for said in (
            "get_buffer",
            "buffer_updated",
            "eof_received",
            "pause_writing",
            "resume_writing",
            "connection_lost",
        ):
            setattr(self, said, getattr(protocol, said))  # without a call between


class IntakeProtocol(HttpToolsProtocol):
    """uvicorn's, with memory of its own to read into: one buffer at most, while it is read from."""

    cycle: Answering  # the request that is read, or was last
    pipeline: deque[tuple[Answering, Any]]  # type: ignore[assignment]  # those that wait, the last read first

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._in_head = self._in_message = True
        self._of_use = False  # whether some of what is being read belonged to a body, or ended one
        self._refused = False  # nothing is heard any more
        self._buffer: memoryview | None = None  # that is read into now
        self._filled = 0  # bytes of it that are still needed: a body that isn't whole and what came before
        self._due = 0  # bytes of a body of known length that begins
        self._body = (0, 0)  # where in the buffer it begins and will end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Be told of what comes by way of buffers."""
        super().connection_made(transport)
        transport.set_protocol(Intake(self))

    def connection_lost(self, exc: Exception | None) -> None:
        """Read no more."""
        self._give_back()
        super().connection_lost(exc)

    def get_buffer(self, _: int) -> memoryview:
        """Give what is read into: behind what has come of a body, if one is under way.

        All else comes in small parts, since a client may ask for much in little: 3,000 things in each.
        """
        if self._buffer is None:
            self._buffer = lent()
        return self._buffer[self._filled :] if self._filled else self._buffer[:SMALL_BYTES]

    def _give_back(self) -> None:
        """Read into a buffer no more."""
        if self._buffer is not None:
            if len(self._buffer) == BUFFER_BYTES:
                _SPARE.append(self._buffer)
            self._buffer, self._filled = None, 0

    def _feed(self, count: int) -> None:
        """Read what has come; a body of known length goes past the parser, which would copy it."""
        start, stop = self._filled, self._filled + count
        view = self._buffer
        assert view is not None
        if start:
            start = self._fill(view, stop)
        while start < stop and not self._refused:
            end = None
            if self._in_head or not self._in_message:
                end = _HEAD_END.search(view, start, stop)
            until = stop if end is None else end.end()
            self._parse(view[start:until])
            start = until
            if self._due and start + self._due <= len(view):
                self._body = start, start + self._due
                start = self._fill(view, stop)

    def _parse(self, data: bytes | memoryview) -> None:
        """Give bytes to the parser."""
        raise NotImplementedError

    def _fill(self, view: memoryview, stop: int) -> int:
        """Take a body if it is whole by now, else as much as has come; gives what of the buffer is read."""
        start, end = self._body
        if stop < end:
            self._filled = stop
            if stop > start:
                self._of_use = True
                self.cycle.message_event.set()
            return stop
        self._filled = self._due = 0
        self.parser = self._new_parser()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.pieces.append(bytes(view[start:end]))
        self.on_message_complete()
        return end

    def _new_parser(self) -> httptools.HttpRequestParser:
        """One at the beginning of a request; what comes after a last one is heard too, as by uvicorn."""
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser
