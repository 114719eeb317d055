"""Every policy as who answers each scored task: success, cost, shares; decided on training folds alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from training.evaluate.bootstrap import mean_known
from training.evaluate.choose import Book, Operating, book, choices, mix_weights, operate
from training.evaluate.menus import Menu, Outcome, take

if TYPE_CHECKING:
    from training.evaluate.beliefs import Beliefs
    from training.evaluate.matrix import Matrix
    from training.evaluate.options import Options
    from training.evaluate.predict import FoldScores, Split

MIX_POINTS = 41  # budgets between the cheapest and the best pin


class Scored(NamedTuple):
    """The scored rows of all folds, one after the other."""

    rows: np.ndarray  # (n,) into the matrix
    fold: np.ndarray  # (n,)
    success: np.ndarray  # (n, m)
    cost: np.ndarray  # (n, m)


class Setting(NamedTuple):
    """What every policy is played on: folds, what their training parts say, the routers' predictions."""

    matrix: Matrix
    parts: list[Split]
    at: Scored
    books: list[Book]
    scores: dict[str, list[FoldScores]]  # of each router, by fold
    options: Options
    beliefs: list[Beliefs] | None = None  # of each fold, where there is evidence of runs


class Played(NamedTuple):
    """A policy as it was played."""

    outcome: Outcome
    menus: list[Menu] | None  # what it chose from in each fold; None where there was no choice
    knobs: list[Any]  # what it chose in each fold, JSON-able
    facts: dict[str, Any] = {}  # noqa: RUF012 — what else its entry says; never mutated
    variants: dict[str, Outcome] = {}  # noqa: RUF012 — the same policy with another knob, by name


def setting_of(
    matrix: Matrix,
    parts: list[Split],
    scores: dict[str, list[FoldScores]],
    options: Options,
    beliefs: list[Beliefs] | None = None,
) -> Setting:
    """Put folds and predictions together."""
    books = [book(matrix, part.train) for part in parts]
    return Setting(matrix, parts, scored(matrix, parts), books, scores, options, beliefs)


def scored(matrix: Matrix, parts: list[Split]) -> Scored:
    """Put the scored rows of the folds in order."""
    rows = np.concatenate([np.flatnonzero(s.test) for s in parts])
    fold = np.concatenate([np.full(int(s.test.sum()), i) for i, s in enumerate(parts)])
    return Scored(rows, fold, matrix.success[rows], matrix.cost[rows])


def by_model(at: Scored, model: np.ndarray, net_usd: float = 0.0) -> Outcome:
    """Outcome of sending each scored task to model[i], at the cost of the call and `net_usd` for deciding."""
    rows = np.arange(len(model))
    weights = np.zeros(at.success.shape)
    weights[rows, model] = 1.0
    return Outcome(at.success[rows, model], at.cost[rows, model] + net_usd, weights)


def by_weights(at: Scored, weights: np.ndarray) -> Outcome:
    """Outcome of drawing each task's model by weights (n, m); the cost is unknown where a drawn one's is."""
    cost = np.where(weights > 0, weights * at.cost, 0.0).sum(axis=1)
    return Outcome((weights * at.success).sum(axis=1), cost, weights)


def best_single(at: Scored, books: list[Book]) -> Outcome:
    """Pin the best model of each fold's training part."""
    return by_model(at, np.array([b.pin for b in books])[at.fold])


def cheapest(at: Scored, books: list[Book]) -> Outcome | None:
    """Pin the model of least training cost; None when no cost is known."""
    if not all(np.isfinite(b.cost).all() for b in books):
        return None
    return by_model(at, np.array([int(np.argmin(b.cost)) for b in books])[at.fold])


def oracle(at: Scored) -> Outcome:
    """Take the cheapest of the models that did best on each task: hindsight, the limit of any router."""
    best = at.success >= at.success.max(axis=1, keepdims=True) - 1e-9
    price = np.where(best, np.nan_to_num(at.cost, nan=1e12), np.inf)
    return by_model(at, np.argmin(price, axis=1))


