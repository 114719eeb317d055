"""Answers that are asked for again where their client couldn't carry out a tool call, held meanwhile.

A whole answer can be looked at before it goes out. A stream can be only while nothing of it has gone out, so
it is held back as far as that is wanted: `calls` holds one that begins with its tool calls until it is over,
`all` any stream of a request that offers tools. What is held too long to be kept is passed on as it is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from features.value import Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from features.wire import StreamReader, WireResponse
    from router.gateway.attempts import Target
    from router.gateway.exchange import Outgoing
    from router.gateway.toolcheck import ToolFault, ToolSettings


class Mending(Value, frozen=True):
    """How one request's answers are looked at before they go out."""

    faults: Callable[[WireResponse], list[ToolFault]]
    settings: ToolSettings

    @property
    def holds(self) -> bool:
        """Whether streams are held back."""
        return self.settings.hold != "none"


class Spare(Value, frozen=True):
    """An answer that was put aside for its tool calls: it is given after all if nothing else comes."""

    target: Target
    out: Outgoing
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    told: WireResponse


class Held(Value, frozen=True):
    """What was taken in of a stream; unless it is `over` the rest is passed on as it comes."""

    body: bytes
    over: bool


async def held(mending: Mending, reader: StreamReader, first: bytes, chunks: AsyncIterator[bytes]) -> Held:
    """Take in a stream until it is over, says something that should go out, or grows or lasts too long."""
    most, until_s = int(mending.settings.hold_kib * 1024), time.monotonic() + mending.settings.hold_s
    pieces, size, chunk = [], 0, first
    while chunk:
        pieces.append(chunk)
        size += len(chunk)
        reader.feed(chunk)
        if reader.finished:
            break
        late = time.monotonic() > until_s  # looked at as something comes: silence has its own patience
        if late or size > most or (mending.settings.hold == "calls" and reader.spoken):
            return Held(b"".join(pieces), over=False)
        chunk = await anext(chunks, b"")
    return Held(b"".join(pieces), over=True)
