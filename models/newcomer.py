"""What to believe of a candidate with few outcomes or none: its descriptor first, then its own rows.

A candidate's value at a task type is effect + type + loadings(type) · factors + a rest of its own. The effect
is normal around a hierarchical ridge regression on the descriptor, the factors around 0; outcomes move both
(the latents) by Bayes' rule in Laplace's approximation. How the numbers are found is training's business
(`training/newcomers.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from models.descriptors import Descriptor, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STEPS = 25
_BOUND = 2.0  # of a step on the link scale: from a saturated p Newton would overshoot
_LIMIT = 8.0


class Belief(NamedTuple):
    """Normal belief about a candidate's latents: mean (k,) and covariance (k, k)."""

    mean: np.ndarray
    covariance: np.ndarray


class NewcomerPrior(msgspec.Struct, frozen=True, kw_only=True):
    """Regression of the effect on descriptors with p columns, and the k - 1 factors, which nothing foretells.

    Columns are an intercept, the numeric ones, then the families. `weights` is (p,); `doubt` the lower
    triangle, row by row, of their covariance (p, p); `spread` (k,) the standard deviation of the latents: of
    effects around the regression, as leaving known ones out shows it, and of factors around 0.
    """

    columns: tuple[str, ...]
    centre: tuple[float, ...]
    families: tuple[str, ...]
    weights: tuple[float, ...]
    doubt: tuple[float, ...]
    spread: tuple[float, ...]
    family_spread: float  # standard deviation of a family never seen
    loadings: dict[str, tuple[float, ...]] = {}  # task type -> (k - 1,)
    cell_spread: float = 0.0  # of a cell around effect + type + factors
    row_variance: float | None = None  # of one row around its cell; None: a success, p (1 - p) on the logit

    def belief(self, descriptor: Descriptor) -> Belief:
        """Latents of a candidate of this descriptor, before any outcome of it."""
        row, unknown = design_row(descriptor, self.columns, self.centre, self.families)
        weights = np.array(self.weights)
        doubt = unpacked(self.doubt, len(row))
        variance = np.array(self.spread) ** 2
        # An unknown column may be anything of the size of one unit: the slope itself is the doubt.
        variance[0] += row @ doubt @ row + float(unknown @ (weights**2 + np.diag(doubt)))
        if descriptor.family not in self.families:
            variance[0] += self.family_spread**2
        mean = np.zeros(len(variance))
        mean[0] = weights @ row
        return Belief(mean, np.diag(variance))

    def known(self, descriptor: Descriptor, kinds: Mapping[str, float]) -> Belief:
        """Latents after the descriptor's probe outcomes; `kinds` has the effect of each task type."""
        prior = self.belief(descriptor)
        if not descriptor.probe:
            return prior
        types = [task_type for task_type, _, _ in descriptor.probe]
        sums = np.array([(total, rows) for _, total, rows in descriptor.probe], dtype=np.float64)
        offset = np.array([kinds.get(t, 0.0) for t in types])
        loadings = np.array([self.loading(t) for t in types])
        means, covariances = posterior(
            Outcomes(sums[None, :, 0], sums[None, :, 1], offset, loadings),
            prior.mean[None, :],
            np.diag(prior.covariance)[None, :],
            self.cell_spread**2,
            self.row_variance,
        )
        return Belief(means[0], covariances[0])

    def loading(self, task_type: str) -> tuple[float, ...]:
        """How a task type's value follows the latents, (k,); of an unknown type only the effect counts."""
        return 1.0, *self.loadings.get(task_type, (0.0,) * (len(self.spread) - 1))

    def value(self, belief: Belief, task_type: str) -> tuple[float, float]:
        """Value without the type's own effect, and its standard deviation, on the link scale."""
        loading = np.array(self.loading(task_type))
        cell = self.cell_spread**2 if task_type in self.loadings else 0.0
        return float(loading @ belief.mean), float(np.sqrt(loading @ belief.covariance @ loading + cell))


class Outcomes(NamedTuple):
    """Cell sums of C candidates by T types: totals and rows (C, T), type effects (T,), loadings (T, k)."""

    total: np.ndarray
    rows: np.ndarray
    kind: np.ndarray
    loadings: np.ndarray


def posterior(
    outcomes: Outcomes,
    mean: np.ndarray,
    variance: np.ndarray,
    cell_variance: float,
    row_variance: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Latents (C, k) and covariances (C, k, k) after the outcomes, from normal priors of (C, k) each.

    Newton on the penalised likelihood; a cell's own rest adds `cell_variance` to what its rows leave open, as
    in the working responses of Breslow and Clayton (1993). `row_variance` None: successes on the logit scale.
    """
    latents = mean.copy()
    precision = 1.0 / np.maximum(variance, 1e-9)
    loadings = outcomes.loadings
    eye = np.eye(mean.shape[1])
    for _ in range(_STEPS if row_variance is None else 1):
        line = latents @ loadings.T + outcomes.kind
        information, score = _working(outcomes, line, row_variance)
        known = information / (1.0 + cell_variance * information)  # 1 / (1/information + cell_variance)
        shrunk = np.divide(known, information, out=np.zeros_like(known), where=information > 0)
        hessian = np.einsum("ct,tk,tl->ckl", known, loadings, loadings) + precision[:, :, None] * eye
        gradient = (shrunk * score) @ loadings - precision * (latents - mean)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        if row_variance is None:
            step = np.clip(step, -_BOUND, _BOUND)
        latents = latents + step
        if np.abs(step).max(initial=0.0) < 1e-6:
            break
    return latents, np.linalg.inv(hessian)


def _working(
    outcomes: Outcomes, line: np.ndarray, row_variance: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Information and score (C, T) of the rows at a linear predictor."""
    if row_variance is not None:
        return outcomes.rows / row_variance, (outcomes.total - outcomes.rows * line) / row_variance
    p = 0.5 * (1.0 + np.tanh(0.5 * np.clip(line, -_LIMIT, _LIMIT)))
    return outcomes.rows * p * (1.0 - p), outcomes.total - outcomes.rows * p


def design_row(
    descriptor: Descriptor, columns: Sequence[str], centre: Sequence[float], families: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Row (p,) of the design, unknown columns at their centre, and which are unknown (p,) as 0 or 1."""
    values = numbers(descriptor)
    known = [name in values for name in columns]
    numeric = [values[n] - c if k else 0.0 for n, c, k in zip(columns, centre, known, strict=True)]
    row = np.array([1.0, *numeric, *(float(descriptor.family == f) for f in families)])
    unknown = np.array([0.0, *(float(not k) for k in known), *(0.0 for _ in families)])
    return row, unknown


def packed(matrix: np.ndarray) -> tuple[float, ...]:
    """Lower triangle of a symmetric (p, p) matrix, row by row."""
    return tuple(float(v) for v in matrix[np.tril_indices(len(matrix))])


def unpacked(triangle: Sequence[float], p: int) -> np.ndarray:
    """Symmetric (p, p) matrix of a lower triangle."""
    matrix = np.zeros((p, p))
    matrix[np.tril_indices(p)] = triangle
    result: np.ndarray = matrix + matrix.T - np.diag(np.diag(matrix))
    return result
