"""An answer that is given to several: sent to its own client while it comes, and to those who asked again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from router.gateway.leaving import gone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Message, Receive, Scope, Send

REPLAYED = (b"x-samediff-replayed", b"1")
MESSAGE_BYTES = 500  # that Python takes for a message beside its body


class Follower:
    """One who is given the answer too: how far he has got."""

    def __init__(self) -> None:
        self.at = 0
        self.cut = False  # what comes next for him is no longer there


class Shared:
    """An answer on its way to its client, and to whoever else asked for the same.

    At most `most` bytes of it are kept. Where it grows longer while somebody follows, it is kept no more, and
    each follower only has to keep up: what all have been given is let go of, and who falls behind by as much
    again is given up.
    """

    def __init__(self, asked: bytes, tries: int, most: int, ends: Callable[[Shared], None]) -> None:
        self.asked = asked  # digest of the body
        self.tries = tries  # that its client had made before
        self.claimed = False  # a retry goes on from it
        self.done: bool | None = None  # None: under way; else whether it came through
        self.too_long = False  # to be kept
        self.messages: list[Message] = []
        self.size = 0  # in memory, of these
        self.until = 0.0  # it may be given again
        self._gone = 0  # messages before these
        self._following: list[Follower] = []
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
        self.too_long = self.too_long or self.size + _size(message) > self._most
        if self.too_long and not self.wanted:
            self._drop(len(self.messages))
            return
        self.messages.append(message)
        self.size += _size(message)
        if self.too_long:
            self._let_go()
        self._changed.set()

    def _let_go(self) -> None:
        """Keep what somebody has yet to be given; whoever holds back too much of that is given up."""
        end = self._gone + len(self.messages)
        while True:
            behind = min((f.at for f in self._following if not f.cut), default=end)
            self._drop(behind - self._gone)
            if self.size <= self._most or len(self.messages) < 2:
                return
            for follower in self._following:
                follower.cut = follower.cut or follower.at == behind

    def _drop(self, count: int) -> None:
        """Let go of the first messages."""
        self.size -= sum(map(_size, self.messages[:count]))
        del self.messages[:count]
        self._gone += count

    def take(self, messages: Sequence[Message]) -> None:
        """It is known from before."""
        self.messages = list(messages)
        self.size = sum(map(_size, messages))
        self.done, self._ends = True, _nothing
        self._changed.set()

    def close(self, *, came_through: bool) -> None:
        """Nothing more comes."""
        if self.done is None:
            self.done = came_through
            self._changed.set()
            self._compact()
            ends, self._ends = self._ends, _nothing  # it holds the request's body
            ends(self)

    def _compact(self) -> None:
        """Make one message of the body's many pieces, unless somebody is in the middle of them."""
        if self.wanted:  # it is done when the last has left
            return
        if self.too_long:
            self._drop(len(self.messages))
        elif len(self.messages) > 2:
            start, *rest = self.messages
            body = b"".join(message["body"] for message in rest)
            self.messages = [start, {"type": rest[-1]["type"], "body": body, "more_body": False}]

    @property
    def wanted(self) -> bool:
        """Whether somebody else waits for it."""
        return bool(self._following)

    def join(self) -> Follower:
        """Count somebody in, who then follows."""
        follower = Follower()
        self._following.append(follower)
        self._alone.clear()
        return follower

    async def follow(self, follower: Follower, send: Send) -> bool | None:
        """Send it from its beginning, as it comes; False if there was nothing to send, None if given up."""
        while True:
            self._changed.clear()
            while not follower.cut and follower.at < self._gone + len(self.messages):
                follower.at += 1
                await send(_marked(self.messages[follower.at - 1 - self._gone]))
            if follower.cut:
                return None
            if self.done is not None:
                return follower.at > 0
            await self._changed.wait()

    def leave(self, follower: Follower) -> None:
        """Count somebody out."""
        self._following.remove(follower)
        if not self.wanted:
            self._alone.set()
            if self.done is not None:
                self._compact()

    async def abandoned(self) -> None:
        """Return when nobody else waits for it any more."""
        await self._alone.wait()


def _nothing(_: Shared) -> None:
    """What there is to be done once it is done."""


def _size(message: Message) -> int:
    headers = sum(len(name) + len(value) for name, value in message.get("headers", ()))
    return len(message.get("body", b"")) + headers + MESSAGE_BYTES


def _marked(message: Message) -> Message:
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [*message["headers"], REPLAYED]}


class Repeated(Response):
    """Gives another request's answer, as it comes or once more."""

    def __init__(self, shared: Shared, otherwise: Response) -> None:
        self.background = None
        self._shared = shared
        self._follower = shared.join()
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the answer, or say that it came to nothing; one who can't keep up with it is hung up on."""
        following = asyncio.create_task(self._shared.follow(self._follower, send))
        leaving = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            following.cancel()
            await asyncio.wait({following, leaving})
            self._shared.leave(self._follower)
        if not following.cancelled() and following.result() is False:
            await self._otherwise(scope, receive, send)
