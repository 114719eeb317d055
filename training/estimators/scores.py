"""The estimators: each turns a log, a target and a model of rewards into one score a decision.

The mean of the scores (n,) is the estimate, and their spread over clusters its error. `target` (n, k) is the
chance that the target policy gives each arm, `model` (n, k) a cross-fitted guess of each arm's reward: no
decision's guess may have seen a reward of its own cluster. Rewards that are unknown count by the share known
of their arm: whether a reward is known may depend on the arm, not on what it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.estimators.bandit import Bandit

_LARGEST = 300.0  # of the log of a weight: its square, and sums of such, stay finite


def weights(log: Bandit, target: np.ndarray) -> np.ndarray:
    """Importance weights (n,): the target's chance of what answered over the logger's; NaN unknown."""
    rows = np.arange(log.n)
    ratio: np.ndarray = target[rows, log.action] / log.propensity[rows, log.action]
    return ratio


def heard(log: Bandit) -> np.ndarray:
    """How much a decision's reward counts (n,): 0 where unknown, else one over the share known of its arm."""
    known = np.isfinite(log.reward)
    if log.whole is None and known.all():
        return np.ones(log.n)
    return np.where(known, 1 / np.maximum(share_known(log), 1e-12)[log.action], 0.0)


def share_known(log: Bandit) -> np.ndarray:
    """Share (k,) of each arm's answers whose reward is known; 0 of an arm that never answered."""
    sums = log.sums
    found: np.ndarray = sums.labelled / np.maximum(sums.answered, 1)
    return found


def share_to_be_expected(log: Bandit) -> np.ndarray:
    """The same (k,), where an arm that never answered is as likely to be labelled as any."""
    sums = log.sums
    found: np.ndarray = np.where(sums.answered == 0, sums.labelled.sum() / max(sums.n, 1), share_known(log))
    return found


def as_logged(log: Bandit) -> np.ndarray:
    """Scores (n,) of what was logged: m(a) + heard (r − m(a)), m the arm's mean of known rewards.

    Their mean is Σ_a n(a)/n m(a), each arm as often as it answered, however many of its rewards are known:
    post-stratified (Cochran 1977, §5A.9). An arm without any known reward counts as the mean of the others.
    """
    known, sums = np.isfinite(log.reward), log.sums
    count, total = sums.labelled, sums.total
    others = total.sum() / max(count.sum(), 1)
    mean = np.where(count > 0, total / np.maximum(count, 1), others)[log.action]
    scores: np.ndarray = mean + heard(log) * np.where(known, np.nan_to_num(log.reward) - mean, 0.0)
    return scores


def ips(log: Bandit, target: np.ndarray) -> np.ndarray:
    """Inverse propensity scoring (Horvitz & Thompson, JASA 1952): w r."""
    scores: np.ndarray = weights(log, target) * heard(log) * np.nan_to_num(log.reward)
    return scores


def most_ips(log: Bandit, target: np.ndarray) -> np.ndarray:
    """The most (n,) that such a score can be, whoever answers, by chances and shares of labels alone.

    Infinite where the target might do what the log had no chance to do.
    """
    chance = log.propensity * share_to_be_expected(log)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(target > 0, target / chance, 0.0).max(axis=1, initial=0.0)
    return found


def snips(log: Bandit, target: np.ndarray) -> np.ndarray:
    """Self-normalised: Σ w r / Σ w (Swaminathan & Joachims, NeurIPS 2015), linearised around its value.

    All NaN where nothing that the target might do has been logged.
    """
    w = weights(log, target) * heard(log)
    total = w.sum()
    if not total > 0:
        return np.full(log.n, np.nan)
    value = float(w @ np.nan_to_num(log.reward)) / total
    scores: np.ndarray = value + w * (np.nan_to_num(log.reward) - value) * (log.n / total)
    return scores


def direct(target: np.ndarray, model: np.ndarray) -> np.ndarray:
    """The model's word alone: Σ_a π(a) q(a). Its bias is in no interval."""
    scores: np.ndarray = np.einsum("ij,ij->i", target, model)
    return scores


def doubly_robust(
    log: Bandit,
    target: np.ndarray,
    model: np.ndarray,
    *,
    clip: float = np.inf,
    switch: float = np.inf,
) -> np.ndarray:
    """Σ_a π(a) q(a) + w (r − q) (Dudík, Langford & Li, ICML 2011).

    Weights above `clip` count as `clip` (Bottou et al., JMLR 2013); those above `switch` count nothing, so
    that the model speaks alone there (Wang, Agarwal & Dudík, ICML 2017). Both trade variance for bias.
    """
    w = np.minimum(weights(log, target), clip)
    w = np.where(w > switch, 0.0, w) * heard(log)
    said = model[np.arange(log.n), log.action]
    scores: np.ndarray = direct(target, model) + w * (np.nan_to_num(log.reward) - np.where(w > 0, said, 0.0))
    return scores


def accepted(log: Bandit, target: np.ndarray, draw: np.ndarray, most: float | None = None) -> np.ndarray:
    """Replay by rejection (Li et al., WSDM 2011): mask (n,) of the decisions that the target might have made.

    A decision of known reward is kept where its `draw` (n,), uniform in 0..1, is below v / max v. v is the
    target's chance over that of having been logged and labelled, so that those kept are distributed as the
    target's own; `most` is the largest of the log that this is a part of.
    """
    v = np.nan_to_num(weights(log, target)) * heard(log)
    most = float(v.max(initial=0.0)) if most is None else most
    kept: np.ndarray = draw * most < v
    return kept


def by_session(log: Bandit, target: np.ndarray, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and scores of whole sessions, the clusters (c,), whose outcome (c,) is one: Π w, and Π w · r.

    Trajectory-wise importance sampling (Precup, Sutton & Singh, ICML 2000). Locked decisions have no weight:
    the target would have made them too. Sessions grow improbable exponentially: look at their effective size.
    """
    w = np.where(log.locked, 1.0, weights(log, target))
    logs = np.bincount(log.cluster, weights=np.log(np.maximum(w, 1e-300)), minlength=len(reward))
    never = np.bincount(log.cluster, weights=w <= 0, minlength=len(reward)) > 0
    product = np.where(never, 0.0, np.exp(np.minimum(logs, _LARGEST)))
    return product, product * reward
