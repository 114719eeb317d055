"""Where weights are clipped or left to the model: one choice for a whole log, by sums over its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.estimators import scores as of

if TYPE_CHECKING:
    from training.estimators.bandit import Bandit

AT = 2.0 ** (np.arange(29) / 2)  # 1 to 16,384: weights are 1 on average
_ROUNDING = 1e-15


class Risks(NamedTuple):
    """What every threshold would win and cost; those of parts add up to those of the log."""

    whole: np.ndarray  # (3,): decisions, the sum of the model's word and of its square
    steps: np.ndarray  # (8, 30) sums over what lies up to each threshold, the last: above all of them

    @classmethod
    def nothing(cls) -> Risks:
        """Those of no decision."""
        return cls(np.zeros(3), np.zeros((8, len(AT) + 1)))

    @classmethod
    def of(cls, log: Bandit, target: np.ndarray, model: np.ndarray) -> Risks:
        """The sums of decisions whose chances are all known; `target` and `model` are (n, k)."""
        w, said = of.weights(log, target), of.direct(target, model)
        guess = np.where(w > 0, model[np.arange(log.n), log.action], 0.0)
        off = of.heard(log) * (np.nan_to_num(log.reward) - guess)
        moved = w * off
        of_rows = moved, said * moved, moved * moved, off, said * off, off * off
        some = target > 0
        with np.errstate(divide="ignore"):
            every = target[some] / log.propensity[some]  # not only of the arm that answered
        of_arms = target[some], log.propensity[some]
        steps = [_by_step(w, column) for column in of_rows] + [_by_step(every, column) for column in of_arms]
        return cls(np.array([float(log.n), said.sum(), said @ said]), np.stack(steps))

    def plus(self, other: Risks) -> Risks:
        """The sums of both."""
        return Risks(self.whole + other.whole, self.steps + other.steps)

    def threshold(self, *, soft: bool) -> float:
        """The weight to clip (`soft`) or switch at: of least variance and squared bound on the bias.

        Wang, Agarwal & Dudík, ICML 2017, §3.1: the bias is at most what the target does above the threshold,
        times the range of rewards, 1. Infinite where nothing is won.
        """
        n, said, square = self.whole
        if not n:
            return np.inf
        tau = np.append(AT, np.inf)
        up_to = np.cumsum(self.steps, axis=1)
        above = up_to[:, -1:] - up_to
        moved, with_said, moved_square = up_to[:3]
        at = np.append(AT, 0.0) if soft else np.zeros(len(tau))  # what a weight above the threshold counts
        total = said + moved + at * above[3]
        squares = square + 2 * (with_said + at * above[4]) + moved_square + at * at * above[5]
        bias = (above[6] - at * above[7]) / n
        risk = (squares / n - (total / n) ** 2) / n + bias**2
        best = int(np.argmin(risk))
        return float(tau[best]) if risk[best] < risk[-1] - _ROUNDING else np.inf


def _by_step(weight: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Sums (30,) of a column (n,) by the thresholds that weights (n,) lie up to."""
    found: np.ndarray = np.bincount(np.searchsorted(AT, weight), column, len(AT) + 1)
    return found
