"""Connections to providers: what talks to them for good, what ends their silence, what no head holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from router.gateway.connections import Answer
    from router.gateway.pool import Kept, Pool

CONTROL = bytes({*range(32), 127} - {9})  # in a head, but for the ends of its lines
_LOOK_S = 1.0  # how often is looked for silence, at least


class Line(asyncio.Protocol):
    """What a connection's transport talks to for good: the answer that is under way, if there is one.

    uvloop reads anew, by calls of the system, where a transport is given another protocol.
    """

    def __init__(self, connection: Connection, pool: Pool, kept: Kept) -> None:
        assert connection.transport is not None
        assert connection.protocol is not None
        self.connection, self.transport, self._theirs = connection, connection.transport, connection.protocol
        self.pool, self.kept = pool, kept  # where it waits between two calls
        self.answer: Answer | None = None
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; where nobody has asked for them they would be taken for the next answer."""
        if self.answer is None:
            self.transport.close()
        else:
            self.answer.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever has it."""
        self._theirs.connection_lost(exc)
        if self.answer is None:
            self.pool.drop(self)
        else:
            self.answer.connection_lost()


class Silence:
    """Breaks answers off after silence, by one timer for all that are under way.

    That may be up to a second late, or a tenth of the time where that is less.
    """

    def __init__(self, after_s: float) -> None:
        self.loop = asyncio.get_running_loop()  # once: in Python 3.11 it is a call of the system
        self._after_s = after_s
        self._under_way: set[Answer] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: Answer) -> None:
        """Look at an answer from now on."""
        self._under_way.add(answer)
        if self._timer is None:
            self._wait()

    def leave(self, answer: Answer) -> None:
        """Look at it no more."""
        self._under_way.discard(answer)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(min(_LOOK_S, self._after_s / 10), self._look)

    def _look(self) -> None:
        self._timer, now = None, self.loop.time()
        for answer in list(self._under_way):
            answer.look(now, self._after_s)
        if self._under_way:
            self._wait()
