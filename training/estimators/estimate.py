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
    as_share,
    clustered,
    effective_size,
    wilson,
)
from training.estimators.paired import paired, share_of_logged
from training.estimators.support import (
    MAX_UNSUPPORTED,
    MIN_ESS,
    Support,
    seen_of,
    support_of,
    unheard,
    verdict,
)
from training.estimators.thresholds import Risks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.estimators.support import Seen

WANTED_HALF_WIDTH = 0.03
_Z = 1.959964


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One estimator's word; `ci` is null where it has no interval (the model's word alone)."""

    name: str
    quality: float | None
    quality_ci: tuple[float, float] | None = None
    error: float | None = None
    ess: float | None = None  # effective decisions it stands on


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
    seen = seen_of(log, target)
    support = support_of(seen, log, locked=int((~keep).sum()))
    best, refused = verdict(support)
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
        missing=_missing(log, scored, (seen, support), call_usd, half_width),
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
        risks = Risks.of(log, target, model)
        clip, switch = (risks.threshold(soft=soft) for soft in (True, False))
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
    found = interval(scores, log.cluster)
    ess = {"paired": support.pairs_ess, "combined": support.together}.get(name, support.ess)
    if name != "ips":
        found = as_share(found, min(ess, len(np.unique(log.cluster))))
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

    kept = of.accepted(log, target, np.random.default_rng(seed).random(log.n))
    rows = int(kept.sum())
    if not rows:
        return
    reward, cluster = log.reward[kept], log.cluster[kept]
    alone = len(np.unique(cluster)) == rows and bool(np.isin(reward, (0.0, 1.0)).all())
    found = wilson(reward, cluster)
    ends = clopper_pearson(float(reward.sum()), rows) if alone else (found.low, found.high)
    yield Estimate(name="replay", quality=found.mean, quality_ci=ends, error=found.error, ess=float(rows))


def _missing(
    log: Bandit,
    scored: dict[str, np.ndarray],
    about: tuple[Seen, Support],
    call_usd: float | None,
    half_width: float,
) -> Missing | None:
    if not log.n:
        return None
    known = log.reward[np.isfinite(log.reward)]
    variance = None if len(known) < 2 else float(known.var())
    quoted = ("dr", "paired", "combined")
    errors = {name: interval(s, log.cluster).error for name, s in scored.items() if name in quoted}
    return missing_of(errors, about, variance, call_usd, half_width)


def missing_of(
    errors: dict[str, float],
    about: tuple[Seen, Support],
    variance: float | None,
    call_usd: float | None,
    half_width: float = WANTED_HALF_WIDTH,
) -> Missing | None:
    """How many pairs more bring the interval to `half_width`: variances of independent pairs add as 1/n.

    `errors` are those of dr, paired and combined, `variance` that of known rewards. What the log never had a
    chance to do has no error of its own, however steady the scores are.
    """
    seen, support = about
    told = [error for name, error in errors.items() if name == "paired" or unheard(support) is None]
    now = min(told, default=math.inf)
    wanted = half_width / _Z
    if now <= wanted:
        return None
    spread = _spread_of_pair(errors.get("paired"), seen, variance)
    precision = 1 / wanted**2 - (0.0 if math.isinf(now) or not now else 1 / now**2)
    pairs = math.ceil(round(spread * precision, 6))
    return Missing(half_width=half_width, pairs=pairs, usd=None if call_usd is None else pairs * call_usd)


def _spread_of_pair(error: float | None, seen: Seen, variance: float | None) -> float:
    """Variance that one pair more would average out; of a 0/1 reward before there is any."""
    at_most = 0.25 if variance is None else max(variance, 0.05)
    if error is None or not seen.pair_square > 0:
        return at_most
    pairs = effective_size(seen.pair_weight, seen.pair_square)
    return min(at_most, error**2 * pairs) if pairs > 1 and math.isfinite(error) else at_most


__all__ = ["MAX_UNSUPPORTED", "MIN_ESS", "Answer", "Estimate", "Missing", "Support", "estimate"]
