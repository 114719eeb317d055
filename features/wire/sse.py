"""Server-sent events, cut into chunks anywhere, into one answer; bounded, and never an error of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from features.wire import anthropic_messages, openai_chat, openai_responses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from features.wire.drafts import Drafts
    from features.wire.types import Dialect, WireResponse

MAX_LINE_BYTES = 16 * 2**20  # a longer line is skipped and counted: no answer has one
_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"
# A line of data; said, where it is an event's only one.
_LONE = re.compile(rb"\ndata(?:: ?+([^\n]+)\n(?=\n))?")


class _Events(Protocol):
    """What each dialect does with its events."""

    finished: bool
    drafts: Drafts

    @property
    def decode(self) -> Callable[[bytes], list[Any]]:
        """Decodes a list of events."""

    def take(self, events: Sequence[Any]) -> None:
        """Take decoded events, in order."""

    def response(self) -> WireResponse:
        """What the events add up to so far."""


_READERS: dict[Dialect, type[_Events]] = {
    "openai_chat": openai_chat.Events,
    "anthropic_messages": anthropic_messages.Events,
    "openai_responses": openai_responses.Events,
}


class EventCutter:
    """Cuts bytes, however they come, into the data of events; `dropped` counts lines that were too long."""

    def __init__(self) -> None:
        self._tail: list[bytes] = []  # pieces of the line that isn't over yet
        self._tail_bytes = 0
        self._after_cr = False
        self._data: list[bytes] = []  # data lines of the event that isn't over yet
        self._first = True  # a mark of the byte order may come
        self.dropped = 0

    def cut(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes of the stream, cut anywhere: the data of the events that are over with them."""
        if self._first and chunk and not self._tail_bytes and not chunk.startswith(_BOM[:1]):
            self._first = False
        if chunk.find(b"\r") >= 0 or self._after_cr or self._first:  # `in` first takes bytes for a number
            return self._by_line(chunk)
        begun = chunk.find(b"\n\n") + 2 if self._tail_bytes or self._data else 0
        whole = chunk.rfind(b"\n\n") + 2
        plain = None if begun == 1 or whole < 2 else self._plain(chunk, begun, whole)
        if plain is None:
            return self._by_line(chunk)
        found = [*self._by_line(chunk[:begun]), *plain] if begun else plain
        return found if whole == len(chunk) else found + self._by_line(chunk[whole:])

    @staticmethod
    def _plain(chunk: bytes, start: int, end: int) -> list[bytes] | None:
        """The data of the events between two places, if each has one line of it, its last, as all do."""
        found: list[bytes] = _LONE.findall(b"\n" + chunk[start:end])
        return None if b"" in found else found

    def _by_line(self, chunk: bytes) -> list[bytes]:
        """Cut whatever comes, line by line."""
        found: list[bytes] = []
        if self._after_cr and chunk.startswith(b"\n"):  # the second half of a CRLF cut in two
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return found
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._keep(chunk)
            return found
        first, *lines, rest = chunk.split(b"\n")
        self._keep(first)
        self._end_line(found)
        data = self._data
        for line in lines:  # as _line does, for many
            if not line:
                if data:
                    self._end_event(found)
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
        self._keep(rest)
        return found

    def _keep(self, piece: bytes) -> None:
        """Add to the line that isn't over yet; of a line too long only the length is kept."""
        self._tail_bytes += len(piece)
        if self._tail_bytes > MAX_LINE_BYTES:
            self._tail.clear()
        elif piece:
            self._tail.append(piece)

    def _end_line(self, found: list[bytes]) -> None:
        line = b"".join(self._tail)
        too_long = self._tail_bytes > MAX_LINE_BYTES
        self._tail.clear()
        self._tail_bytes = 0
        if too_long:
            self.dropped += 1
        else:
            self._line(line, found)

    def _line(self, line: bytes, found: list[bytes]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            self._end_event(found)
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])

    def _end_event(self, found: list[bytes]) -> None:
        """An event is over. Its name is repeated in its data, in every dialect here."""
        if self._data:
            found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data.clear()

    def end(self) -> list[bytes]:
        """The stream has ended; an event without its closing blank line still counts."""
        found: list[bytes] = []
        self._end_line(found)
        self._end_event(found)
        return found


class StreamReader:
    """Reads one streamed answer as it passes by."""

    def __init__(self, dialect: Dialect) -> None:
        self._events: _Events = _READERS[dialect]()
        self._cutter = EventCutter()
        self._unread = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere; never raises on bad data."""
        if found := self._cutter.cut(chunk):
            self._take(found)

    def _take(self, found: list[bytes]) -> None:
        """Take the data of events: decoded at once or, where one is odd, each by itself."""
        events, done = self._events, found[-1] == _DONE
        if done:
            del found[-1]
        try:
            decoded = events.decode(b"[%b]" % b",".join(found))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = []
        if len(decoded) == len(found):
            events.take(decoded)
        elif len(found) > 1:
            for data in found:
                self._take([data])
        elif found[0].strip() == _DONE:
            done = True
        else:
            self._unread += 1
        events.finished = events.finished or done

    @property
    def dropped(self) -> int:
        """Events that couldn't be read."""
        return self._cutter.dropped + self._unread

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
        if found := self._cutter.end():
            self._take(found)
        return self._events.response()
