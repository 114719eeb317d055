"""How much of what a target would do a log has seen, and when that is too little to say anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from training.estimators import scores as of
from training.estimators.intervals import effective_size
from training.estimators.paired import chances_of_pairs, pair_weights, sum_square, sum_square_logged

if TYPE_CHECKING:
    from training.estimators.bandit import Bandit

MIN_ESS = 400.0  # effective decisions below which an interval isn't to be believed
MAX_SHARE = 0.05  # of all weight, on one decision
MAX_UNSUPPORTED = 0.01  # of the target's chances, on arms the log never gives a chance


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
    pairs_ess: float  # by pairs and logged answers that the target would give; 0 without such a pair
    together: float  # by both: what pairs and logged answers have in common counts once
    by_arm: dict[str, int]  # labelled free decisions of each arm


class Seen(NamedTuple):
    """Sums over decisions that tell how much of a target the log has seen; those of its parts add up."""

    n: int
    told: int  # with chances
    weight: float
    square: float  # of weights
    largest: float  # weight
    unsupported: float  # of the target's chances
    unlabelled: float
    expected: float  # Σ w² by the chances and the shares of labels
    logged: float  # Σ w² by both, infinite where the log had no chance
    both: float  # Σ w² of what logged answers and pairs have in common
    pairs: int
    asked: float  # Σ w² by the pairs' chances
    pair_weight: float
    pair_square: float

    def plus(self, other: Seen) -> Seen:
        """The sums of both."""
        both = (mine + theirs for mine, theirs in zip(self, other, strict=True))
        return Seen._make(both)._replace(largest=max(self.largest, other.largest))


def seen_of(log: Bandit, target: np.ndarray) -> Seen:
    """How much of what the target would do these decisions have seen."""
    told = np.isfinite(log.propensity).all(axis=1)
    counts = log.sums.labelled
    heard = of.heard(log)  # few labels of an arm speak for many answers
    known = told & np.isfinite(log.reward)
    w = np.nan_to_num(np.where(known, of.weights(log, target) * heard, 0.0))
    none = told[:, None] & (log.propensity <= 0)
    deaf = told[:, None] & ~none & (counts == 0)[None, :]
    asked, each = 0.0, np.zeros((0, len(log.arms)))
    if log.paired is not None:
        asked, each = sum_square(target, chances_of_pairs(log)), pair_weights(log, target)
    of_pairs = each.sum(axis=1)
    return Seen(
        n=log.n,
        told=int(told.sum()),
        weight=float(w.sum()),
        square=float((w * w).sum()),
        largest=float(w.max(initial=0.0)),
        unsupported=float((target * (none | deaf)).sum()),
        unlabelled=float((target * deaf).sum()),
        expected=_to_be_expected(log, target),
        logged=sum_square(target, log.propensity * of.share_to_be_expected(log)),
        both=sum_square_logged(log, target),
        pairs=int((each > 0).sum()),
        asked=asked,
        pair_weight=float(of_pairs.sum()),
        pair_square=float((of_pairs * of_pairs).sum()),
    )


def support_of(seen: Seen, log: Bandit, *, locked: int) -> Support:
    """The same as it is told; `log` is of those arms and sums."""
    counts = log.sums.labelled
    n = max(seen.n, 1)
    ess = min(effective_size(seen.weight, seen.square), effective_size(seen.n, seen.expected))
    pairs_ess = effective_size(seen.n, seen.asked) if seen.pairs else 0.0
    return Support(
        free=seen.n,
        locked=locked,
        labelled=int(counts.sum()),
        with_propensity=seen.told,
        ess=ess,
        largest_share=seen.largest / seen.weight if seen.weight > 0 else 1.0,
        unsupported=seen.unsupported / n,
        unlabelled=seen.unlabelled / n,
        pairs=seen.pairs,
        pairs_ess=pairs_ess,
        together=_together(ess, pairs_ess, seen.both / n, n),
        by_arm={arm: int(count) for arm, count in zip(log.arms, counts, strict=True)},
    )


def _together(ess: float, pairs_ess: float, both: float, n: int) -> float:
    """Effective decisions of the mixture by `share_by`: n over its E[w²], `both` of what is in both."""
    if not ess or not pairs_ess:
        return ess or pairs_ess
    alone = max(n / ess - both, 0.0), max(n / pairs_ess - both, 0.0)
    total = both + (alone[0] * alone[1] / sum(alone) if sum(alone) > 0 else 0.0)
    return n / total


def _to_be_expected(log: Bandit, target: np.ndarray) -> float:
    """Σ w² that a log of these chances and shares of labels holds: n² over it are effective decisions.

    What was drawn may look better than it is: where nothing improbable happened, no weight is large.
    """
    chance = np.nan_to_num(log.propensity) * of.share_to_be_expected(log)
    possible = np.where(chance > 0, target, 0.0)  # what had no chance at all is `unsupported`
    return sum_square(possible, chance)


def unheard(support: Support) -> str | None:
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
        return f"one decision carries {support.largest_share:.2%} of the weight, more than {MAX_SHARE:.0%}"
    return None


def effective(support: Support) -> float:
    """Effective decisions that speak of the target: by pairs alone, where logged answers say nothing."""
    heard = support.ess > 0 and unheard(support) is None
    return support.together if heard else support.pairs_ess


def verdict(support: Support) -> tuple[str | None, str | None]:
    """The estimate to quote, or None and why there is none."""
    if not support.free:
        return None, "every decision of the log was locked"
    silent = unheard(support)
    logged = 0.0 if silent else support.ess
    together = effective(support)
    if together >= MIN_ESS:
        return ("dr" if not support.pairs else "paired" if not logged else "combined"), None
    whose = [] if silent else [f"{support.ess:,.0f} of them logged"]
    beside = f"{together - logged:,.0f} by shadow pairs"
    whose += [beside] if support.pairs else ["no shadow pair of it has a known outcome"]
    known = f"{together:,.0f} effective decisions of this policy are known"
    few = f"{known} ({', '.join(whose)}), {MIN_ESS:.0f} are needed"
    return None, "; ".join(filter(None, (silent, few)))
