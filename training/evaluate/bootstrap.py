"""Paired bootstrap over groups: one set of draws for every policy, so that differences are paired."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from training.metrics import paired_error

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_CELLS = 8_000_000  # of the draws × groups table held at a time


class Bootstrap:
    """Draws of groups with replacement; statistics are ratios of sums over the rows of the groups drawn."""

    def __init__(self, group: np.ndarray, draws: int, seed: int) -> None:
        names, self.group = np.unique(group, return_inverse=True)
        self.groups, self.draws, self.seed = len(names), draws, seed
        self._kept: np.ndarray | None = None  # the draws, where they fit in one chunk

    def means(self, values: np.ndarray) -> np.ndarray:
        """Values (p, n), NaN unknown -> mean over known rows in each draw, (draws, p)."""
        known = np.isfinite(values)
        whole = known.all(axis=1)
        total = self._by_group(np.where(known, values, 0.0))
        # Where all rows are known the count of a draw is one and the same for all such values.
        count = self._by_group(np.concatenate([np.ones((1, values.shape[1])), known[~whole]]))
        column = np.where(whole, 0, np.cumsum(~whole))
        out = np.empty((self.draws, len(values)))
        for start, weight in self._weights():
            with np.errstate(invalid="ignore", divide="ignore"):  # a draw without a known row says nothing
                out[start : start + len(weight)] = (weight @ total) / (weight @ count)[:, column]
        return out

    def _weights(self) -> Iterator[tuple[int, np.ndarray]]:
        """How often each group is drawn (draws, groups), in chunks, the same ones at every call."""
        if self._kept is not None:
            yield 0, self._kept
            return
        rng = np.random.default_rng(self.seed)
        chunk = max(1, _CHUNK_CELLS // self.groups)
        for start in range(0, self.draws, chunk):
            size = min(chunk, self.draws - start)
            even = np.full(self.groups, 1 / self.groups)
            weight = rng.multinomial(self.groups, even, size=size).astype(np.float64)
            if size == self.draws:
                self._kept = weight
            yield start, weight

    def _by_group(self, values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(self.group, weights=v, minlength=self.groups) for v in values], axis=1)

    def interval(
        self, draws: np.ndarray, point: float, bounds: tuple[float, float] | None = None
    ) -> list[float] | None:
        """95 % percentile interval around a point, widened for few groups; None where it isn't known.

        The percentile bootstrap of G groups is too narrow by √((G−1)/G) and by the normal over Student's t.
        """
        if not np.isfinite(point) or self.groups < 2 or not np.isfinite(draws).any():
            return None
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        factor = float(stdtrit(self.groups - 1, 0.975) / 1.959964 * np.sqrt(self.groups / (self.groups - 1)))
        ends = [float(point + (end - point) * factor) for end in (low, high)]
        return [float(np.clip(end, *bounds)) for end in ends] if bounds else ends


def mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the known entries of the last axis; NaN where there are none."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    mean: np.ndarray = np.where(
        count > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan
    )
    return mean


def beats(difference: np.ndarray, group: np.ndarray, level: float = 0.95) -> bool:
    """Whether a paired difference is above 0, one-sided, by Student's t over groups."""
    mean, error = paired_error(difference, group)
    groups = len(np.unique(group))
    return groups > 1 and mean > 1e-9 and mean > float(stdtrit(groups - 1, level)) * error
