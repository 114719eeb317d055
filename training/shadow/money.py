"""The hard cap: money is set aside at its worst case before a call and given back after it."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from features.context import TokenRatios
from router import prices

if TYPE_CHECKING:
    from router.catalog import Deployment

MARGIN = 1.5  # on the estimate of the prompt's tokens: tokenizers of one family differ by up to a third
ENVELOPE_TOKENS = 1024  # what providers put around a prompt, such as their own words about tools
_RATIOS = TokenRatios()


class Purse:
    """A cap in USD, what is spent of it for good, and what is set aside for calls that are on their way.

    As long as no call costs more than was set aside for it, `spent + reserved` never passes `cap`.
    """

    def __init__(self, cap: Decimal, spent: Decimal = Decimal(0)) -> None:
        self.cap = cap
        self.spent = spent
        self.reserved = Decimal(0)

    @property
    def left(self) -> Decimal:
        """What can still be set aside; negative when resumed under a smaller cap."""
        return self.cap - self.spent - self.reserved

    def reserve(self, amount: Decimal, *, room: Decimal = Decimal(0)) -> bool:
        """Set an amount aside; False, and nothing happens, unless that much, and `room` at least, is left."""
        if max(amount, room) > self.left:
            return False
        self.reserved += amount
        return True

    def settle(self, reserved: Decimal, actual: Decimal) -> None:
        """Give back what was set aside for a call and spend what it cost."""
        self.reserved -= reserved
        self.spent += actual


def prompt_estimate(model: str, body_bytes: int, logged: tuple[str, int] | None) -> float:
    """Tokens of a prompt: from the logged call's (model, prompt tokens), else from its bytes.

    Another family's tokenizer may cut the same text finer, by the ratio of their bytes per token.
    """
    if logged is None:
        return _RATIOS.estimate(model, body_bytes)
    return logged[1] * max(1.0, _RATIOS.ratio(logged[0]) / _RATIOS.ratio(model))


def prompt_bound(estimate: float) -> int:
    """Tokens that a prompt of so many estimated ones will hardly pass."""
    return math.ceil(estimate * MARGIN) + ENVELOPE_TOKENS


def worst_case(
    deployment: Deployment,
    prompt_tokens: int,
    output_tokens: int,
    ts_ms: int,
    *,
    hourly: bool,
    service_tier: str | None = None,
) -> Decimal | None:
    """USD that a call costs at most: every prompt token at its dearest rate, every output token used.

    None where no price is published. `hourly`: the prompt may be written to a one-hour cache.
    """
    found = prices.rates(deployment.model, deployment.provider, ts_ms, prompt_tokens, service_tier)
    if found is None:
        return None
    dearest = max(found.input, found.cached, found.write, found.write_1h if hourly else Decimal(0))
    return (prompt_tokens * dearest + output_tokens * found.output) / prices.MTOK
