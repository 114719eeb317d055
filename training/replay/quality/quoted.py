"""How good a policy's answers would have been: estimated, never simulated, refused where nothing says it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from training.estimators.bandit import Bandit
from training.estimators.estimate import MAX_UNSUPPORTED, MIN_ESS, WANTED_HALF_WIDTH, Missing, missing_of
from training.estimators.intervals import Interval, as_difference, as_share, of_products
from training.estimators.paired import share_by
from training.estimators.support import Support, effective, support_of, verdict
from training.replay.quality.bootstrap import FEWEST
from training.replay.quality.by_session import of_sessions
from training.replay.quality.differences import Scores

if TYPE_CHECKING:
    from training.estimators.bandit import Whole
    from training.estimators.support import Seen
    from training.replay.quality.by_session import BySession
    from training.replay.quality.judge import Scored

MIN_LABELS = 30  # of answers the policy itself gave, before their mean is quoted
MIN_SESSIONS = 10
LOGGED = np.array([0.0, 0.0, 1.0, 0.0])
WAYS = {"dr": np.array([1.0, 0.0, 0.0, 0.0]), "paired": np.array([0.0, 1.0, 0.0, 0.0])}


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
    by_session: BySession | None = None  # the same of whole sessions; None where nothing is estimated
    scores: Scores | None = None  # what it is the mean of, by cluster
    seen: Seen | None = None  # how much of what the policy would do the free decisions have seen


class Told(NamedTuple):
    """What is known of the logged answers of a log."""

    arms: tuple[str, ...]
    whole: Whole
    squares: float  # of known rewards
    sessions: int  # with any
    ess: float  # effective answers, each counting one over the share known of its arm
    untold: int = 0  # shadow calls without a known outcome: more of the kind would tell nothing either

    @property
    def labels(self) -> int:
        """Known rewards."""
        return int(self.whole.labelled.sum())

    @property
    def variance(self) -> float | None:
        """Variance of known rewards; None with fewer than two."""
        n = self.labels
        return None if n < 2 else max(self.squares / n - (float(self.whole.total.sum()) / n) ** 2, 0.0)

    def unlabelled(self) -> tuple[float, str]:
        """Share of the answers that are of arms without any known outcome, and whose they are."""
        silent = (self.whole.labelled == 0) & (self.whole.answered > 0)
        share = float(self.whole.answered[silent].sum()) / max(self.whole.n, 1)
        return share, " and ".join(self.arms[arm] for arm in np.flatnonzero(silent))


def in_words(found: Scored | None, told: Told, call_usd: float | None) -> Quality:
    """What the sums of a policy come to; None where no decision was free."""
    if found is None:
        return Quality(why="every call of the log was locked: no policy had a choice")
    whole = of_sessions(found.led, found.whole, same=found.same)
    if not found.same:
        said = _of_enough(_estimated(found, told, call_usd), found.clusters)
        return said._replace(by_session=whole, seen=found.seen)
    decided = _of_enough(_as_logged(found, told), found.clusters)
    if whole.supported and not decided.supported:
        whole = whole._replace(quality=None, quality_ci=None, supported=False, why=decided.why)
    return decided._replace(by_session=whole, seen=found.seen)


def _estimated(found: Scored, told: Told, call_usd: float | None) -> Quality:
    """The estimate for a policy that isn't the logged one."""
    whole = told.whole
    support = support_of(found.seen, _arms(told), locked=0)
    if told.untold and not whole.asked.any():
        call_usd = None  # what is missing is outcomes of shadow answers, not calls
    errors = {name: _interval(found, way).error for name, way in _ways(found, told, support).items()}
    missing = missing_of(errors, (found.seen, support), told.variance, call_usd)
    if not told.labels and not whole.asked.any():
        why = "no answer of the log has a known outcome; `samediff label`, or post outcomes"
        return Quality(why=why, missing=_enough(missing, 0.0, call_usd))
    best, refused = verdict(support)
    if best is None:
        ess = effective(support)
        return Quality(ess=ess, why=refused, missing=_enough(missing, ess, call_usd))
    way = _ways(found, told, support)[best]
    ess = {"paired": support.pairs_ess, "combined": support.together}.get(best, support.ess)
    rows = min(ess, found.clusters)
    answer = as_share(_interval(found, way), rows)
    ends = (answer.low, answer.high)
    said = Quality(answer.mean, ends, ess, True, best, missing=missing, scores=_scores(found, way, ess))
    if not told.labels or told.unlabelled()[0] > MAX_UNSUPPORTED:
        return said
    gain = as_difference(_interval(found, way - LOGGED), rows)  # score by score, on the same decisions
    return said._replace(gain=gain.mean, gain_ci=(gain.low, gain.high))


