"""What a candidate would cost now: predicted tokens × published rates × what its cache still holds."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from features.cache import CacheRequest, CacheState, Split, read, rules_for
from features.cache.rules import DAY_MS
from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.cache import CacheRules, Chain, Common
    from features.wire.types import WireRequest
    from router.catalogrows import Deployment
    from router.prices import Rates

PLACE = Decimal("1e-12")  # the log keeps money to this place
MILLIONTH = Decimal("1e-6")  # what scaleb(-6) gives, at a third of its cost
_BILLIONTH = Decimal("1e-9")
_NOTHING = Decimal(0)
NO_SPLIT = Split(0, 0, 0, 0, 0.0, 0.0, 0, "no_rules")


class Cost(Value, frozen=True):
    """Expected USD of one call and its four parts."""

    total: Decimal
    fresh: Decimal
    cached: Decimal
    written: Decimal
    output: Decimal


class Asked(Value, frozen=True):
    """How a request asks to be cached: by its client's markers, or else by ours; and for how long."""

    marked: bool = False
    ours: bool = False
    lifetime: str | None = None  # class; None: the default

    def marks(self, deployment: Deployment) -> bool:
        """Whether it carries markers on its way to this deployment; ours are Anthropic's breakpoints."""
        return self.marked or (self.ours and deployment.dialect == "anthropic_messages")


class Sending(Value, frozen=True):
    """A request as every candidate's cache sees it; what differs between them is the key and the tokens."""

    chain: Chain
    settings: Mapping[str, object]
    asked: Asked

    def to(self, deployment: Deployment, tokens: int, key: str | None = None) -> CacheRequest:
        """The request as this deployment's cache sees it; `key` is that cache's, where it is at hand."""
        hashes, sizes = self.chain
        asked = self.asked
        marks = None if asked.marks(deployment) else ()
        key = key or cache_key(deployment)
        return CacheRequest(
            key, tokens, hashes, sizes, marks, lifetime=asked.lifetime, settings=self.settings
        )


def asked_by(request: WireRequest, *, control: bool = False) -> Asked:
    """How a request asks to be cached; with `control` we ask for an agent that doesn't.

    Writing costs a quarter more and a read saves nine tenths, so that marking pays where another turn comes
    with more than 0.28: for whoever has tools or an answer before, not for a single question.
    """
    agent = bool(request.tools) or any(message.role == "assistant" for message in request.messages)
    marked = request.cache_markers > 0
    return Asked(marked, control and agent and not marked, request.cache_lifetime)


def sending(request: WireRequest, chain: Chain, asked: Asked, n_images: float | None = None) -> Sending:
    """What caches see of a request; tools stand in the chain, and the settings beside it."""
    settings = {
        "tool_choice": request.tool_choice,
        "thinking": request.thinking,
        "images": bool(n_images),
    }
    return Sending(chain, settings, asked)


def cache_key(deployment: Deployment) -> str:
    """Name of the cache that a deployment reads: its seller's, an account's, of one model at any effort."""
    return f"{deployment.provider}|{deployment.account or ''}|{deployment.model}"


def cache_rules(deployment: Deployment, ts_ms: int, asked: Asked) -> CacheRules | None:
    """Cache rules in force where a deployment runs; None where none are known.

    Caches that are named can't be asked for in any dialect here: what is left is the implicit one.
    """
    return _rules(deployment.provider, deployment.model, ts_ms // DAY_MS, asked.marks(deployment))


@lru_cache(maxsize=4096)
def _rules(provider: str, model: str, day: int, marked: bool) -> CacheRules | None:
    """Cache rules of one day, which no hour of it changes."""
    found = rules_for(provider, model, day * DAY_MS, explicit=marked)
    named = found is not None and found.match == "named"
    return rules_for(provider, model, day * DAY_MS) if named else found


def split_prompt(
    deployment: Deployment,
    tokens: float,
    sent: Sending | None,
    state: CacheState,
    ts_ms: int,
    common: Common | None = None,
) -> Split:
    """Divide a prompt by what the deployment's cache holds of it; without a `Sending` nothing is known."""
    if sent is None:
        ruled = rules_for(deployment.provider, deployment.model, ts_ms) is not None
        why = "not_followed" if ruled else "no_rules"
        return msgspec.structs.replace(NO_SPLIT, fresh=round(tokens), why=why)
    rules = cache_rules(deployment, ts_ms, sent.asked)
    return read(rules, state, sent.to(deployment, round(tokens)), ts_ms, common)


def expected_cost(rates: Rates | None, split: Split, output_tokens: float | None) -> Cost | None:
    """Multiply out the expected USD of one call; None when the price or the output length is unknown.

    What should be read and by best effort isn't costs as the rest of the prompt does.
    """
    if rates is None or output_tokens is None:
        return None
    fresh = cached = written = _NOTHING
    output = total = output_usd(rates, output_tokens)
    write, hourly = split.write, split.write_1h
    unread: int | Decimal = split.fresh
    lost: int | Decimal = 0
    if split.read:
        expected = mean_read(split.read, split.hit)
        cached, lost = _usd(expected, rates.cached), split.read - expected
        total += cached
        if lost and not write and not hourly:
            unread, lost = unread + lost, 0
    if unread:
        fresh = _usd(unread, rates.input)
        total += fresh
    if write:
        written = _usd(write, rates.write)
    if hourly:
        written += _usd(hourly, rates.write_1h)
    if lost:
        written += _usd(lost, rates.write if write else rates.write_1h)
    return Cost(total + written if written else total, fresh, cached, written, output)


def mean_read(tokens: int, hit: float) -> int | Decimal:
    """Mean of a prompt's tokens that a cache should read, each with probability `hit` to the millionth."""
    millionths = round(hit * 1_000_000)
    return tokens if millionths == 1_000_000 else tokens * millionths * MILLIONTH


def output_usd(rates: Rates, tokens: float) -> Decimal:
    """USD of an answer; in thousandths of a token, so that money stays exact decimals."""
    thousandths = round(tokens * 1000)
    return (thousandths * rates.output * _BILLIONTH).quantize(PLACE) or _NOTHING


def _usd(tokens: int | Decimal, rate: Decimal) -> Decimal:
    """Tokens × USD per million tokens."""
    return (tokens * rate * MILLIONTH).quantize(PLACE) or _NOTHING
