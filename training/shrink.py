"""Fitting the shrunken task-type × candidate table, whole or out of fold by group.

A cell is shrunk to candidate effect + type effect, which are ridge estimates themselves: a candidate that
only ever got the easy types is not taken for a strong one. It runs on cell sums, so a fold costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from models.descriptors import log_blended
from models.table import Effect, PricePrior, Table
from models.tasktype import mixed
from training.calibrate import logit, sigmoid
from training.newcomers import design_of, fit_prior, named

if TYPE_CHECKING:
    from models.descriptors import Descriptor
    from models.newcomer import NewcomerPrior
    from training.examples import Coded

Link = Literal["logit", "identity"]
_LOGIT_BOUND = 8.0
_SWEEPS = 60
_ROW_VARIANCE = 1.0  # of log1p tokens around their cell: about one nat squared in every log seen


class Effects(NamedTuple):
    """A fitted table as arrays on the link scale: (C,), (T + 1,), (C, T + 1), factors (C, k - 1), priors.

    The newcomers' loadings (T + 1, k - 1) stand beside their prior, which is named by type only when served.
    """

    candidate: np.ndarray
    task_type: np.ndarray
    cells: np.ndarray
    prior: PricePrior
    factors: np.ndarray
    loadings: np.ndarray
    newcomers: NewcomerPrior | None


def cell_sums(rows: Coded) -> tuple[np.ndarray, np.ndarray]:
    """Sum of targets and number of rows by (fold, candidate, type), each (F, C, T + 1), as paired."""
    shape = (int(rows.fold.max()) + 1, rows.n_candidates, rows.n_types + 1)
    where = np.ravel_multi_index((rows.fold, rows.candidate, rows.task_type), shape)
    size = int(np.prod(shape))
    if rows.shift is None or rows.weight is None:
        total = np.bincount(where, weights=rows.target, minlength=size).reshape(shape)
        return total, np.bincount(where, minlength=size).astype(np.float64).reshape(shape)
    worth = rows.weight * (rows.target - rows.shift)
    count = np.bincount(where, weights=rows.weight, minlength=size).reshape(shape)
    return np.clip(np.bincount(where, weights=worth, minlength=size).reshape(shape), 0.0, count), count


def fit_effects(
    total: np.ndarray, rows: np.ndarray, link: Link, strength: float, descriptors: tuple[Descriptor, ...]
) -> Effects:
    """Cell sums (C, T + 1) -> shrunken effects; `strength` is the number of rows the prior counts for.

    A candidate is drawn to what its descriptor says, and its cells to effect + type + the shared factors, as
    strongly as cells are found to differ: with many cells `strength` is only where that estimate starts.
    """
    candidate, kind = additive_effects(total, rows, link, strength)
    log_price = np.array([log_blended(d.prices) for d in descriptors])
    prior = _price_prior(candidate, rows.sum(axis=1), log_price, strength)
    known = rows.sum(axis=1) > 0
    if not known.any():
        none = np.zeros((len(candidate), 0))
        return Effects(
            candidate, kind, candidate[:, None] + kind[None, :], prior, none, none[: len(kind)], None
        )
    newcomers, latents, loadings = fit_prior(
        (total, rows),
        (candidate, kind),
        design_of(descriptors, known),
        strength,
        None if link == "logit" else _ROW_VARIANCE,
    )
    guess = latents @ loadings.T + kind[None, :]
    strength = own_strength(newcomers)
    if link == "identity":
        cells = (total + strength * guess) / (rows + strength)
    else:
        cells = logit((total + strength * sigmoid(guess)) / (rows + strength))
    cells[:, -1] = latents[:, 0]  # of unknown type: the candidate alone
    return Effects(
        latents[:, 0],
        kind,
        np.where(rows > 0, cells, guess),
        prior,
        latents[:, 1:],
        loadings[:, 1:],
        newcomers,
    )


def own_strength(newcomers: NewcomerPrior) -> float:
    """Rows that the guess counts for inside a cell: row variance over the variance of cells."""
    return (4.0 if newcomers.row_variance is None else newcomers.row_variance) / newcomers.cell_spread**2


def additive_effects(
    total: np.ndarray, rows: np.ndarray, link: Link, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge estimate of candidate (C,) and type (T + 1,) effects by block Newton; the last type stays 0."""
    logistic = link == "logit"
    ridge = strength / 4 if logistic else strength  # a row at p = ½ carries ¼ of information
    bound = 2.0 if logistic else np.inf  # a Newton step from a saturated p would overshoot
    # One made-up row at even odds keeps the centre finite when every row succeeded.
    made_up = 1.0 if logistic else 0.0
    candidate, kind, centre = np.zeros(total.shape[0]), np.zeros(total.shape[1]), 0.0

    def gradient() -> tuple[np.ndarray, np.ndarray]:
        line = centre + candidate[:, None] + kind[None, :]
        if not logistic:
            return total - rows * line, rows
        p = sigmoid(np.clip(line, -_LOGIT_BOUND, _LOGIT_BOUND))
        return total - rows * p, rows * p * (1 - p)

    for _ in range(_SWEEPS):
        g, w = gradient()
        pull = made_up * (0.5 - float(sigmoid(np.array(centre))))
        move = float(np.clip((g.sum() + pull) / (w.sum() + 0.25 * made_up), -bound, bound))
        centre += move
        g, w = gradient()
        by_candidate = np.clip((g.sum(axis=1) - ridge * candidate) / (w.sum(axis=1) + ridge), -bound, bound)
        candidate += by_candidate
        g, w = gradient()
        by_kind = np.clip((g.sum(axis=0) - ridge * kind) / (w.sum(axis=0) + ridge), -bound, bound)
        by_kind[-1] = 0.0
        kind += by_kind
        if max(abs(move), np.abs(by_candidate).max(), np.abs(by_kind).max()) < 1e-7:
            break
    return centre + candidate, kind


