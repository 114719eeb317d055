"""What a call costs: genai-prices' published tables, dated overrides, under the names that people really log.

A lookup goes by seller, model, time of the call, length of the prompt (a length tier holds for every token of
the request), service tier, region, and what was written for an hour. A name that can't be placed with
certainty has no price (None, never 0), and `why_unknown` says where to put it. The tables are loaded at the
first question, not at import, and nothing here uses the network. Money is Decimal throughout.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from features.value import Value
from router.pricefile import PRICE_KEYS, Override, PriceFile, load_price_files
from router.pricenames import readings, seller_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genai_prices.types import ModelInfo

    from features.wire.types import Usage

PRICE_VERSION: str  # the price table in force, such as "genai-prices 0.2.3+1a2b3c4d"; computed when asked for

MTOK = Decimal(1_000_000)
OWN_FILE = "SAMEDIFF_PRICES"  # names the user's own price file where no settings do
FAR_FUTURE_MS = 4_102_444_800_000  # the year 2100: a later stamp is a mistake and has no price
SLOT_MS = 30 * 60_000  # prices change on full and half hours

# What providers call the tier that everybody gets.
STANDARD_TIERS = frozenset({"standard", "standard_only", "default", "auto", "on_demand", "global"})
# Sellers that pass a request on to others, at the price of whoever takes it.
AGGREGATORS = frozenset({"openrouter", "huggingface", "github-copilot", "cursor"})
# Share of every rate that a request in a batch costs where the table lacks the row; both publish half, for
# cached tokens too (Anthropic, "Batch processing"; OpenAI, "Batch API"). Elsewhere it then has no price.
BATCH_SHARE = {"anthropic": Decimal("0.5"), "openai": Decimal("0.5")}
_PUBLISHED = ("input", "output", "cache_read", "cache_write_5m", "cache_write", "cache_write_1h")


class Rates(Value, frozen=True):
    """Prices in force for one call, in USD per million tokens.

    Where no cache price is published, cached and written tokens are billed as input, as the provider does.
    `write` is for the seller's short lifetime (5 or 30 minutes), `write_1h` for an hour.
    """

    input: Decimal
    output: Decimal
    cached: Decimal
    write: Decimal
    write_1h: Decimal


Ladder = tuple[tuple[int, Rates], ...]


class Bill(Value, frozen=True):
    """USD of one call by what was paid for; the parts add up exactly to `total`."""

    fresh: Decimal
    cached: Decimal
    written: Decimal  # for the short lifetime
    written_1h: Decimal
    output: Decimal

    @property
    def total(self) -> Decimal:
        """USD of the whole call."""
        return self.fresh + self.cached + self.written + self.written_1h + self.output


def __getattr__(name: str) -> str:
    if name == "PRICE_VERSION":
        return version()
    raise AttributeError(name)


@lru_cache(maxsize=1)
def version() -> str:
    """PRICE_VERSION, in a fifth of the time that a module attribute made when asked for takes."""
    from importlib import metadata

    return f"genai-prices {metadata.version('genai-prices')}+{_file().digest}"


def use(own: Path | str | None) -> None:
    """Lay a file of the user's own over the tables, for this process; BadInput names file, row and key."""
    global _own
    _own = None if own is None else str(own)
    for cache in (_file, version, _ladder, _find, context_window):
        cache.cache_clear()
    _file()


_own: str | None = None


@lru_cache(maxsize=1)
def _file() -> PriceFile:
    return load_price_files(_own or os.environ.get(OWN_FILE))


def rates(
    model: str,
    provider: str | None = None,
    ts_ms: int | None = None,
    prompt_tokens: int = 0,
    service_tier: str | None = None,
    *,
    region: str | None = None,
) -> Rates | None:
    """Rates of a model at a time (default now) for a prompt of that length; None where none are known."""
    now_ms = int(time.time() * 1000) if ts_ms is None else ts_ms
    return step(ladder(model, provider, now_ms, service_tier, region=region), prompt_tokens)


