"""How well a new model is known before and after its first outcomes, measured by leaving known models out.

Everything is group-wise: tables learn on some groups and are scored on the others, and what is chosen (the
strength, the reference) is chosen without the scored groups. A held-out model never lends its rows to what
predicts it, but for the n outcomes it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.calibrate import logit, sigmoid
from training.pairing import Answers, paired
from training.shrink import Effects, additive_effects, fit_effects

if TYPE_CHECKING:
    from models.descriptors import Descriptor

NS = (0, 10, 50, 200, None)  # outcomes of the new model; None: all there are
STRENGTHS = (4.0, 16.0, 64.0)
WORTH = 10.0  # calls of the reference that one success is worth: a point of success is a tenth of its bill
TRAIN_SHARE = 0.6
Z = 1.645  # two-sided 90 %
MAX_SPREAD = 0.25  # as the router's policy: a wider interval is no evidence
_UNPAID = 1e-6  # USD; below, a cost is missing and not small


class Matrix(NamedTuple):
    """Outcomes as codes, one row per (task, model); the arrays are (n,)."""

    candidate: np.ndarray
    task_type: np.ndarray
    task: np.ndarray  # what several models answered alike
    group: np.ndarray  # what is never torn apart
    success: np.ndarray  # in 0..1
    cost_usd: np.ndarray  # NaN unknown
    candidates: tuple[str, ...]
    task_types: tuple[str, ...]
    descriptors: tuple[Descriptor, ...]

    def sums(self, mask: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums and rows (C, T + 1) of a value over the mask's rows that know it; the last type is empty."""
        shape = (len(self.candidates), len(self.task_types) + 1)
        mask = mask & np.isfinite(value)
        where = np.ravel_multi_index((self.candidate[mask], self.task_type[mask]), shape)
        size = shape[0] * shape[1]
        total = np.bincount(where, weights=value[mask], minlength=size).reshape(shape)
        return total, np.bincount(where, minlength=size).astype(np.float64).reshape(shape)


class Guess(NamedTuple):
    """What one way of guessing said of a held-out model without any outcome of it."""

    control: str
    candidate: str
    effect: float  # on the logit scale
    actual: float
    loss: float  # mean log-loss of the model's rows, nats
    cells_inside: tuple[float, float]  # cells in their 90 % interval, and all that have enough rows
    effect_inside: float  # 1 or 0; NaN for a control without an interval
    width: float  # mean width of the intervals of P(success)


def unseen(matrix: Matrix, strength: float, min_rows: int = 20) -> list[Guess]:
    """Guess every candidate from the others by each control; all rows of the held-out model are scored."""
    total, rows = matrix.sums(np.ones(len(matrix.success), dtype=bool), matrix.success)
    full = fit_effects(total, rows, "logit", strength, matrix.descriptors)
    found = []
    for m, name in enumerate(matrix.candidates):
        others = np.arange(len(matrix.candidates)) != m
        left = others[:, None]
        fitted = fit_effects(total * left, rows * left, "logit", strength, matrix.descriptors)
        assert fitted.newcomers is not None
        belief = fitted.newcomers.belief(matrix.descriptors[m])
        weight = rows.sum(axis=1) * others
        spread = float(np.sqrt(belief.covariance[0, 0]))
        variance = spread**2 + np.square(fitted.loadings).sum(axis=1) + fitted.newcomers.cell_spread**2
        cell = np.sqrt(variance)
        controls = {
            "flat": (float(np.average(fitted.candidate, weights=weight > 0)), None),
            "price line": (fitted.prior.value(matrix.descriptors[m].prices), None),
            "family mean": (_family_mean(matrix, fitted, others, m), None),
            "descriptor": (float(belief.mean[0]), (spread, cell)),
        }
        for control, (effect, interval) in controls.items():
            line = effect + fitted.task_type
            p = sigmoid(line)
            loss = -(total[m] * np.log(p) + (rows[m] - total[m]) * np.log1p(-p)).sum() / rows[m].sum()
            inside, width, own = (0.0, 0.0), np.nan, np.nan
            if interval is not None:
                inside, width = _covered(line, interval[1], total[m], rows[m], min_rows)
                own = float(abs(effect - full.candidate[m]) <= Z * interval[0])
            actual = float(full.candidate[m])
            found.append(Guess(control, name, effect, actual, float(loss), inside, own, width))
    return found


