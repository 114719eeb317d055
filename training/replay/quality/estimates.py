"""What every estimator says of every policy, side by side: none of it is advised by but what is quoted.

Sums over a part of a log at a time; intervals are over sessions, or over what they belong to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from training.estimators import scores as of
from training.estimators.intervals import as_share, empirical_bernstein, of_products
from training.estimators.model import guessed
from training.estimators.paired import paired
from training.estimators.support import support_of
from training.estimators.thresholds import Risks
from training.replay.quality.bootstrap import FEWEST, apart_of
from training.shadow.sampling import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from training.estimators.bandit import Bandit, Whole
    from training.estimators.support import Support
    from training.replay.quality.judge import Judge, Target
    from training.replay.quality.quoted import Quality

COLUMNS = ("w", "ips", "dr", "dr_clipped", "dr_switch", "paired", "kept", "replay", "bound", "dm", "size")
W, IPS, PAIRED, KEPT, REPLAY, BOUND, MODEL, SIZE = (
    COLUMNS.index(name) for name in ("w", "ips", "paired", "kept", "replay", "bound", "dm", "size")
)
LOGGED = ("ips", "snips", "dr", "dr_clipped", "dr_switch", "replay")  # what needs the logger's chances
OVER = {"snips": ("ips", W), "replay": ("replay", KEPT)}  # means over what isn't the number of decisions
BELIEVED = "what the model of outcomes believes: its bias is in no interval, so nothing is advised by it"
DRAWS = 1_000


class _Tuned(NamedTuple):
    """What is chosen for a policy by the whole log, before anything is summed."""

    clip: float
    switch: float
    most: float  # the largest weight of `of.accepted`


class _Sums(NamedTuple):
    """Sums over the parts so far."""

    total: np.ndarray  # (m,)
    spread: np.ndarray  # (m, m) products of sums by session, or (m, C) sums by cluster
    sessions: int
    bound: float  # the most that IPS's scores of a session can come to

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.total + other.total,
            self.spread + other.spread,
            self.sessions + other.sessions,
            max(self.bound, other.bound),
        )


def every_estimate(
    judge: Judge, policies: Mapping[str, tuple[Target, Quality]], seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Method, value, interval and effective decisions of every estimate, by the policy's name.

    Of each policy what it would do is given, and the quality that this judge tells of it.
    Thresholds of clipped and switch are chosen once, for the whole log. `quoted` marks the one that the row
    has; DM has no interval.
    """
    targets = [target for target, _ in policies.values()]
    tuned = _tuned(judge, targets)
    rng = np.random.default_rng(seed)
    found: list[_Sums] = []
    nothing: Bandit | None = None
    for log, kind, chances in judge.played(targets):
        model, draw = guessed(judge.guesses, log, kind), rng.random(log.n)
        mine = [
            _sums(log, _columns(log, target, model, (one, draw)), judge.groups)
            for one, target in zip(tuned, chances, strict=True)
        ]
        found = [one.plus(more) for one, more in zip(found, mine, strict=True)] if found else mine
        nothing = log.rows(np.zeros(log.n, dtype=bool))._replace(whole=log.sums)
    if nothing is None:
        return {}
    whole = found if judge.groups is None else [_over(one) for one in found]
    return {
        name: list(_told(sums, quality, _support(quality, nothing), nothing.sums))
        for sums, (name, (_, quality)) in zip(whole, policies.items(), strict=True)
    }


def _tuned(judge: Judge, targets: Sequence[Target]) -> list[_Tuned]:
    """What is chosen for each policy by the whole log."""
    most, risks = [0.0 for _ in targets], [Risks.nothing() for _ in targets]
    for log, kind, chances in judge.played(targets):
        if not _told_all(log):
            continue
        model = guessed(judge.guesses, log, kind)
        for i, target in enumerate(chances):
            most[i] = max(most[i], float((of.weights(log, target) * of.heard(log)).max()))
            risks[i] = risks[i].plus(Risks.of(log, target, model))
    return [
        _Tuned(one.threshold(soft=True), one.threshold(soft=False), w)
        for one, w in zip(risks, most, strict=True)
    ]


def _told_all(log: Bandit) -> bool:
    """Whether logged answers tell of other policies: all chances of a part are known, and some outcome."""
    return bool(np.isfinite(log.propensity).all() and log.sums.labelled.any())


def _columns(
    log: Bandit, target: np.ndarray, model: np.ndarray, about: tuple[_Tuned, np.ndarray]
) -> np.ndarray:
    """Scores (m, n) of every estimator; `about` are thresholds, and the draws (n,) of replay by rejection."""
    columns = np.zeros((len(COLUMNS), log.n))
    columns[SIZE], columns[MODEL] = 1.0, of.direct(target, model)
    if log.paired is not None:
        columns[PAIRED] = paired(log, target, model)
    if not _told_all(log):
        return columns
    tuned, draw = about
    kept = of.accepted(log, target, draw, tuned.most)
    each = {
        "w": of.weights(log, target) * of.heard(log),
        "ips": of.ips(log, target),
        "dr": of.doubly_robust(log, target, model),
        "dr_clipped": of.doubly_robust(log, target, model, clip=tuned.clip),
        "dr_switch": of.doubly_robust(log, target, model, switch=tuned.switch),
        "kept": kept,
        "replay": np.where(kept, np.nan_to_num(log.reward), 0.0),
        "bound": of.most_ips(log, target),
    }
    for name, values in each.items():
        columns[COLUMNS.index(name)] = values
    return columns


