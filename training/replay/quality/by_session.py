"""Estimates of whole sessions, whose every decision counts; and what may be watched of the logged ones.

Per decision, what a choice does to the turns after it is left out. Per session it is in: sessions that went
as the policy would have led them stand for it, by the product of its chances over the log's. They are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import stdtrit

from training.estimators import scores as of
from training.estimators.intervals import Interval, as_share, betting
from training.estimators.support import MAX_SHARE, MIN_ESS
from training.replay.quality.bootstrap import FEWEST

if TYPE_CHECKING:
    from training.estimators.bandit import Bandit
    from training.replay.cost.world import Worlds
    from training.replay.quality.bootstrap import Ends
    from training.replay.quality.clusters import Clusters

MIN_SESSIONS = 10  # with an outcome, before anything is said of them
POINTS = 80  # of the picture of what is watched
_Z = 1.959964
_LEAST, _LARGEST = 1e-300, 300.0  # of a factor, and of the log of a product, so that all stays finite


class Led(NamedTuple):
    """Sums over sessions with a known outcome r, the mean of their answers', and a weight w by a policy."""

    sessions: int
    untold: int  # in which the chances of some decision aren't known
    weight: float
    largest: float
    reward: float  # Σ w r
    square: float  # Σ w²
    square_reward: float  # Σ w² r
    square_square: float  # Σ w² r²
    plain: float  # Σ r
    plain_square: float  # Σ r²
    expected: float  # Σ E[w²] by the chances of every decision

    @property
    def as_logged(self) -> Led:
        """The same of the policy that was logged: every session stands for itself."""
        n = float(self.sessions)
        of_outcomes = (self.plain, n, self.plain, self.plain_square, self.plain, self.plain_square, n)
        return Led(self.sessions, 0, n, 1.0, *of_outcomes)

    def plus(self, other: Led) -> Led:
        """The sums of both."""
        both = (mine + theirs for mine, theirs in zip(self, other, strict=True))
        return Led._make(both)._replace(largest=max(self.largest, other.largest))


class BySession(NamedTuple):
    """Mean success of a session's answers; None unknown, and then `why` says it."""

    quality: float | None
    quality_ci: Ends | None
    ess: float  # effective sessions
    supported: bool
    why: str | None


def led_by(log: Bandit, target: np.ndarray, outcome: np.ndarray) -> Led:
    """Sums over the sessions of a part, whose clusters are 0 to S − 1; `outcome` (S,) is NaN where unknown.

    Decisions that nobody had a choice in are locked, and count as the policy's own.
    """
    weight, scored = of.by_session(log, target, outcome)
    known = np.isfinite(outcome)
    told = known & np.isfinite(weight)
    w, r = weight[told], outcome[told]
    square = w * w
    return Led(
        int(known.sum()),
        int((known & ~told).sum()),
        float(w.sum()),
        float(w.max(initial=0.0)),
        float(scored[told].sum()),
        float(square.sum()),
        float(square @ r),
        float(square @ (r * r)),
        float(outcome[known].sum()),
        float(outcome[known] @ outcome[known]),
        float(_to_be_expected(log, target, len(outcome))[told].sum()),
    )


def _to_be_expected(log: Bandit, target: np.ndarray, sessions: int) -> np.ndarray:
    """E[w²] (S,) of each session: Π over its free decisions of Σ_a π(a)² / μ(a), μ the log's chances.

    What happened may look better than it is: where nothing improbable did, no weight is large.
    """
    seen = log.propensity > 0
    each = np.where(seen, target**2 / np.where(seen, log.propensity, 1.0), 0.0).sum(axis=1)
    logs = np.log(np.maximum(np.where(log.locked, 1.0, each), _LEAST))
    found: np.ndarray = np.exp(np.minimum(np.bincount(log.cluster, logs, sessions), _LARGEST))
    return found


