"""Differences between policies, and counts, in words."""

from __future__ import annotations

from typing import Any


def counted(count: int, one: str, many: str | None = None) -> str:
    """Put a count before its noun: "1 row", "2 rows"; `many` where an s isn't all."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def points(value: float, ends: list[float] | None) -> str:
    """Say a difference in success (0..1) in points, with its interval."""
    between = f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else ""
    return f"{100 * value:+.1f} points{between}"


def cost(difference: dict[str, Any]) -> str:
    """Say how much lower or higher the cost is, the interval in the same direction; "cost unknown" else."""
    value, ends = difference["saving"], difference["saving_ci"]
    if value is None:
        return "unknown cost"
    word, sign = ("lower", 100) if value >= 0 else ("higher", -100)
    low, high = sorted(sign * end for end in ends) if ends else (0.0, 0.0)
    between = f" ({low:.0f} to {high:.0f} %)" if ends else ""
    if abs(value) < 0.005:
        return f"the same cost{between}"
    return f"{sign * value:.0f} % {word} cost{between}"


def claim(difference: dict[str, Any]) -> str:
    """Say a gain in success and what it costs."""
    return f"{points(difference['quality'], difference['quality_ci'])} of success at {cost(difference)}"
