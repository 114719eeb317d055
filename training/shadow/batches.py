"""Asking in batches: at half the price, within a day, under the same cap and in the same ledger.

A round hands in as many requests as the money allows at their worst, waits for the results, and starts again
with what they left over. Calls to sellers without a batch endpoint are made the ordinary way in between. A
batch stands in the ledger before it leaves, so that a resumed run looks for it instead of paying twice.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace

from features.errors import BadInput
from router.gateway.errors import UpstreamError
from router.gateway.upstream import Upstream
from training.shadow.asking import Asker
from training.shadow.batch_api import MAX_BYTES, MAX_CALLS, BatchApi, NotNow, Result, batchable
from training.shadow.exchange import Ready, lost_call, now_ms, read_answer
from training.shadow.ledger import Batch, Submitted, batch_id, xxh128

if TYPE_CHECKING:
    from router.catalog import Deployment
    from router.gateway.settings import UpstreamSettings
    from training.log import LogStore
    from training.shadow.asking import Stop
    from training.shadow.ledger import Item, Sent, Settled

MAX_POLL_S = 60.0
FAILED_LOOKS = 30  # in a row, at a batch; then the run stops, and the same command looks again
_Round = list[tuple["Item", list[Ready]]]


class BatchAsker(Asker):
    """Asks the requests of one run in batches, where the seller takes them and `more` is set."""

    more = True  # False: only bring in what an earlier process handed in

    async def ask(self, log: LogStore, settings: UpstreamSettings) -> Stop:
        """Ask until the money or the plan is at its end; raises BadInput when a key or model is refused."""
        upstream = Upstream(settings)
        try:
            self._hold_open()
            await self._collect(upstream)
            while not self._halted:
                stop, chosen = self._round(log)
                if not chosen:
                    return stop
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._ordinary(upstream, chosen))
                    group.create_task(self._batched(upstream, chosen))
        except* BadInput as refused:
            self._refused = self._refused or next(e for e in refused.exceptions if isinstance(e, BadInput))
        finally:
            await upstream.close()
        if self._refused is not None:
            raise self._refused
        return "failing"

    def _tier(self, deployment: Deployment) -> str | None:
        return "batch" if self.more and batchable(deployment) else None

    def _hold_open(self) -> None:
        """Count what an earlier process handed in as set aside: its results may give some of it back."""
        held = sum((s.reserved_usd for b in self._ledger.batches for s in self._open_calls(b)), Decimal(0))
        self._purse.spent -= held
        self._purse.reserved += held

    def _open_calls(self, batch: str) -> list[Sent]:
        return list(self._ledger.open_calls(batch).values())

    def _round(self, log: LogStore) -> tuple[Stop, _Round]:
        """The next items in their order that the money and a batch have room for."""
        chosen: _Round = []
        size = calls = 0
        for item, row in self._rows(log):
            ready = [call for call in self._ready(item, row) if call.name not in self._tried]
            if not ready:
                continue
            amount = sum((call.worst_usd for call in ready), start=Decimal(0))
            size, calls = size + sum(len(call.body) for call in ready), calls + len(ready)
            full = chosen and (size > MAX_BYTES or calls > MAX_CALLS)
            if full or not self._purse.reserve(amount, room=self._plan.biggest_usd):
                return "budget", chosen
            self._tried.update(call.name for call in ready)
            chosen.append((item, ready))
        return "exhausted", chosen

    async def _ordinary(self, upstream: Upstream, chosen: _Round) -> None:
        """Make the calls to sellers without batches, as many items at a time as wanted."""
        async with asyncio.TaskGroup() as group:
            for item, ready in chosen:
                calls = [call for call in ready if self._tier(call.deployment) is None]
                if not calls:
                    continue
                async with self._changed:
                    await self._changed.wait_for(lambda: self._on_their_way < self._limits.concurrency)
                    self._on_their_way += 1
                group.create_task(self._item(upstream, item, calls))

    async def _batched(self, upstream: Upstream, chosen: _Round) -> None:
        """Hand in one batch for each deployment, then bring all of them in."""
        by_deployment: dict[str, list[tuple[Item, Ready]]] = defaultdict(list)
        for item, ready in chosen:
            for call in ready:
                if self._tier(call.deployment) is not None:
                    by_deployment[call.deployment.id].append((item, call))
        for calls in by_deployment.values():
            await self._hand_in(upstream, calls)
        await self._collect(upstream)

    async def _hand_in(self, upstream: Upstream, calls: list[tuple[Item, Ready]]) -> None:
        """Write a batch down and hand it in; one that is refused cost nothing."""
        deployment = calls[0][1].deployment
        name = xxh128(f"{calls[0][1].name}\0{calls[0][1].attempt}\0{deployment.id}")
        sent = [
            replace(self._sent(item, call, call.attempt), batch=name) for item, call in calls
        ]  # all of it in one write: a kill leaves the whole batch in the ledger or nothing
        self._ledger.write(Batch(batch=name, deployment=deployment.id, ts_ms=now_ms()), *sent)
        api = BatchApi(upstream, deployment, self._environ)
        try:
            found = await api.submit(
                name, [(batch_id(s), call.body) for s, (_, call) in zip(sent, calls, strict=True)]
            )
        except BadInput as refused:
            self._refused = refused
            for line in sent:
                self._settle(line, _not_run(line, "refused", "batch_refused"))
            return
        except (UpstreamError, NotNow):
            return  # it may have arrived all the same: it is looked for when the others are brought in
        self._ledger.write(Submitted(batch=name, provider_id=found))

    async def _collect(self, upstream: Upstream) -> None:
        """Wait for every batch that has open calls, and settle them by its results."""
        waiting = [
            batch
            for name, batch in self._ledger.batches.items()
            if name not in self._lost and self._open_calls(name)
        ]
        async with asyncio.TaskGroup() as group:
            for batch in waiting:
                group.create_task(self._bring_in(upstream, batch))

    async def _bring_in(self, upstream: Upstream, batch: Batch) -> None:
        deployment = self._catalog.deployments.get(batch.deployment)
        if deployment is None:
            raise BadInput(f"deployment {batch.deployment} of a batch has left the catalogue; put it back")
        api = BatchApi(upstream, deployment, self._environ)
        failures, wait_s = 0, self._limits.poll_s
        while True:
            try:
                found = await self._id(api, batch)
                if found is None:  # it never arrived, or can't be told from others: as after a kill
                    self._lost.add(batch.batch)
                    for line in self._open_calls(batch.batch):
                        self._purse.settle(line.reserved_usd, line.reserved_usd)
                    return
                if await api.over(found):
                    await self._read(api, batch, found, deployment)
                    return
                failures = 0
            except (UpstreamError, NotNow) as error:
                failures += isinstance(error, UpstreamError)
                if failures >= FAILED_LOOKS:
                    self._down = True
                    return
            await asyncio.sleep(wait_s)
            wait_s = min(MAX_POLL_S, 2 * wait_s)

    async def _id(self, api: BatchApi, batch: Batch) -> str | None:
        known = self._ledger.submitted.get(batch.batch)
        if known is not None:
            return known
        taken = set(self._ledger.submitted.values())
        found = await api.find(batch.batch, self._ledger.open_calls(batch.batch), taken)
        if found is not None:
            self._ledger.write(Submitted(batch=batch.batch, provider_id=found))
        return found

    async def _read(self, api: BatchApi, batch: Batch, found: str, deployment: Deployment) -> None:
        """Settle the calls of a batch that is over; what it doesn't list counts at its reservation."""
        open_ = self._ledger.open_calls(batch.batch)
        async for result in api.results(found):
            line = open_.pop(result.custom_id, None)
            if line is not None:
                self._settle(line, _settled(deployment, line, result))
        for line in open_.values():
            self._settle(line, lost_call(line.call, line.attempt, "failed", line.reserved_usd))

    def _settle(self, line: Sent, settled: Settled) -> None:
        self._ledger.write(settled)
        self._purse.settle(line.reserved_usd, settled.usd)
        self._told(settled)


def _settled(deployment: Deployment, line: Sent, result: Result) -> Settled:
    if result.body is None:
        return _not_run(line, "cancelled", "batch_not_run")
    lost = lost_call(line.call, line.attempt, "failed", line.reserved_usd)
    return read_answer(deployment, lost, result.status, result.body, "batch")


def _not_run(line: Sent, status: str, kind: str) -> Settled:
    """A call that the provider never ran, and doesn't bill."""
    lost = lost_call(line.call, line.attempt, "failed", line.reserved_usd)
    return replace(lost, status=status, usd=Decimal(0), counted="nothing", error_kind=kind)
