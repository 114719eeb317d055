"""A request's body, read: where its model stands, what it says, and the prefix that caches may know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from features.assemble import trajectory_of
from features.value import Value
from features.wire import parse_request
from features.wire.head import read_head
from router.gateway.sessions import chain_of

if TYPE_CHECKING:
    from array import array

    from features.cache import Chain
    from features.reading import Reader
    from features.trajectory import Trajectory
    from features.wire import Dialect, WireRequest
    from features.wire.head import Head


class Reading(Value, frozen=True):
    """A request's body, read; all that takes time in proportion to its size."""

    body: bytes
    head: Head
    request: WireRequest
    chain: Chain
    trajectory: Trajectory | None  # of a large body only: another's goes on from its session's
    read_ms: float
    guessed: bool = False  # its dialect was told by the body
    aside: array[int] | None = None  # what its session's trajectory is known again by, beside the chain
    spoken: int | None = None  # messages in the assistant's name


def read_request(dialect: Dialect, body: bytes, reader: Reader | None = None) -> Reading:
    """Read a body; BadInput if that can't be done. Without a reader it touches nothing that is shared."""
    started = time.perf_counter()
    if reader is None:
        head, request = read_head(body), parse_request(dialect, body)
        chain, trajectory = chain_of(request), trajectory_of(request)
        return Reading(body, head, request, chain, trajectory, _ms_since(started))
    read = reader.read(dialect, body)
    return Reading(
        body,
        read.head,
        read.request,
        read.chain,
        None,
        _ms_since(started),
        aside=read.aside,
        spoken=read.spoken,
    )


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
