"""Where a bundle's learners may speak: the ranges of the features they read, as they were in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.manifest import Range

MARGIN = 0.1  # of a feature's range in training, by which a request may lie beyond it


class Support:
    """The features that some learner reads; without any, the learners read nothing of a request."""

    def __init__(self, ranges: Sequence[Range], index: Mapping[str, int]) -> None:
        self.names = [known.feature for known in ranges]
        self.columns = np.array([index[name] for name in self.names], dtype=np.intp)  # of the features
        margin = [MARGIN * (known.high - known.low) for known in ranges]
        lowest = np.array([known.low - m for known, m in zip(ranges, margin, strict=True)])
        highest = np.array([known.high + m for known, m in zip(ranges, margin, strict=True)])
        # A float32 lies beyond these exactly where it lies beyond the float64 ones, at a third of the cost;
        # one row that has its own shape costs half as much as one to be broadcast.
        self._lowest = -_not_above(-lowest)[None, :]
        self._highest = _not_above(highest)[None, :]
        self._never_unknown = np.array([[not known.unknown for known in ranges]], dtype=bool)

    def __bool__(self) -> bool:
        return bool(self.names)

    def beyond(self, features: np.ndarray) -> np.ndarray:
        """Whether each of `names` lies outside, (m, s) of features (m, n_features) float32."""
        values = features.take(self.columns, axis=1)
        bad: np.ndarray = (values < self._lowest) | (values > self._highest)
        bad |= (values != values) & self._never_unknown  # what differs from itself is NaN, unknown
        return bad


def _not_above(bounds: np.ndarray) -> np.ndarray:
    """The largest float32 that isn't above each of these (s,) float64."""
    near = bounds.astype(np.float32)
    lower: np.ndarray = np.where(near > bounds, np.nextafter(near, np.float32(-np.inf)), near)
    return lower
