"""What was paid, by whatever a call can be grouped by; the groups add up to the whole exactly."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import msgspec

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from training.spend.calls import Call, Priced

UNKNOWN = "unknown"  # how a group is called whose key the log doesn't have
DIGITS = 100  # no sum of money is rounded

KEYS: dict[str, Callable[[Call], str | None]] = {
    "model": lambda call: call.model,
    "user": lambda call: call.user,
    "repo": lambda call: call.repo,
    "session": lambda call: call.session_id,
    "day": lambda call: call.day,
    "month": lambda call: call.day[:7],
    "tenant": lambda call: call.tenant,
    "harness": lambda call: call.harness,
    "provider": lambda call: call.provider,
    "effort": lambda call: call.effort,
    "task": lambda call: call.task_id,
    "task_type": lambda call: call.task_type,
    "branch": lambda call: call.branch,
    "source": lambda call: call.source,
}


class Spend(msgspec.Struct, kw_only=True):
    """Money and tokens of some calls, in USD; `paid_usd` is recorded + priced, unknown costs are counted."""

    calls: int = 0
    sessions: int = 0
    paid_usd: Decimal = Decimal(0)
    recorded_usd: Decimal = Decimal(0)  # as the log tells
    priced_usd: Decimal = Decimal(0)  # by the price table, where the log tells nothing
    recorded_calls: int = 0
    priced_calls: int = 0
    unknown_calls: int = 0  # whose cost nobody knows: in no sum
    fresh_usd: Decimal = Decimal(0)  # the parts are by the price table, of all calls that it prices
    cached_usd: Decimal = Decimal(0)
    written_usd: Decimal = Decimal(0)
    output_usd: Decimal = Decimal(0)
    input_tokens_uncached: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    billed_calls: int = 0  # that the price table prices
    told_tokens: int = 0  # input of calls that tell all of it
    told_cached_tokens: int = 0  # and of that, read from the cache
    saving_unknown_calls: int = 0  # that used a cache and that the table can't price: in no saving
    saved_usd: Decimal = Decimal(0)  # by reading from the cache, less what writing to it cost more
    lost_usd: Decimal = Decimal(0)  # for want of a cache that could have been warm


class Group(msgspec.Struct, kw_only=True):
    """Spend under one key; `share` of all that was paid, None where nobody knows it."""

    key: dict[str, str]
    share: float | None
    spend: Spend


def parse_keys(names: Iterable[str]) -> tuple[str, ...]:
    """Read --group-by; BadInput names the key that isn't one."""
    found = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    wrong = next((name for name in found if name not in KEYS), None)
    if wrong is not None:
        raise BadInput(f"--group-by {wrong}: no such key; there are {', '.join(KEYS)}")
    return found or ("model",)


def spend_of(calls: Iterable[Priced], lost: Mapping[str, Decimal]) -> Spend:
    """Add up some calls; `lost` has USD by request id."""
    found, sessions = Spend(), set()
    with localcontext() as exact:
        exact.prec = DIGITS
        for one in calls:
            sessions.add(one.call.session_id)
            _add(found, one)
            found.lost_usd += lost.get(one.call.request_id, 0)
    found.sessions = len(sessions)
    return found


def _add(found: Spend, one: Priced) -> None:
    call, paid, recorded = one.call, one.paid, one.call.recorded
    found.calls += 1
    if paid is None:
        found.unknown_calls += 1
    else:
        found.paid_usd += paid
    if recorded is not None:
        found.recorded_calls += 1
        found.recorded_usd += recorded
    elif paid is not None:
        found.priced_calls += 1
        found.priced_usd += paid
    if one.bill is None:
        found.saving_unknown_calls += bool(call.cached_tokens or call.cache_write_tokens)
    else:
        found.billed_calls += 1
        found.fresh_usd += one.bill.fresh
        found.cached_usd += one.bill.cached
        found.written_usd += one.bill.written + one.bill.written_1h
        found.output_usd += one.bill.output
    found.saved_usd += saved(one)
    told = call.prompt
    if told is not None:
        found.told_tokens += told
        found.told_cached_tokens += call.cached_tokens or 0
    found.input_tokens_uncached += call.input_tokens_uncached or 0
    found.cached_tokens += call.cached_tokens or 0
    found.cache_write_tokens += call.cache_write_tokens or 0
    found.output_tokens += call.usage().output_tokens or 0


def saved(one: Priced) -> Decimal:
    """USD by which caching made a call cheaper; negative where writing cost more than reading saved."""
    rates, bill = one.rates, one.bill
    if rates is None or bill is None:
        return Decimal(0)
    tokens = (one.call.cached_tokens or 0) + (one.call.cache_write_tokens or 0)
    return (tokens * rates.input).scaleb(-6) - bill.cached - bill.written - bill.written_1h


def grouped(calls: Sequence[Priced], keys: tuple[str, ...], lost: Mapping[str, Decimal]) -> list[Group]:
    """Spend by key, the dearest first; a call without a key belongs to "unknown"."""
    parts: defaultdict[tuple[str, ...], list[Priced]] = defaultdict(list)
    for one in calls:
        parts[tuple(KEYS[key](one.call) or UNKNOWN for key in keys)].append(one)
    groups = [
        Group(key=dict(zip(keys, values, strict=True)), share=None, spend=spend_of(part, lost))
        for values, part in parts.items()
    ]
    with localcontext() as exact:
        exact.prec = DIGITS
        total = sum((group.spend.paid_usd for group in groups), Decimal(0))
    for group in groups:
        known = total and group.spend.calls > group.spend.unknown_calls
        group.share = float(group.spend.paid_usd / total) if known else None
    return sorted(groups, key=lambda g: (-g.spend.paid_usd, list(g.key.values())))