def _family_mean(matrix: Matrix, fitted: Effects, others: np.ndarray, m: int) -> float:
    """Mean effect of the held-out model's family; of all where none of it is left."""
    family = matrix.descriptors[m].family
    mine = others & np.array([family is not None and d.family == family for d in matrix.descriptors])
    return float(fitted.candidate[mine if mine.any() else others].mean())


def _covered(
    line: np.ndarray, deviation: np.ndarray, total: np.ndarray, rows: np.ndarray, min_rows: int
) -> tuple[tuple[float, float], float]:
    """Cells inside and cells counted, and the mean width of the interval; sampling noise widens it."""
    enough = rows >= min_rows
    p = sigmoid(line[enough])
    seen = logit(np.clip(total[enough] / rows[enough], 0.5 / rows[enough], 1 - 0.5 / rows[enough]))
    noise = 1.0 / (rows[enough] * np.maximum(sigmoid(seen) * (1 - sigmoid(seen)), 0.02))
    inside = np.abs(seen - line[enough]) <= Z * np.sqrt(deviation[enough] ** 2 + noise)
    width = sigmoid(logit(p) + Z * deviation[enough]) - sigmoid(logit(p) - Z * deviation[enough])
    return (float(inside.sum()), float(enough.sum())), float(width.mean()) if enough.any() else np.nan


class Saved(NamedTuple):
    """Net saving on unseen groups with n outcomes of a new model, as a share of the reference's bill.

    `alone` routes between the reference and the new model, `pool` among all; a success lost or won is priced
    at WORTH calls of the reference.
    """

    candidate: str
    draw: int
    n: int | None  # None: all
    plan: str
    loss: float  # log-loss of the new model's unseen rows, nats
    alone: float
    alone_guarded: float  # where the new model is left out while its interval is wider than MAX_SPREAD
    pool: float
    without: float  # the pool without it


class Way(NamedTuple):
    """What is made of the first outcomes, drawn at random."""

    plain: bool = False  # the additive table and price line, as before there were descriptors
    paired: bool = False  # each outcome is held against the known models' on the same task

    @property
    def name(self) -> str:
        """The way in words."""
        return "random" + (", paired" if self.paired else "") + (", plain table" if self.plain else "")


def savings(matrix: Matrix, m: int, draw: int, ways: tuple[Way, ...]) -> list[Saved]:
    """Leave model m out of one split by group, then give back its outcomes step by step."""
    rng = np.random.default_rng((draw, m))
    names, where = np.unique(matrix.group, return_inverse=True)
    train = (rng.permutation(len(names)) < TRAIN_SHARE * len(names))[where]
    mine = matrix.candidate == m
    order = rng.permutation(np.flatnonzero(train & mine))
    strength = _strength(matrix, train & ~mine, rng)
    reference = _reference(matrix, train, m)
    found = []
    for way in ways:
        for n in NS:
            mask = train & ~mine
            mask[order[:n]] = True
            found.append(_score(matrix, mask, ~train, reference, _Given(m, draw, n, way, strength)))
    return found


def _believed(
    matrix: Matrix, mask: np.ndarray, m: int, way: Way, strength: float
) -> tuple[Effects, np.ndarray]:
    """Success effects and expected USD (C, T) of the rows of a mask."""
    descriptors = matrix.descriptors
    total, rows = matrix.sums(mask, matrix.success)
    if way.paired:
        total, rows = _paired(matrix, mask, m, total, rows)
    fitted = fit_effects(total, rows, "logit", strength, descriptors)
    if way.plain:
        fitted = additive(fitted, total, rows, strength, descriptors)
    known = np.where(matrix.cost_usd > _UNPAID, matrix.cost_usd, np.nan)
    cost = fit_effects(*matrix.sums(mask, np.log(known)), "identity", 8.0, descriptors)
    return fitted, np.exp(cost.cells[:, :-1])


