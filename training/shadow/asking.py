"""Asking: the plan's requests in their order, as many at a time as wanted, never beyond the cap."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from features.errors import BadInput
from router.gateway.upstream import Upstream
from training.shadow.bodies import body_to_send, output_limit, read_body
from training.shadow.exchange import Ready, exchange, lost_call, now_ms
from training.shadow.frame import bodies
from training.shadow.ledger import Item, Ledger, PlannedCall, Sent, Settled, call_name
from training.shadow.money import Purse, prompt_bound, prompt_estimate, worst_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from features.wire.types import WireRequest
    from router.catalog import Catalog, Deployment
    from router.gateway.settings import UpstreamSettings
    from training.log import LogStore

Stop = Literal["budget", "exhausted", "failing"]
READ_AHEAD = 32  # bodies held in memory
RETRIES = 3  # of a call that was refused for its rate
MAX_WAIT_S = 60.0
FAILURES_IN_A_ROW = 10  # of one deployment; then the provider is down, and money is only burnt
_MISPLACED = frozenset({401, 403, 404})  # the next call would be refused as well


class Limits(NamedTuple):
    """How the calls are made."""

    concurrency: int = 4
    timeout_s: float = 300.0
    retry_unsettled: bool = False
    poll_s: float = 5.0  # before a batch is looked at again; twice as long each time


class Asker:
    """Asks the requests of one run; `told` is called after every settled call."""

    def __init__(
        self,
        ledger: Ledger,
        purse: Purse,
        catalog: Catalog,
        environ: Mapping[str, str],
        *,
        limits: Limits,
        told: Callable[[Settled], None],
    ) -> None:
        assert ledger.plan is not None
        self._ledger = ledger
        self._plan = ledger.plan
        self._purse = purse
        self._catalog = catalog
        self._environ = environ
        self._limits = limits
        self._told = told
        self._changed = asyncio.Condition()
        self._on_their_way = 0
        self._failures: Counter[str] = Counter()
        self._down = False  # a deployment fails again and again
        self._refused: BadInput | None = None  # a key or a model is, so would be the next call
        self._tried: set[str] = set()  # names of calls that a batch has been made of
        self._lost: set[str] = set()  # batches that the provider doesn't know

    async def ask(self, log: LogStore, settings: UpstreamSettings) -> Stop:
        """Ask until the money or the plan is at its end; raises BadInput when a key or model is refused.

        What is on its way when it stops is waited for: it is paid for.
        """
        stop: Stop | None = None
        upstream = Upstream(settings)
        try:
            async with asyncio.TaskGroup() as group:
                stop = await self._go_through(group, upstream, log)
        finally:
            await upstream.close()
        if self._refused is not None:
            raise self._refused
        return "failing" if self._down else stop or "exhausted"

    async def _go_through(self, group: asyncio.TaskGroup, upstream: Upstream, log: LogStore) -> Stop | None:
        """Start the items in their order until one can't be."""
        try:
            for item, row in self._rows(log):
                stop = await self._admit(group, upstream, item, row)
                if stop is not None:
                    return stop
        except BadInput as error:  # kept until what is on its way has come back
            self._refused = self._refused or error
        return None

    @property
    def _halted(self) -> bool:
        return self._down or self._refused is not None

    def _rows(self, log: LogStore) -> Iterator[tuple[Item, dict[str, Any]]]:
        """Items that still have something to send, each with its row of the log, read a few at a time."""
        items = self._ledger.items
        if self._ledger.closed:  # its threshold is set: nothing is begun that wasn't
            items = [item for item in items if self._ledger.began(item)]
        todo = [item for item in items if any(self._open(item))]
        for start in range(0, len(todo), READ_AHEAD):
            chunk = todo[start : start + READ_AHEAD]
            rows = bodies(log, [item.request_id for item in chunk])
            for item in chunk:
                if item.request_id not in rows:
                    raise BadInput(
                        f"{log.path}: request {item.request_id} of the plan is gone; use another --seed"
                    )
                yield item, rows[item.request_id]

    def _open(self, item: Item) -> Iterator[tuple[PlannedCall, str, int]]:
        """Calls of an item that may be sent, each with its id and attempt."""
        for planned in item.calls:
            name = call_name(self._plan.run, item, planned)
            attempt = self._ledger.to_send(name, retry_unsettled=self._limits.retry_unsettled)
            if attempt is not None:
                yield planned, name, attempt

    async def _admit(
        self, group: asyncio.TaskGroup, upstream: Upstream, item: Item, row: dict[str, Any]
    ) -> Stop | None:
        """Start one item as soon as there is a free place and money for its worst case; say why not.

        Room for the dearest item of the plan is asked for, not for this one, so that where the run stops
        doesn't depend on the prices of what comes next (see `sampling`).
        """
        calls = self._ready(item, row)
        amount = sum((call.worst_usd for call in calls), start=Decimal(0))
        async with self._changed:
            await self._changed.wait_for(lambda: self._on_their_way < self._limits.concurrency)
            while not self._purse.reserve(amount, room=self._plan.biggest_usd):
                if not self._on_their_way:
                    return "budget"
                await self._changed.wait()
            if self._halted:
                self._purse.settle(amount, Decimal(0))
                return "failing"
            self._on_their_way += 1
        group.create_task(self._item(upstream, item, calls))
        return None

    def _ready(self, item: Item, row: dict[str, Any]) -> list[Ready]:
        request, body, reason = read_body(item.dialect, row["prompt_text"])
        if request is None or reason is not None:  # the rules have changed since the plan was made
            return []
        return [self._prepare(item, request, body, *found) for found in self._open(item)]

    def _tier(self, deployment: Deployment) -> str | None:  # noqa: ARG002 — batches have one
        """The service tier that a call is priced at."""
        return None

    def _prepare(
        self, item: Item, request: WireRequest, body: dict[str, Any], planned: PlannedCall, *of: Any
    ) -> Ready:
        name, attempt = of
        deployment = self._catalog.deployments.get(planned.deployment)
        if deployment is None:
            raise BadInput(
                f"deployment {planned.deployment} of the plan has left the catalogue; use another --seed"
            )
        limit = output_limit(request, body, self._plan.max_output_tokens)
        newer = deployment.provider in ("openai", "azure", "openrouter")
        sent = body_to_send(body, item.dialect, deployment.model, limit, newer=newer)
        logged = None if item.logged_tokens is None else (item.logged_model or "", item.logged_tokens)
        tokens = prompt_bound(prompt_estimate(deployment.model, request.body_bytes, logged))
        tier, hourly = self._tier(deployment), b'"1h"' in sent
        usd = worst_case(deployment, tokens, limit, now_ms(), hourly=hourly, service_tier=tier)
        if usd is None:
            raise BadInput(f"{planned.candidate} has no published price any more, so no cap can hold it")
        return Ready(name, attempt, planned, deployment, sent, usd)

    async def _item(self, upstream: Upstream, item: Item, calls: list[Ready]) -> None:
        """Make the calls of one item one after the other, so that the second finds the first one's cache."""
        left = list(calls)
        try:
            while left and not self._halted:
                await self._call(upstream, item, left.pop(0))
        finally:
            for call in left:  # never sent
                self._purse.settle(call.worst_usd, Decimal(0))
            async with self._changed:
                self._on_their_way -= 1
                self._changed.notify_all()

    async def _call(self, upstream: Upstream, item: Item, call: Ready) -> None:
        """Make one call; the money is settled whatever happens to it."""
        attempt = call.attempt
        while True:
            self._ledger.write(self._sent(item, call, attempt))
            settled, wait_s = await self._exchange(upstream, call, attempt)
            again = settled.http_status == 429 and attempt - call.attempt < RETRIES
            if not again:
                self._purse.settle(call.worst_usd, settled.usd)
            self._told(settled)
            self._judge_health(call, settled)
            if not again:
                return
            try:
                await asyncio.sleep(min(MAX_WAIT_S, wait_s))
            except asyncio.CancelledError:
                self._purse.settle(call.worst_usd, settled.usd)
                raise
            attempt += 1

    def _sent(self, item: Item, call: Ready, attempt: int) -> Sent:
        return Sent(
            call=call.name,
            attempt=attempt,
            request_id=item.request_id,
            role=call.planned.role,
            candidate=call.planned.candidate,
            deployment=call.deployment.id,
            reserved_usd=call.worst_usd,
            ts_ms=now_ms(),
        )

    async def _exchange(self, upstream: Upstream, call: Ready, attempt: int) -> tuple[Settled, float]:
        """Send a call and write down what came of it; a cancelled one counts at its reservation."""
        try:
            answer = await exchange(upstream, call, attempt, self._limits.timeout_s, self._environ)
        except asyncio.CancelledError:
            self._ledger.write(lost_call(call.name, attempt, "cancelled", call.worst_usd))
            self._purse.settle(call.worst_usd, call.worst_usd)
            raise
        self._ledger.write(answer[0])
        return answer

    def _judge_health(self, call: Ready, settled: Settled) -> None:
        """Stop early where the next call would go wrong as well."""
        if settled.http_status in _MISPLACED:
            setting = call.deployment.key_env or "the catalogue"
            self._refused = BadInput(
                f"{call.deployment.id} refuses with {settled.http_status}: check {setting}; "
                "that call cost nothing, and the same command goes on from here"
            )
        name = call.deployment.id
        self._failures[name] = 0 if settled.status in ("ok", "truncated") else self._failures[name] + 1
        if self._failures[name] >= FAILURES_IN_A_ROW:
            self._down = True
