"""Consensus: two cheap models answer; where their diffs agree one is released, else the reference is asked.

A success matrix doesn't say whose diffs agree, so agreement is drawn at the rates measured between agents on
SWE-bench Verified (docs/FINDINGS.md, "Same diff"): it is a simulation, and the report says so.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.evaluate.policies import Outcome

if TYPE_CHECKING:
    from training.evaluate.choose import Book
    from training.evaluate.matrix import Matrix
    from training.evaluate.policies import Scored
    from training.evaluate.predict import Split


class Agreement(NamedTuple):
    """Chance that two answers to one task are the same diff."""

    both_right: float = 0.260
    both_wrong: float = 0.089
    one_right: float = 0.025


MEASURED = Agreement()


def consensus(
    matrix: Matrix, at: Scored, parts: list[Split], books: list[Book], rates: Agreement = MEASURED
) -> tuple[Outcome, dict[str, int]] | None:
    """The policy on the scored rows, and how often each pair was chosen; None where no cost is known.

    The pair is chosen on the training part: the best of those that cost no more than the best single model,
    else the cheapest of those that are as good. Both calls are paid, and the third where they differ.
    """
    if matrix.success.shape[1] < 3 or not all(np.isfinite(b.cost).all() for b in books):
        return None
    pieces, names = [], []
    for i, (part, known) in enumerate(zip(parts, books, strict=True)):
        first, second = _pair(matrix.success[part.train], known, rates)
        names.append(f"{matrix.models[first]} = {matrix.models[second]}, else {matrix.models[known.pin]}")
        mine = at.fold == i
        s, c = at.success[mine], at.cost[mine]
        right, released = _released(s[:, first], s[:, second], rates)
        weights = np.zeros(s.shape)
        weights[:, first] += released
        weights[:, known.pin] += 1 - released
        quality = right + (1 - released) * s[:, known.pin]
        cost = c[:, first] + c[:, second] + (1 - released) * c[:, known.pin]
        pieces.append(Outcome(quality, cost, weights))
    joined = Outcome(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
    return joined, dict(Counter(names))


def _released(first: np.ndarray, second: np.ndarray, rates: Agreement) -> tuple[np.ndarray, np.ndarray]:
    """Chance that the first's answer is released and right, and that it is released; arrays broadcast."""
    both, none = first * second, (1 - first) * (1 - second)
    alone = first * (1 - second)
    right = rates.both_right * both + rates.one_right * alone
    one = alone + (1 - first) * second
    return right, rates.both_right * both + rates.both_wrong * none + rates.one_right * one


def _pair(success: np.ndarray, known: Book, rates: Agreement) -> tuple[int, int]:
    """The two models asked first, from the training part; neither is the best single one."""
    m = success.shape[1]
    quality = np.full((m, m), -np.inf)
    money = np.full((m, m), np.inf)
    others = [j for j in range(m) if j != known.pin]
    last = success[:, [known.pin]]
    for j in others:
        right, released = _released(success[:, [j]], success[:, others], rates)
        quality[j, others] = (right + (1 - released) * last).mean(axis=0)
        escalated = (1 - released).mean(axis=0) * known.cost[known.pin]
        money[j, others] = known.cost[j] + known.cost[others] + escalated
    np.fill_diagonal(quality, -np.inf)
    np.fill_diagonal(money, np.inf)
    affordable = money <= known.cost[known.pin]
    if affordable.any():
        score = np.where(affordable, quality, -np.inf)
    else:
        score = np.where(quality >= min(known.quality[known.pin], quality.max()), -money, -np.inf)
    first, second = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(first), int(second)
