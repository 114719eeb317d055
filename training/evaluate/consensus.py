"""Consensus: two cheap models answer; where the answers are the same one is released, else the pin is asked.

Where the file says which answers are the same (a digest, or patches, of which the diff judge makes digests),
agreement is what it was. Else it is drawn at the rates measured between agents on SWE-bench Verified
(docs/FINDINGS.md, "Same diff"): a simulation, and the report says so.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from training.evaluate.menus import Menu, beside_pin, pareto, take
from training.evaluate.policies import Played

if TYPE_CHECKING:
    from training.evaluate.policies import Setting


class Agreement(NamedTuple):
    """Chance that two answers to one task are the same diff."""

    both_right: float = 0.260
    both_wrong: float = 0.089
    one_right: float = 0.025


MEASURED = Agreement()


class Answers(NamedTuple):
    """Success (n, m) of answers and, where it is known, which of a task are the same."""

    success: np.ndarray
    code: np.ndarray | None  # (n, m) int, equal where answers are the same, -1 unknown: then none agrees


def consensus(setting: Setting) -> Played | None:
    """The policy on the scored rows; None with fewer than three models, or without costs and agreement.

    The pair is chosen on the training part: the best of those that cost no more than the best single model,
    else the cheapest of those that are as good. Both calls are paid, and the third where they differ.
    """
    matrix = setting.matrix
    priced = all(np.isfinite(b.cost).all() for b in setting.books)
    if len(matrix.models) < 3 or not (priced or matrix.answer is not None):
        return None
    menus = [_menu(setting, fold) for fold in range(len(setting.parts))]
    chosen = [beside_pin(menu, known) for menu, known in zip(menus, setting.books, strict=True)]
    names = [menu.names[i] for menu, i in zip(menus, chosen, strict=True)]
    facts: dict[str, Any] = {"pairs": dict(Counter(names))}
    if matrix.answer is None:
        facts["simulated"] = "agreement drawn at the base rates of FINDINGS, Same diff"
        facts["agreement"] = MEASURED._asdict()
    else:
        rows = setting.at.rows
        facts["agreement"] = measured(Answers(matrix.success[rows], matrix.answer[rows]))
    return Played(take(menus, chosen), menus, names, facts)


def released(first: Answers, second: Answers, rates: Agreement) -> tuple[np.ndarray, np.ndarray]:
    """Chance that the first's answer is released and right, and that it is released; arrays broadcast."""
    s, t = first.success, second.success
    if first.code is not None and second.code is not None:
        same = ((first.code == second.code) & (first.code >= 0)).astype(np.float64)
        return same * s, same
    both, none = s * t, (1 - s) * (1 - t)
    alone = s * (1 - t)
    right = rates.both_right * both + rates.one_right * alone
    one = alone + (1 - s) * t
    return right, rates.both_right * both + rates.both_wrong * none + rates.one_right * one


def measured(answers: Answers) -> dict[str, float | None]:
    """Share of the pairs of answers to one task that are the same, by how many of the two are right."""
    assert answers.code is not None
    one, other = np.triu_indices(answers.success.shape[1], 1)
    same = (answers.code[:, one] == answers.code[:, other]) & (answers.code[:, one] >= 0)
    right = (answers.success[:, one] >= 0.5).astype(int) + (answers.success[:, other] >= 0.5)
    kinds = {"both_right": 2, "both_wrong": 0, "one_right": 1}
    return {name: float(same[right == n].mean()) if (right == n).any() else None for name, n in kinds.items()}


def _menu(setting: Setting, fold: int) -> Menu:
    """Pairs on the frontier of the fold's training part; the best single model comes after them."""
    part, known = setting.parts[fold], setting.books[fold]
    train = _answers(setting, np.flatnonzero(part.train))
    others = np.array([j for j in range(train.success.shape[1]) if j != known.pin])
    last = train.success[:, [known.pin]]
    quality, money = [], []
    for j in others:
        right, let = released(_of(train, [j]), _of(train, others), MEASURED)
        known_quality = (right + (1 - let) * last).mean(axis=0)
        known_quality[others == j] = -np.inf
        quality.append(known_quality)
        escalated = (1 - let).mean(axis=0) * known.cost[known.pin]
        money.append(known.cost[j] + known.cost[others] + escalated)
    flat_quality, flat_money = np.concatenate(quality), np.concatenate(money)
    kept = pareto(flat_quality, flat_money)
    pairs = [(int(others[k // len(others)]), int(others[k % len(others)])) for k in kept]
    scored = [_play(setting, np.flatnonzero(part.test), pair, known.pin) for pair in pairs]
    models = setting.matrix.models
    names = [f"{models[a]} = {models[b]}, else {models[known.pin]}" for a, b in pairs]
    columns = (np.stack(column) for column in zip(*scored, strict=True))
    return Menu(names, flat_quality[kept], flat_money[kept], *columns)


def _play(
    setting: Setting, rows: np.ndarray, pair: tuple[int, int], pin: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Success, USD and shares of one pair on the matrix's `rows`."""
    answers, cost = _answers(setting, rows), setting.matrix.cost[rows]
    first, second = pair
    right, let = released(_of(answers, first), _of(answers, second), MEASURED)
    weights = np.zeros(answers.success.shape)
    weights[:, first] += let
    weights[:, pin] += 1 - let
    asked = np.where(let < 1, (1 - let) * cost[:, pin], 0.0)
    money = cost[:, first] + cost[:, second] + asked
    return right + (1 - let) * answers.success[:, pin], money, weights


def _answers(setting: Setting, rows: np.ndarray) -> Answers:
    code = setting.matrix.answer
    return Answers(setting.matrix.success[rows], None if code is None else code[rows])


def _of(answers: Answers, models: object) -> Answers:
    """The columns of some models."""
    code = answers.code
    return Answers(answers.success[:, models], None if code is None else code[:, models])  # type: ignore[index]
