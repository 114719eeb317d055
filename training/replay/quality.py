"""How good a policy's answers would have been: estimated, never simulated, refused where nothing says it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from training.estimators import scores as of
from training.estimators.estimate import MAX_UNSUPPORTED, MIN_ESS, estimate, interval
from training.estimators.intervals import effective_size
from training.estimators.model import table_model
from training.estimators.paired import paired, share_of_logged

if TYPE_CHECKING:
    from training.estimators.estimate import Missing
    from training.replay.evidence import Evidence

MIN_LABELS = 30  # of answers the policy itself gave, before their mean is quoted
MIN_SESSIONS = 10


class Quality(NamedTuple):
    """Mean success of the decisions that had a choice; None unknown, and then `why` says it."""

    quality: float | None = None
    ci: tuple[float, float] | None = None
    ess: float = 0.0
    supported: bool = False
    how: str | None = None  # logged, dr, paired, combined
    why: str | None = None
    missing: Missing | None = None  # shadow calls that would bring it to a useful width
    gain: float | None = None  # over what it is held against, on the same decisions
    gain_ci: tuple[float, float] | None = None


class Judge:
    """Estimates of many policies on one log; what doesn't depend on the policy is made once."""

    def __init__(self, evidence: Evidence, which: np.ndarray | None = None) -> None:
        log = evidence.bandit
        keep = ~log.locked if which is None else ~log.locked & which
        self.keep = keep
        self.log = log.rows(keep)
        self.kind = evidence.kind[keep]
        self.model = table_model(self.log, self.kind) if keep.any() else np.zeros((0, len(log.arms)))

    def of(self, target: np.ndarray, call_usd: float | None = None) -> Quality:
        """Quality of a policy of these chances (n, k), or of a route (n,) of arms."""
        log = self.log
        if not log.n:
            return Quality(why="every call of the log was locked: no policy had a choice")
        chances = self._chances(target)
        known = np.isfinite(log.reward)
        if np.allclose(chances[np.arange(log.n), log.action], 1.0):
            return self._as_logged(known)
        if not known.any() and log.paired is None:
            return Quality(why="no answer of the log has a known outcome; `samediff label`, or post outcomes")
        answer = estimate(log, chances, self.model, call_usd=call_usd)
        found = answer.quality
        if found is None or found.quality is None:
            ess = answer.support.ess + answer.support.pairs_ess
            return Quality(ess=ess, why=answer.refused, missing=_enough(answer.missing, ess, call_usd))
        ess = found.ess or 0.0
        said = Quality(found.quality, found.quality_ci, ess, True, found.name, missing=answer.missing)
        return self._gained(said, chances) if known.any() else said

    def _gained(self, said: Quality, target: np.ndarray) -> Quality:
        """The same with what it gains over the logged answers, score by score, where these are known."""
        log = self.log
        if self._unlabelled()[0] > MAX_UNSUPPORTED:
            return said
        scores = np.zeros(log.n)
        share = {"dr": 1.0, "paired": 0.0}.get(said.how or "")
        share = share_of_logged(log, target) if share is None else share
        if share:
            scores += share * of.doubly_robust(log, target, self.model)
        if share < 1:
            scores += (1 - share) * paired(log, target, self.model)
        found = interval(scores - of.as_logged(log), log.cluster)
        return said._replace(gain=found.mean, gain_ci=(found.low, found.high))

    def _chances(self, target: np.ndarray) -> np.ndarray:
        if target.ndim == 2:
            chances: np.ndarray = target[self.keep].astype(np.float64)
            return chances
        certain: np.ndarray = np.eye(len(self.log.arms))[target[self.keep]]
        return certain

    def _as_logged(self, known: np.ndarray) -> Quality:
        """The mean of what was logged, each arm as often as it answered: this policy did answer all that."""
        log = self.log
        labels, sessions = int(known.sum()), len(np.unique(log.cluster[known]))
        ess = effective_size(of.heard(log))
        if labels < MIN_LABELS or sessions < MIN_SESSIONS:
            return Quality(
                ess=float(labels),
                why=f"{labels:,} of the logged answers in {sessions:,} sessions have a known outcome, "
                f"{MIN_LABELS} in {MIN_SESSIONS} are needed",
            )
        share, names = self._unlabelled()
        if share > MAX_UNSUPPORTED:
            return Quality(
                ess=ess, why=f"no outcome of {names} is known, which gave {share:.0%} of the answers"
            )
        if ess < MIN_LABELS:
            return Quality(
                ess=ess,
                why=f"the arms are labelled so unequally that {labels:,} known outcomes are worth {ess:.0f}, "
                f"{MIN_LABELS} are needed",
            )
        found = interval(of.as_logged(log), log.cluster)
        ends = (max(0.0, found.low), min(1.0, found.high))
        return Quality(found.mean, ends, ess, True, "logged", gain=0.0, gain_ci=(0.0, 0.0))

    def _unlabelled(self) -> tuple[float, str]:
        """Share of the answers that are of arms without any known outcome, and whose they are."""
        log = self.log
        silent = of.share_known(log) == 0
        theirs = silent[log.action]
        names = [log.arms[arm] for arm in np.unique(log.action[theirs])]
        return float(theirs.mean()), " and ".join(names)


def _enough(missing: Missing | None, ess: float, call_usd: float | None) -> Missing | None:
    """The shadow calls that are missing, no fewer than make enough effective decisions: each is about one."""
    if missing is None:
        return None
    pairs = max(missing.pairs, math.ceil(MIN_ESS - ess))
    return replace(missing, pairs=pairs, usd=None if call_usd is None else pairs * call_usd)
