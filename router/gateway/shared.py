"""One answer for several who asked for the same: kept as it goes out, given whole to the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from router.gateway.leaving import gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope, Send

REPLAYED = (b"x-samediff-replayed", b"1")


class Shared:
    """An answer on its way to its client, and to whoever else asked for the same."""

    def __init__(self, asked: bytes, tries: int, most: int, ends: Callable[[Shared], None]) -> None:
        self.asked = asked  # digest of the body
        self.tries = tries  # that its client had made before
        self.claimed = False  # a retry goes on from it
        self.done: bool | None = None  # None: under way; else whether it came through
        self.too_long = False  # to be kept
        self.messages: list[Message] = []
        self.size = 0
        self.until = 0.0  # it may be given again
        self._followers = 0
        self._most = most
        self._ends = ends
        self._changed = asyncio.Event()
        self._alone = asyncio.Event()

    def tee(self, send: Send) -> Send:
        """Send, and keep what is sent."""

        async def both(message: Message) -> None:
            self._keep(message)
            await send(message)

        return both

    def _keep(self, message: Message) -> None:
        self.size += len(message.get("body", b""))
        if self.size > self._most and not self._followers:
            self.too_long = True
            self.messages.clear()
        if not self.too_long:
            self.messages.append(message)
            self._changed.set()

    def close(self, *, came_through: bool) -> None:
        """Nothing more comes."""
        if self.done is None:
            self.done = came_through
            self._changed.set()
            ends, self._ends = self._ends, _nothing  # it holds the request's body
            ends(self)

    @property
    def wanted(self) -> bool:
        """Whether somebody else waits for it."""
        return self._followers > 0

    def join(self) -> None:
        """Count somebody in, who then follows."""
        self._followers += 1
        self._alone.clear()

    async def follow(self, send: Send) -> bool:
        """Send it from its beginning, as it comes; False if there was nothing to send."""
        at = 0
        while True:
            self._changed.clear()
            while at < len(self.messages):
                at += 1
                await send(_marked(self.messages[at - 1]))
            if self.done is not None and at >= len(self.messages):
                return at > 0
            await self._changed.wait()

    def leave(self) -> None:
        """Count somebody out."""
        self._followers -= 1
        if not self._followers:
            self._alone.set()

    async def abandoned(self) -> None:
        """Return when nobody else waits for it any more."""
        await self._alone.wait()


def _nothing(_: Shared) -> None:
    """What there is to be done once it is done."""


def _marked(message: Message) -> Message:
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [*message["headers"], REPLAYED]}


class Repeated(Response):
    """Gives another request's answer, as it comes or once more."""

    def __init__(self, shared: Shared, otherwise: Response) -> None:
        self.background = None
        self._shared = shared
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the answer, or say that it came to nothing."""
        following = asyncio.create_task(self._shared.follow(send))
        leaving = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            following.cancel()
            await asyncio.wait({following, leaving})
            self._shared.leave()
        if not following.cancelled() and not following.result():
            await self._otherwise(scope, receive, send)
