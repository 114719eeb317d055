"""The linear part of a head: standardised features times weights, shared by all plus each candidate's own.

Everything is float64, here and in the exported graph: a float32 sum of some 240 products that cancel is off
by more than the parity proof allows, whatever their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 5.0  # standard deviations; what lies farther out tells no more, and bounds every product
_CHUNK = 8192


class LinearPart(NamedTuple):
    """Weights on the link scale of m features and a constant, which comes last."""

    columns: np.ndarray  # (m,) int64 into the request features
    mean: np.ndarray  # (m,) of training; an unknown value counts as it
    scale: np.ndarray  # (m,) 1 / standard deviation, above 0
    shared: np.ndarray  # (m + 1,)
    own: np.ndarray  # (S + 1, m + 1) deviations of the candidates with enough rows; the last row is zeros
    slot: np.ndarray  # (C + 1,) int64 row of `own` for each candidate index; the last is of the unseen

    def scaled(self, weight: float) -> LinearPart:
        """Return the part with all weights times `weight`."""
        return self._replace(shared=self.shared * weight, own=self.own * weight)

    def values(self, features: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Sum (n,) of each row's features (n, d) float32 for its candidate's index (n,).

        An index that is no trained candidate's whole number, as -1, NaN or 0.5, is of the unseen.
        """
        row = self.slot[seen_index(index, len(self.slot) - 1)]
        result = np.empty(len(features))
        for part in chunks(len(features)):
            z = standardised(features[part], self.columns, self.mean, self.scale)
            weights = self.shared + self.own[row[part]]
            result[part] = (z * weights[:, :-1]).sum(axis=1) + weights[:, -1]
        return result


def standardised(
    features: np.ndarray, columns: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Features (n, d) -> (n, m) float64 in units of standard deviations, cut to ±LIMIT, unknown 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        z = (features.take(columns, axis=1).astype(np.float64) - mean) * scale
    return np.where(np.isnan(z), 0.0, np.minimum(np.maximum(z, -LIMIT), LIMIT))


def seen_index(index: np.ndarray, candidates: int) -> np.ndarray:
    """Candidate index (n,) as int64; what is none of the whole 0 … candidates - 1 becomes `candidates`."""
    seen = np.isin(index, np.arange(candidates))
    found: np.ndarray = np.where(seen, index, candidates).astype(np.int64)
    return found


def chunks(n: int) -> Iterator[slice]:
    """Slices that cover n rows, so that a wide intermediate matrix stays small."""
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))
