"""A client's leaving, and that its request is whole, as the server tells it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope

LEAVING = "samediff.leaving"  # in the state of a request that our own protocol has read


class Leaving:
    """Whether a request's client has left, and who is told; `asked` once all of its request is here."""

    __slots__ = ("_left", "_tell", "asked")

    def __init__(self) -> None:
        self.asked = False
        self._left = False
        self._tell: Callable[[], None] | None = None

    def watch(self, tell: Callable[[], None]) -> None:
        """Have it told, at once if that is over."""
        self._tell = tell
        if self._left:
            tell()

    def stop(self) -> None:
        """Tell no more."""
        self._tell = None

    def left(self) -> None:
        """Note that the client has left."""
        self._left = True
        if self._tell is not None:
            self._tell()


def watch(scope: Scope, receive: Receive, tell: Callable[[], None]) -> Callable[[], object]:
    """Have it told when a client has left; gives what ends that. By a task, where the server is another."""
    leaving: Leaving | None = scope.get("state", {}).get(LEAVING)
    if leaving is not None:
        leaving.watch(tell)
        return leaving.stop

    def over(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            tell()

    task = asyncio.create_task(gone(receive))
    task.add_done_callback(over)
    return task.cancel


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
