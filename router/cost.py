"""What a candidate would cost now: predicted tokens × published rates × what its cache still holds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from router.prices import MTOK, rates

if TYPE_CHECKING:
    from features.wire.types import Dialect

CACHE_TTL_MS = 5 * 60_000  # the shortest lifetime that any provider gives a prompt cache
CACHE_FLOOR_TOKENS = 1_024  # most providers cache nothing shorter
_CENT_FRACTION = Decimal("1e-12")  # the log keeps money to this place


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


def expected_cost(
    model: str, provider: str, split: Split, output_tokens: float | None, ts_ms: int
) -> Cost | None:
    """Multiply out the expected USD of one call; None when the price or the output length is unknown."""
    in_force = rates(model, provider, ts_ms, split.total)
    if in_force is None or output_tokens is None:
        return None
    fresh = _usd(split.fresh, in_force.input)
    cached = _usd(split.cached, in_force.cached)
    written = _usd(split.written, in_force.write)
    output = _usd(output_tokens, in_force.output)
    return Cost(fresh + cached + written + output, fresh, cached, written, output)


def _usd(tokens: float, rate: Decimal) -> Decimal:
    """Tokens × USD per Mtok; tokens are rounded to a thousandth so that money stays exact decimals."""
    amount = (Decimal(round(tokens * 1000)) / 1000 * rate / MTOK).quantize(_CENT_FRACTION)
    return amount or Decimal(0)  # a quantised zero would be written as 0E-12
