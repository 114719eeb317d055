"""The whole answer about one target: estimates with intervals, their support, and a refusal where due."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from training.estimators import scores as of
from training.estimators.bandit import Bandit, checked
from training.estimators.intervals import (
    Interval,
    bootstrap_t,
    clustered,
    effective_size,
    empirical_bernstein,
    wilson,
)
from training.estimators.paired import (
    chances_of_pairs,
    pair_weights,
    paired,
    share_of_logged,
    square_weight,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_ESS = 400.0  # effective decisions below which an interval isn't to be believed
MAX_SHARE = 0.05  # of all weight, on one decision
MAX_UNSUPPORTED = 0.01  # of the target's chances, on arms the log never gives a chance
WANTED_HALF_WIDTH = 0.03
_Z = 1.959964


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One estimator's word; `ci` is null where it has no interval (the model's word alone)."""

    name: str
    quality: float | None
    quality_ci: tuple[float, float] | None = None
    error: float | None = None
    ess: float | None = None  # effective decisions it stands on


class Support(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what the target would do has been seen."""

    free: int  # decisions that had a choice
    locked: int
    labelled: int  # free ones whose reward is known
    with_propensity: int
    ess: float  # effective decisions of the importance weights
    largest_share: float  # of their sum, on one decision
    unsupported: float  # share of the target's chances on arms that the log gave none, or has no label of
    unlabelled: float  # of these, on arms that had a chance: none of their answers has a known outcome
    pairs: int
    pairs_ess: float
    by_arm: dict[str, int]  # labelled free decisions of each arm


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What would bring the interval to `half_width`."""

    half_width: float
    pairs: int  # more shadow calls of the target's arms
    usd: float | None  # what they would cost; null where the price of a call is unknown


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of the target by every estimator; `best` is the one to quote, null where `refused` says why."""

    estimates: list[Estimate]
    best: str | None
    support: Support
    refused: str | None = None
    missing: Missing | None = None

    def named(self, name: str) -> Estimate | None:
        """The estimate of this name."""
        return next((e for e in self.estimates if e.name == name), None)

    @property
    def quality(self) -> Estimate | None:
        """The estimate to quote."""
        return None if self.best is None else self.named(self.best)


def estimate(
    log: Bandit,
    target: np.ndarray,
    model: np.ndarray,
    *,
    call_usd: float | None = None,
    half_width: float = WANTED_HALF_WIDTH,
    seed: int = 0,
) -> Answer:
    """Estimate the mean reward of `target` (n, k) on the free decisions; `model` (n, k) is cross-fitted.

    `call_usd` is the mean price of one shadow call of the target's arms. Raises BadInput for a log that
    contradicts itself.
    """
    keep = ~checked(log).locked
    log, target, model = log.rows(keep), target[keep], model[keep]
    support = _support(log, target, locked=int((~keep).sum()))
    best, refused = _verdict(support)
    found: dict[str, Estimate] = {}
    scored: dict[str, np.ndarray] = {}
    if log.n:
        scored = dict(_scores(log, target, model, support))
        found = {name: _estimated(name, s, log, support) for name, s in scored.items()}
        found["dm"] = Estimate(name="dm", quality=float(of.direct(target, model).mean()))
        found |= {e.name: e for e in _replayed(log, target, seed) if support.with_propensity}
    return Answer(
        estimates=list(found.values()),
        best=best,
        support=support,
        refused=refused,
        missing=_missing(log, target, scored, call_usd, half_width),
    )


def _scores(
    log: Bandit, target: np.ndarray, model: np.ndarray, support: Support
) -> Iterator[tuple[str, np.ndarray]]:
    """Scores of every estimator that this log has the columns for."""
    robust = None
    if support.with_propensity == log.n and support.labelled:
        yield "ips", of.ips(log, target)
        if support.ess > 0:
            yield "snips", of.snips(log, target)
        robust = of.doubly_robust(log, target, model)
        yield "dr", robust
        clip, switch = (of.threshold(log, target, model, soft=soft) for soft in (True, False))
        yield "dr_clipped", of.doubly_robust(log, target, model, clip=clip)
        yield "dr_switch", of.doubly_robust(log, target, model, switch=switch)
    if support.pairs:
        beside = paired(log, target, model)
        yield "paired", beside
        if robust is not None and support.ess > 0:
            share = share_of_logged(log, target)
            yield "combined", share * robust + (1 - share) * beside


def _estimated(name: str, scores: np.ndarray, log: Bandit, support: Support) -> Estimate:
    # the spread of IPS's scores grows with the mean all the way to 1: Student's interval
    found = (interval if name == "ips" else wilson)(scores, log.cluster)
    ess = {"paired": support.pairs_ess, "combined": support.ess + support.pairs_ess}.get(name, support.ess)
    return Estimate(
        name=name,
        quality=found.mean,
        quality_ci=(max(0.0, found.low), min(1.0, found.high)),
        error=found.error,
        ess=ess,
    )


def interval(scores: np.ndarray, cluster: np.ndarray) -> Interval:
    """The interval of scores (n,) with clusters (n,), whatever their range."""
    return clustered(scores, cluster)


def _replayed(log: Bandit, target: np.ndarray, seed: int) -> Iterator[Estimate]:
    """Replay by rejection; Clopper-Pearson where the decisions are independent and the rewards 0 or 1."""
    from training.shadow.sampling import clopper_pearson

    kept = of.accepted(log, target, seed)
    rows = int(kept.sum())
    if not rows:
        return
    reward, cluster = log.reward[kept], log.cluster[kept]
    alone = len(np.unique(cluster)) == rows and bool(np.isin(reward, (0.0, 1.0)).all())
    found = wilson(reward, cluster)
    ends = clopper_pearson(float(reward.sum()), rows) if alone else (found.low, found.high)
    yield Estimate(name="replay", quality=found.mean, quality_ci=ends, error=found.error, ess=float(rows))


def _support(log: Bandit, target: np.ndarray, *, locked: int) -> Support:
    known = np.isfinite(log.reward)
    told = np.isfinite(log.propensity).all(axis=1)
    heard = of.heard(log)  # few labels of an arm speak for many answers
    w = np.nan_to_num(np.where(told & known, of.weights(log, target) * heard, 0.0)) if log.n else np.zeros(0)
    counts = np.bincount(log.action[known], minlength=len(log.arms))
    none = told[:, None] & (log.propensity <= 0)
    deaf = told[:, None] & ~none & (counts == 0)[None, :]
    return Support(
        free=log.n,
        locked=locked,
        labelled=int(known.sum()),
        with_propensity=int(told.sum()),
        ess=min(effective_size(w), _to_be_expected(log, target)) if log.n else 0.0,
        largest_share=float(w.max(initial=0.0) / w.sum()) if w.sum() > 0 else 1.0,
        unsupported=float((target * (none | deaf)).sum() / max(log.n, 1)),
        unlabelled=float((target * deaf).sum() / max(log.n, 1)),
        pairs=0 if log.paired is None else int((pair_weights(log, target) > 0).sum()),
        pairs_ess=_of_pairs(log, target),
        by_arm={arm: int(count) for arm, count in zip(log.arms, counts, strict=True)},
    )


def _to_be_expected(log: Bandit, target: np.ndarray) -> float:
    """Effective decisions that a log of these chances and shares of labels holds: n / E[w²].

    What was drawn may look better than it is: where nothing improbable happened, no weight is large.
    """
    never = (
        np.bincount(log.action, minlength=len(log.arms)) == 0
    )  # as likely labelled as any, had it answered
    share = np.where(never, np.isfinite(log.reward).mean(), of.share_known(log))
    chance = np.nan_to_num(log.propensity) * share[None, :]
    possible = np.where(chance > 0, target, 0.0)  # what had no chance at all is `unsupported`
    mean = square_weight(possible, chance)
    return log.n / mean if mean > 0 else 0.0


def _of_pairs(log: Bandit, target: np.ndarray) -> float:
    """The same of the pairs: what the target shares with the log is known, the rest by the share asked."""
    if log.paired is None or not log.n:
        return 0.0
    mean = square_weight(target, chances_of_pairs(log))
    return log.n / mean if 0 < mean < np.inf else 0.0


def _unheard(support: Support) -> str | None:
    """Why the logged answers say nothing of the target, however many there are; None where they do."""
    if not support.labelled:
        return "no logged answer has a known outcome"
    if support.with_propensity < support.free:
        told = f"{support.with_propensity:,} of {support.free:,} decisions"
        return f"the log tells the chances of {told} only, so nothing is known of what it might have done"
    if support.unsupported > MAX_UNSUPPORTED and 2 * support.unlabelled > support.unsupported:
        return f"{support.unlabelled:.0%} of what the policy would do is of arms without any known outcome"
    if support.unsupported > MAX_UNSUPPORTED:
        return f"{support.unsupported:.0%} of what the policy would do, the log never had a chance to do"
    if support.ess > 0 and support.largest_share > MAX_SHARE:
        return f"one decision carries {support.largest_share:.0%} of the weight, at most {MAX_SHARE:.0%}"
    return None


def _verdict(support: Support) -> tuple[str | None, str | None]:
    """The estimate to quote, or None and why there is none."""
    if not support.free:
        return None, "every decision of the log was locked"
    unheard = _unheard(support)
    logged = 0.0 if unheard else support.ess
    if logged + support.pairs_ess >= MIN_ESS:
        return ("dr" if not support.pairs else "paired" if not logged else "combined"), None
    whose = [] if unheard else [f"{support.ess:,.0f} of them logged"]
    whose += [f"{support.pairs_ess:,.0f} by shadow pairs"] if support.pairs else ["there are no shadow pairs"]
    known = f"{logged + support.pairs_ess:,.0f} effective decisions of this policy are known"
    few = f"{known} ({', '.join(whose)}), {MIN_ESS:.0f} are needed"
    return None, "; ".join(filter(None, (unheard, few)))


def _missing(
    log: Bandit, target: np.ndarray, scored: dict[str, np.ndarray], call_usd: float | None, half_width: float
) -> Missing | None:
    """How many pairs more bring the interval to `half_width`: variances of independent pairs add as 1/n."""
    if not log.n:
        return None
    now = min(
        (interval(s, log.cluster).error for n, s in scored.items() if n in ("dr", "paired", "combined")),
        default=math.inf,
    )
    wanted = half_width / _Z
    if now <= wanted:
        return None
    spread = _spread_of_pair(log, target, scored)
    precision = 1 / wanted**2 - (0.0 if math.isinf(now) or not now else 1 / now**2)
    pairs = math.ceil(spread * precision)
    return Missing(half_width=half_width, pairs=pairs, usd=None if call_usd is None else pairs * call_usd)


def _spread_of_pair(log: Bandit, target: np.ndarray, scored: dict[str, np.ndarray]) -> float:
    """Variance that one pair more would average out; of a 0/1 reward before there is any."""
    known = log.reward[np.isfinite(log.reward)]
    at_most = 0.25 if len(known) < 2 else max(float(known.var()), 0.05)
    if "paired" not in scored:
        return at_most
    weight = pair_weights(log, target).sum(axis=1)
    pairs = effective_size(weight)
    error = interval(scored["paired"], log.cluster).error
    return min(at_most, error**2 * pairs) if pairs > 1 and math.isfinite(error) else at_most


__all__ = [
    "Answer",
    "Estimate",
    "Missing",
    "Support",
    "bootstrap_t",
    "empirical_bernstein",
    "estimate",
]
