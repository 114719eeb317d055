"""Usage blocks that contradict themselves: kept as the provider gave them, and flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.wire.types import Usage

# What each flag means, for people.
CONTRADICTIONS = {
    "cache_over_prompt": "more cached than the prompt holds: taken as counted beside it",
    "reasoning_over_output": "more reasoning than the output that holds it: kept, priced by the output",
}


def contradictions(usage: Usage) -> list[str]:
    """Flags of what in a usage block can't be true of one call at once."""
    found = ["cache_over_prompt"] if usage.cache_beside_prompt else []
    reasoning, output = usage.reasoning_tokens, usage.output_tokens
    if reasoning is not None and output is not None and reasoning > output:
        found.append("reasoning_over_output")
    return found
