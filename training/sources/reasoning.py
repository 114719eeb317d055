"""Are reasoning tokens counted inside the output or apart? Harnesses differ; the logged cost tells.

OpenCode counts them apart, Codex inside. Whichever reading meets the cost within 1 % while the other misses
it gets the row's vote; a convention needs three votes and ten times the votes of the other.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from features.wire.types import Usage
from router.prices import price_usd

if TYPE_CHECKING:
    from collections.abc import Iterable

TOLERANCE = 100  # one part in a hundred
ENOUGH = 3
TIMES_THE_OTHER = 10
MOST_ROWS = 20_000

_TOKENS = (
    "input_tokens_uncached",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
)


def conventions_of(rows: Iterable[dict[str, Any]]) -> dict[tuple[Any, Any], bool]:
    """Map (harness, model) -> True if reasoning is inside the output; groups that can't tell are left out."""
    votes: Counter[tuple[tuple[Any, Any], bool]] = Counter()
    for row in islice(rows, MOST_ROWS):
        inside = vote(row)
        if inside is not None:
            votes[(row["harness"], row["model_served"]), inside] += 1
    found = {}
    for group in {group for group, _ in votes}:
        yes, no = votes[group, True], votes[group, False]
        if max(yes, no) >= max(ENOUGH, TIMES_THE_OTHER * min(yes, no)):
            found[group] = yes > no
    return found


def vote(row: dict[str, Any]) -> bool | None:
    """Say whether a row's cost has its reasoning inside the output (True), apart (False), or can't tell."""
    cost, reasoning, output, model = (
        row[name] for name in ("cost_usd", "reasoning_tokens", "output_tokens", "model_served")
    )
    if not cost or not reasoning or output is None or model is None:
        return None
    met = []
    for whole_output in (output, output + reasoning):
        usage = Usage(**{name: row[name] for name in _TOKENS} | {"output_tokens": whole_output})
        price = price_usd(model, row["provider"], usage, row["ts_ms"], row["service_tier"])
        met.append(price is not None and abs(price - cost) <= cost / TOLERANCE)
    return met[0] if met[0] != met[1] else None
