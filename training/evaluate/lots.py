"""All ways to run a cheap model and to escalate from it, and the lots between them to choose from.

Escalated is where the gain in success per USD of the reference is above a threshold, which is the knob, or
where a check says no. Whatever errs or is drawn by lot is played as an expectation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.evaluate.beliefs import reference_of
from training.evaluate.choose import mix_weights
from training.evaluate.menus import Menu
from training.metrics import paired_error

if TYPE_CHECKING:
    from training.evaluate.policies import Setting

THRESHOLDS = 24  # of gain per USD, at even quantiles of the training runs
BUDGETS = 61  # of lots along the frontier, by even steps of log cost
_LEAST_USD = 1e-9


class Side(NamedTuple):
    """One part of a fold, unknown costs filled in with the model's mean."""

    success: np.ndarray  # (rows, m)
    cost: np.ndarray  # (rows, m) USD
    expected: np.ndarray  # (rows, m) USD
    noise: float
    check_usd: float
    judge_usd: float


class Points(NamedTuple):
    """K ways to treat the tasks of one part."""

    pair: np.ndarray  # (K, 2) int, cheap model and reference
    quality: np.ndarray  # (K, rows)
    cost: np.ndarray  # (K, rows) USD
    released: np.ndarray  # (K, rows) chance that the cheap model's answer stands


class Way(NamedTuple):
    """Ways of one pair to escalate, (K, 2, rows) bool: after a no [0] and a yes [1] of the check."""

    pair: tuple[int, int]
    names: list[str]
    train: np.ndarray
    test: np.ndarray
    plain: bool = True  # whether nothing was judged


class Lots(NamedTuple):
    """Lots of one fold by rising training cost, and what is needed to choose one on the training part."""

    menu: Menu
    train_quality: np.ndarray  # (B, n_train)
    pair: list[str]  # of each lot, the way that it mostly takes


def goal(setting: Setting, fold: int) -> int:
    """Model whose success is to be equalled: --reference, else the best pin of the training part."""
    fixed = reference_of(setting.matrix, setting.options)
    return setting.books[fold].pin if fixed is None else fixed


def lots(setting: Setting, fold: int, noise: float, *, judge: bool) -> Lots:
    """Lots along the frontier of one fold's training part; without `judge` nothing but checks decide."""
    ways = [*_pins(setting, fold), *_pairs(setting, fold, noise, judge=judge)]
    names = [name for way in ways for name in way.names]
    split = setting.parts[fold]
    sides = [_side(setting, fold, which, noise) for which in (split.train, split.test)]
    before = _all([treated(_paying(sides[0], way), way.pair, way.train) for way in ways])
    after = _all([treated(_paying(sides[1], way), way.pair, way.test) for way in ways])
    quality, money = before.quality.mean(axis=1), before.cost.mean(axis=1)
    plain = np.repeat([way.plain for way in ways], [len(way.names) for way in ways])
    sure = _sure(before, plain, setting.matrix.group[split.train])
    low, high = max(float(money.min()), _LEAST_USD), float(money[int(np.argmax(sure))])
    weights = mix_weights(money, sure, np.geomspace(low, max(high, low), BUDGETS))
    shares = np.zeros((BUDGETS, after.quality.shape[1], setting.matrix.success.shape[1]))
    for b, k in zip(*np.nonzero(weights), strict=True):
        cheap, reference = after.pair[k]
        shares[b, :, cheap] += weights[b, k] * after.released[k]
        shares[b, :, reference] += weights[b, k] * (1 - after.released[k])
    told = [" + ".join(f"{row[k]:.0%} {names[k]}" for k in np.flatnonzero(row)) for row in weights]
    mostly = [names[int(np.argmax(row))].partition(" when")[0] for row in weights]
    known = weights @ quality, weights @ money
    menu = Menu(told, *known, weights @ after.quality, weights @ after.cost, shares)
    return Lots(menu, weights @ before.quality, mostly)


