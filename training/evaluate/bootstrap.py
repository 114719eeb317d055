"""Paired bootstrap over groups: one set of draws for every policy, so that differences are paired."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from training.metrics import paired_error

_CHUNK_CELLS = 8_000_000  # of the draws × groups table held at a time


class Bootstrap:
    """Draws of groups with replacement; statistics are ratios of sums over the rows of the groups drawn."""

    def __init__(self, group: np.ndarray, draws: int, seed: int) -> None:
        names, self.group = np.unique(group, return_inverse=True)
        self.groups, self.draws, self.seed = len(names), draws, seed

    def means(self, values: np.ndarray) -> np.ndarray:
        """Values (p, n), NaN unknown -> mean over known rows in each draw, (draws, p)."""
        known = np.isfinite(values)
        total = self._by_group(np.where(known, values, 0.0))
        count = self._by_group(known.astype(np.float64))
        out = np.empty((self.draws, len(values)))
        rng = np.random.default_rng(self.seed)
        chunk = max(1, _CHUNK_CELLS // self.groups)
        for start in range(0, self.draws, chunk):
            size = min(chunk, self.draws - start)
            weight = rng.multinomial(self.groups, np.full(self.groups, 1 / self.groups), size=size).astype(
                float
            )
            with np.errstate(invalid="ignore", divide="ignore"):  # a draw without a known row says nothing
                out[start : start + size] = (weight @ total) / (weight @ count)
        return out

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