def of_sessions(led: Led, clusters: np.ndarray | None = None, *, same: bool) -> BySession:
    """The self-normalised estimate, Σ w r / Σ w, and the spread of its linearisation.

    `same`: the policy is the logged one. `clusters` (2, C) are the sums of w and of w r where sessions hang
    together; with fewer than FEWEST of these there is no interval.
    """
    led = led.as_logged if same else led
    went = led.weight**2 / led.square if led.square > 0 else 0.0
    ess = min(went, led.sessions**2 / led.expected if led.expected > 0 else 0.0)
    why = _why_not(led, ess, same=same)
    if why is not None:
        return BySession(None, None, ess, supported=False, why=why)
    mean = led.reward / led.weight
    off = led.square_square - 2 * mean * led.square_reward + mean * mean * led.square
    n, rows, quantile = led.sessions, ess, _Z
    if clusters is not None:
        n = int(clusters.any(axis=0).sum())
        if n < FEWEST:
            return BySession(mean, None, ess, supported=True, why=None)
        off = float(((clusters[1] - mean * clusters[0]) ** 2).sum())
        rows, quantile = min(ess, n), float(stdtrit(n - 1, 0.975))
    error = float(np.sqrt(n / (n - 1) * max(off, 0.0))) / led.weight
    found = as_share(Interval(mean, mean - quantile * error, mean + quantile * error, error), rows)
    return BySession(mean, (found.low, found.high), ess, supported=True, why=None)


def _why_not(led: Led, ess: float, *, same: bool) -> str | None:
    if led.untold:
        return f"the log doesn't tell all chances of {led.untold:,} of {led.sessions:,} sessions"
    if led.sessions < MIN_SESSIONS:
        return f"{led.sessions:,} sessions have a known outcome, {MIN_SESSIONS} are needed"
    if not same and ess < MIN_ESS:
        return (
            f"{ess:,.0f} effective sessions went as this policy would have led them, {MIN_ESS:.0f} are needed"
        )
    if not same and led.largest > MAX_SHARE * led.weight:
        return f"one session carries {led.largest / led.weight:.2%} of the weight, more than {MAX_SHARE:.0%}"
    return None


class Watch(NamedTuple):
    """Success of the logged sessions so far, with ends that hold however often one looks."""

    sessions: int
    quality: float
    ci: Ends | None  # None: no single rate, which changes over time or those in a row are alike
    halves: Ends  # of the older and of the newer half of the sessions
    course: list[tuple[int, float, float]]  # sessions so far, and the ends then


def watched(worlds: Worlds, clusters: Clusters) -> Watch | None:
    """The betting confidence sequence over clusters as they began; None with too few of known outcome.

    A cluster of several sessions is the mean of those known.
    """
    found = np.concatenate(
        [outcomes_of(w.calls.session, w.calls.reward, w.calls.sessions) for w in worlds.each()]
    )
    if clusters.code is not None:
        found = outcomes_of(clusters.code, found, clusters.many)
    values = found[np.isfinite(found)]
    return None if len(values) < MIN_SESSIONS else watch(values)


def watch(values: np.ndarray) -> Watch:
    """What is seen of values (n,) in 0..1 in their order, two or more.

    Once a mean is refuted it stays so. Where that of all is refuted, or every one is, no single rate made the
    values; by chance one rate comes to that in about one of fifty sequences.
    """
    n, mean = len(values), float(values.mean())
    low, high = betting(values)
    at = np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int))
    course = [(int(i) + 1, float(low[i]), float(high[i])) for i in at if np.isfinite(low[i])]
    ends = (float(low[-1]), float(high[-1])) if low[-1] <= mean <= high[-1] else None
    older, newer = (float(half.mean()) for half in np.array_split(values, 2))
    return Watch(n, mean, ends, (older, newer), course)


def outcomes_of(session: np.ndarray, reward: np.ndarray, sessions: int) -> np.ndarray:
    """Mean known outcome (S,) of each session's answers; NaN without one."""
    known = np.isfinite(reward)
    count = np.bincount(session[known], minlength=sessions)
    total = np.bincount(session[known], reward[known], sessions)
    found: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found
