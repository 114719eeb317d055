"""The providers of a made-up log: what they count and bill, by their own tokenizers and cache rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.cache import CacheRequest, CacheState, after, read, rules_for
from features.context import DEFAULT_RATIOS, model_family
from features.wire import Usage
from router import prices

if TYPE_CHECKING:
    from decimal import Decimal

    from features.cache import Chain
    from router.catalog import Deployment
    from training.simulate.talk import Said

_OFF_BY = 0.06  # spread of a family's true bytes per token around what serving starts from
_VERBOSITY = 0.5  # spread of the arms' thinking around an ordinary arm's
FIRST_BYTE_MS = 600.0
_TOKENS_A_S = 60.0


class Sent(NamedTuple):
    """A turn as any provider sees it; its client marks the end of every prompt for caching."""

    chain: Chain
    now_ms: int
    body_bytes: int
    answer_bytes: int
    thought: float  # tokens that an ordinary arm thinks
    luck: float


def sent(said: Said) -> Sent:
    """What a provider sees of a request, and what it answers."""
    size = sum(part.bytes for part in said.answer)
    return Sent(said.chain, said.now_ms, said.request.body_bytes, size, said.step.thought, said.step.luck)


class Tokens:
    """How each model truly counts and how much it thinks, drawn once for a world."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[str, tuple[float, float]] = {}

    def of(self, model: str) -> tuple[float, float]:
        """(bytes per token, thinking as a multiple of an ordinary arm's)."""
        if model not in self._known:
            family = model_family(model)
            mixed = np.random.default_rng([self._seed, 5, *family.encode()])
            ratio = DEFAULT_RATIOS[family] * float(np.exp(_OFF_BY * mixed.normal()))
            own = np.random.default_rng([self._seed, 6, *model.encode()])
            self._known[model] = ratio, float(np.exp(_VERBOSITY * own.normal()))
        return self._known[model]


class Provider:
    """All providers' side of one session along one route: what their caches hold."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._state = CacheState()

    def answer(self, deployment: Deployment, turn: Sent) -> Usage:
        """Count a turn that a deployment answers; its cache holds the prompt from here on."""
        ratio, verbosity = self._tokens.of(deployment.model)
        tokens = round(turn.body_bytes / ratio)
        provider, model = deployment.provider, deployment.model
        rules = rules_for(provider, model, turn.now_ms, explicit=True)
        asked = CacheRequest(f"{provider}|{model}", tokens, *turn.chain)
        split = read(rules, self._state, asked, turn.now_ms)
        hit = split.read if turn.luck < split.hit else 0
        missed = split.read - hit
        written = bool(split.write)
        thought = round(turn.thought * verbosity)
        usage = Usage(
            input_tokens_uncached=split.fresh + (0 if written else missed),
            cached_tokens=hit,
            cache_write_tokens=split.write + split.write_1h + (missed if written else 0),
            output_tokens=max(1, round(turn.answer_bytes / ratio)) + thought,
            reasoning_tokens=thought,
        )
        self._state = after(rules, self._state, asked, usage, turn.now_ms)
        return usage


def usd(deployment: Deployment, usage: Usage, ts_ms: int) -> Decimal | None:
    """What a turn costs by the price table; None where no price is published."""
    return prices.price_usd(deployment.model, deployment.provider, usage, ts_ms, region=deployment.region)


def latency_ms(usage: Usage) -> float:
    """How long an answer takes."""
    return FIRST_BYTE_MS + 1000.0 * (usage.output_tokens or 0) / _TOKENS_A_S
