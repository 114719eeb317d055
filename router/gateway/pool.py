"""Connections to providers, kept between calls; aiohttp only makes them: DNS, TLS and whom to try first.

Its own pool isn't used: a call through it took 19.1 to 19.9 µs of CPU, and takes 15.5 to 16.0 past it. Won is
what it goes through for a call, not its lookups: with a cheap key in place of one of eight parts nothing was.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from features.value import Value
from router.gateway.lines import Line

PLACES = 1024  # addresses known at most: deployments have fewer, but a batch's has its id in it
KEPT_S = 15.0  # without a call; as long as aiohttp's pool keeps them. A busy loop's own clock stands still

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey

    Kept = dict[Line, float]  # to one host, and since when they wait; the one used last at its end


class Place(Value, frozen=True, gc=True):  # a line that is kept leads back to it
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
        self._places: dict[str, Place] = {}  # by address
        self._kept: dict[ConnectionKey, Kept] = {}  # the same for all places of a host
        self._timer: asyncio.TimerHandle | None = None

    def place(self, address: str) -> Place:
        """Where an address leads, which is remembered: it must hold no query, as that may hold a key."""
        place = self._places.get(address)
        if place is None:
            if len(self._places) >= PLACES:
                self._places.clear()  # but for what is kept there: that is the hosts'
            url = URL(address, encoded=True)
            request = aiohttp.ClientRequest("POST", url)  # a connector asks it for nothing but the address
            kept = self._kept.setdefault(request.connection_key, {})
            place = Place(request, kept, url.host_port_subcomponent or "", url.raw_path)
            self._places[address] = place
        return place

    async def line(self, place: Place) -> Line:
        """A connection for a call, to be given back; waits while as many are in use as may be."""
        if self._room:
            self._room -= 1
        else:
            await self._turn()
        while place.kept:
            line, since = place.kept.popitem()
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
        line.kept[line] = time.monotonic()
        if self._timer is None:
            self._timer = self.loop.call_later(KEPT_S, self._tidy)

    def drop(self, line: Line) -> None:
        """Close a connection that no call is on."""
        line.kept.pop(line, None)
        line.connection.close()

    async def close(self) -> None:
        """Close all connections, and wait until they are."""
        if self._timer is not None:
            self._timer.cancel()
        await self._connector.close()  # which waits for those that weren't given back to it

    def _tidy(self) -> None:
        """Close what has waited for too long."""
        self._timer, now = None, time.monotonic()
        waiting = [(since, line) for kept in self._kept.values() for line, since in kept.items()]
        for since, line in sorted(waiting, key=itemgetter(0)):
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
