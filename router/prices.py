"""What a call costs: genai-prices' published tables under the names that people really log.

A thin layer. Every price, its effective date, hour and length tier come from genai-prices; here is only the
way from a logged name to one of its rows. A name that can't be placed with certainty has no price (None,
never 0). The table is loaded at the first question, not at import, and nothing here uses the network.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_prices.types import ModelInfo, Provider

    from features.wire.types import Usage

PRICE_VERSION: str  # the price table in force, such as "genai-prices 0.2.3"; computed when first asked for

MTOK = Decimal(1_000_000)
_FAR_FUTURE_MS = 4_102_444_800_000  # the year 2100: a later stamp is a mistake and has no price

# Names of sellers as harnesses and gateways write them -> genai-prices' ids. A seller that is in neither is
# somebody's own machine or contract, and has no public price.
PROVIDERS = {
    "azure_ai": "azure",
    "azure_openai": "azure",
    "bedrock_converse": "aws",
    "fireworks_ai": "fireworks",
    "github_copilot": "github-copilot",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "openai-codex": "openai",
    "qwen": "openrouter",
    "z-ai": "zai",
    "z.ai": "zai",
    "zai-org": "zai",
    "x_ai": "x-ai",
}

# Bare model names whose maker has no row of its own, or more than one: (seller, the seller's name for it).
MODELS = {
    "qwen3-max": ("openrouter", "qwen/qwen3-max"),  # Alibaba is not in the table; the only seller of it there
    "qwen/qwen3-max": ("openrouter", "qwen/qwen3-max"),
}

# Share of every rate that a request in a batch costs, by seller; both publish half, for cached tokens too
# (Anthropic, "Batch processing"; OpenAI, "Batch API"). A seller that isn't here has no batch price.
BATCH_SHARE = {"anthropic": Decimal("0.5"), "openai": Decimal("0.5")}

# GLM has two list prices: mainland (zhipuai) and international (zai). Bare names mean the one billed in USD.
_BARE_MAKERS = (("glm-", "zai"),)

# Endings that name a snapshot, an or an effort of the same price.
_ENDINGS = re.compile(
    r"(?:-v\d+(?::\d+)?|@(?:default|latest)|[-@]20\d{2}-?\d{2}-?\d{2}|-latest|:thinking"
    r"|[@: ]\(?(?:none|minimal|low|medium|high|xhigh|max)\)?|-(?:minimal|low|high|xhigh)|(?<=\d)-medium)$"
)
_REGION = re.compile(r"^(?:(?:us|eu|apac|global|jp|au|us-gov)\.)?(?:anthropic|openai|meta|amazon|qwen|zai)\.")


class Rates(NamedTuple):
    """Prices in force for one call, in USD per million tokens.

    Where no cache price is published, cached and written tokens are billed as input, as the provider does.
    """

    input: Decimal
    output: Decimal
    cached: Decimal
    write: Decimal
    write_1h: Decimal


def __getattr__(name: str) -> str:
    if name == "PRICE_VERSION":
        from importlib.metadata import version

        globals()[name] = f"genai-prices {version('genai-prices')}"
        return str(globals()[name])
    raise AttributeError(name)


def rates(
    model: str,
    provider: str | None = None,
    ts_ms: int | None = None,
    prompt_tokens: int = 0,
    service_tier: str | None = None,
) -> Rates | None:
    """Rates of a model at a time (default now) for a prompt of that length; None where none are published."""
    now_ms = time.time() * 1000 if ts_ms is None else ts_ms
    if not 0 <= now_ms < _FAR_FUTURE_MS:
        return None
    ladder = _ladder(model, provider, int(now_ms // 60_000), service_tier)
    return next((step for start, step in ladder if prompt_tokens > start), None)


@lru_cache(maxsize=8192)
def _ladder(
    model: str, provider: str | None, minute: int, service_tier: str | None
) -> tuple[tuple[int, Rates], ...]:
    """Rates of a model in one minute, longest prompts first, each with the length beyond which it holds.

    Prices change on whole minutes. A length tier applies to every token of a prompt longer than its start.
    """
    found = _find(model, provider)
    if found is None:
        return ()
    if service_tier == "batch":
        share = BATCH_SHARE.get(found[0].id)
        plain = () if share is None else _ladder(model, provider, minute, None)
        return tuple((start, Rates(*(rate * share for rate in step))) for start, step in plain)  # type: ignore[operator]
    context = {"service_tier": service_tier} if service_tier else None
    prices = vars(found[1].get_prices(_utc(minute * 60_000), context))
    listed = [prices.get(f"{key}_mtok") for key in _RATE_KEYS]
    starts = sorted({tier.start for price in listed for tier in getattr(price, "tiers", ())}, reverse=True)
    steps = [(start, _rates_at(listed, start + 1)) for start in (*starts, -1)]
    return tuple((start, step) for start, step in steps if step is not None)


def _rates_at(listed: list[Any], prompt_tokens: int) -> Rates | None:
    fresh, output, read, write, write_5m, write_1h = (_at(price, prompt_tokens) for price in listed)
    if fresh is None or output is None:
        return None
    written = _first(write_5m, write, fresh)
    return Rates(fresh, output, _first(read, fresh), written, _first(write_1h, written))


_RATE_KEYS = ("input", "output", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h")


def price_usd(
    model: str, provider: str | None, usage: Usage, ts_ms: int | None = None, service_tier: str | None = None
) -> Decimal | None:
    """USD for one call's token counts; None when the model, its price, the input or the output is unknown.

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
    in_force = rates(model, provider, ts_ms, fresh + cached + written, service_tier)
    if in_force is None:
        return None
    return (
        fresh * in_force.input
        + cached * in_force.cached
        + (written - hourly) * in_force.write
        + hourly * in_force.write_1h
        + output * in_force.output
    ) / MTOK


