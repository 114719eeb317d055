"""The calls of a log with their money: what was paid and what the price table says, all in Decimal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import polars as pl

from features.errors import BadInput
from features.wire.types import Usage
from router import prices
from training.log import STATE_FILE, LogStore, day_of
from training.progress import track
from training.sources.checks import PAID_FLAG, is_one_call, model_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from decimal import Decimal
    from pathlib import Path

NO_MODEL = "no model named"


class Call(NamedTuple):
    """One request of the log; the names are those of RequestRecord, None is unknown."""

    request_id: str
    session_id: str
    parent_session_id: str | None
    ts_ms: int
    turn: int | None
    source: str
    harness: str | None
    user: str | None
    tenant: str | None
    repo: str | None
    branch: str | None
    task_id: str | None
    task_type: str | None
    model_requested: str | None
    model_served: str | None
    candidate: str | None
    provider: str | None
    effort: str | None
    service_tier: str | None
    input_tokens_uncached: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    cache_write_1h_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    reasoning_in_output: bool | None
    cost_usd: Decimal | None
    cost_source: str
    status: str
    attempts: int | None
    tools_called: list[str] | None
    flags: list[str] | None
    whole_prompt: int | None = None  # where a log gives it, but nothing of the cache

    @property
    def model(self) -> str:
        """The model that answered, or else the one that was asked."""
        named = model_of(self.source, self.model_served, self.candidate, self.model_requested)
        return named or NO_MODEL

    @property
    def day(self) -> str:
        """UTC day of the call."""
        return day_of(self.ts_ms)

    @property
    def recorded(self) -> Decimal | None:
        """Cost that the log itself tells; what `ingest` worked out from a price table is none."""
        return self.cost_usd if self.cost_source in ("log", "provider") else None

    @property
    def prompt(self) -> int | None:
        """Tokens of the whole prompt; None where the input is unknown."""
        return prices.prompt_tokens(self.usage())

    def usage(self, *, inside: bool | None = None, hourly: bool = False) -> Usage:
        """Token counts as they are billed: reasoning counted apart is output too.

        `inside` says so in place of the log; `hourly` takes all that was written as written for an hour.
        """
        output, apart = self.output_tokens, self.reasoning_in_output if inside is None else inside
        if output is not None and apart is False:
            output += self.reasoning_tokens or 0
        written = self.cache_write_tokens
        return Usage(
            input_tokens_uncached=self.input_tokens_uncached,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=written,
            cache_write_1h_tokens=written if hourly else self.cache_write_1h_tokens,
            output_tokens=output,
        )

    def usage_at_most(self, *, inside: bool | None = None, hourly: bool = False) -> Usage:
        """Token counts with all input as uncached where a log gives the whole, but nothing of the cache."""
        usage = self.usage(inside=inside, hourly=hourly)
        if usage.input_tokens_uncached is None and self.cached_tokens is None:
            return msgspec.structs.replace(usage, input_tokens_uncached=self.whole_prompt)
        return usage


class Priced(NamedTuple):
    """A call with the rates in force for it and what they make of it; None where the price is unknown.

    `at_most` is the bill of a call that has no cache counts, if nothing was cached: held against recorded
    costs, and in no sum.
    """

    call: Call
    rates: prices.Rates | None
    bill: prices.Bill | None
    at_most: prices.Bill | None = None

    @property
    def listed(self) -> Decimal | None:
        """USD by the price table."""
        return None if self.bill is None else self.bill.total

    @property
    def paid(self) -> Decimal | None:
        """USD as the log records them, else by the table now, else as they were worked out before.

        Of a request paid for more than once the table prices the last answer alone, and the log all of them.
        """
        if self.call.recorded is not None:
            return self.call.recorded
        several = PAID_FLAG in (self.call.flags or ())
        return self.call.cost_usd if self.bill is None or several else self.bill.total


# Rows that no model was called for, or whose bill can't be told from their counts.
_NO_BILL = frozenset({"response_cache_hit", "no_tokens"})


def priced(call: Call, region: str | None = None) -> Priced:
    """Price a call by the table at its own time."""
    if call.model == NO_MODEL or not _NO_BILL.isdisjoint(call.flags or ()):
        return Priced(call, None, None)
    usage, said = call.usage_at_most(), call.input_tokens_uncached is not None
    prompt = (prices.prompt_tokens(usage) or 0) if is_one_call(call.flags) else 0
    rates = prices.rates(call.model, call.provider, call.ts_ms, prompt, call.service_tier, region=region)
    unsaid = bool(call.reasoning_tokens) and call.reasoning_in_output is None
    bill = None if rates is None or unsaid else prices.bill(rates, usage)
    return Priced(call, rates, bill if said else None, None if said else bill)


def read_calls(log: Path, sessions: Collection[str] | None = None) -> list[Priced]:
    """Requests of a log (of these sessions) in the order of their times.

    Raises BadInput where there is no log, or nothing in it.
    """
    if not (log / STATE_FILE).is_file():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    store = LogStore(log)
    whole = pl.col("facts").struct.field("context_tokens_est").cast(pl.Int64).alias("whole_prompt")
    scan = store.scan("request")
    if sessions is not None:
        scan = scan.filter(pl.col("session_id").is_in(list(sessions)))
    frame = scan.select(*Call._fields[:-1], whole).sort("ts_ms", "request_id").collect()
    if frame.is_empty():
        raise BadInput(f"{log}: no requests in it; `samediff ingest SOURCE --to {log}` first")
    decided = store.scan("decision").select("request_id", "region").drop_nulls().collect()
    regions = dict(decided.iter_rows())
    calls = map(Call._make, track(frame.iter_rows(), "prices", len(frame)))
    return [priced(call, regions.get(call.request_id)) for call in calls]
