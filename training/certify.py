"""Certificates from held-out groups: which threshold of the learned policy does bounded harm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.certificate import Certificate, Risk, Tried
from models.descriptors import log_blended
from training.calibrate import design_effect
from training.shadow.sampling import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.examples import Examples
    from training.fit import SuccessHead

TAUS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
LEVELS: dict[Risk, float] = {"worse_if_cheap": 0.05, "worse_of_all": 0.02}
DELTA = 0.05


def certificates(heads: SuccessHead, older: Examples, held: Examples, task: np.ndarray) -> list[Certificate]:
    """Certificates of both risks on held-out examples, whose requests are told apart by `task` (n,).

    The reference is the candidate that did best on the older rows. [] where nothing is cheaper than it.
    """
    rows = routed_rows(heads, older, held, task)
    return [] if rows is None else [certify(rows, risk) for risk in LEVELS]


def routed_rows(heads: SuccessHead, older: Examples, held: Examples, task: np.ndarray) -> Routed | None:
    """The held-out requests beside what the heads say of every candidate that has a price."""
    prices = {c: log_blended(p) for c, p in held.prices.items()}
    names = sorted((c for c in prices if np.isfinite(prices[c])), key=lambda c: (prices[c], c))
    mean = {c: older.success[older.candidate == c] for c in names}
    mean = {c: float(np.nanmean(v)) for c, v in mean.items() if np.isfinite(v).any()}
    if len(mean) < 2:
        return None
    names = [c for c in names if c in mean]
    reference = names.index(max(mean, key=lambda c: mean[c]))
    if reference == 0:
        return None
    _, first, request = np.unique(task, return_index=True, return_inverse=True)
    p = np.stack(
        [
            heads.predict(held.features[first], [c] * len(first), held.task_type[first])
            for c in names[: reference + 1]
        ],
        axis=1,
    )
    success = np.full(p.shape, np.nan)
    for at, name in enumerate(names[: reference + 1]):
        mine = (held.candidate == name) & np.isfinite(held.success)
        success[request[mine], at] = held.success[mine]
    return Routed(names[: reference + 1], reference, p, success, held.group[first])


class Routed(NamedTuple):
    """Held-out requests as the policy sees them: k candidates, the cheapest first. NaN is unknown."""

    names: Sequence[str]
    reference: int
    p: np.ndarray  # (n, k) P(success) by heads that saw none of these groups
    success: np.ndarray  # (n, k) what came of it in 0..1
    group: np.ndarray  # (n,)


def certify(rows: Routed, risk: Risk, *, level: float | None = None, delta: float = DELTA) -> Certificate:
    """Certificate of one risk over TAUS, Bonferroni over the grid.

    A request goes to the cheapest candidate whose P(success) reaches tau, else to the reference. Of those
    whose choice has a known outcome, worse = reference's success minus the choice's, at least 0; where the
    reference's isn't known, every failure counts. Bounds are Clopper-Pearson's, or Bentkus' (Annals of
    Probability 2004) where successes are graded, on rows divided by their design effect.
    """
    level = LEVELS[risk] if level is None else level
    chosen = [_choices(rows, tau) for tau in TAUS]
    harms = [_worse(rows, choice) for choice in chosen]
    effect = max(_effect(rows, choice, worse) for choice, (worse, _) in zip(chosen, harms, strict=True))
    grid = tuple(
        _tried(tau, choice != rows.reference, worse, _Terms(risk, level, delta / len(TAUS), effect))
        for tau, choice, (worse, _) in zip(TAUS, chosen, harms, strict=True)
    )
    holding = [tried for tried in grid if tried.holds]
    best = max(holding, key=lambda t: t.cheap, default=None)
    at = 0 if best is None else grid.index(best)
    return Certificate(
        risk=risk,
        level=level,
        delta=delta,
        reference=str(rows.names[rows.reference]),
        tau=None if best is None else best.tau,
        grid=grid,
        groups=len(np.unique(rows.group)),
        effective=effect,
        assumed_worse=harms[at][1],
    )


def _choices(rows: Routed, tau: float) -> np.ndarray:
    """Index (n,) of the candidate that each request goes to."""
    good = rows.p >= tau
    good[:, rows.reference] = True
    cheap = np.arange(rows.p.shape[1]) < rows.reference  # what is dearer is no saving
    good[:, ~cheap] = False
    first: np.ndarray = np.where(good.any(axis=1), good.argmax(axis=1), rows.reference)
    return first


def _worse(rows: Routed, choice: np.ndarray) -> tuple[np.ndarray, int]:
    """How much worse (n,) each choice did than the reference, NaN unknown; how many were assumed to be."""
    at = np.arange(len(choice))
    mine, theirs = rows.success[at, choice], rows.success[:, rows.reference]
    stays = choice == rows.reference
    unknown = np.isnan(theirs) & ~stays
    worse = np.where(stays, 0.0, np.maximum(np.where(unknown, 1.0, theirs) - mine, 0.0))
    return worse, int((unknown & (worse > 0)).sum())


def _effect(rows: Routed, choice: np.ndarray, worse: np.ndarray) -> float:
    """How many rows count as one, since rows of a repository fail together."""
    known = np.isfinite(worse)
    if known.sum() < 2:
        return 1.0
    off = worse - worse[known].mean()
    return design_effect(off, rows.group, np.where(choice == rows.reference, "stays", "cheap"))


class _Terms(NamedTuple):
    risk: Risk
    level: float
    delta: float  # for one threshold
    effect: float


def _tried(tau: float, cheap: np.ndarray, worse: np.ndarray, terms: _Terms) -> Tried:
    known = np.isfinite(worse)
    counted = known & cheap if terms.risk == "worse_if_cheap" else known
    bound = upper_bound(worse[counted], terms.delta, terms.effect)
    routed = int((known & cheap).sum())
    return Tried(
        tau=tau,
        cheap=routed,
        requests=int(known.sum()),
        worse=float(worse[counted].sum()),
        bound=bound,
        holds=routed > 0 and bound <= terms.level,
    )


def upper_bound(values: np.ndarray, delta: float, effect: float = 1.0) -> float:
    """Bound that the mean of values (n,) in 0..1 exceeds with probability delta at most; 1 without any.

    Exact for 0 and 1 (Clopper-Pearson), for graded ones Bentkus': e times the binomial tail at the sum's
    ceiling. Rows of a group count for 1 / `effect` each, their sum rounded up.
    """
    graded = not bool(np.isin(values, (0.0, 1.0)).all())
    bounds = []
    for each in {1.0, effect}:  # rounding mustn't make fewer rows say more
        rows = math.floor(len(values) / each)
        if rows < 1:
            return 1.0
        failures = min(math.ceil(float(values.sum()) / each - 1e-9), rows)
        bounds.append(clopper_pearson(failures, rows, 1 - 2 * delta / (math.e if graded else 1.0))[1])
    return max(bounds)
