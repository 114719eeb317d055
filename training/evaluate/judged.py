"""Run a cheap model, look at its run and at a check's verdict, release its answer or escalate.

The judged policy and, beside it, the same without what was judged: static cascades on the check alone and
lots between them and the pins, which a judge has to beat. Each is chosen on the training part of a fold.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluate.bootstrap import mean_known
from training.evaluate.choose import as_good_as
from training.evaluate.lots import Lots, goal, lots
from training.evaluate.menus import Menu, Outcome, beside_pin, take
from training.evaluate.policies import Played

if TYPE_CHECKING:
    from training.evaluate.policies import Setting


def judged(setting: Setting, noise: float, *, judge: bool = True) -> Played | None:
    """The best lot at no more than the goal's cost, else the cheapest that is as good.

    None without evidence or where a cost is unknown. Variant `parity`: the cheapest that the training part
    shows to be as good as the goal, else the goal itself. Without `judge`: the static cascade.
    """
    if setting.beliefs is None or not all(np.isfinite(known.cost).all() for known in setting.books):
        return None
    folds = range(len(setting.parts))
    found = [lots(setting, i, noise, judge=judge) for i in folds]
    menus, goals = [of_fold.menu for of_fold in found], [goal(setting, i) for i in folds]
    books = [known._replace(pin=g) for known, g in zip(setting.books, goals, strict=True)]
    best = [beside_pin(menu, known) for menu, known in zip(menus, books, strict=True)]
    pins = [_pinned(setting, i, g) for i, g in enumerate(goals)]
    even = [_parity(setting, i, of_fold, goals[i]) for i, of_fold in enumerate(found)]
    chosen = [pin if k is None else menu for menu, pin, k in zip(menus, pins, even, strict=True)]
    facts: dict[str, Any] = {
        "check_noise": noise,
        "pairs": dict(Counter(of_fold.pair[k] for of_fold, k in zip(found, best, strict=True))),
        "abstained_at_parity": sum(k is None for k in even),
        "folds": len(found),
    }
    if judge:
        facts["stands_on"] = [of_fold.parts for of_fold in setting.beliefs]
    variants = {"parity": take(chosen, [k or 0 for k in even]), "goal": take(pins, [0] * len(pins))}
    names = [menu.names[k] for menu, k in zip(menus, best, strict=True)]
    return Played(take(menus, best), menus, names, facts, variants)


def matched(menus: list[Menu], spent: float) -> Outcome:
    """Between two neighbouring options of every fold, the lot that costs `spent` USD a task where scored."""
    family = [take(menus, [k] * len(menus)) for k in range(len(menus[0].names))]
    costs = np.maximum.accumulate([float(mean_known(outcome.cost)) for outcome in family])
    position = float(np.interp(spent, costs, np.arange(len(costs), dtype=float)))
    low = int(position)
    high, part = min(low + 1, len(family) - 1), position - low
    ends = zip(family[low], family[high], strict=True)
    return Outcome(*((1 - part) * a + part * b for a, b in ends))


def _parity(setting: Setting, fold: int, found: Lots, pin: int) -> int | None:
    """The cheapest lot that the training part shows to be as good as the goal; None where none is."""
    train = setting.parts[fold].train
    would, group = setting.matrix.success[train, pin], setting.matrix.group[train]
    good = (k for k, row in enumerate(found.train_quality) if as_good_as(row - would, group))
    return next(good, None)


def _pinned(setting: Setting, fold: int, model: int) -> Menu:
    """A menu of one model alone."""
    known, mine = setting.books[fold], setting.at.fold == fold
    shares = np.zeros((1, int(mine.sum()), len(setting.matrix.models)))
    shares[:, :, model] = 1.0
    success, cost = setting.at.success[mine, model], setting.at.cost[mine, model]
    figures = known.quality[[model]], known.cost[[model]]
    return Menu([setting.matrix.models[model]], *figures, success[None], cost[None], shares)
