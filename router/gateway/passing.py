"""One answer passed on to its client: streamed event by event, or whole, in the client's own dialect.

What it was is read from the bytes as they go by. The status goes out once there is something to say, and from
then on nothing can switch.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from features.wire import StreamReader, parse_response
from router.gateway.attempts import Failure
from router.gateway.call import Trace
from router.gateway.crossing import returned, retyped
from router.gateway.errors import error_event, id_header
from router.gateway.exchange import whole
from router.gateway.holding import Spare
from router.gateway.refusals import HTML, shielded
from router.gateway.toolcheck import FAULT_FLAG
from router.gateway.translate import Whole
from router.gateway.upstream import THEIRS, as_ours, response_headers

if TYPE_CHECKING:
    from starlette.types import Send

    from features.wire import Dialect, WireResponse
    from router.gateway.connections import Answer
    from router.gateway.exchange import Exchange
    from router.gateway.hedge import Race
    from router.gateway.translate import StreamTranslation

NOT_JSON = "not_json"  # as parse_response says of what it can't read
MAX_WHOLE_BYTES = 64 * 2**20  # a longer answer that is no stream is passed on without being read


class Passing(Response):
    """What has gone out of one exchange, and how more goes."""

    def __init__(self, exchange: Exchange) -> None:
        self.status_code = 200
        self.background = None
        self._asked = exchange
        self._attempts = exchange.attempts
        self._out = exchange.first
        self._trace = Trace()
        self._committed = False  # the status has gone out
        self._through = False  # and so has everything else
        self._race: Race | None = None  # where another is asked too
        self._spare: Spare | None = None

    async def _end(self, send: Send, last: bytes = b"") -> None:
        """Send the end of the answer; a client that leaves from here on has got it all."""
        self._through = True
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _stream(self, answer: Answer, chunk: bytes, send: Send) -> None:
        """Pass events on as they come, the first of them here already; each is read after it was sent.

        Only those that come together with the end are read first, and go out with it.
        """
        trace = self._trace
        reader = StreamReader(self._dialect)
        translated = None if self._out.translation is None else self._out.translation.stream()
        readable = answer.headers.get("content-encoding", "identity") == "identity"
        last = b""
        try:
            await self._start(answer, send)
            while chunk:
                if translated is None and answer.at_eof():
                    last = chunk
                    break
                told = chunk if translated is None else translated.feed(chunk)
                if told:
                    await send({"type": "http.response.body", "body": told, "more_body": True})
                self._read(reader if readable else None, chunk)
                chunk = await answer.readany()
            if last:
                self._read(reader if readable else None, last)
            if translated is not None and (told := translated.end()):
                await send({"type": "http.response.body", "body": told, "more_body": True})
            finished = translated.complete if translated else reader.finished or whole(reader.response())
            if readable and not finished and trace.status == "ok":
                trace.status = "truncated"
                if translated is None and reader.response().error is None:
                    await self._say_broken(send, before=last)
                    last = b""
        except THEIRS as error:
            trace.status = "truncated"
            trace.error_kind = as_ours(error).kind
            await self._say_broken(send, translated)
            answer.release()
        finally:
            if trace.answer is None:
                self._take(reader.response())
        await self._end(send, last)

    async def _say_broken(
        self, send: Send, translated: StreamTranslation | None = None, before: bytes = b""
    ) -> None:
        """Tell the reader of a stream that nothing more comes, though it isn't over."""
        said = "the provider broke off its answer"
        broken = error_event(self._asked.dialect, said, self._asked.request_id)
        if translated is not None:
            broken = translated.broken(said)
        await send({"type": "http.response.body", "body": before + broken, "more_body": True})

    def _read(self, reader: StreamReader | None, chunk: bytes) -> None:
        if self._trace.first_byte_ms is None:
            self._trace.first_byte_ms = self._elapsed()
        if reader is None:
            return
        reader.feed(chunk)
        if self._trace.first_tool_call_ms is None and reader.tool_call_begun:
            self._trace.first_tool_call_ms = self._elapsed()
        if self._trace.answer is None and reader.finished:
            self._take(reader.response())

    def _take(self, answer: WireResponse) -> None:
        """Keep the answer, as much of it as there will be."""
        self._trace.answer = answer = self._seen(answer)
        if self._trace.status != "error":
            self._out.heard(answer)

    def _seen(self, answer: WireResponse) -> WireResponse:
        """An answer as its client will quote it."""
        translation = self._out.translation
        return answer if translation is None else translation.seen(answer)

    async def _whole(self, answer: Answer, send: Send) -> Failure | None:
        """Pass on an answer that is no stream, whole: one that breaks off is an error, not half a body."""
        trace = self._trace
        body = await _taken(answer)
        size = len(body)
        over = size > MAX_WHOLE_BYTES
        other = None if answer.status < 400 or over else self._shielded(answer, body)
        if self._out.translation is not None:
            return await self._whole_translated(answer, b"" if over else other or body, send)
        told = parse_response(self._asked.dialect, b"{}" if over else body)
        if not over and (rejected := self._of_no_use(answer, told, body)) is not None:
            return rejected
        if other is not None:
            body, size = other, len(other)
        shown = None if other is None else Whole(answer.status, "application/json", other)
        await self._start(answer, send, None if over else size, shown)
        trace.first_byte_ms = self._elapsed()
        if over:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            while chunk := await answer.readany():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self._end(send)
            return None
        await self._end(send, body)
        if any(part.kind == "tool_call" for part in told.parts):
            trace.first_tool_call_ms = trace.first_byte_ms
        self._take(told)
        if answer.status >= 400:
            trace.error_kind = told.error or f"http_{answer.status}"
        return None

    def _of_no_use(self, answer: Answer, told: WireResponse, body: bytes) -> Failure | None:
        """Why a whole answer isn't passed on: it is half of one, or its client can't carry it out."""
        plain = answer.headers.get("content-encoding", "identity") == "identity"
        if plain and (failure := _unanswered(answer, told)) is not None:
            return failure
        return self._rejected(answer, told, body) if self._mends(answer.status) else None

    def _mends(self, status: int) -> bool:
        """Whether an answer with this status is looked at before it goes out: another could be asked for."""
        mending = self._asked.mending
        return mending is not None and status < 400 and self._attempts.next(time.monotonic()) is not None

    def _rejected(
        self, answer: Answer, told: WireResponse, body: bytes, whole: Whole | None = None
    ) -> Failure | None:
        """Put an answer aside if its client can't carry it out, `body` as it would go out; it is paid for."""
        mending, trace = self._asked.mending, self._trace
        if mending is None or not mending.faults(told):
            return None
        assert trace.target is not None
        trace.spent.append((trace.target.deployment, told))
        trace.error_kind = FAULT_FLAG
        headers = self._theirs(answer, whole)
        self._spare = Spare(trace.target, self._out, answer.status, headers, body, told)
        return Failure(FAULT_FLAG)

    async def _give(self, spare: Spare, send: Send) -> None:
        """Give the answer that was put aside: no other came, and an error would be worse."""
        trace, self._out = self._trace, spare.out
        trace.take_back(spare)
        self._out.began()
        self._committed = True
        length = (b"content-length", str(len(spare.body)).encode())
        headers = [*spare.headers, *self._own_headers(), length]
        await send({"type": "http.response.start", "status": spare.status, "headers": headers})
        trace.first_byte_ms = trace.first_tool_call_ms = self._elapsed()
        await self._end(send, spare.body)
        self._out.heard(spare.told)

    async def _whole_translated(self, answer: Answer, body: bytes, send: Send) -> Failure | None:
        """Pass on an answer in the client's dialect; one that can't be read is an error of the provider's."""
        trace, made = self._trace, self._out.translation
        assert made is not None
        whole = made.whole(answer.status, body, answer.content_type)
        told = made.read(body, answer.content_type)
        if (failure := _unanswered(answer, told)) is not None:
            return failure
        if answer.status < 400 <= whole.status and self._attempts.next(time.monotonic()) is not None:
            return Failure("dropped")
        if self._mends(whole.status):
            rejected = self._rejected(answer, made.seen(told), whole.body, whole)
            if rejected is not None:
                return rejected
        if whole.status >= 400:
            trace.status = "error"
            trace.error_kind = trace.error_kind or f"http_{whole.status}"
        await self._start(answer, send, len(whole.body), whole)
        trace.first_byte_ms = self._elapsed()
        await self._end(send, whole.body)
        self._take(told)
        return None

    async def _start(
        self,
        answer: Answer,
        send: Send,
        length: int | None = None,
        whole: Whole | None = None,
    ) -> None:
        """Commit the status: from here on nothing can switch."""
        if self._race is not None and not self._race.won_by(self):
            raise asyncio.CancelledError
        status = answer.status if whole is None else whole.status
        headers = [*self._theirs(answer, whole), *self._own_headers()]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        if status < 400:
            self._out.began()
        elif (named := id_header(self._asked.dialect).encode()) not in dict(headers):
            headers.append((named, self._asked.request_id.encode()))
        self._committed = True
        await send({"type": "http.response.start", "status": status, "headers": headers})

    def _theirs(self, answer: Answer, whole: Whole | None) -> list[tuple[bytes, bytes]]:
        """Headers of the provider's, as its answer goes out."""
        translation, headers = self._out.translation, response_headers(answer)
        if translation is None:
            return headers if whole is None else retyped(headers, whole.media_type)
        return returned(headers, translation, whole)

    def _shielded(self, answer: Answer, body: bytes) -> bytes | None:
        """What goes out in place of a provider's error, if anything does."""
        assert self._trace.target is not None
        return shielded(answer, body, self._trace.target, self._dialect, self._asked.request_id)

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.encode(), value.encode("latin-1", "replace")) for name, value in self._own().items()]

    @property
    def committed(self) -> bool:
        """Whether the status has gone out."""
        return self._committed

    def _own(self) -> dict[str, str]:
        """Headers of ours, and how often was asked where that was more than once."""
        made = self._attempts.made
        return {**self._out.own, "x-samediff-attempts": str(made)} if made > 1 else {**self._out.own}

    @property
    def _dialect(self) -> Dialect:
        """Dialect of the deployment that is asked now."""
        made = self._out.translation
        return self._asked.dialect if made is None else made.upstream

    def _elapsed(self) -> float:
        return (time.perf_counter() - self._asked.arrived) * 1000


def _unanswered(answer: Answer, told: WireResponse) -> Failure | None:
    """Why a whole answer is none though its status says so: it can't be read, or it says that more comes."""
    if answer.status >= 400:
        return None
    if told.error == NOT_JSON:
        return Failure("html" if answer.content_type == HTML else NOT_JSON)
    return None if told.error is not None or whole(told) else Failure("dropped")


async def _taken(answer: Answer) -> bytes:
    """A body, whole or the beginning of one that is too long to be held; most come at once."""
    body = await answer.readany()
    if answer.at_eof():
        return body
    pieces, size, piece = [body], len(body), body
    while piece and size <= MAX_WHOLE_BYTES:
        piece = await answer.readany()
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
