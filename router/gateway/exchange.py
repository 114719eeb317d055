"""One request and the deployments that may answer it, as what forwards it is told; how long it is patient."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from features.value import Value
from features.wire import StreamReader
from router.gateway.attempts import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import TracebackType

    from features.wire import Dialect, WireResponse
    from router.gateway.attempts import Attempts, Target
    from router.gateway.call import Trace
    from router.gateway.connections import Headers
    from router.gateway.hedge import Hedge
    from router.gateway.holding import Mending
    from router.gateway.shared import Shared
    from router.gateway.splice import Pieces
    from router.gateway.translate import Translation

_PEEK_BYTES = 16 * 2**10  # of a stream, in which its first event is looked for
_PEEK_S = 2.0  # from its first byte on; what sends nothing but comments so long is passed on as it comes
_DATA = re.compile(rb"(?:^|[\r\n])data")
_EVENT = re.compile(rb"(?:^|[\r\n])data.*?(?:\n\n|\r\r|\r\n\r\n)", re.DOTALL)
_ERROR, _NO_ERROR = b'"error"', b'"error":null'  # an event with an error holds it; one of OpenAI's others
# A stream that begins with an error of one of these types is no answer: what its status would have been.
_STILLBORN = {
    "overloaded_error": 529,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "timeout_error": 504,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}


class Outgoing(Value, frozen=True):
    """A request as one deployment gets it, and who is told of its answer.

    `began` when the answer's first byte is here; `heard` as soon as the answer is whole, since a client that
    has read the last event may ask on before the provider has closed its stream.
    """

    url: str
    headers: Headers
    body: Pieces
    own: Mapping[str, str]  # headers of ours on the answer
    began: Callable[[], None]
    heard: Callable[[WireResponse], None]
    translation: Translation | None = None  # where the deployment speaks another dialect

    def __repr__(self) -> str:
        """Say where it goes; a query may hold a client's key, and the body is its own."""
        return f"Outgoing({self.url.partition('?')[0]!r}, {self.headers!r})"


class Exchange(Value, frozen=True):
    """One request, from its client's side; `ended` is called when nothing more can happen."""

    dialect: Dialect
    request_id: str
    stream: bool  # the client asked for one
    arrived: float  # by perf_counter
    first: Outgoing  # to the first deployment to be asked
    attempts: Attempts
    prepare: Callable[[Target], Outgoing]  # to any other
    ended: Callable[[Trace], None]
    mending: Mending | None = None  # an answer whose tool calls are broken is asked for again
    hedge: Hedge | None = None
    shared: Shared | None = None  # with those who send the same request again

    def outgoing(self, target: Target) -> Outgoing:
        """The request as a deployment gets it; BadInput if it can't be sent there."""
        return self.first if target is self.attempts.first else self.prepare(target)


class Patience:
    """Ends an attempt that has brought nothing for long by TimeoutError, if there is another to ask."""

    def __init__(self, seconds: float | None, elsewhere: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._elsewhere = elsewhere
        self._task: asyncio.Task[Any] | None = None  # that waits
        self._cancelling = 0  # by others
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Patience:
        """Begin to wait."""
        if self._seconds is not None and (task := asyncio.current_task()) is not None:
            self._task, self._cancelling = task, task.cancelling()
            self._timer = task.get_loop().call_later(self._seconds, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait no longer."""
        self.end()
        if self._over and self._task is not None:
            ours = self._task.uncancel() <= self._cancelling
            if ours and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def end(self) -> None:
        """Something is here: from now on it may take as long as it wants."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._elsewhere() and self._task is not None:
            self._over = True
            self._task.cancel()


PATIENT = Patience(None, lambda: False)  # for ever


async def first_event(first: bytes, chunks: AsyncIterator[bytes]) -> bytes:
    """Take in a stream that began with `first` until an event of it is whole: TCP cuts it anywhere.

    Comments are no event. Within 16 KiB and 2 s; b"" where the stream is over and none has begun.
    """
    chunk = first
    if _has_event(first):
        return first
    try:
        async with asyncio.timeout(_PEEK_S) as peek:
            while chunk and len(first) < _PEEK_BYTES and not _has_event(first):
                chunk = await anext(chunks, b"")
                first += chunk
    except TimeoutError:
        if not peek.expired():  # the provider's own silence
            raise
    return first if chunk or _DATA.search(first) else b""


def _has_event(first: bytes) -> bool:
    """Whether an event is whole; most are seen without looking for all the ways to end a line."""
    data = 0 if first.startswith(b"data") else first.find(b"\ndata")
    return (data >= 0 and first.find(b"\n\n", data) >= 0) or _EVENT.search(first) is not None


def stillborn(dialect: Dialect, first: bytes) -> Failure | None:
    """What is wrong with a stream that begins with these bytes: it is over, or an error of the provider."""
    if not first:
        return Failure("dropped")
    if first.count(_ERROR, 0, _PEEK_BYTES) == first.count(_NO_ERROR, 0, _PEEK_BYTES):
        return None  # where text or a tool call's arguments speak of one, its quotes are escaped
    reader = StreamReader(dialect)
    reader.feed(first)
    told = reader.response()
    return None if told.parts or told.error not in _STILLBORN else broke_off(told)


def whole(told: WireResponse) -> bool:
    """Whether a stream is over: by its terminal event or, as some sellers leave that out, by why it ended."""
    return told.complete or told.finish_reason is not None


def broke_off(told: WireResponse) -> Failure:
    """What a stream that isn't over came to: the error that it ends with, or it just ended."""
    status = _STILLBORN.get(told.error or "")
    return Failure("dropped") if status is None else Failure(f"http_{status}", status)