def context_window(model: str, provider: str | None = None) -> int | None:
    """Input tokens the model takes, as published beside its price; None where unknown."""
    found = _find(model, provider)
    return found[1].context_window if found else None


def _utc(ts_ms: int) -> datetime:
    return datetime.fromtimestamp(ts_ms / 1000, tz=UTC)


def _first(*values: Decimal | None) -> Decimal:
    return next(value for value in values if value is not None)


def _at(price: Any, prompt_tokens: int) -> Decimal | None:
    """Pick the rate for a prompt length; a tier applies to every token of a prompt longer than its start."""
    tiers = getattr(price, "tiers", None)
    if tiers is None:
        return price if isinstance(price, Decimal) else None
    reached = [tier.price for tier in tiers if prompt_tokens > tier.start]
    return Decimal(reached[-1] if reached else price.base)


@lru_cache(maxsize=4096)
def _find(model: str, provider: str | None) -> tuple[Provider, ModelInfo] | None:
    """Look a logged name up in the price table, from the most literal reading on; None when none fits."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    for seller, name in _readings(model.strip().lower(), provider.strip().lower() if provider else None):
        try:
            return snapshot.find_provider_model(name, None, seller, None)
        except LookupError:
            continue
    return None


def _readings(model: str, provider: str | None) -> Iterator[tuple[str | None, str]]:
    """All (seller, model) readings of a logged name, best first."""
    seller = PROVIDERS.get(provider, provider) if provider else None
    for name in _shortenings(model):
        if seller is None:
            yield from _bare(name)
        else:
            yield seller, name
            maker, _, rest = name.partition("/")
            if rest and PROVIDERS.get(maker, maker) == seller:
                yield seller, rest


def _bare(name: str) -> Iterator[tuple[str | None, str]]:
    """Yield the readings of a name logged without its seller; a first path segment then is the seller."""
    if name in MODELS:
        yield MODELS[name]
    for prefix, maker in _BARE_MAKERS:
        if name.startswith(prefix):
            yield maker, name
    yield None, name
    maker, _, rest = name.partition("/")
    if rest:
        yield PROVIDERS.get(maker, maker), rest


def _shortenings(name: str) -> Iterator[str]:
    """Yield the name, then without its region and, one at a time, endings that don't change its price."""
    yield name
    route, _, tail = name.rpartition("/")
    while True:
        shorter = _ENDINGS.sub("", _REGION.sub("", tail))
        if shorter == tail or not shorter:
            return
        tail = shorter
        yield f"{route}/{tail}" if route else tail
