"""What a bundle believes of the arms of one request, as plain numbers for a decision."""

from __future__ import annotations

import math

from features.value import Value

Z = 1.645  # two-sided 90 %


class Belief(Value, frozen=True):
    """What is believed of one arm; None is unknown, else as in `Predictions`."""

    p_success: float | None
    p_success_low: float | None
    p_success_high: float | None
    output_tokens: float | None
    reasoning_tokens: float | None
    turns_left: float | None


class Beliefs(Value, frozen=True):
    """What is believed for one request, and by what."""

    arms: tuple[Belief, ...]  # aligned with the candidates asked for
    outside: tuple[str, ...]  # features outside what the learners were trained on: the tables alone answer
    types: tuple[tuple[str, float], ...]  # the likeliest task types and their probabilities, if none was told


def belief(p: float, rows: float, tokens: float, reasoning: float, turns: float) -> Belief:
    """One arm: P(success) on so many effective rows, tokens, reasoning tokens and turns; NaN is unknown."""
    amounts = (
        tokens if tokens == tokens else None,
        reasoning if reasoning == reasoning else None,
        turns if turns == turns else None,
    )
    if p != p:
        return Belief(None, None, None, *amounts)
    # `wilson` of one arm: the same operations in the same order, so the same bits.
    square = Z * Z / rows
    centre = (p + square / 2) / (1 + square)
    half = math.sqrt(square * (p * (1 - p) + square / 4)) / (1 + square)
    low, high = min(max(centre - half, 0.0), p), min(max(centre + half, p), 1.0)
    return Belief(p, low, high, *amounts)