def _paired(
    matrix: Matrix, mask: np.ndarray, m: int, total: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sums (C, T + 1) with model m's outcomes held against the others' on the same tasks."""
    some = Answers(*(v[mask] for v in (matrix.candidate, matrix.task, matrix.task_type, matrix.success)))
    shift, weight = paired(some, np.array([m]))
    mine = some.candidate == m
    kind, width = some.task_type[mine], total.shape[1]
    total, rows = total.copy(), rows.copy()
    rows[m] = np.bincount(kind, weights=weight[mine], minlength=width)
    worth = weight[mine] * (some.success - shift)[mine]
    total[m] = np.clip(np.bincount(kind, weights=worth, minlength=width), 0.0, rows[m])
    return total, rows


def additive(
    fitted: Effects, total: np.ndarray, rows: np.ndarray, strength: float, descriptors: tuple[Descriptor, ...]
) -> Effects:
    """The control: effect + type, every candidate drawn to the middle, an unseen one on the price line."""
    candidate, kind = additive_effects(total, rows, "logit", strength)
    line = np.array([fitted.prior.value(d.prices) for d in descriptors])
    candidate = np.where(rows.sum(axis=1) > 0, candidate, line)
    guess = candidate[:, None] + kind
    cells = logit((total + strength * sigmoid(guess)) / (rows + strength))
    return fitted._replace(candidate=candidate, task_type=kind, cells=np.where(rows > 0, cells, guess))


def _strength(matrix: Matrix, mask: np.ndarray, rng: np.random.Generator) -> float:
    """Strength of least loss on one half of the training groups from the other."""
    names, where = np.unique(matrix.group, return_inverse=True)
    half = (rng.random(len(names)) < 0.5)[where]
    total, rows = matrix.sums(mask & half, matrix.success)
    left, right = matrix.sums(mask & ~half, matrix.success)

    def loss(strength: float) -> float:
        p = sigmoid(fit_effects(total, rows, "logit", strength, matrix.descriptors).cells)
        return float(-(left * np.log(p) + (right - left) * np.log1p(-p)).sum())

    return min(STRENGTHS, key=loss)


def _reference(matrix: Matrix, train: np.ndarray, m: int) -> int:
    """Best single model of the training rows, the held-out one apart."""
    total, rows = (s.sum(axis=1) for s in matrix.sums(train, matrix.success))
    quality = np.divide(total, rows, out=np.full(len(total), -1.0), where=rows > 0)
    quality[m] = -1.0
    return int(np.argmax(quality))


def _choose(p: np.ndarray, cost: np.ndarray, rate: float, arms: np.ndarray, reference: int) -> np.ndarray:
    """Arm (T,) of the largest p − rate · cost among the allowed; the reference where they tie."""
    worth = np.where(arms[:, None], p - rate * cost, -np.inf)
    worth[reference] += 1e-12
    return np.asarray(worth.argmax(axis=0))


class _Given(NamedTuple):
    """One step of the measurement: model m with n outcomes, found one way."""

    m: int
    draw: int
    n: int | None
    way: Way
    strength: float


def _score(matrix: Matrix, mask: np.ndarray, test: np.ndarray, reference: int, given: _Given) -> Saved:
    """Route the unseen groups by what the rows of the mask teach."""
    m, draw, n, way, strength = given
    fitted, cost = _believed(matrix, mask, m, way, strength)
    p = sigmoid(fitted.cells[:, :-1])
    total, rows = (s[:, :-1] for s in matrix.sums(test, matrix.success))
    known = np.where(matrix.cost_usd > _UNPAID, matrix.cost_usd, np.nan)
    paid, priced = (s[:, :-1] for s in matrix.sums(test, known))
    quality = np.divide(total, rows, out=sigmoid(fitted.cells[:, :-1]), where=rows > 0)
    usd = np.divide(paid, priced, out=cost.copy(), where=priced > 0)
    share = rows[reference] / rows[reference].sum()
    types = np.arange(len(share))

    rate = 1.0 / (WORTH * float(share @ usd[reference]))

    def net(arms: np.ndarray) -> float:
        choice = _choose(p, cost, rate, arms, reference)
        gained = quality[choice, types] - quality[reference]
        saved = usd[reference] - usd[choice, types]
        return float(share @ (saved + gained / rate) / (share @ usd[reference]))

    alone = np.zeros(len(p), dtype=bool)
    alone[[reference, m]] = True
    everyone = np.ones(len(p), dtype=bool)
    guarded = alone.copy()
    guarded[m] = _evident(matrix, mask, m, float(p[m] @ share))
    q = sigmoid(fitted.cells[m, :-1])
    loss = -(total[m] * np.log(q) + (rows[m] - total[m]) * np.log1p(-q)).sum() / max(rows[m].sum(), 1.0)
    others = everyone.copy()
    others[m] = False
    return Saved(
        matrix.candidates[m],
        draw,
        n,
        way.name,
        float(loss),
        net(alone),
        net(guarded),
        net(everyone),
        net(others),
    )


def _evident(matrix: Matrix, mask: np.ndarray, m: int, p: float) -> bool:
    """Whether the new model's rows make its interval narrow enough for the router's guard."""
    from models.bundle import wilson

    low, high = wilson(np.array([p]), np.array([max(1.0, float((mask & (matrix.candidate == m)).sum()))]))
    return bool((high - low)[0] <= MAX_SPREAD)
