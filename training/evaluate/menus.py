"""What a policy may choose between in a fold, and the rules that choose on the training part alone.

A rule sees `known_quality` and `known_cost`, means over the training part; what was chosen is scored on the
test part. So no knob of any policy is ever turned on the rows it is scored on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.evaluate.choose import Book

_CLOSE = 1e-9


class Outcome(NamedTuple):
    """What a policy got on the n scored tasks; expectations where it decides by lot or by a noisy check."""

    quality: np.ndarray  # (n,) success
    cost: np.ndarray  # (n,) USD, NaN unknown
    weights: np.ndarray  # (n, m) share of the task's answer by model


class Menu(NamedTuple):
    """L options of one policy in one fold of n scored tasks."""

    names: list[str]
    known_quality: np.ndarray  # (L,) mean success on the training part
    known_cost: np.ndarray  # (L,) mean USD there; NaN unknown
    quality: np.ndarray  # (L, n)
    cost: np.ndarray  # (L, n)
    weights: np.ndarray  # (L, n, m)


def within(menu: Menu, budget: float) -> int:
    """The best option that costs no more than `budget` on the training part; the cheapest where none does."""
    fits = menu.known_cost <= budget * (1 + _CLOSE)
    if not fits.any():
        return int(np.argmin(np.nan_to_num(menu.known_cost, nan=np.inf)))
    return _best(np.where(fits, menu.known_quality, -np.inf), menu.known_cost)


def as_good(menu: Menu, quality: float) -> int:
    """The cheapest option of at least `quality` on the training part; the best where none has it."""
    good = menu.known_quality >= quality - _CLOSE
    if not good.any():
        return _best(menu.known_quality, menu.known_cost)
    return int(np.argmin(np.where(good, np.nan_to_num(menu.known_cost, nan=np.inf), np.inf)))


def beside_pin(menu: Menu, known: Book) -> int:
    """The best option that costs no more than the best pin, else the cheapest that is as good as it."""
    if not np.isfinite(menu.known_cost).all() or not np.isfinite(known.cost[known.pin]):
        return _best(menu.known_quality, np.zeros(len(menu.names)))
    budget = float(known.cost[known.pin])
    if (menu.known_cost <= budget * (1 + _CLOSE)).any():
        return within(menu, budget)
    return as_good(menu, min(float(known.quality[known.pin]), float(menu.known_quality.max())))


def take(menus: Sequence[Menu], chosen: Sequence[int]) -> Outcome:
    """Outcome on all scored rows of taking option chosen[i] in fold i."""
    parts = [(m.quality[i], m.cost[i], m.weights[i]) for m, i in zip(menus, chosen, strict=True)]
    return Outcome(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def pareto(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Indices of the options (k,) that no cheaper one equals in quality, by rising cost.

    Where no cost is known the best one alone.
    """
    if not np.isfinite(cost).any():
        return np.array([int(np.argmax(quality))])
    order = np.lexsort((-quality, np.nan_to_num(cost, nan=np.inf)))
    best = np.maximum.accumulate(quality[order])
    rises = np.concatenate([[True], best[1:] > best[:-1] + _CLOSE])
    kept: np.ndarray = order[rises & np.isfinite(cost[order]) & np.isfinite(quality[order])]
    return kept


def _best(quality: np.ndarray, cost: np.ndarray) -> int:
    """Index of the best quality, of equals the cheapest."""
    return int(np.lexsort((np.nan_to_num(cost, nan=np.inf), -np.round(quality, 12)))[0])