def treated(side: Side, pair: tuple[int, int], escalate: np.ndarray) -> Points:
    """Outcome of escalating where `escalate` (K, 2, rows) says so, after a no [0] and a yes [1] of the check.

    The check is asked, and paid, only where its verdict decides.
    """
    cheap, reference = pair
    s, r = side.success[:, cheap], side.success[:, reference]
    yes = s * (1 - side.noise) + (1 - s) * side.noise
    on_no, on_yes = escalate[:, 0], escalate[:, 1]
    onward = on_no * (1 - yes) + on_yes * yes
    kept = (1 - on_no) * s * side.noise + (1 - on_yes) * s * (1 - side.noise)
    asked = (on_no != on_yes) * side.check_usd
    money = side.cost[:, cheap] + asked + side.judge_usd + onward * side.cost[:, reference]
    return Points(np.tile(pair, (len(escalate), 1)), kept + onward * r, money, 1 - onward)


def _pins(setting: Setting, fold: int) -> list[Way]:
    """Never escalating from the goal, the best pin and every cheap model."""
    assert setting.beliefs is not None
    split = setting.parts[fold]
    pins = {goal(setting, fold), setting.books[fold].pin, *(c for c, _ in setting.beliefs[fold].pairs)}
    never = [np.zeros((1, 2, int(which.sum())), dtype=bool) for which in (split.train, split.test)]
    return [Way((pin, pin), [setting.matrix.models[pin]], never[0], never[1]) for pin in sorted(pins)]


def _pairs(setting: Setting, fold: int, noise: float, *, judge: bool) -> list[Way]:
    """Of each pair the cascade on the check alone, and those on what is believed of the run."""
    assert setting.beliefs is not None
    split, known, found = setting.parts[fold], setting.books[fold], setting.beliefs[fold]
    ways = []
    for pair, before, after in zip(found.pairs, found.train, found.test, strict=True):
        said = " → ".join(setting.matrix.models[k] for k in pair)
        on_no = [np.zeros((1, 2, int(which.sum())), dtype=bool) for which in (split.train, split.test)]
        for way in on_no:
            way[:, 0] = True
        ways.append(Way(pair, [f"{said} when the check says no"], on_no[0], on_no[1]))
        if judge:
            price = np.maximum(known.expected[:, pair[1]], _LEAST_USD)
            worth = before.gain(noise) / price[split.train]
            knobs = np.unique(np.quantile(worth, np.linspace(0, 1, THRESHOLDS + 2)[1:-1]))
            names = [f"{said} when it gains {knob:.3g} per USD" for knob in knobs]
            cut = knobs[:, None, None]
            at_test = after.gain(noise) / price[split.test] > cut
            ways.append(Way(pair, names, worth > cut, at_test, plain=False))
    return ways


def _sure(before: Points, plain: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Training success (K,), of what was judged less half a standard error of its lead over the plain lots.

    Of dozens of thresholds some look better than a static cascade by luck; this pays for having looked.
    """
    quality, money = before.quality.mean(axis=1), before.cost.mean(axis=1)
    rivals = mix_weights(money[plain], quality[plain], money[~plain]) @ before.quality[plain]
    lead = before.quality[~plain] - rivals
    sure: np.ndarray = quality.copy()
    sure[~plain] -= [0.5 * paired_error(row, group)[1] if row.any() else 0.0 for row in lead]
    return sure


def _side(setting: Setting, fold: int, which: np.ndarray, noise: float) -> Side:
    cost, known, options = setting.matrix.cost[which], setting.books[fold], setting.options
    filled = np.where(np.isfinite(cost), cost, known.cost)
    usd = options.check_usd, options.router_usd
    return Side(setting.matrix.success[which], filled, known.expected[which], noise, *usd)


def _paying(side: Side, way: Way) -> Side:
    """What isn't judged pays no judge."""
    return side._replace(judge_usd=0.0) if way.plain else side


def _all(points: list[Points]) -> Points:
    return Points(*(np.concatenate(column) for column in zip(*points, strict=True)))
