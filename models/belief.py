"""What a bundle believes of the arms of one request, as plain numbers for a decision."""

from __future__ import annotations

import math

from features.value import Value

Z = 1.645  # two-sided 90 %
_SQUARE = Z * Z


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
    # `wilson` of one arm: the same operations in the same order, so the same bits. Calls of min and max would
    # make an arm twice as dear.
    square = _SQUARE / rows
    whole = 1 + square
    centre = (p + square / 2) / whole
    half = math.sqrt(square * (p * (1 - p) + square / 4)) / whole
    low, high = centre - half, centre + half
    if low < 0.0:
        low = 0.0
    if low > p:
        low = p
    if high < p:
        high = p
    if high > 1.0:
        high = 1.0
    return Belief(p, low, high, *amounts)
