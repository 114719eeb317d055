"""Every policy as who answers each scored task: success, cost, shares; decided on training folds alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.evaluate.bootstrap import mean_known
from training.evaluate.choose import Book, Operating, choices, mix_weights, operate

if TYPE_CHECKING:
    from training.evaluate.matrix import Matrix
    from training.evaluate.predict import FoldScores, Split

MIX_POINTS = 41  # budgets between the cheapest and the best pin


class Outcome(NamedTuple):
    """What a policy got on the n scored tasks; expectations where it decides by lot or by a noisy check."""

    quality: np.ndarray  # (n,) success
    cost: np.ndarray  # (n,) USD, NaN unknown
    weights: np.ndarray  # (n, m) share of the task's answer by model


class Scored(NamedTuple):
    """The scored rows of all folds, one after the other."""

    rows: np.ndarray  # (n,) into the matrix
    fold: np.ndarray  # (n,)
    success: np.ndarray  # (n, m)
    cost: np.ndarray  # (n, m)


class Routed(NamedTuple):
    """A learner's choices on the scored rows."""

    headline: Outcome
    parity: Outcome
    unguarded: Outcome
    curve_quality: np.ndarray  # (L, n) for each λ, never abstaining
    curve_cost: np.ndarray  # (L, n)
    abstained: int  # folds
    lambda_usd: list[float | None]  # λ of each fold, success per USD; None where it abstained


def scored(matrix: Matrix, parts: list[Split]) -> Scored:
    """Put the scored rows of the folds in order."""
    rows = np.concatenate([np.flatnonzero(s.test) for s in parts])
    fold = np.concatenate([np.full(int(s.test.sum()), i) for i, s in enumerate(parts)])
    return Scored(rows, fold, matrix.success[rows], matrix.cost[rows])


def by_model(at: Scored, model: np.ndarray) -> Outcome:
    """Outcome of sending each scored task to model[i]."""
    rows = np.arange(len(model))
    weights = np.zeros(at.success.shape)
    weights[rows, model] = 1.0
    return Outcome(at.success[rows, model], at.cost[rows, model], weights)


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


def cascade(
    matrix: Matrix, at: Scored, parts: list[Split], books: list[Book], noise: float
) -> tuple[Outcome, list[str]]:
    """Cheap first, then a check that errs with probability `noise` either way, then the second model.

    The pair is the best of those that cost no more than the best single model on the training part, else the
    cheapest that is as good. Graded success is read as the chance of a right answer. Both calls are paid.
    """
    pieces, names = [], []
    for i, (part, known) in enumerate(zip(parts, books, strict=True)):
        first, second = _pair(matrix.success[part.train], matrix.cost[part.train], known, noise)
        names.append(f"{matrix.models[first]} → {matrix.models[second]}")
        mine = at.fold == i
        s, c = at.success[mine], at.cost[mine]
        onward = s[:, first] * noise + (1 - s[:, first]) * (1 - noise)
        weights = np.zeros(s.shape)
        weights[:, first], weights[:, second] = 1 - onward, onward
        quality = s[:, first] * (1 - noise) + onward * s[:, second]
        pieces.append(Outcome(quality, c[:, first] + onward * c[:, second], weights))
    return Outcome(*(np.concatenate(column) for column in zip(*pieces, strict=True))), names


def _pair(success: np.ndarray, cost: np.ndarray, known: Book, noise: float) -> tuple[int, int]:
    """First and second model (of m ≥ 2) of the cascade, from the training part."""
    n = len(success)
    onward = success * noise + (1 - success) * (1 - noise)
    quality = success.mean(axis=0)[:, None] * (1 - noise) + onward.T @ success / n
    np.fill_diagonal(quality, -np.inf)
    if not np.isfinite(known.cost).all():
        first, second = np.unravel_index(int(np.argmax(quality)), quality.shape)
        return int(first), int(second)
    filled = np.where(np.isfinite(cost), cost, known.cost)
    money = filled.mean(axis=0)[:, None] + onward.T @ filled / n
    money[np.isneginf(quality)] = np.inf
    affordable = money <= known.cost[known.pin]
    score = np.where(affordable, quality, -np.inf)
    if not affordable.any():
        good = quality >= min(known.quality[known.pin], quality.max())
        score = np.where(good, -money, -np.inf)
    first, second = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(first), int(second)


def routed(
    matrix: Matrix, at: Scored, parts: list[Split], books: list[Book], scores: list[FoldScores]
) -> Routed:
    """Choose each fold's λ on its training part and apply it to the rows that are scored."""
    ops, curves, lambdas = [], [], []
    picks: dict[str, list[np.ndarray]] = {"headline": [], "parity": [], "unguarded": []}
    for part, known, score in zip(parts, books, scores, strict=True):
        op = _operating(matrix, part, known, score)
        options = choices(score.test, known.expected[part.test], known)
        pin = np.full(options.shape[1], known.pin)
        for name, index in zip(picks, op, strict=True):
            picks[name].append(pin if index is None else options[index])
        ops.append(op)
        curves.append(options)
        lambdas.append(None if op.headline is None else known.lambda_usd(op.headline))
    length = min(len(c) for c in curves)  # 1 where a fold knows no cost
    sweep = np.concatenate([c[:length] for c in curves], axis=1)
    every = np.arange(sweep.shape[1])[None, :]
    played = {name: by_model(at, np.concatenate(models)) for name, models in picks.items()}
    return Routed(
        headline=played["headline"],
        parity=played["parity"],
        unguarded=played["unguarded"],
        curve_quality=at.success[every, sweep],
        curve_cost=at.cost[every, sweep],
        abstained=sum(op.headline is None for op in ops),
        lambda_usd=lambdas,
    )


def _operating(matrix: Matrix, part: Split, known: Book, score: FoldScores) -> Operating:
    """λ of one fold from the out-of-fold predictions of its training part."""
    success, cost = matrix.success[part.train], matrix.cost[part.train]
    options = choices(score.train, known.expected[part.train], known)
    rows = np.arange(options.shape[1])[None, :]
    spent = cost[rows, options]
    pin = success[:, known.pin]
    if np.isfinite(known.cost).all():
        mixed = mix_weights(known.cost, known.quality, mean_known(spent)) @ success.T
    else:
        mixed = np.tile(pin, (len(options), 1))
    return operate(success[rows, options], spent, pin, mixed, matrix.group[part.train])
