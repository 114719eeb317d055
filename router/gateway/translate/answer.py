"""An answer between two dialects: what happens in it, in nobody's words, streamed or whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from router.gateway.translate.talk import arguments_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from features.wire import Usage

Kind = Literal["text", "thinking", "call"]
Stop = Literal["end", "tools", "length", "sequence", "refusal", "pause"]
MAX_HELD_CHARS = 64 * 2**20  # of an answer that has to be kept while it streams; no model writes as much


class Began(NamedTuple):
    """The answer begins."""

    id: str
    model: str


class Opened(NamedTuple):
    """A piece of the answer begins; `n` counts the pieces from 0."""

    n: int
    kind: Kind
    id: str = ""  # of a call
    name: str = ""


class Grew(NamedTuple):
    """A piece goes on."""

    n: int
    text: str


class Closed(NamedTuple):
    """A piece is whole."""

    n: int


class Ended(NamedTuple):
    """The answer is whole."""

    stop: Stop
    sequence: str | None = None  # that made it stop
    usage: Usage | None = None
    tier: str | None = None


class Broke(NamedTuple):
    """The answer will never be whole."""

    status: int
    message: str


Event = Began | Opened | Grew | Closed | Ended | Broke


class Block(NamedTuple):
    """A piece of a whole answer."""

    kind: Kind
    text: str
    id: str = ""
    name: str = ""


class Answer:
    """What events add up to."""

    def __init__(self) -> None:
        self.id = ""
        self.model = ""
        self.ended: Ended | None = None
        self.broke: Broke | None = None
        self._opened: dict[int, Opened] = {}
        self._texts: dict[int, list[str]] = {}
        self._held = 0

    def take(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, Grew):
            self._held += len(event.text)
            if self._held <= MAX_HELD_CHARS:
                self._texts[event.n].append(event.text)
        elif isinstance(event, Opened):
            self._opened[event.n] = event
            self._texts[event.n] = []
        elif isinstance(event, Began):
            self.id, self.model = event.id, event.model
        elif isinstance(event, Ended):
            self.ended = event
        elif isinstance(event, Broke):
            self.broke = event

    @property
    def size(self) -> int:
        """Characters that came, kept or not."""
        return self._held

    def opened(self, n: int) -> Opened:
        """How a piece began."""
        return self._opened[n]

    def block(self, n: int) -> Block:
        """One piece, as far as it has come."""
        opened = self._opened[n]
        return Block(opened.kind, "".join(self._texts[n]), opened.id, opened.name)

    def blocks(self) -> list[Block]:
        """All pieces in the order they began."""
        return [self.block(n) for n in self._opened]


class InOrder:
    """Lets one piece end before the next begins, as Messages wants it.

    A call that another one follows is closed once its arguments are whole; until then the other waits.
    """

    def __init__(self) -> None:
        self._now: Opened | None = None
        self._so_far: list[str] = []  # arguments of the call that is open
        self._waiting: dict[int, list[Event]] = {}
        self.held = 0  # characters

    def take(self, event: Event) -> Iterator[Event]:
        """Yield what may be told now."""
        if isinstance(event, Opened):
            if self._now is not None and not self._waiting and self._complete():
                yield Closed(self._now.n)
                self._now = None
            if self._now is None:
                yield from self._begin(event)
            else:
                self._waiting[event.n] = [event]
        elif isinstance(event, Grew | Closed):
            if self._now is not None and event.n == self._now.n:
                yield from self._go_on(event)
            elif event.n in self._waiting:
                self._waiting[event.n].append(event)
                self.held += len(event.text) if isinstance(event, Grew) else 0
        else:
            if isinstance(event, Ended):
                yield from self._finish()
            yield event

    def _complete(self) -> bool:
        assert self._now is not None
        return self._now.kind != "call" or ("".join(self._so_far).strip() != "" and _is_json(self._so_far))

    def _begin(self, opened: Opened) -> Iterator[Event]:
        self._now, self._so_far = opened, []
        yield opened

    def _go_on(self, event: Grew | Closed) -> Iterator[Event]:
        yield event
        if isinstance(event, Closed):
            self._now = None
            yield from self._release()
        elif self._now is not None and self._now.kind == "call":
            self._so_far.append(event.text)
            self.held += len(event.text)
            if self._waiting and self._complete():
                yield Closed(self._now.n)
                self._now = None
                yield from self._release()

    def _release(self) -> Iterator[Event]:
        """Tell what has waited, up to a piece that isn't over."""
        while self._waiting and self._free():
            n = next(iter(self._waiting))
            for event in self._waiting.pop(n):
                if isinstance(event, Opened):
                    yield from self._begin(event)
                    continue
                yield event
                if isinstance(event, Grew):
                    self._so_far.append(event.text)
                else:
                    self._now = None
            if self._now is not None and self._waiting and self._complete():
                yield Closed(self._now.n)
                self._now = None

    def _free(self) -> bool:
        return self._now is None

    def _finish(self) -> Iterator[Event]:
        while self._now is not None:
            yield Closed(self._now.n)
            self._now = None
            yield from self._release()


def _is_json(pieces: list[str]) -> bool:
    return arguments_of("".join(pieces)) is not None


def without_thinking(events: Iterable[Event], hidden: set[int]) -> Iterator[Event]:
    """Leave out reasoning; `hidden` remembers between calls which pieces it is."""
    for event in events:
        if isinstance(event, Opened) and event.kind == "thinking":
            hidden.add(event.n)
        elif not (isinstance(event, Grew | Closed) and event.n in hidden):
            yield event
