"""Certificates from held-out groups: which threshold of the learned policy does bounded harm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy.stats import t as student_t

from models.certificate import Certificate, Risk, Tried
from models.descriptors import log_blended
from training.shadow.sampling import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.examples import Examples

TAUS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
LEVELS: dict[Risk, float] = {"worse_if_cheap": 0.05, "worse_of_all": 0.02}
DELTA = 0.05
LEAST_RHO = 0.1  # correlation of harm within a group: a dozen repositories can't show that it is less


class Heads(Protocol):
    """What is believed of success: heads as fitted, or as they are served."""

    def predict(self, features: np.ndarray, candidate: Iterable[str], task_type: Iterable[str]) -> np.ndarray:
        """P(success) (n,) of each row."""


def certificates(heads: Heads, older: Examples, held: Examples, task: np.ndarray) -> list[Certificate]:
    """Certificates of both risks on held-out examples, whose requests are told apart by `task` (n,).

    The reference is the candidate that did best on the older rows. [] where nothing is cheaper than it.
    """
    rows = routed_rows(heads, older, held, task)
    return [] if rows is None else [certify(rows, risk) for risk in LEVELS]


def routed_rows(heads: Heads, older: Examples, held: Examples, task: np.ndarray) -> Routed | None:
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
    success = _mean_outcomes(held, request, names[: reference + 1])
    return Routed(names[: reference + 1], reference, p, success, held.group[first])


def _mean_outcomes(held: Examples, request: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Mean success (n, k) of each request by each candidate, NaN where none is known: tries may repeat."""
    requests = int(request.max()) + 1
    found = np.full((requests, len(names)), np.nan)
    for at, name in enumerate(names):
        mine = (held.candidate == name) & np.isfinite(held.success)
        tries = np.bincount(request[mine], minlength=requests)
        total = np.bincount(request[mine], weights=held.success[mine], minlength=requests)
        found[tries > 0, at] = total[tries > 0] / tries[tries > 0]
    return found


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
    reference's isn't known, every failure counts. A log that knows some choices' outcomes only has to know
    them whatever they were.
    """
    level = LEVELS[risk] if level is None else level
    chosen = [_choices(rows, tau) for tau in TAUS]
    harms = [_worse(rows, choice) for choice in chosen]
    grid = tuple(
        _tried(rows, choice, worse, _Terms(tau, risk, level, delta / len(TAUS)))
        for tau, choice, (worse, _) in zip(TAUS, chosen, harms, strict=True)
    )
    holding = [tried for tried in grid if tried.holds]
    best = max(holding, key=lambda t: t.cheap, default=None)
    return Certificate(
        risk=risk,
        level=level,
        delta=delta,
        reference=str(rows.names[rows.reference]),
        candidates=tuple(map(str, rows.names)),
        tau=None if best is None else best.tau,
        grid=grid,
        groups=len(np.unique(rows.group)),
        assumed_worse=max(assumed for _, assumed in harms),
    )


def _choices(rows: Routed, tau: float) -> np.ndarray:
    """Index (n,) of the candidate that each request goes to."""
    good = rows.p >= tau
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


class _Terms(NamedTuple):
    tau: float
    risk: Risk
    level: float
    delta: float  # for one threshold


def _tried(rows: Routed, choice: np.ndarray, worse: np.ndarray, terms: _Terms) -> Tried:
    """One threshold's bound: of the routed, of all, or of the share routed times the harm of the routed.

    The last where some routed requests' outcomes aren't known: those that stay are all known, and counting
    the known alone would count too many of them.
    """
    cheap = choice != rows.reference
    known = np.isfinite(worse) & cheap
    if terms.risk == "worse_of_all" and (known == cheap).all():
        bound, effective = upper_bound(worse, rows.group, terms.delta)
    elif terms.risk == "worse_of_all":
        share, _ = upper_bound(cheap.astype(np.float64), rows.group, terms.delta / 2)
        harm, effective = upper_bound(worse[known], rows.group[known], terms.delta / 2)
        bound = share * harm
    else:
        bound, effective = upper_bound(worse[known], rows.group[known], terms.delta)
    return Tried(
        tau=terms.tau,
        requests=len(choice),
        cheap=int(cheap.sum()),
        known=int(known.sum()),
        worse=float(worse[known].sum()),
        effective=effective,
        bound=bound,
        holds=bool(known.any()) and bound <= terms.level,
    )


def upper_bound(values: np.ndarray, group: np.ndarray, delta: float) -> tuple[float, float]:
    """Bound that the mean of values (n,) in 0..1 exceeds with probability delta at most, and effective rows.

    Exact for independent 0 and 1 (Clopper-Pearson), for graded ones Bentkus' (Annals of Probability 2004).
    For rows of groups (n,) drawn at random, Korn and Graubard's (Survey Methodology 1998): Clopper-Pearson on
    the effective rows, times (z / t)² for knowing their number from so many groups only. The correlation in
    a group is taken a standard error above what these show, and LEAST_RHO at least: few groups hide it.
    """
    rows, groups = len(values), len(np.unique(group))
    if not rows or groups < 2:
        return 1.0, 0.0
    graded = not bool(np.isin(values, (0.0, 1.0)).all())
    tail = delta / (math.e if graded else 1.0)
    few = float((student_t.ppf(delta, rows - 1) / student_t.ppf(delta, groups - 1)) ** 2)
    effective = rows / _effect(values, group) * min(few, 1.0)
    bounds = [1.0]
    if effective >= 1.0:
        bounds = [clopper_pearson(float(values.mean()) * n, n, 1 - 2 * tail)[1] for n in (rows, effective)]
    return max(bounds), effective


def _effect(values: np.ndarray, group: np.ndarray) -> float:
    """Rows that count as one: Kish's 1 + (m - 1)·ρ with a ρ that errs on the safe side."""
    where = np.unique(group, return_inverse=True)[1]
    off = values - values.mean()
    count, total, square = (np.bincount(where, weights=v) for v in (np.ones_like(off), off, off * off))
    pairs, product = count * (count - 1), total**2 - square
    if pairs.sum() == 0:
        return 1.0

    def rho(products: np.ndarray, pairs: np.ndarray, squares: np.ndarray, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = products / np.maximum(pairs, 1) * rows / np.maximum(squares, 1e-12)
        return found

    parts = product, pairs, square, count
    without = rho(*(part.sum() - part for part in parts))  # each group left out in turn
    error = float(np.sqrt((len(count) - 1) * np.var(without)))
    safe = min(max(float(rho(*(part.sum() for part in parts))) + error, LEAST_RHO), 1.0)
    return 1.0 + (float(np.sum(count**2)) / len(values) - 1.0) * safe
