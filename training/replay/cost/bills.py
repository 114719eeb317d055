"""What a log was billed, session by session, and how that relates to the price table.

What a session's recorded cost is of the table's (another date, writes for an hour, a seller's own factor) is
found as `samediff cost` finds it, and then holds for all policies alike.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.cost.rates import bill
from training.spend.agree import NEARLY_ALL, OFF, UNEXPLAINED, agreement
from training.spend.calls import read_calls

if TYPE_CHECKING:
    from pathlib import Path

    from training.replay.cost.world import World, Worlds

MIN_GROUP = 5  # sessions of a harness and model whose factor is believed
# What the price table can't be held to: what others sold, or what the log counts in part only.
EXCUSED = ("aggregator", "mixed_models", "sub_agents", "output_missing", "rounded")
# What no published price explains, however it is put right; of costs that are rounded, it does.
UNMET = ("aggregator", "mixed_models", "sub_agents", "output_missing", UNEXPLAINED)
CALL_WITHIN = 0.02  # of what it was billed, for a call to be met
CALL_WITHIN_USD = 0.0001  # or so much: costs are logged with few places


class Apart(NamedTuple):
    """Calls whose recorded cost isn't met by their own counts, one by one: a sum may hide what they are."""

    calls: int
    recorded_usd: float
    listed_usd: float  # by their counts, at the scale of their session

    @property
    def usd(self) -> float:
        """USD by which they are recorded above their counts."""
        return self.recorded_usd - self.listed_usd


class Bills(NamedTuple):
    """What was billed, (S,) each, and how it relates to the price table."""

    usd: np.ndarray
    counted: np.ndarray  # by the table, as it was counted, scaled
    recorded: float
    scale: np.ndarray
    excused: np.ndarray  # bool
    reasons: dict[str, int]
    factor: np.ndarray  # bool: the scale is the log's own, a factor that no price table tells
    unmet: np.ndarray  # bool: neither a price nor a factor tells what was billed
    apart: Apart


class _Sums(NamedTuple):
    """USD of the sessions of a part, (S,) each."""

    recorded: np.ndarray
    listed: np.ndarray
    listed_only: np.ndarray  # of calls that nothing is recorded of
    recorded_both: np.ndarray  # of calls that have both
    listed_both: np.ndarray
    free: np.ndarray  # 1: recorded as free
    arm: np.ndarray  # of the first call

    @classmethod
    def of(cls, world: World) -> _Sums:
        calls = world.calls
        usd, told, free = by_counts(world)
        recorded = np.where(told, calls.recorded, 0.0)
        both, of = told & np.isfinite(usd), calls.of_session
        usd = np.nan_to_num(usd)
        return cls(
            of(recorded),
            of(usd),
            of(np.where(told, 0.0, usd)),
            of(np.where(both, recorded, 0.0)),
            of(np.where(both, usd, 0.0)),
            of(free.astype(float)) > 0,
            world.arms.logged[calls.starts[:-1]],
        )


