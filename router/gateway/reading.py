"""A request's body, read: where its model stands, what it says, and the prefix that caches may know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from features.assemble import trajectory_of
from features.wire import parse_request
from features.wire.head import read_head
from router.gateway.sessions import chain_of

if TYPE_CHECKING:
    from features.cache import Chain
    from features.reading import Reader
    from features.trajectory import Trajectory
    from features.wire import Dialect, WireRequest
    from features.wire.head import Head


class Reading(NamedTuple):
    """A request's body, read; all that takes time in proportion to its size."""

    body: bytes
    head: Head
    request: WireRequest
    chain: Chain
    trajectory: Trajectory | None  # of a large body only: another's goes on from its session's
    read_ms: float
    guessed: bool = False  # its dialect was told by the body
    aside: list[int] | None = None  # what its session's trajectory is known again by, beside the chain


def read_request(dialect: Dialect, body: bytes, reader: Reader | None = None) -> Reading:
    """Read a body; BadInput if that can't be done. Without a reader it touches nothing that is shared."""
    started = time.perf_counter()
    trajectory = aside = None
    if reader is None:
        head, request = read_head(body), parse_request(dialect, body)
        chain, trajectory = chain_of(request), trajectory_of(request)
    else:
        head, request, chain, aside = reader.read(dialect, body)
    read_ms = (time.perf_counter() - started) * 1000
    return Reading(body, head, request, chain, trajectory, read_ms, aside=aside)