def _price_prior(value: np.ndarray, rows: np.ndarray, log_price: np.ndarray, strength: float) -> PricePrior:
    """Ridge line of candidate value over log price, candidates weighted by how well they are known."""
    weight = rows / (rows + strength)
    if not weight.any():
        return PricePrior(intercept=0.0)
    mean = float(np.average(value, weights=weight))
    priced = weight * np.isfinite(log_price)
    slope, centre = 0.0, 0.0
    if np.count_nonzero(priced) >= 3:
        x = np.nan_to_num(log_price)
        centre = float(np.average(x, weights=priced))
        mean = float(np.average(value, weights=priced))
        # One candidate's worth of ridge: three models are no price curve.
        slope = float(priced @ ((x - centre) * (value - mean)) / (priced @ (x - centre) ** 2 + 1.0))
        rest = value - mean - slope * (x - centre)
        weight = priced
    else:
        rest = value - mean
    # At least a quarter on top, at least one standard deviation's worth of doubt from few candidates.
    spread = float(np.sqrt(((weight @ rest**2) + 1.0) / (weight.sum() + 1.0) + 0.25**2))
    return PricePrior(intercept=mean, slope=slope, centre=centre, spread=spread)


def out_of_fold(rows: Coded, link: Link, strength: float, without: int | None = None) -> np.ndarray:
    """Table value (n,) of each row from the other folds, fold `without` being left out throughout.

    Rows of fold `without` get the value of the table fitted on all other folds. By group, never
    leave-one-out: leaving out the row alone writes its label into its own feature.
    """
    total, count = cell_sums(rows)
    values = np.empty(len(rows.target))
    for fold in range(total.shape[0]):
        left_out = {fold} if without is None else {fold, without}
        keep = [f for f in range(total.shape[0]) if f not in left_out]
        effects = fit_effects(
            total[keep].sum(axis=0), count[keep].sum(axis=0), link, strength, rows.descriptors
        )
        mine = rows.fold == fold
        values[mine] = _looked_up(effects, rows, mine, link)
    return values


def _looked_up(effects: Effects, rows: Coded, mine: np.ndarray, link: Link) -> np.ndarray:
    """Values of the rows `mine` (n,) bool: their cell's, or a mixture where their type is inferred."""
    candidate = rows.candidate[mine]
    values: np.ndarray = effects.cells[candidate, rows.task_type[mine]]
    if rows.posterior is None or rows.base is None:
        return values
    posterior = rows.posterior[mine]
    hidden = np.isfinite(posterior[:, 0])
    cells = effects.cells[candidate[hidden]]
    values[hidden] = mixed(cells[:, -1], cells[:, :-1], posterior[hidden], rows.base, logit=link == "logit")
    return values


def fit_table(
    rows: Coded, link: Link, strength: float, candidates: tuple[str, ...], task_types: tuple[str, ...]
) -> Table:
    """Fit the table on all rows, in the form that is served."""
    total, count = (sums.sum(axis=0) for sums in cell_sums(rows))
    effects = fit_effects(total, count, link, strength, rows.descriptors)
    count = cell_sums(rows._replace(shift=None))[1].sum(axis=0)  # what is served counts real rows
    seen = count.sum(axis=1)
    return Table(
        prior=effects.prior,
        strength=strength if effects.newcomers is None else own_strength(effects.newcomers),
        newcomers=effects.newcomers and named(effects.newcomers, task_types, effects.loadings),
        factors={
            c: tuple(map(float, effects.factors[i]))
            for i, c in enumerate(candidates)
            if seen[i] and effects.factors.shape[1]
        },
        candidates={
            c: Effect(float(effects.candidate[i]), float(seen[i]))
            for i, c in enumerate(candidates)
            if seen[i]
        },
        task_types={
            t: Effect(float(effects.task_type[j]), float(count[:, j].sum())) for j, t in enumerate(task_types)
        },
        cells={
            c: {
                t: Effect(float(effects.cells[i, j]), float(count[i, j]))
                for j, t in enumerate(task_types)
                if count[i, j]
            }
            for i, c in enumerate(candidates)
            if seen[i]
        },
    )