def mix_family(at: Scored, books: list[Book]) -> list[Outcome] | None:
    """Mixes of pins from the cheapest to the best, by even steps of training cost; None without costs."""
    if not all(np.isfinite(b.cost).all() for b in books):
        return None
    family = []
    for t in np.linspace(0.0, 1.0, MIX_POINTS):
        budgets = [b.cost.min() + t * max(b.cost[b.pin] - b.cost.min(), 0.0) for b in books]
        weights = [
            mix_weights(b.cost, b.quality, np.array([c]))[0] for b, c in zip(books, budgets, strict=True)
        ]
        family.append(by_weights(at, np.stack(weights)[at.fold]))
    return family


def matched_mix(at: Scored, family: list[Outcome], target: float) -> Outcome:
    """Find the mix within the family that costs `target` USD a task on the scored rows."""
    costs = np.array([mean_known(o.cost) for o in family])
    order = np.argsort(costs, kind="stable")
    position = np.interp(target, costs[order], np.arange(len(costs), dtype=float))
    low = int(position)
    high, part = min(low + 1, len(costs) - 1), position - low
    pair = family[order[low]], family[order[high]]
    return by_weights(at, (1 - part) * pair[0].weights + part * pair[1].weights)


def routed(setting: Setting, name: str) -> Played:
    """A router: each fold's λ is chosen on its training part and applied to the rows that are scored."""
    ops, menus = [], []
    for i, (part, known) in enumerate(zip(setting.parts, setting.books, strict=True)):
        score = setting.scores[name][i]
        ops.append(_operating(setting, part, known, score))
        menus.append(_lambda_menu(setting, i, known, score))
    variants = {}
    for at, variant in enumerate(Operating._fields):
        chosen = [op[at] for op in ops]
        variants[variant] = take(menus, [-1 if index is None else index for index in chosen])
    abstained = [op.headline is None for op in ops]
    lambdas = [
        None if op.headline is None else known.lambda_usd(op.headline)
        for op, known in zip(ops, setting.books, strict=True)
    ]
    fitted = [score.knob for score in setting.scores[name]]
    facts = {
        "abstained": sum(abstained),
        "folds": len(ops),
        "lambda_success_per_usd": lambdas,
        "knob": fitted,
    }
    knobs = [list(pair) for pair in zip(lambdas, fitted, strict=True)]
    return Played(variants.pop("headline"), menus, knobs, facts, variants)


def _lambda_menu(setting: Setting, fold: int, known: Book, score: FoldScores) -> Menu:
    """One option for each λ, and last the best single model, which is what abstaining means."""
    part, at, net = setting.parts[fold], setting.at, setting.options.router_usd
    success, cost = setting.matrix.success[part.train], setting.matrix.cost[part.train]
    before = choices(score.train, known.expected[part.train], known)
    rows = np.arange(before.shape[1])[None, :]
    mine = at.fold == fold
    here = at._replace(success=at.success[mine], cost=at.cost[mine])
    models = choices(score.test, known.expected[part.test], known)
    played = [by_model(here, model, net) for model in models]
    played.append(by_model(here, np.full(models.shape[1], known.pin)))
    names = [f"λ = {known.lambda_usd(i):.4g} per USD" for i in range(len(models))] + ["abstains"]
    quality = np.append(success[rows, before].mean(axis=1), known.quality[known.pin])
    money = np.append(mean_known(cost[rows, before]) + net, known.cost[known.pin])
    return Menu(names, quality, money, *(np.stack(column) for column in zip(*played, strict=True)))


def _operating(setting: Setting, part: Split, known: Book, score: FoldScores) -> Operating:
    """λ of one fold from the out-of-fold predictions of its training part."""
    matrix = setting.matrix
    success, cost = matrix.success[part.train], matrix.cost[part.train]
    options = choices(score.train, known.expected[part.train], known)
    rows = np.arange(options.shape[1])[None, :]
    spent = cost[rows, options] + setting.options.router_usd
    pin = success[:, known.pin]
    if np.isfinite(known.cost).all():
        mixed = mix_weights(known.cost, known.quality, mean_known(spent)) @ success.T
    else:
        mixed = np.tile(pin, (len(options), 1))
    return operate(success[rows, options], spent, pin, mixed, matrix.group[part.train])