def _sums(log: Bandit, columns: np.ndarray, groups: np.ndarray | None) -> _Sums:
    """The sums of a part."""
    total = columns.sum(axis=1)
    if groups is not None:
        code, many = groups[log.cluster], int(groups.max()) + 1
        return _Sums(total, np.stack([np.bincount(code, column, many) for column in columns]), 0, 0.0)
    place = np.unique(log.cluster, return_inverse=True)[1]
    each = np.stack([np.bincount(place, column) for column in columns])
    with np.errstate(invalid="ignore"):  # a bound may be infinite
        products = each @ each.T
    return _Sums(total, products, each.shape[1], float(each[BOUND].max()))


def _over(sums: _Sums) -> _Sums:
    """Sums by cluster, which may lie in several parts, as products."""
    each = sums.spread
    with np.errstate(invalid="ignore"):
        products = each @ each.T
    return sums._replace(
        spread=products, sessions=int((each[SIZE] > 0).sum()), bound=float(each[BOUND].max())
    )


def _support(quality: Quality, nothing: Bandit) -> Support:
    """The support of a policy by what its judge has counted."""
    assert quality.seen is not None
    return support_of(quality.seen, nothing, locked=0)


def _told(sums: _Sums, quality: Quality, support: Support, whole: Whole) -> Iterator[dict[str, Any]]:
    """What the sums say by each method that the log has the columns for."""
    logged = bool(support.with_propensity == support.free and support.labelled)
    names = [*(LOGGED if logged else ()), *(("paired",) if whole.asked.any() else ())]
    enough = sums.sessions >= FEWEST
    for name in names:
        column, over = OVER.get(name, (name, SIZE))
        if not sums.total[over] > 0:
            continue  # nothing that the policy would do was logged
        some = [COLUMNS.index(column), over]
        square = sums.spread[np.ix_(some, some)]
        plain = of_products(np.array([1.0, 0.0]), sums.total[some], square, sums.sessions)
        ess = support.pairs_ess if name == "paired" else support.ess
        ess = min(ess, float(sums.total[KEPT])) if name == "replay" else ess
        found = plain if name == "ips" else as_share(plain, min(ess, sums.sessions))
        ends = max(0.0, found.low), min(1.0, found.high)
        if name == "replay" and _alone(sums):
            ends = clopper_pearson(float(sums.total[REPLAY]), float(sums.total[KEPT]))
        yield _said(name, found.mean, ends if enough else None, ess, quoted=name == quality.how)
        if name == "ips" and enough and np.isfinite(sums.bound):
            yield _said("ips_bernstein", found.mean, _at_any_size(sums), ess, quoted=False)
    if quality.how == "combined" and quality.quality is not None:
        yield _said("combined", quality.quality, quality.ci, quality.ess, quoted=True)
    if quality.how in names or quality.how == "combined":
        yield from _drawn_again(quality)
    if support.labelled:
        yield _said("dm", sums.total[MODEL] / support.free, None, None, quoted=False) | {"note": BELIEVED}


def _alone(sums: _Sums) -> bool:
    """Whether replay kept one decision a cluster at most, each right or wrong: then they are coins."""
    return all(sums.spread[at, at] == sums.total[at] for at in (KEPT, REPLAY))


def _at_any_size(sums: _Sums) -> tuple[float, float]:
    """Ends of IPS that trust no spread of few large weights: those of a session are bounded by design."""
    found = empirical_bernstein(
        float(sums.total[IPS]), float(sums.spread[IPS, IPS]), sums.sessions, sums.bound
    )
    scale = sums.sessions / float(sums.total[SIZE])
    return found.low * scale, min(1.0, found.high * scale)


def _drawn_again(quality: Quality) -> Iterator[dict[str, Any]]:
    """What is quoted, its interval by drawing clusters again: beside Student's and Wilson's."""
    mean, scores = quality.quality, quality.scores
    if mean is None or scores is None:
        return
    ends = apart_of(scores.total - mean * scores.size, DRAWS, 0)  # the ratio, linearised
    if ends is not None:
        n = float(scores.size.sum())
        low, high = max(0.0, mean + ends[0] / n), min(1.0, mean + ends[1] / n)
        yield _said(f"{quality.how}_bootstrap", mean, (low, high), quality.ess, quoted=False)


def _said(
    method: str, value: float, ends: tuple[float, float] | None, ess: float | None, *, quoted: bool
) -> dict[str, Any]:
    return {"method": method, "value": value, "interval": ends, "ess": ess, "quoted": quoted}
