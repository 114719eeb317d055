"""A log as a bandit's: who could have answered, who did, with which chance, and how good it was."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from features.errors import BadInput

_SUM = 1e-6  # that chances may be off 1 by rounding


class Whole(NamedTuple):
    """Sums over a whole log by arm, each (k,), where only a part of its decisions is at hand."""

    n: int
    answered: np.ndarray  # decisions that each arm answered
    labelled: np.ndarray  # of these with a known reward
    total: np.ndarray  # sum of those rewards
    asked: np.ndarray  # shadow calls with a known reward
    slopes: np.ndarray | None = None  # (folds, k) of `paired`, once they are fitted
    silent: np.ndarray | float = 0.0  # shadow calls whose reward isn't known

    @classmethod
    def of(cls, log: Bandit) -> Whole:
        """The sums of what is at hand."""
        k, known = len(log.arms), np.isfinite(log.reward)
        asked = np.zeros(k) if log.paired is None else np.isfinite(log.paired).sum(axis=0)
        return cls(
            log.n,
            np.bincount(log.action, minlength=k),
            np.bincount(log.action[known], minlength=k),
            np.bincount(log.action[known], weights=log.reward[known], minlength=k),
            asked,
            silent=np.zeros(k) if log.silent is None else log.silent.sum(axis=0),
        )

    def plus(self, other: Whole) -> Whole:
        """The sums of both."""
        return Whole(
            self.n + other.n,
            self.answered + other.answered,
            self.labelled + other.labelled,
            self.total + other.total,
            self.asked + other.asked,
            silent=self.silent + other.silent,
        )


class Bandit(NamedTuple):
    """n decisions over k arms. NaN is unknown everywhere; rewards are success in 0..1."""

    arms: tuple[str, ...]
    action: np.ndarray  # (n,) int, the arm that answered
    reward: np.ndarray  # (n,) of that answer
    propensity: np.ndarray  # (n, k) chance that each arm had; a row of NaN where the log doesn't say
    cluster: np.ndarray  # (n,) int: sessions or groups, whose decisions aren't independent
    locked: np.ndarray  # (n,) bool: had no choice, so it belongs to no estimate
    paired: np.ndarray | None = None  # (n, k) rewards of shadow calls
    paired_chance: np.ndarray | None = None  # (n, k) chance of having been asked, where one was
    whole: Whole | None = None  # of the log that this is a part of; None: it is all there is
    silent: np.ndarray | None = None  # (n, k) bool: shadow calls whose reward isn't known

    @property
    def n(self) -> int:
        """Number of decisions."""
        return len(self.action)

    @property
    def sums(self) -> Whole:
        """Sums over the whole log."""
        return Whole.of(self) if self.whole is None else self.whole

    def free(self) -> Bandit:
        """The decisions that had a choice."""
        return self if not self.locked.any() else self.rows(~self.locked)

    def rows(self, which: np.ndarray) -> Bandit:
        """Some of the decisions, by mask or index."""
        pairs = (None if x is None else x[which] for x in (self.paired, self.paired_chance))
        silent = None if self.silent is None else self.silent[which]
        return Bandit(self.arms, *(x[which] for x in self[1:6]), *pairs)._replace(silent=silent)


def checked(log: Bandit) -> Bandit:
    """The log itself, its arrays' shapes and values checked; BadInput names the row that is off."""
    n, k = log.n, len(log.arms)
    wide = {"propensity": log.propensity, "paired": log.paired, "paired_chance": log.paired_chance}
    wide["silent"] = log.silent
    for name, array in wide.items():
        if array is not None and array.shape != (n, k):
            raise BadInput(f"{name} has shape {array.shape}, not {n} decisions x {k} arms")
    if (log.paired is None) != (log.paired_chance is None):
        raise BadInput("paired answers need the chance each had of being asked: give paired_chance")
    _refuse((log.action < 0) | (log.action >= k), "its arm isn't among those named")
    _refuse((log.reward < 0) | (log.reward > 1), "its reward lies outside 0..1")
    known = np.isfinite(log.propensity).all(axis=1)
    off = np.abs(np.where(known[:, None], log.propensity, 1 / k).sum(axis=1) - 1) > _SUM
    _refuse(off, "its chances don't sum to 1")
    taken = log.propensity[np.arange(n), log.action]
    _refuse(known & ~(taken > 0), "the arm that answered had no chance")
    if log.paired is not None and log.paired_chance is not None:
        asked = np.isfinite(log.paired)
        _refuse(asked.any(axis=1) & (asked & ~(log.paired_chance > 0)).any(axis=1), "a pair has no chance")
    return log


def _refuse(wrong: np.ndarray, why: str) -> None:
    if wrong.any():
        raise BadInput(f"decision {int(np.argmax(wrong))} (of {int(wrong.sum())}): {why}")
