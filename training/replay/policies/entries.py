"""A policy as it is reported: what it would cost, how good it would be, and beside what."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from training.replay.logged.parts import Parts
from training.replay.quality.judge import Target
from training.replay.quality.quoted import Quality

if TYPE_CHECKING:
    from training.replay.cost.route import Played
    from training.replay.logged.arms import Arms


class Take(NamedTuple):
    """What a policy comes to in one part of a log."""

    usd: np.ndarray  # (S,)
    call_usd: np.ndarray  # (n,)
    parts: dict[str, float]  # USD by what is paid for
    calls: np.ndarray  # (k,) of each arm
    route: np.ndarray | None = None  # (n,) arms, where one answers each call
    chances: np.ndarray | None = None  # (n, k) of the arms; None: the route's own, for sure
    read: float = 0.0
    switches: float = 0.0
    unsafe: float = 0.0
    refused: int = 0
    lent: np.ndarray | None = None  # (k,) USD of calls that each arm took over
    wrote: np.ndarray | None = None  # (k,) of them that of answers


class Entry(msgspec.Struct, kw_only=True):
    """One policy; `target` gives for a part the chances (n, k) or arms (n,) that quality is estimated for."""

    name: str
    usd: np.ndarray  # (S,)
    parts: dict[str, float]  # USD of fresh, cached, written and output; cold is what a warm cache had saved
    read: float = 0.0
    switches: float = 0.0
    unsafe: float = 0.0
    share: dict[str, float] = {}  # of calls
    target: Target | None = None
    route: Target | None = None  # arms (n,) in a part, where one answers each call
    turned_away: Target | None = None  # which calls (n,) of a part a budget refused
    quality: Quality = Quality()
    role: str = "policy"  # logged, control, pin, policy, sweep or bound
    said: str | None = None
    knob: float | None = None
    router_usd: float = 0.0
    refused: int = 0
    lent: np.ndarray | None = None  # (k,) USD of calls that each arm took over
    wrote: np.ndarray | None = None  # (k,) of them that of answers

    @property
    def total(self) -> float:
        """USD, the router's own included."""
        return float(self.usd.sum()) + self.router_usd


class Sums:
    """A policy's takes from the parts so far; only what its sessions cost, and its route, grows with them."""

    def __init__(self, *, many: bool) -> None:
        self.usd: list[np.ndarray] = []
        self.routes: Parts[np.ndarray] = Parts(many=many)
        self.chances: Parts[np.ndarray] = Parts(many=many)
        self.total: Take | None = None

    def add(self, take: Take) -> None:
        """Add the next part's."""
        self.usd.append(take.usd)
        if take.route is not None:
            self.routes.add(take.route)
        if take.chances is not None:
            self.chances.add(take.chances)
        nothing = np.zeros(0)
        bare = take._replace(usd=nothing, call_usd=nothing, route=None, chances=None)
        self.total = bare if self.total is None else _together(self.total, bare)

    def entry(self, name: str, arms: Arms, role: str, said: str | None) -> Entry:
        """The policy as it is reported."""
        assert self.total is not None
        took = self.total
        every = max(float(took.calls.sum()), 1.0)
        routes, chances = (p.__getitem__ if len(p) else None for p in (self.routes, self.chances))
        return Entry(
            name=name,
            usd=np.concatenate(self.usd),
            parts=took.parts,
            read=took.read,
            switches=took.switches,
            unsafe=took.unsafe,
            share={arm: float(n / every) for arm, n in zip(arms.names, took.calls, strict=True) if n},
            target=chances or routes,
            route=routes,
            role=role,
            said=said,
            refused=took.refused,
            lent=took.lent,
            wrote=took.wrote,
        )


def _together(one: Take, other: Take) -> Take:
    return one._replace(
        parts={key: one.parts[key] + other.parts[key] for key in one.parts},
        calls=one.calls + other.calls,
        read=one.read + other.read,
        switches=one.switches + other.switches,
        unsafe=one.unsafe + other.unsafe,
        refused=one.refused + other.refused,
        lent=_summed(one.lent, other.lent),
        wrote=_summed(one.wrote, other.wrote),
    )


def take_of(played: Played, k: int) -> Take:
    """What a route comes to."""
    return Take(
        usd=played.usd,
        call_usd=played.bill.total,
        parts=parts_of(played),
        calls=np.bincount(played.route, minlength=k),
        route=played.route.astype(np.int16),
        chances=played.chances,
        read=played.read,
        switches=played.switches,
        unsafe=played.unsafe,
        refused=played.refused,
        lent=played.lent,
        wrote=played.wrote,
    )


def parts_of(played: Played) -> dict[str, float]:
    """USD by what is paid for; `cold` is part of fresh and written: what would have been read, warm."""
    bill, split = played.bill, played.split
    rest = np.maximum(split.fresh + split.written, 1e-9)
    cold = (bill.fresh + bill.written) * np.minimum(split.cold / rest, 1.0)
    sums = {name: float(np.nansum(part)) for name, part in zip(bill._fields, bill, strict=True)}
    return {**sums, "cold": float(np.nansum(cold))}


def mixed(name: str, ends: tuple[Entry, Entry], weight: float, arms: Arms, said: str) -> Entry:
    """Sessions drawn at random: `weight` of them as the second, the rest as the first; in expectation.

    A budget is spent by each of the two alone, so what is refused is exact for budgets by session only.
    """
    k, (first, second) = len(arms.arms), ends

    def blended(part: int) -> np.ndarray:
        return (1 - weight) * _chances(first, part, k) + weight * _chances(second, part, k)

    blend = {key: (1 - weight) * first.parts[key] + weight * second.parts[key] for key in first.parts}
    names = {*first.share, *second.share}
    share = {n: (1 - weight) * first.share.get(n, 0.0) + weight * second.share.get(n, 0.0) for n in names}
    return Entry(
        name=name,
        usd=(1 - weight) * first.usd + weight * second.usd,
        parts=blend,
        read=(1 - weight) * first.read + weight * second.read,
        switches=(1 - weight) * first.switches + weight * second.switches,
        unsafe=(1 - weight) * first.unsafe + weight * second.unsafe,
        share={n: part for n, part in share.items() if part},
        target=blended,
        refused=round((1 - weight) * first.refused + weight * second.refused),
        lent=_summed(first.lent, second.lent, weight),
        wrote=_summed(first.wrote, second.wrote, weight),
        role="control",
        said=said,
    )


def _summed(
    one: np.ndarray | None, other: np.ndarray | None, weight: float | None = None
) -> np.ndarray | None:
    """The sum, or the mean by the second's `weight`."""
    if one is None or other is None:
        return None
    found: np.ndarray = one + other if weight is None else (1 - weight) * one + weight * other
    return found


def _chances(entry: Entry, part: int, k: int) -> np.ndarray:
    assert entry.target is not None
    target = entry.target(part)
    found: np.ndarray = target if target.ndim == 2 else np.eye(k, dtype=np.float32)[target]
    return found


def halves(sessions: int, seed: int) -> np.ndarray:
    """A half (S,) bool of the sessions, drawn once: what is chosen on one is scored on the other."""
    half: np.ndarray = np.random.default_rng([seed, sessions]).permutation(sessions) % 2 == 0
    return half