def ladder(
    model: str,
    provider: str | None,
    ts_ms: int,
    service_tier: str | None = None,
    *,
    region: str | None = None,
) -> Ladder:
    """All rates of a model at a time, longest prompts first, each with the length beyond which it holds."""
    if not 0 <= ts_ms < FAR_FUTURE_MS:
        return ()
    tier = None if service_tier in STANDARD_TIERS else service_tier
    return _ladder(model, provider, int(ts_ms // SLOT_MS), tier, region)


def step(rungs: Ladder, prompt_tokens: int) -> Rates | None:
    """The rates of a ladder for a prompt of that length; None where none are known."""
    for start, found in rungs:
        if prompt_tokens > start:
            return found
    return None


def bill(found: Rates, usage: Usage) -> Bill | None:
    """Split the USD of one call's token counts at these rates; None when input or output is unknown.

    Cache counts that the provider didn't give are taken as none, since it then bills the prompt as input.
    Negative counts have no price.
    """
    fresh, output = usage.input_tokens_uncached, usage.output_tokens
    if fresh is None or output is None:
        return None
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    hourly = min(usage.cache_write_1h_tokens or 0, written)
    if min(fresh, output, cached, written, hourly) < 0:
        return None
    return Bill(
        fresh * found.input / MTOK,
        cached * found.cached / MTOK,
        (written - hourly) * found.write / MTOK,
        hourly * found.write_1h / MTOK,
        output * found.output / MTOK,
    )


def price_usd(
    model: str,
    provider: str | None,
    usage: Usage,
    ts_ms: int | None = None,
    service_tier: str | None = None,
    *,
    region: str | None = None,
    one_call: bool = True,
) -> Decimal | None:
    """USD for one call's token counts; None when the model, its price, the input or the output is unknown.

    The counts of several calls together (not `one_call`) are priced as short prompts: lengths are unknown.
    """
    prompt = prompt_tokens(usage) if one_call else 0
    found = None if prompt is None else rates(model, provider, ts_ms, prompt, service_tier, region=region)
    parts = None if found is None else bill(found, usage)
    return None if parts is None else parts.total


def prompt_tokens(usage: Usage) -> int | None:
    """Length of the whole prompt, by which its price tier goes; None where the input is unknown."""
    if usage.input_tokens_uncached is None:
        return None
    return usage.input_tokens_uncached + (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)


@lru_cache(maxsize=4096)
def context_window(model: str, provider: str | None = None) -> int | None:
    """Input tokens the model takes, as published beside its price; None where unknown."""
    found = _find(model, provider)
    own = [o.context_tokens for o in _about(found) if o.context_tokens is not None]
    return own[-1] if own else found.info.context_window if found.info else None


def is_known(model: str, provider: str | None = None) -> bool:
    """Whether any price of a model is known, at whatever time."""
    found = _find(model, provider)
    return found.info is not None or bool(_about(found))


def known_since() -> datetime:
    """The first moment that any price is known to have changed at: before it, prices are only guessed."""
    from genai_prices.data_snapshot import get_snapshot

    found = [row.since for row in _file().overrides if row.since is not None]
    for model in (model for seller in get_snapshot().providers for model in seller.models):
        dated = model.prices if isinstance(model.prices, list) else []
        days = (getattr(price.constraint, "start_date", None) for price in dated)
        found += [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days if day is not None]
    return min(found)


def sold_as(model: str, provider: str | None = None) -> tuple[str | None, str]:
    """The seller whose price it is and the seller's name for the model; None where no seller is known."""
    return _find(model, provider).sold_as[0]


def has_row(model: str, provider: str | None, row: Override) -> bool:
    """Whether a row is about a model as its seller names it, however it was logged."""
    return any(row.about(*pair) for pair in _find(model, provider).sold_as)


def strangers(known: Iterable[str]) -> list[str]:
    """Sellers that rows are about and neither the published table nor `known` has; slips, mostly."""
    from genai_prices.data_snapshot import get_snapshot

    there = {seller.id for seller in get_snapshot().providers} | {seller_of(name) for name in known}
    about = {row.provider for row in _file().overrides if row.provider is not None}
    return sorted(name for name in about if seller_of(name) not in there)


def why_unknown(model: str, provider: str | None, service_tier: str | None = None) -> str:
    """Say in one line that a price isn't known, and which file to put it in."""
    where = _own or os.environ.get(OWN_FILE) or f"a file named by {OWN_FILE} or `prices` in samediff.toml"
    sold = f" sold by {provider}" if provider else ""
    tier = f" in the tier {service_tier}" if is_known(model, provider) and service_tier else ""
    return f"no price is known of {model}{sold}{tier}: put a [[price]] for it into {where}"


@lru_cache(maxsize=16_384)  # some 1.5 kB each
def _ladder(model: str, provider: str | None, slot: int, tier: str | None, region: str | None) -> Ladder:
    """Rates in one half hour, longest prompts first, each with the length beyond which it holds."""
    found = _find(model, provider)
    at = datetime.fromtimestamp(slot * SLOT_MS / 1000, tz=UTC)
    listed, own_tier = _listed(found, at, tier)
    rows = [o for o in _about(found) if o.holds(at, tier, region)]
    if tier is not None and not own_tier and not any(tier in o.service_tiers for o in rows):
        return ()
    starts = {step.start for price in listed for step in getattr(price, "tiers", ())}
    starts |= {o.above_tokens for o in rows}
    steps = [(start, _rates_at(listed, rows, start + 1)) for start in sorted(starts | {-1}, reverse=True)]
    return tuple((start, found) for start, found in steps if found is not None)


def _listed(found: Found, at: datetime, tier: str | None) -> tuple[list[Any], bool]:
    """Published prices by _PUBLISHED at a time, and whether they are those of the tier asked for."""
    if found.info is None:
        return [None] * len(_PUBLISHED), tier is None
    plain = vars(found.info.get_prices(at))
    if tier is None:
        return [plain.get(f"{key}_mtok") for key in _PUBLISHED], True
    asked = {"service_tier": tier, "speed": tier, "processing": tier}
    prices = vars(found.info.get_prices(at, asked))
    if prices.get("input_mtok") == plain.get("input_mtok"):
        share = BATCH_SHARE.get(found.sold_as[0][0] or "") if tier == "batch" else None
        return [_scaled(plain.get(f"{key}_mtok"), share) for key in _PUBLISHED], share is not None
    # What the tier's row leaves out is as much cheaper or dearer as its input is.
    share = _at(prices["input_mtok"], 0) / _at(plain["input_mtok"], 0)  # type: ignore[operator]
    mine = {key: prices.get(key) if prices.get(key) != plain.get(key) else None for key in plain}
    keys = [f"{key}_mtok" for key in _PUBLISHED]
    return [
        mine.get(key) if mine.get(key) is not None else _scaled(plain.get(key), share) for key in keys
    ], True


def _scaled(price: Any, share: Decimal | None) -> Any:
    """Multiply a price, tiers and all; no share, the price as it is."""
    if price is None or share is None:
        return price
    if isinstance(price, Decimal):
        return price * share
    from genai_prices.types import Tier, TieredPrices

    return TieredPrices(base=price.base * share, tiers=[Tier(t.start, t.price * share) for t in price.tiers])


def _rates_at(listed: list[Any], rows: list[Override], prompt_tokens: int) -> Rates | None:
    """Rates for a prompt of that length: what is published, with the rows laid over it in their order."""
    fresh, output, read, write_5m, write, write_1h = (_at(price, prompt_tokens) for price in listed)
    now = [fresh, output, read, write if write_5m is None else write_5m, write_1h]
    for row in rows:
        if prompt_tokens <= row.above_tokens:
            continue
        given = [getattr(row, key) for key in PRICE_KEYS]
        factor = Decimal(1) if row.times is None else row.times
        now = [
            had * factor if new is None and had is not None else new
            for had, new in zip(now, given, strict=True)
        ]
    fresh, output, read, write, write_1h = now
    if fresh is None or output is None:
        return None
    write = fresh if write is None else write
    return Rates(
        fresh, output, fresh if read is None else read, write, write if write_1h is None else write_1h
    )


def _at(price: Any, prompt_tokens: int) -> Decimal | None:
    """Pick the rate for a prompt length; a tier applies to every token of a prompt longer than its start."""
    tiers = getattr(price, "tiers", None)
    if tiers is None:
        return price if isinstance(price, Decimal) else None
    reached = [tier.price for tier in tiers if prompt_tokens > tier.start]
    return Decimal(reached[-1] if reached else price.base)


class Found(NamedTuple):
    """Where a logged name leads: (seller, name) pairs that overrides may be about, and its published row."""

    sold_as: tuple[tuple[str | None, str], ...]
    info: ModelInfo | None


def _about(found: Found) -> list[Override]:
    """Rows about a model, in their order."""
    return [row for row in _file().overrides if any(row.about(*pair) for pair in found.sold_as)]


@lru_cache(maxsize=4096)
def _find(model: str, provider: str | None) -> Found:
    """Look a logged name up in the price table, from the most literal reading on."""
    from genai_prices.data_snapshot import get_snapshot

    name, seller = model.strip().lower(), provider.strip().lower() if provider else None
    own = _file().names.get(name)
    if own is not None:
        seller, _, name = own.partition("/")
    tried = tuple(readings(name, seller))
    for sold_by, read in tried:
        try:
            maker, info = get_snapshot().find_provider_model(read, None, sold_by, None)
        except LookupError:
            continue
        names = dict.fromkeys([info.id.lower(), *(read for _, read in tried)])
        return Found(tuple((maker.id, read) for read in names), info)
    return Found(tried, None)
