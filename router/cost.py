"""What a candidate would cost now: predicted tokens × published rates × what its cache still holds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from features.wire.types import Dialect
    from router.prices import Rates

CACHE_TTL_MS = 5 * 60_000  # the shortest lifetime that any provider gives a prompt cache
CACHE_FLOOR_TOKENS = 1_024  # most providers cache nothing shorter
_PLACE = Decimal("1e-12")  # the log keeps money to this place
_NOTHING = Decimal(0)


class Split(NamedTuple):
    """An estimated prompt by how it will be billed, in whole tokens that add up to the prompt."""

    fresh: int
    cached: int
    written: int

    @property
    def total(self) -> int:
        """Whole prompt in tokens."""
        return self.fresh + self.cached + self.written


class Cost(NamedTuple):
    """Expected USD of one call and its four parts."""

    total: Decimal
    fresh: Decimal
    cached: Decimal
    written: Decimal
    output: Decimal


def split_prompt(
    prompt_tokens: float, shared_share: float, age_ms: float | None, *, dialect: Dialect, marked: bool
) -> Split:
    """Divide a prompt by what this candidate served within the cache's lifetime; `shared_share` in [0, 1].

    In the Messages dialect nothing is cached that the client hasn't marked. Elsewhere a shared prefix is read
    and the rest written; where a seller doesn't charge for writing, its write rate is its input rate.
    """
    total = round(prompt_tokens)
    if (dialect == "anthropic_messages" and not marked) or total < CACHE_FLOOR_TOKENS:
        return Split(total, 0, 0)
    warm = age_ms is not None and age_ms <= CACHE_TTL_MS
    cached = round(total * min(max(shared_share, 0.0), 1.0)) if warm else 0
    cached = cached if cached >= CACHE_FLOOR_TOKENS else 0
    return Split(0, cached, total - cached)


def expected_cost(rates: Rates | None, split: Split, output_tokens: float | None) -> Cost | None:
    """Multiply out the expected USD of one call; None when the price or the output length is unknown."""
    if rates is None or output_tokens is None:
        return None
    fresh, cached = _usd(split.fresh, rates.input), _usd(split.cached, rates.cached)
    written = _usd(split.written, rates.write)
    thousandths = round(output_tokens * 1000)  # so that money stays exact decimals
    output = (thousandths * rates.output).scaleb(-9).quantize(_PLACE) if thousandths else _NOTHING
    return Cost(fresh + cached + written + output, fresh, cached, written, output)


def _usd(tokens: int, rate: Decimal) -> Decimal:
    """Whole tokens × USD per million tokens."""
    return (tokens * rate).scaleb(-6) if tokens else _NOTHING
