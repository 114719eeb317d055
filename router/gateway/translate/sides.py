"""The two sides of an answer's translation: what reads a provider's dialect, and what writes the client's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.wire import plain
from router.gateway.translate.answer import Began, Broke, Closed, Ended, Event, Grew, Kind, Opened
from router.gateway.translate.failures import status_of_type
from router.gateway.translate.talk import plain_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from router.gateway.translate.talk import Names

CUT = Broke(502, "the provider's answer ended before it was whole")
ODD = Broke(502, "the provider's answer is none that its dialect knows")


class Reader:
    """What the dialects share: pieces are counted, and one event is the last."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.over = False
        self.complete = False
        self.called = False  # a tool
        self._began = False
        self._count = 0
        self._numbers: dict[Any, int] = {}  # the dialect's key of a piece -> its number
        self._open: dict[int, Kind] = {}
        self._bare: set[int] = set()  # calls without arguments so far

    def take(self) -> list[Event]:
        """What has happened since the last time."""
        told, self.told = self.told, []
        return told

    def event(self, event: dict[str, Any]) -> None:
        """Take one event of the dialect."""
        raise NotImplementedError

    def whole(self, body: dict[str, Any]) -> None:
        """Take a whole answer."""
        raise NotImplementedError

    def done(self) -> None:
        """The mark behind the last event has come, in the dialect that has one."""

    def closed(self) -> None:
        """Nothing more will come."""
        self._last(CUT)

    def broke(self, error: Any, status: int | None = None) -> None:
        """The provider says that it failed."""
        said = plain.string(plain.mapping(error).get("message")) or "the provider failed"
        self._last(Broke(status or status_of_type(plain.error_type(error)), said))

    def _begin(self, answer_id: Any, model: Any) -> None:
        if not self._began:
            self._began = True
            self.told.append(Began(plain.string(answer_id) or "", plain.string(model) or ""))

    def _start(self, key: Any, kind: Kind, call_id: Any = "", name: Any = "") -> int:
        n = self._count
        self._count += 1
        self._numbers[key] = n
        self._open[n] = kind
        self.called = self.called or kind == "call"
        given = plain_id(str(call_id or f"call_{n}")) if kind == "call" else ""
        if kind == "call":
            self._bare.add(n)
        self.told.append(Opened(n, kind, given, plain.string(name) or ""))
        return n

    def _grow(self, key: Any, text: Any) -> None:
        if isinstance(text, str) and text:
            n = self._numbers[key]
            self._bare.discard(n)
            self.told.append(Grew(n, text))

    def _close(self, key: Any) -> None:
        self._shut(self._numbers.get(key, -1))

    def _shut(self, n: int) -> None:
        if n not in self._open:
            return
        del self._open[n]
        if n in self._bare:  # clients of some dialects can't read arguments that aren't there
            self.told.append(Grew(n, "{}"))
        self.told.append(Closed(n))

    def _end(self, ended: Ended) -> None:
        for n in list(self._open):
            self._shut(n)
        self._last(ended)

    def _last(self, event: Ended | Broke) -> None:
        if not self.over:
            self.over = True
            self.complete = isinstance(event, Ended)
            if self.complete:
                self._begin("", "")
            self.told.append(event)


class Asked(NamedTuple):
    """What an answer's shape depends on beside its content."""

    body: Mapping[str, Any]  # the request as the client wrote it
    names: Names
    now_s: int
    request_id: str


def sse(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """One server-sent event."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def named(event: dict[str, Any]) -> bytes:
    """One server-sent event that bears its type as its name."""
    return sse(event, event["type"])


class Writer:
    """What the dialects share: one that writes a stream, and what is kept of it meanwhile."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the stream's bytes for one event."""
        raise NotImplementedError

    @property
    def held(self) -> int:
        """Characters that are kept while the answer streams."""
        return 0