def _of_enough(said: Quality, clusters: int) -> Quality:
    """The same, without intervals over fewer clusters than any interval holds for."""
    return said if clusters >= FEWEST else said._replace(ci=None, gain_ci=None)


def _arms(told: Told) -> Bandit:
    """A log of no decisions with these arms and sums."""
    no, none = np.zeros(0), np.zeros((0, len(told.arms)))
    return Bandit(told.arms, no, no, none, no, no, whole=told.whole)


def _ways(found: Scored, told: Told, support: Support) -> dict[str, np.ndarray]:
    """How the scores that may be quoted are made of what is summed up."""
    seen, pairs = found.seen, bool(support.pairs)
    robust = bool(support.with_propensity == seen.n and told.labels)
    ways = {name: way for name, way in WAYS.items() if (robust if name == "dr" else pairs)}
    if robust and pairs and support.ess > 0:
        share = share_by(seen.logged / seen.n, seen.asked / seen.n, seen.both / seen.n)
        ways["combined"] = share * WAYS["dr"] + (1 - share) * WAYS["paired"]
    return ways


def _interval(found: Scored, way: np.ndarray) -> Interval:
    """Mean and interval of scores that are this sum of those that are known."""
    return of_products(way, found.scores.sum(axis=1), found.products, found.clusters)


def _scores(found: Scored, way: np.ndarray, ess: float) -> Scores:
    """The same scores by cluster."""
    return Scores(way @ found.scores, found.scores[-1], ess)


def _as_logged(found: Scored, told: Told) -> Quality:
    """The mean of what was logged, each arm as often as it answered: this policy did answer all that."""
    if told.labels < MIN_LABELS or told.sessions < MIN_SESSIONS:
        return Quality(
            ess=float(told.labels),
            why=f"{told.labels:,} of the logged answers in {told.sessions:,} sessions have a known outcome, "
            f"{MIN_LABELS} in {MIN_SESSIONS} are needed",
        )
    share, names = told.unlabelled()
    if share > MAX_UNSUPPORTED:
        return Quality(
            ess=told.ess, why=f"no outcome of {names} is known, which gave {share:.0%} of the answers"
        )
    if told.ess < MIN_LABELS:
        return Quality(
            ess=told.ess,
            why=f"the arms are labelled so unequally that {told.labels:,} known outcomes are worth "
            f"{told.ess:.0f}, {MIN_LABELS} are needed",
        )
    answer = as_share(_interval(found, LOGGED), min(told.ess, told.sessions, found.clusters))
    ends = (answer.low, answer.high)
    scores = _scores(found, LOGGED, told.ess)
    return Quality(answer.mean, ends, told.ess, True, "logged", gain=0.0, gain_ci=(0.0, 0.0), scores=scores)


def _enough(missing: Missing | None, ess: float, call_usd: float | None) -> Missing:
    """The shadow calls that are missing, no fewer than make enough effective decisions: each is about one."""
    said = Missing(half_width=WANTED_HALF_WIDTH, pairs=0, usd=None) if missing is None else missing
    pairs = max(said.pairs, math.ceil(round(MIN_ESS - ess, 6)), 1)
    return replace(said, pairs=pairs, usd=None if call_usd is None else pairs * call_usd)
