"""The served policy over many requests at once: `router.policy.choose`, held to it by a property test.

Arrays are (m, k) for m requests and k arms, whose order is that of their names in the decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from models.certificate import Certificate
    from router.policy import Policy
    from training.replay.logged.arms import Arms


class Seen(NamedTuple):
    """What a policy looks at. NaN is unknown."""

    excluded: np.ndarray  # (m, k) bool
    p: np.ndarray  # (m, k)
    cost: np.ndarray  # (m, k) USD by which arms are compared
    spread: np.ndarray  # (m, k)
    reference: np.ndarray  # (m,) int
    last: np.ndarray  # (m,) int, -1 none
    locked: np.ndarray  # (m,) bool
    draw: np.ndarray  # (m,) in 0..1
    by_client: np.ndarray | None = None  # (m,) bool: `last` was its client's own choice; None: nobody's


class Chosen(NamedTuple):
    """Arms (m,), the chances (m, k) they had, and which requests were locked (m,)."""

    arm: np.ndarray
    chances: np.ndarray
    locked: np.ndarray


class Certified(NamedTuple):
    """A certificate: its threshold, its arms from the cheapest on, and its reference; -1 is none."""

    tau: float
    order: tuple[int, ...]
    reference: int


def certified_by(certificate: Certificate, arms: Arms) -> Certified:
    """The certificate with its candidates as arms."""
    found = (arms.find(name) for name in certificate.candidates if name != certificate.reference)
    own = arms.find(certificate.reference)
    return Certified(
        certificate.tau or 1.0, tuple(i for i in found if i is not None), -1 if own is None else own
    )


def held_many(certified: Certified, seen: Seen) -> Seen:
    """`router.certified.held_to`: only the arm that the certificate would choose keeps its p."""
    rows = np.arange(len(seen.p))
    able = ~seen.excluded
    chosen = np.full(len(rows), -1)
    for arm in reversed(certified.order):
        chosen = np.where(able[:, arm] & (np.nan_to_num(seen.p[:, arm]) >= certified.tau), arm, chosen)
    chosen = np.where(seen.reference == certified.reference, chosen, -1)
    kept = np.zeros(seen.p.shape, dtype=bool)
    kept[rows, seen.reference] = True
    kept[rows[chosen >= 0], chosen[chosen >= 0]] = True
    kept |= ~able[rows, seen.reference][:, None]  # without its reference a certificate says nothing
    return seen._replace(p=np.where(kept, seen.p, np.nan))


def choose_many(policy: Policy, seen: Seen, names: tuple[str, ...]) -> Chosen:
    """Choose for every request; the propensities of the eligible arms sum to 1, a locked one's is 1."""
    m, k = seen.p.shape
    rows = np.arange(m)
    free = ~seen.excluded
    if policy.kind == "learned":
        costless = np.isnan(seen.cost)
        costless[rows, seen.reference] = False
        free = free & ~costless
    chances = _chances(policy, seen, free, names)
    chances = chances * free
    if policy.explore:
        many = np.maximum(free.sum(axis=1, keepdims=True), 1)
        chances = (1 - policy.explore) * chances + policy.explore * free / many
    none = ~free.any(axis=1)
    holder = np.where(seen.last >= 0, seen.last, seen.reference)
    held = np.where(~seen.excluded[rows, holder], holder, seen.reference)
    fixed = np.where(seen.locked, held, np.where(none, seen.reference, -1))
    given = fixed >= 0
    chances[given] = np.eye(k)[fixed[given]]
    return Chosen(np.where(given, fixed, _drawn(chances, seen.draw)), chances, seen.locked)


def _chances(policy: Policy, seen: Seen, free: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Chances (m, k) before exploration, for requests that are not locked."""
    k = len(names)
    rows = np.arange(len(free))
    fallback = np.where(free[rows, seen.reference], seen.reference, free.argmax(axis=1))
    if policy.kind == "pin":
        wanted = names.index(policy.candidate) if policy.candidate in names else -1
        pinned = seen.reference if policy.candidate is None else np.full(len(free), wanted)
        able = (pinned >= 0) & free[rows, pinned]
        one: np.ndarray = np.eye(k)[np.where(able, pinned, fallback)]
        return one
    stays = seen.last if policy.sticky else np.full(len(free), -1)
    if seen.by_client is not None:
        stays = np.where(seen.by_client, -1, stays)
    if policy.kind == "mix":
        weights = np.array([policy.weights.get(name, 0.0) for name in names]) * free
        total = weights.sum(axis=1, keepdims=True)
        mixed = np.where(total > 0, weights / np.where(total > 0, total, 1.0), np.eye(k)[fallback])
        keeps = (stays >= 0) & (weights[rows, stays] > 0)
        kept: np.ndarray = np.where(keeps[:, None], np.eye(k)[np.maximum(stays, 0)], mixed)
        return kept
    learned: np.ndarray = np.eye(k)[_learned(policy, seen, free, stays, names)]
    return learned


def _learned(
    policy: Policy, seen: Seen, free: np.ndarray, stays: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
    """The cheapest arm (m,) whose success is within `max_loss` of the reference's and at least `tau`."""
    rows = np.arange(len(free))
    p = np.nan_to_num(seen.p)
    cost = np.where(np.isnan(seen.cost), np.inf, seen.cost)
    known = ~np.isnan(seen.p) & (seen.spread <= policy.max_spread)
    of_reference = seen.p[rows, seen.reference]
    floor = np.maximum(np.nan_to_num(of_reference) - policy.max_loss, policy.tau)
    good = free & known & (p >= floor[:, None])
    good[rows, seen.reference] |= free[rows, seen.reference]
    order = np.argsort(names)
    cheapest = _least(np.where(good, cost, np.inf), np.where(good, -p, np.inf), good, order)
    keeps = (stays >= 0) & (stays != seen.reference) & good[rows, stays]
    chosen = np.where(keeps, stays, cheapest)
    unheard = np.isnan(of_reference) | ~known[rows, seen.reference]
    chosen = np.where(unheard, seen.reference, chosen)
    best = _least(np.where(free, -p, np.inf), np.where(free, cost, np.inf), free, order[::-1])
    able = free[rows, seen.reference]
    found: np.ndarray = np.where(able, chosen, best)
    return found


def _least(first: np.ndarray, then: np.ndarray, which: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The arm (m,) of least `first`, of these least `then`, of these first in `order`."""
    tied = which & (first == first.min(axis=1, keepdims=True))
    second = np.where(tied, then, np.inf)
    tied &= second == second.min(axis=1, keepdims=True)
    found: np.ndarray = order[tied[:, order].argmax(axis=1)]
    return found


def _drawn(chances: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Walk the cumulative chances; rounding at the end falls to the last possible arm."""
    reached = np.cumsum(chances, axis=1) > draw[:, None]
    possible = chances > 0
    last = chances.shape[1] - 1 - possible[:, ::-1].argmax(axis=1)
    hit = reached & possible
    found: np.ndarray = np.where(hit.any(axis=1), hit.argmax(axis=1), last)
    return found
