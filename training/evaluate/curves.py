"""Success against cost over every setting of a policy, with bands; what is had at a fixed cost or success.

Nothing here is picked on the scored rows: a router's curve runs over its λ, every other one over budgets for
which the option was chosen on the training part; so do the tables of fixed cost and fixed success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluate.assess import Ledger
from training.evaluate.choose import LAMBDAS, mix_weights
from training.evaluate.menus import Menu, Outcome, as_good, take, within
from training.evaluate.policies import MIX_POINTS, by_model, by_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.evaluate.bootstrap import Bootstrap
    from training.evaluate.policies import Played, Setting

BUDGETS = 13  # of a curve, by even steps of log cost from the cheapest pin to …
_DEAREST = 2.0  # … so many times the best one
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the best pin's cost
LOSSES = (0.0, 0.005, 0.01, 0.02)  # of success against the best pin's
_LAMBDA = ("learned", "table", "logistic", "knn")


def pin_menus(setting: Setting) -> list[Menu]:
    """Every model as a pin."""
    return [_weighed(setting, fold, np.eye(len(setting.matrix.models))) for fold in range(len(setting.parts))]


def mix_menus(setting: Setting) -> list[Menu]:
    """Mixes of pins from the cheapest to the best by even steps of training cost; all costs must be known."""
    menus = []
    for fold, known in enumerate(setting.books):
        low, high = known.cost.min(), known.cost[known.pin]
        budgets = np.linspace(low, max(high, low), MIX_POINTS)
        menus.append(_weighed(setting, fold, mix_weights(known.cost, known.quality, budgets)))
    return menus


def _weighed(setting: Setting, fold: int, weights: np.ndarray) -> Menu:
    """Options (L, m) that draw the model by weights whatever the task."""
    known, mine = setting.books[fold], setting.at.fold == fold
    here = setting.at._replace(success=setting.at.success[mine], cost=setting.at.cost[mine])
    played = [by_weights(here, np.tile(row, (int(mine.sum()), 1))) for row in weights]
    names = [
        " + ".join(f"{w:.0%} {m}" for w, m in zip(row, setting.matrix.models, strict=True) if w > 0)
        for row in weights
    ]
    cost = np.where(weights > 0, weights * known.cost, 0.0).sum(axis=1)
    columns = (np.stack(column) for column in zip(*played, strict=True))
    return Menu(names, weights @ known.quality, cost, *columns)


def curves(boot: Bootstrap, setting: Setting, played: dict[str, Played]) -> dict[str, Any]:
    """Keys `curves`, `at_cost` and `at_quality` of the result; each empty where a cost is unknown."""
    if not all(np.isfinite(known.cost).all() for known in setting.books):
        return {"curves": {}, "at_cost": [], "at_quality": []}
    menus = {"pins": pin_menus(setting), "mix": mix_menus(setting)}
    menus |= {name: found.menus for name, found in played.items() if found.menus is not None}
    outcomes: dict[str, Outcome] = {"best_single": _pins(setting)}
    told: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for name, of_fold in menus.items():
        told[name] = []
        for number, (knob, outcome) in enumerate(_points(setting, name, of_fold)):
            outcomes[f"{name}/{number}"] = outcome
            told[name].append((f"{name}/{number}", knob))
        for share in SHARES:
            chosen = [
                within(m, share * float(k.cost[k.pin])) for m, k in zip(of_fold, setting.books, strict=True)
            ]
            outcomes[f"{name}/cost {share}"] = take(of_fold, chosen)
        for loss in LOSSES:
            chosen = [
                as_good(m, float(k.quality[k.pin]) - loss)
                for m, k in zip(of_fold, setting.books, strict=True)
            ]
            outcomes[f"{name}/loss {loss}"] = take(of_fold, chosen)
    ledger = Ledger(boot, outcomes)

    def entry(key: str) -> dict[str, Any]:
        return {**ledger.figures(key), "vs_best_single": ledger.against(key, "best_single")}

    return {
        "curves": {
            name: [{**knob, **ledger.figures(key)} for key, knob in points] for name, points in told.items()
        },
        "at_cost": [
            {"share": share, "policies": {name: entry(f"{name}/cost {share}") for name in menus}}
            for share in SHARES
        ],
        "at_quality": [
            {"loss": loss, "policies": {name: entry(f"{name}/loss {loss}") for name in menus}}
            for loss in LOSSES
        ],
    }


def _pins(setting: Setting) -> Outcome:
    return by_model(setting.at, np.array([known.pin for known in setting.books])[setting.at.fold])


def _points(setting: Setting, name: str, menus: list[Menu]) -> Iterator[tuple[dict[str, float], Outcome]]:
    """Each setting of a policy with the knob that it stands for."""
    if name in _LAMBDA:
        scale = float(np.mean([known.scale for known in setting.books]))
        for i, weight in enumerate(LAMBDAS[: min(len(m.names) for m in menus) - 1]):
            yield {"lambda_success_per_usd": float(weight / scale)}, take(menus, [i] * len(menus))
        return
    if name == "mix":
        for i in range(0, MIX_POINTS, 4):
            yield {"share_of_way": i / (MIX_POINTS - 1)}, take(menus, [i] * len(menus))
        return
    last = None
    for t in np.linspace(0.0, 1.0, BUDGETS):
        budgets = [
            float(k.cost.min() * (_DEAREST * k.cost[k.pin] / k.cost.min()) ** t) for k in setting.books
        ]
        chosen = [within(m, budget) for m, budget in zip(menus, budgets, strict=True)]
        if chosen != last:
            yield {"budget_usd": float(np.mean(budgets))}, take(menus, chosen)
        last = chosen
