"""Server-sent events, cut into chunks anywhere, into one answer; bounded, and never an error of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from features.wire import anthropic_messages, openai_chat, openai_responses, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from features.wire.drafts import Drafts
    from features.wire.types import Dialect, WireResponse

MAX_LINE_BYTES = 16 * 2**20  # a longer line is skipped and counted: no answer has one


class _Events(Protocol):
    """What each dialect does with its events."""

    finished: bool
    drafts: Drafts

    def event(self, event: dict[str, Any]) -> None:
        """Take one decoded event."""

    def response(self) -> WireResponse:
        """What the events add up to so far."""


_READERS: dict[Dialect, type[_Events]] = {
    "openai_chat": openai_chat.Events,
    "anthropic_messages": anthropic_messages.Events,
    "openai_responses": openai_responses.Events,
}


class EventCutter:
    """Cuts bytes, however they come, into the data of events; `dropped` counts what couldn't be read."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._tail: list[bytes] = []  # pieces of the line that isn't over yet
        self._tail_bytes = 0
        self._after_cr = False
        self._data: list[bytes] = []  # data lines of the event that isn't over yet
        self._first = True
        self.dropped = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere; never raises on bad data."""
        if not chunk:
            return
        if self._after_cr and chunk.startswith(b"\n"):  # the second half of a CRLF cut in two
            chunk = chunk[1:]
            self._after_cr = False
            if not chunk:
                return
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._keep(chunk)
            return
        first, *lines, rest = chunk.split(b"\n")
        self._keep(first)
        self._end_line()
        data = self._data
        for line in lines:  # as _line does, for many
            if not line:
                if data:
                    self._dispatch()
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        """Add to the line that isn't over yet; of a line too long only the length is kept."""
        self._tail_bytes += len(piece)
        if self._tail_bytes > MAX_LINE_BYTES:
            self._tail.clear()
        elif piece:
            self._tail.append(piece)

    def _end_line(self) -> None:
        line = b"".join(self._tail)
        too_long = self._tail_bytes > MAX_LINE_BYTES
        self._tail.clear()
        self._tail_bytes = 0
        if too_long:
            self.dropped += 1
        else:
            self._line(line)

    def _line(self, line: bytes) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            self._dispatch()
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])

    def _dispatch(self) -> None:
        """An event is over. Its name is repeated in its data, in every dialect here."""
        if not self._data:
            return
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._take(data)

    def end(self) -> None:
        """The stream has ended; an event without its closing blank line still counts."""
        self._end_line()
        self._dispatch()


class _Taker:
    """Takes the data of a dialect's events; `dropped` counts what couldn't be read."""

    def __init__(self, events: _Events) -> None:
        self.events = events
        self.dropped = 0

    def take(self, data: bytes) -> None:
        if not data.startswith(b"{") and data.strip() == b"[DONE]":
            self.events.finished = True
            return
        event = plain.decode_event(data)
        if event is None:
            self.dropped += 1
        else:
            self.events.event(event)


class StreamReader:
    """Reads one streamed answer as it passes by; `dropped` counts events that couldn't be read."""

    def __init__(self, dialect: Dialect) -> None:
        self._events: _Events = _READERS[dialect]()
        self._taker = _Taker(self._events)  # of its own: a reader that holds itself would be freed late
        self._cutter = EventCutter(self._taker.take)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere; never raises on bad data."""
        self._cutter.feed(chunk)

    @property
    def dropped(self) -> int:
        """Events that couldn't be read."""
        return self._cutter.dropped + self._taker.dropped

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been seen."""
        return self._events.finished

    @property
    def tool_call_begun(self) -> bool:
        """Whether a tool call has been seen: from here on the client may act on this answer."""
        return self._events.drafts.tool_call_begun

    @property
    def spoken(self) -> bool:
        """Whether text or thinking has been seen: what a client shows as it comes."""
        return self._events.drafts.spoken

    def response(self) -> WireResponse:
        """The answer, once the stream has ended."""
        self._cutter.end()
        return self._events.response()
