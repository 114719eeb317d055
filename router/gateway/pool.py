"""Connections to providers, kept between calls; aiohttp only makes them: DNS, TLS and whom to try first.

Its own pool isn't used: that looks four times for a key of seven parts, and makes a handle, for each call.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

import aiohttp

from features.value import Value
from router.gateway.lines import Line

KEPT_S = 15.0  # without a call; as long as aiohttp's pool keeps them. A busy loop's own clock stands still

if TYPE_CHECKING:
    Kept = dict[Line, None]  # to one host, the one used last at its end


class Place(Value, frozen=True):
    """Where requests go: what connects there, what is kept of that, and how a request names it."""

    found_by: aiohttp.ClientRequest
    kept: Kept
    host: str
    path: str


class Pool:
    """Connections that are in use, at most so many, and others that wait for their next call."""

    def __init__(self, connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout, most: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._connector, self._timeout = connector, timeout
        self._room = most  # for calls
        self._waiting: deque[asyncio.Future[None]] = deque()  # calls, while there is no room
        self._kept: dict[Line, float] = {}  # and since when, the oldest first
        self._timer: asyncio.TimerHandle | None = None

    async def line(self, place: Place) -> Line:
        """A connection for a call, to be given back; waits while as many are in use as may be."""
        if self._room:
            self._room -= 1
        else:
            await self._turn()
        while place.kept:
            line, _ = place.kept.popitem()
            since = self._kept.pop(line)
            if time.monotonic() < since + KEPT_S and not line.transport.is_closing():
                return line
            line.connection.close()
        try:
            return await self._connected(place)
        except BaseException:
            self._leave()
            raise

    async def _connected(self, place: Place) -> Line:
        connection = await self._connector.connect(place.found_by, [], self._timeout)
        theirs = connection.protocol
        if theirs is None or theirs.transport is None or theirs.should_close:  # it is lost, or spoke unasked
            connection.close()
            raise aiohttp.ServerDisconnectedError
        return Line(connection, self, place.kept)

    def back(self, line: Line, *, keep: bool) -> None:
        """Take a connection back, for another call or to be closed."""
        self._leave()
        if not keep or line.transport.is_closing():
            line.connection.close()
            return
        line.kept[line] = None
        self._kept[line] = time.monotonic()
        if self._timer is None:
            self._timer = self.loop.call_later(KEPT_S, self._tidy)

    def drop(self, line: Line) -> None:
        """Close a connection that no call is on."""
        line.kept.pop(line, None)
        self._kept.pop(line, None)
        line.connection.close()

    async def close(self) -> None:
        """Close all connections, and wait until they are."""
        if self._timer is not None:
            self._timer.cancel()
        await self._connector.close()  # which waits for those that weren't given back to it

    def _tidy(self) -> None:
        """Close what has waited for too long."""
        self._timer, now = None, time.monotonic()
        for line, since in list(self._kept.items()):
            if now < since + KEPT_S:
                self._timer = self.loop.call_later(since + KEPT_S - now, self._tidy)
                return
            self.drop(line)

    async def _turn(self) -> None:
        """Wait until another call is over, and take its room."""
        waiter = self.loop.create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was this one's turn
                self._leave()
            raise

    def _leave(self) -> None:
        """Leave a call's room to the one that waits longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._room += 1
