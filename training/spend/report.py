"""The whole report of `samediff cost`: paid, saved, lost, in disagreement, in doubt."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from router import prices
from training.spend.agree import Agreement, agreement
from training.spend.calls import read_calls
from training.spend.doubts import Doubts, doubts
from training.spend.groups import Group, Spend, grouped, parse_keys, spend_of
from training.spend.losses import Loss, losses

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Caching(msgspec.Struct, kw_only=True):
    """What caching did, by the price table, for all calls that it prices."""

    cached_tokens: int
    cached_share: float | None  # of all input tokens, in calls that tell all of them
    without_usd: Decimal  # what the same calls would have cost without any cache
    with_usd: Decimal
    saved_usd: Decimal  # reads at their discount less what writing cost more; = without − with
    billed_calls: int  # that the sums are of
    saving_unknown_calls: int  # that used a cache and have no known input, output or price: in no sum


class CostReport(msgspec.Struct, kw_only=True):
    """What a log cost. Money is in USD, as exact decimal numbers; unknown costs are counted, in no sum."""

    log: str
    price_version: str
    first_ts_ms: int
    last_ts_ms: int
    group_by: tuple[str, ...]
    total: Spend
    groups: list[Group]
    caching: Caching
    lost_usd: Decimal
    losses: list[Loss]
    losses_no_rules: int  # calls whose cache works in a way nobody told us
    losses_not_said: int  # calls that say too little for losses: of the cache, of their input, of their price
    agreement: Agreement
    doubts: Doubts
    seconds: float = 0.0


def run(log: Path, group_by: Iterable[str] = (), *, now_ms: int | None = None) -> CostReport:
    """Report what a log cost; BadInput where there is none, or for a key that can't be grouped by."""
    keys = parse_keys(group_by)
    started = time.monotonic()
    calls = read_calls(log)
    lost = losses(calls)
    total = spend_of(calls, lost.by_call)
    with_cache = total.fresh_usd + total.cached_usd + total.written_usd
    return CostReport(
        log=str(log),
        price_version=prices.PRICE_VERSION,
        first_ts_ms=calls[0].call.ts_ms,
        last_ts_ms=calls[-1].call.ts_ms,
        group_by=keys,
        total=total,
        groups=grouped(calls, keys, lost.by_call),
        caching=Caching(
            cached_tokens=total.cached_tokens,
            cached_share=total.told_cached_tokens / total.told_tokens if total.told_tokens else None,
            without_usd=with_cache + total.saved_usd + total.output_usd,
            with_usd=with_cache + total.output_usd,
            saved_usd=total.saved_usd,
            billed_calls=total.billed_calls,
            saving_unknown_calls=total.saving_unknown_calls,
        ),
        lost_usd=total.lost_usd,
        losses=lost.by_cause,
        losses_no_rules=lost.no_rules,
        losses_not_said=lost.not_said,
        agreement=agreement(calls),
        doubts=doubts(calls, int(time.time() * 1000) if now_ms is None else now_ms),
        seconds=round(time.monotonic() - started, 3),
    )


def as_numbers(result: CostReport) -> Any:
    """The report with its money as exact JSON numbers, not as text."""
    return _numbers(msgspec.to_builtins(result, builtin_types=(Decimal,)))


def _numbers(value: Any) -> Any:
    if isinstance(value, Decimal):
        return msgspec.Raw(f"{value:f}".encode())
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    return [_numbers(inner) for inner in value] if isinstance(value, list | tuple) else value
