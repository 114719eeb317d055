"""The answer to a forwarded request: deployments asked in turn, one's bytes passed on, leaving clients seen.

A response class of its own, because the status must not be committed before upstream has answered, and
because a client that leaves, before the first byte or after it, must stop the spending at once. Until the
first byte has gone out another deployment may be asked; after that nothing switches.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from features.errors import BadInput
from features.wire import StreamReader
from router.gateway.attempts import Failure, failure_of
from router.gateway.errors import error_event, error_response, said_of
from router.gateway.exchange import PATIENT, Patience, broke_off, first_event, stillborn, whole
from router.gateway.hedge import Race
from router.gateway.holding import held
from router.gateway.leaving import watch
from router.gateway.passing import Passing
from router.gateway.ratelimits import allowance
from router.gateway.toolcheck import FAULT_FLAG
from router.gateway.upstream import THEIRS, as_ours

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.types import Receive, Scope, Send

    from router.gateway.attempts import Target
    from router.gateway.connections import Answer
    from router.gateway.exchange import Exchange
    from router.gateway.health import Ticket
    from router.gateway.hedge import Hedge
    from router.gateway.shared import Shared
    from router.gateway.upstream import Upstream


class Forwarded(Passing):
    """Makes one exchange and passes the answer on."""

    def __init__(self, upstream: Upstream, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._upstream = upstream
        self._won: Forwarded | None = None  # who answers, where another was asked too
        self._others: asyncio.Task[None] | None = None  # waits for those who were to get the same answer
        self._task: asyncio.Task[None] | None = None  # that forwards, as long as it does
        self._left = False
        self._why: Failure | None = None  # nobody has answered yet

    @property
    def _lead(self) -> Forwarded:
        """Who answers; kept as no attribute, since what holds itself is freed late."""
        return self._won or self

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Exchange with upstream until the answer is through or everyone who wants it has left."""
        shared = self._asked.shared
        if shared is None:
            return self._forward(scope, receive, send)
        return self._give_all(shared, scope, receive, send)

    async def _give_all(self, shared: Shared, scope: Scope, receive: Receive, send: Send) -> None:
        """Exchange with upstream, for others too."""
        try:
            await self._forward(scope, receive, shared.tee(send))
        finally:
            shared.close(came_through=self._lead._trace.status == "ok")

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exchange with upstream in this task, which is cancelled as soon as nobody is left."""
        self._task = task = asyncio.current_task(self._upstream.loop)
        assert task is not None
        stopping = False
        stop_watching = watch(scope, receive, self._client_gone)
        try:
            hedge = self._asked.hedge
            if not await (self._ask_in_turn(send) if hedge is None else self._ask_late(hedge, send)):
                spare = self._spare
                await (self._give_up(scope, receive, send) if spare is None else self._give(spare, send))
        except asyncio.CancelledError:
            if self._left:
                task.uncancel()
            stopping = task.cancelling() > 0  # the server stops and has waited long enough
            if (self._left or stopping) and not self._lead._through:
                self._lead._trace.status = "cancelled"
        finally:
            self._task = None
            stop_watching()
            if self._others is not None:
                self._others.cancel()
            trace = self._lead._trace
            trace.latency_ms = self._elapsed()
            self._asked.ended(trace)
        if stopping and not self._lead._through:
            await self._lead._say_goodbye(scope, receive, send)

    def _client_gone(self) -> None:
        """Leave when the client has left, and all who were to get the same answer."""
        shared = self._asked.shared
        if shared is None or not shared.wanted:
            self._leave()
        else:
            self._others = asyncio.create_task(shared.abandoned())
            self._others.add_done_callback(self._leave)

    def _leave(self, _: object = None) -> None:
        answering = self._lead if self._race is None else self._race.winner or self._lead
        if self._task is not None and not answering._through:
            self._left = self._task.cancel()

    async def _say_goodbye(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell a client that the server stops before its answer is through."""
        dialect, request_id = self._asked.dialect, self._asked.request_id
        message = "samediff is being stopped"
        if not self._committed:
            await error_response(dialect, 503, message, request_id, self._own())(scope, receive, send)
        else:
            await self._end(send, error_event(dialect, message, request_id))

    async def _ask_late(self, hedge: Hedge, send: Send) -> bool:
        """Ask, and ask another too if nothing has come when it should have; the loser is cancelled."""
        mine = asyncio.create_task(self._ask_in_turn(send))
        racers = {mine: self}
        try:
            await asyncio.wait(racers, timeout=hedge.after_s)
            found = None if mine.done() or self._committed else hedge.rival()
            if found is None:
                return await mine
            target, attempts = found
            first = self._asked.prepare(target)
            rival = Forwarded(self._upstream, replace(self._asked, attempts=attempts, first=first))
            self._race = rival._race = Race()
            racers[asyncio.create_task(rival._ask_in_turn(send))] = rival
            return await self._winner(racers, self._race)
        finally:
            for task in racers:
                task.cancel()
            await asyncio.wait(racers)

    async def _winner(self, racers: dict[asyncio.Task[bool], Forwarded], race: Race) -> bool:
        """Wait for the first of two attempts to answer; failing without an answer isn't winning."""
        decided = asyncio.create_task(race.decided.wait())
        pending = set(racers)
        while race.winner is None and pending:
            done, _ = await asyncio.wait({*pending, decided}, return_when=asyncio.FIRST_COMPLETED)
            pending -= done
        decided.cancel()
        mine, theirs = racers
        won = theirs if race.winner is racers[theirs] else mine
        lost = mine if won is theirs else theirs
        self._won = racers[won]
        if not lost.done():
            racers[lost]._trace.error_kind = "hedge_lost"
            lost.cancel()
            await asyncio.wait({lost})
        try:
            return await won
        finally:
            self._lead._trace.raced(racers[mine]._trace, racers[theirs]._trace)

    async def _ask_in_turn(self, send: Send) -> bool:
        """Ask one deployment after another, until one answers; False if none is left to ask."""
        while (step := self._attempts.next(time.monotonic())) is not None:
            if step.wait_s:
                self._attempts.waits(step.wait_s)
                await asyncio.sleep(step.wait_s)
                continue
            failed = await self._attempt(step.target, send)
            if failed is None:
                return True
            if self._why is None or failed.kind != "refused":  # which says nothing of why it was asked at all
                self._why = failed
        return False

    async def _attempt(self, target: Target, send: Send) -> Failure | None:
        """Ask one deployment and pass its answer on; returns a failure that its client doesn't see."""
        trace = self._trace
        try:
            self._out = out = self._asked.outgoing(target)
        except BadInput:  # a header that can't be sent there
            self._attempts.leave_out(target)
            return Failure("refused")
        began = time.monotonic()
        ticket = self._attempts.begin(target, began)
        trace.begin(target)
        failure: Failure | None = None
        try:
            with self._patience(target) as patience:
                answer = await self._upstream.ask(out.url, out.headers, out.body)
                try:
                    failure = await self._answered(answer, target, ticket, send, patience)
                finally:
                    answer.release()
        except THEIRS as error:
            failure = Failure(as_ours(error).kind)
            self._failed(target, ticket, failure)
            trace.status = "truncated" if self._committed else "error"
        finally:
            self._attempts.health.end(ticket)
            trace.end((time.monotonic() - began) * 1000)
        # Too late for another answer once the status is out; not ending this one makes the server hang up.
        return None if self._committed else failure

    def _patience(self, target: Target) -> Patience:
        """How long is waited for a first byte: no longer than another could be asked instead."""
        if not self._asked.stream:  # the answer is written as a whole, and may take its time
            return PATIENT
        attempts = self._attempts
        return Patience(attempts.settings.first_byte_s, lambda: attempts.elsewhere(target, time.monotonic()))

    async def _answered(
        self, answer: Answer, target: Target, ticket: Ticket, send: Send, patience: Patience
    ) -> Failure | None:
        """Pass on what comes back, unless it is a failure and another can be asked."""
        translation, attempts, trace = self._out.translation, self._attempts, self._trace
        trace.http_status = answer.status
        trace.status = "ok" if answer.status < 400 else "error"
        now_s = time.time()
        if target.ours and (left := allowance(answer.headers, now_s)) is not None:
            attempts.health.told(ticket, left, time.monotonic())
        failure = failure_of(answer.status, answer.headers, now_s, ours=target.ours)
        first = b""
        events = (
            answer.content_type == "text/event-stream"
            and answer.status < 400
            and (self._asked.stream or translation is None)
        )
        if events and failure is None:
            first = await answer.readany()
            patience.end()
            if answer.headers.get("content-encoding", "identity") == "identity":
                first = await first_event(first, answer)
            failure = stillborn(self._dialect, first)
        patience.end()
        if failure is not None:
            self._failed(target, ticket, failure)
            if failure.kind == "odd_status" or self._spare is not None:
                return failure
            if attempts.next(time.monotonic()) is not None:
                return failure
        if events and failure is None and self._mends(answer.status):
            first, rejected = await self._held(answer, first)
            if rejected is not None:
                return self._put_aside(target, ticket, rejected)
        if events:
            await self._stream(answer, first, send)
        elif (rejected := await self._whole(answer, send)) is not None:
            return self._put_aside(target, ticket, rejected)
        if failure is None:
            self._judge(target, ticket)
        return None

    def _put_aside(self, target: Target, ticket: Ticket, why: Failure) -> Failure:
        """Note an answer that isn't passed on; a broken tool call is no fault of its deployment's."""
        if why.kind == FAULT_FLAG:
            self._attempts.health.answered(ticket, time.monotonic())
        else:
            self._failed(target, ticket, why)
        return why

    async def _held(self, answer: Answer, first: bytes) -> tuple[bytes, Failure | None]:
        """Hold a stream back as far as is wanted: its beginning, or why another is asked instead."""
        mending, trace = self._asked.mending, self._trace
        if mending is None or not mending.holds:
            return first, None
        assert trace.target is not None
        reader = StreamReader(self._dialect)
        try:
            taken = await held(mending, reader, first, answer)
        except THEIRS:
            trace.spent.append((trace.target.deployment, self._seen(reader.response())))
            raise
        except asyncio.CancelledError:  # nobody wants it any more; what came is paid for
            self._take(reader.response())
            raise
        if not taken.over:
            return taken.body, None
        told = self._seen(reader.response())
        if not whole(told):
            trace.spent.append((trace.target.deployment, told))
            trace.status = "truncated"
            return taken.body, broke_off(told)
        translation = self._out.translation
        body = taken.body
        if translation is not None:
            stream = translation.stream()
            body = stream.feed(body) + stream.end()
        return taken.body, self._rejected(answer, told, body)

    def _judge(self, target: Target, ticket: Ticket) -> None:
        """Tell the deployment's health what became of an answer that had begun."""
        if self._trace.status == "truncated":
            self._failed(target, ticket, Failure(self._trace.error_kind or "dropped"))
        else:
            self._attempts.health.answered(ticket, time.monotonic())

    def _failed(self, target: Target, ticket: Ticket, failure: Failure) -> None:
        self._trace.error_kind = failure.kind
        self._trace.opened += self._attempts.failed(target, ticket, failure, time.monotonic())

    async def _give_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say that there is no answer: everything failed, or asked to be left alone for a while."""
        asked, trace, own, failure = self._asked, self._trace, self._own(), self._lead._why
        if failure is None:
            failure = Failure("at_limit", 429, self._attempts.retry_after_s(time.monotonic()))
        if failure.retry_after_s is not None:
            own["retry-after"] = f"{failure.retry_after_s:.0f}"
        status, message = said_of(failure.kind, failure.status)
        trace.status, trace.error_kind, trace.http_status = "error", failure.kind, failure.status
        self._through = True
        await error_response(asked.dialect, status, message, asked.request_id, own)(scope, receive, send)
