"""What a case is: what the provider says, how its bytes are cut, what a client must see of it."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from router.scripted.usage import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from features.wire.types import Dialect

Ending = Literal["whole", "error", "cut"]  # a whole answer, an error in the dialect, anything but whole
TOKENS = Tokens(uncached=120, cached=4_096, cache_write=0, output=57, reasoning=0)
Events = list[bytes]


class Case(NamedTuple):
    """One situation. `events` changes the provider's stream, `cut` how its bytes are sent."""

    name: str
    text: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, Any], ...] = ()  # arguments as an object, or as the text a model wrote
    length: bool = False  # the answer stops at its limit
    stream: bool = True
    events: Callable[[Dialect, Events], Events] | None = None
    cut: Callable[[bytes, int], list[bytes]] | None = None
    at: int = 0  # where the cut is, where there are many
    status: int = 200
    body: bytes | None = None  # in place of the dialect's answer
    media_type: str | None = None
    retry_after: str | None = None
    broken: bool = False  # the connection breaks off behind the last event
    ends: Ending = "whole"
    statuses: tuple[int, ...] = ()  # that a client may see of an error
    loose: bool = False  # arguments are no JSON: the SDKs' own readers would stumble
    beyond: tuple[Dialect, ...] = ()  # whose own SDK can't read it: in that dialect only the bytes are judged
    request: str | None = None  # what the request says that the provider must get

    @property
    def stop(self) -> str:
        """Why the answer stops, in nobody's words."""
        return "tools" if self.calls else "length" if self.length else "end"

    def arguments(self) -> list[tuple[str, str]]:
        """Calls as (name, JSON text)."""
        return [(name, a if isinstance(a, str) else json.dumps(a)) for name, a in self.calls]


def bytewise(stream: bytes, _: int) -> list[bytes]:
    """A piece for every byte."""
    return [stream[i : i + 1] for i in range(len(stream))]


def cut_once(stream: bytes, at: int) -> list[bytes]:
    """Two pieces, cut at a byte."""
    return [stream[:at], stream[at:]]


def across(stream: bytes, _: int) -> list[bytes]:
    """Pieces that begin in one event and end in the next."""
    edges = [i + 9 for i in range(len(stream)) if stream.startswith(b"\n\n", i)]
    edges = [0, *(edge for edge in edges if edge < len(stream)), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]
