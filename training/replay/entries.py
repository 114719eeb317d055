"""A policy as it is reported: what it would cost, how good it would be, and beside what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from training.replay.quality import Quality

if TYPE_CHECKING:
    from training.replay.arms import Arms
    from training.replay.world import Played

TOLD = ("logged", "policy", "reference")  # roles and names whose routes are told about turn by turn


class Entry(msgspec.Struct, kw_only=True):
    """One policy, in arrays; `target` are the chances (n, k) or arms (n,) that quality is estimated for."""

    name: str
    usd: np.ndarray  # (S,)
    parts: dict[str, float]  # USD of fresh, cached, written and output; cold is what a warm cache had saved
    read: float = 0.0
    switches: float = 0.0
    unsafe: float = 0.0
    share: dict[str, float] = {}  # of calls
    target: np.ndarray | None = None
    quality: Quality = Quality()
    role: str = "policy"  # logged, control, pin, policy, sweep or bound
    said: str | None = None
    played: Any = None  # the route, where it is one
    knob: float | None = None
    router_usd: float = 0.0
    refused: int = 0

    @property
    def total(self) -> float:
        """USD, the router's own included."""
        return float(self.usd.sum()) + self.router_usd


def entry_of(name: str, played: Played, arms: Arms, role: str = "policy", said: str | None = None) -> Entry:
    """Report a route; its turns are kept of those only that are told about in full."""
    target = played.route.astype(np.int16) if played.chances is None else played.chances
    calls = np.bincount(played.route, minlength=len(arms.arms)) / max(len(played.route), 1)
    share = {arm: float(part) for arm, part in zip(arms.names, calls, strict=True) if part}
    return Entry(
        name=name,
        usd=played.usd,
        parts=parts_of(played),
        read=played.read,
        switches=played.switches,
        unsafe=played.unsafe,
        share=share,
        target=target,
        role=role,
        said=said,
        played=played if role in TOLD or name in TOLD else None,
        refused=played.refused,
    )


def parts_of(played: Played) -> dict[str, float]:
    """USD by what is paid for; `cold` is part of fresh and written: what would have been read, warm."""
    bill, split = played.bill, played.split
    rest = np.maximum(split.fresh + split.written, 1e-9)
    cold = (bill.fresh + bill.written) * np.minimum(split.cold / rest, 1.0)
    sums = {name: float(np.nansum(part)) for name, part in zip(bill._fields, bill, strict=True)}
    return {**sums, "cold": float(np.nansum(cold))}


def mixed(name: str, first: Entry, second: Entry, weight: float, arms: Arms, said: str) -> Entry:
    """Sessions drawn at random: `weight` of them as the second, the rest as the first; in expectation.

    A budget is spent by each of the two alone, so what is refused is exact for budgets by session only.
    """
    one, two = (_chances(entry, len(arms.arms)) for entry in (first, second))
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
        target=(1 - weight) * one + weight * two,
        refused=round((1 - weight) * first.refused + weight * second.refused),
        role="control",
        said=said,
    )


def _chances(entry: Entry, k: int) -> np.ndarray:
    assert entry.target is not None
    found: np.ndarray = entry.target if entry.target.ndim == 2 else np.eye(k, dtype=np.float32)[entry.target]
    return found


def halves(sessions: int, seed: int) -> np.ndarray:
    """A half (S,) bool of the sessions, drawn once: what is chosen on one is scored on the other."""
    half: np.ndarray = np.random.default_rng([seed, sessions]).permutation(sessions) % 2 == 0
    return half
