"""Ways in which what logs count is known to differ from what is billed; each prices a call in its own way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from router import prices
from training.sources.checks import is_one_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from features.wire.types import Usage
    from training.spend.calls import Priced

TOLERANCE = 0.03  # a way explains a session that it brings this near
_LONGEST = 10**9
_FIRST_YEAR = 2024


class Way(NamedTuple):
    """How to price a call otherwise: what it would mean, in a sentence and in short."""

    means: str
    says: str
    usd: Callable[[Priced], Decimal | None]


def _at(one: Priced, usage: Usage, prompt: int | None = None, ts_ms: int | None = None) -> Decimal | None:
    """USD of other counts, in the length tier of another prompt or at another time."""
    call = one.call
    if prompt is None:
        prompt = (prices.prompt_tokens(usage) or 0) if is_one_call(call.flags) else 0
    when = call.ts_ms if ts_ms is None else ts_ms
    rates = prices.rates(call.model, call.provider, when, prompt, call.service_tier)
    bill = None if rates is None else prices.bill(rates, usage)
    return None if bill is None else bill.total


def _input_holds_cached(one: Priced) -> Decimal | None:
    usage = one.call.usage_at_most()
    fresh = (usage.input_tokens_uncached or 0) - (usage.cached_tokens or 0) - (usage.cache_write_tokens or 0)
    return _at(one, replace(usage, input_tokens_uncached=fresh)) if fresh >= 0 else None


def _reads_as_input(one: Priced) -> Decimal | None:
    usage = one.call.usage_at_most()
    whole = prices.prompt_tokens(usage)
    return _at(one, replace(usage, input_tokens_uncached=whole, cached_tokens=0, cache_write_tokens=0))


def _without(one: Priced, field: str) -> Decimal | None:
    return _at(one, replace(one.call.usage_at_most(), **{field: 0}))


def _batch(one: Priced) -> Decimal | None:
    call, usage = one.call, one.call.usage_at_most()
    return prices.price_usd(call.model, call.provider, usage, call.ts_ms, "batch")


WAYS: dict[str, Way] = {
    "hourly_writes": Way(
        "what was written to the cache was written for an hour, which the log doesn't say",
        "writes at the 1-hour price",
        lambda one: _at(one, one.call.usage_at_most(hourly=True)),
    ),
    "reasoning_apart": Way(
        "reasoning tokens are counted apart from the output, which the log doesn't say",
        "reasoning added to the output",
        lambda one: _at(one, one.call.usage_at_most(inside=False)),
    ),
    "reasoning_inside": Way(
        "reasoning tokens are inside the output already",
        "reasoning not added to the output",
        lambda one: _at(one, one.call.usage_at_most(inside=True)),
    ),
    "input_holds_cached": Way(
        "the input count holds the cached tokens too: map it as input_tokens",
        "cached tokens taken out of the input",
        _input_holds_cached,
    ),
    "reads_as_input": Way(
        "the recorded cost takes no account of the cache",
        "all input at the input price",
        _reads_as_input,
    ),
    "reads_free": Way(
        "the recorded cost leaves out what was read from the cache",
        "reads free",
        lambda one: _without(one, "cached_tokens"),
    ),
    "writes_free": Way(
        "the recorded cost leaves out what was written to the cache",
        "writes free",
        lambda one: _without(one, "cache_write_tokens"),
    ),
    "short_tier": Way(
        "the recorded cost knows no dearer price for long prompts, or the row sums up several calls",
        "priced as a short prompt",
        lambda one: _at(one, one.call.usage_at_most(), 0),
    ),
    "long_tier": Way(
        "the whole was billed at the price of long prompts",
        "priced as a long prompt",
        lambda one: _at(one, one.call.usage_at_most(), _LONGEST),
    ),
    "batch": Way("asked in a batch, which the log doesn't say", "at the price of a batch", _batch),
    "another_date": Way(
        "the recorded cost goes by a price of another time than the log says",
        "at the price of another date",
        lambda _: None,  # `eras` has one for each date
    ),
}


def eras(model: str, provider: str | None) -> Iterator[tuple[str, Way]]:
    """A way for every price that the table has for a model, by the middles of months."""
    last: dict[prices.Rates, datetime] = {}
    now = datetime.now(tz=UTC)
    for month in range(12 * _FIRST_YEAR, 12 * now.year + now.month):
        middle = datetime(month // 12, month % 12 + 1, 15, 12, tzinfo=UTC)
        rates = prices.rates(model, provider, int(middle.timestamp() * 1000))
        if rates is not None:
            last[rates] = middle
    for when in last.values():
        says = f"at the price of {when:%Y-%m} and before"
        yield f"another_date {when:%Y-%m}", Way(WAYS["another_date"].means, says, _AtTime(when))


class _AtTime:
    """Price calls as if all were made at one moment."""

    def __init__(self, when: datetime) -> None:
        self._ts_ms = int(when.timestamp() * 1000)

    def __call__(self, one: Priced) -> Decimal | None:
        return _at(one, one.call.usage_at_most(), ts_ms=self._ts_ms)