def by_counts(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """USD (n,) of calls by their own counts, for which a cost is recorded, and which are recorded as free.

    Free is a subscription, or nobody wrote it down.
    """
    calls, rows = world.calls, np.arange(world.calls.n)
    read, written = np.nan_to_num(calls.cached), np.nan_to_num(calls.written)
    hourly = np.minimum(np.nan_to_num(calls.written_1h), written)
    split = (calls.prompt - read - written, read, written, hourly)
    usd = bill(world.rates.of(rows, world.arms.logged), split, calls.output).total
    told = np.isfinite(calls.recorded)
    free = told & (calls.of_session(np.nan_to_num(calls.recorded)) <= 0)[calls.session]
    return usd, told & ~free, free


def billed_calls(world: World) -> np.ndarray:
    """USD (n,) of each call as it is recorded, else as it was counted, at the scale of its session."""
    usd, told, _ = by_counts(world)
    found: np.ndarray = np.where(told, world.calls.recorded, usd * world.scale[world.calls.session])
    return found


def bills_of(log: Path, worlds: Worlds) -> Bills:
    """What each session was billed, and what its bill is of the price table's."""
    parts = [_Sums.of(world) for world in worlds.each()]
    sums = _Sums(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    scale, said, reasons = _explained(log, worlds, sums)
    if sums.free.any():
        reasons["recorded_zero"] = int(sums.free.sum())
    return Bills(
        usd=sums.recorded + sums.listed_only * scale,
        counted=sums.listed * scale,
        recorded=float(sums.recorded.sum()),
        scale=scale,
        excused=said.excused,
        reasons=reasons,
        factor=said.factor,
        unmet=said.unmet,
        apart=_apart(worlds._replace(scale=scale)),
    )


def _apart(worlds: Worlds) -> Apart:
    """The calls that are off by more than their share, whatever their sessions come to."""
    found = np.zeros(3)
    for world in worlds.each():
        usd, told, _ = by_counts(world)
        recorded, counted = world.calls.recorded, usd * world.scale[world.calls.session]
        with np.errstate(invalid="ignore"):
            off = np.abs(counted - recorded) > np.maximum(CALL_WITHIN * recorded, CALL_WITHIN_USD)
        off &= told & np.isfinite(counted)
        found += off.sum(), recorded[off].sum(), counted[off].sum()
    return Apart(int(found[0]), float(found[1]), float(found[2]))


class _Said(NamedTuple):
    """What is said of sessions, (S,) bool each."""

    excused: np.ndarray
    factor: np.ndarray  # a mere one
    unmet: np.ndarray


def _explained(log: Path, worlds: Worlds, sums: _Sums) -> tuple[np.ndarray, _Said, dict[str, int]]:
    """Scale (S,) of all sessions, what is said of them, and how many are off for which reason."""
    recorded, table = sums.recorded_both, sums.listed_both
    scale = np.ones(len(table))
    said = _Said(*(np.zeros(len(table), dtype=bool) for _ in range(3)))
    excused, factor, unmet = said
    there = (table > 0) & (recorded > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = there & (np.abs(table / recorded - 1) > OFF)
    if not off.any():
        return scale, said, {}
    place, played = _calls_of(worlds, off)
    found = agreement(one for one in read_calls(log, frozenset(place)) if one.call.request_id in played)
    right = table.copy()
    for check in found.off:
        s = place.get(check.session)
        if s is not None:
            right[s] += float(check.explained_usd) - float(check.listed_usd)
            excused[s] |= check.reason in EXCUSED
            factor[s] |= check.reason == "factor"
    kind = _kinds(worlds, sums.arm)
    lone = factor & ~_of_nearly_all(kind, off, there)
    if lone.any():  # others of their kind are met: whatever it is, it is no price of the seller's
        right[lone], factor[lone] = table[lone], False
        for check in found.off:
            if check.reason == "factor" and lone[place[check.session]]:
                check.reason = UNEXPLAINED
    for check in found.off:
        if check.session in place:
            unmet[place[check.session]] |= check.reason in UNMET
    once = {(check.session, check.reason) for check in found.off}  # one of two models is one session
    reasons = dict(Counter(reason for _, reason in once).most_common())
    scale = np.where(off & (table > 0), right / np.where(table > 0, table, 1.0), 1.0)
    _by_group(kind, (recorded, table, off), scale, said)
    return scale, said, reasons


def _calls_of(worlds: Worlds, off: np.ndarray) -> tuple[dict[str, int], frozenset[str]]:
    """Places of the sessions (S,) that are off, by their ids, and the ids of their calls."""
    place: dict[str, int] = {}
    played: set[str] = set()
    for world in worlds.each():
        calls = world.calls
        mine = off[calls.before : calls.before + calls.sessions]
        names = calls.frame["session_id"][calls.starts[:-1]]
        place |= {names[int(s)]: int(s) + calls.before for s in np.flatnonzero(mine)}
        played |= set(calls.frame["request_id"].filter(mine[calls.session]))
    return place, frozenset(played)


def _kinds(worlds: Worlds, arm: np.ndarray) -> np.ndarray:
    """Harness and model (S,) of every session, as one number."""
    names = [
        world.calls.frame["harness"].fill_null("").to_numpy()[world.calls.starts[:-1]]
        for world in worlds.each()
    ]
    harness = np.unique(np.concatenate(names), return_inverse=True)[1]
    kind: np.ndarray = harness * len(worlds.arms.arms) + arm
    return kind


def _of_nearly_all(kind: np.ndarray, off: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Whether (S,) nearly all sessions of its kind are off; agreement has read those alone that are."""
    wrong = np.bincount(kind, weights=off & there)
    nearly: np.ndarray = wrong >= NEARLY_ALL * np.bincount(kind, weights=there)
    found: np.ndarray = nearly[kind]
    return found


def _by_group(
    kind: np.ndarray,
    sums: tuple[np.ndarray, np.ndarray, np.ndarray],
    scale: np.ndarray,
    said: _Said,
) -> None:
    """Where most sessions of a harness and model are off for no reason of the table's: the others' factor.

    No session has a say in its own. Writes into the scale and what is `said` of sessions.
    """
    recorded, table, off = sums
    for group in np.unique(kind[said.excused]):
        mine = (kind == group) & (table > 0) & (recorded > 0)
        if mine.sum() < MIN_GROUP or 2 * (mine & off).sum() < mine.sum():
            continue
        others = (recorded[mine].sum() - recorded[mine]) / (table[mine].sum() - table[mine])
        scale[mine] = others
        said.excused[mine], said.unmet[mine], said.factor[mine] = False, False, True
