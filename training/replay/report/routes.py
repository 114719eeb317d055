"""What stands behind a row: where its route differs from the log's, who gains and loses, how right p is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from features.cache.bulk import WHYS
from training.replay.cost.route import play

if TYPE_CHECKING:
    from training.replay.cost.route import Played
    from training.replay.cost.world import World, Worlds
    from training.replay.policies.entries import Entry

SESSIONS = 5  # that gain or lose most
TURNS = 6  # of a receipt
MOVES = 12
BINS = 10


def routes_of(worlds: Worlds, today: Entry, other: Entry) -> dict[str, Any]:
    """Which calls go elsewhere, and the sessions that gain and lose most with their receipts."""
    if today.route is None or other.route is None:
        return {}
    gain = other.usd - today.usd
    order = np.argsort(gain)
    least, most = order[:SESSIONS], order[::-1][:SESSIONS]
    chosen = [int(s) for s in least if gain[s] < 0], [int(s) for s in most if gain[s] > 0]
    k = len(worlds.arms.arms)
    calls, usd = np.zeros(k * k), np.zeros(k * k)
    told: dict[int, dict[str, Any]] = {}
    for world in worlds.each():
        pair = _Pair(world, _again(world, today), _again(world, other))
        before, after = pair.before.route, pair.after.route
        apart = before != after
        move = before[apart].astype(np.int64) * k + after[apart]
        delta = np.nan_to_num(pair.after.bill.total - pair.before.bill.total)[apart]
        calls += np.bincount(move, minlength=k * k)
        usd += np.bincount(move, delta, k * k)
        mine = (s for s in (*chosen[0], *chosen[1]) if 0 <= s - world.calls.before < world.calls.sessions)
        told |= {s: _session(pair, s, today, other) for s in mine}
    names = worlds.arms.names
    moves = [
        {"from": names[i // k], "to": names[i % k], "calls": int(calls[i]), "usd": float(usd[i])}
        for i in np.flatnonzero(calls)
    ]
    return {
        "policy": other.name,
        "calls_elsewhere": int(calls.sum()),
        "moves": sorted(moves, key=lambda move: -abs(float(str(move["usd"]))))[:MOVES],
        "gain_most": [told[s] for s in chosen[0]],
        "lose_most": [told[s] for s in chosen[1]],
    }


class _Pair(NamedTuple):
    """A part of the log under two policies."""

    world: World
    before: Played
    after: Played


def _again(world: World, entry: Entry) -> Played:
    """A part of an entry's route, priced again."""
    assert entry.route is not None
    refused = None if entry.turned_away is None else entry.turned_away(world.part)
    return play(world, entry.route(world.part).astype(np.int64), refused=refused)


def _session(pair: _Pair, s: int, today: Entry, other: Entry) -> dict[str, Any]:
    """One session, and the turns that make most of the difference."""
    calls, at = pair.world.calls, s - pair.world.calls.before
    rows = np.arange(calls.starts[at], calls.starts[at + 1])
    delta = np.abs(np.nan_to_num(pair.after.bill.total[rows] - pair.before.bill.total[rows]))
    told = np.sort(rows[np.argsort(-delta)[:TURNS]])
    return {
        "session": calls.frame["session_id"][int(rows[0])],
        "calls": len(rows),
        "logged_usd": float(today.usd[s]),
        "usd": float(other.usd[s]),
        "receipts": [_receipt(pair, int(row), int(row - rows[0])) for row in told],
    }


def _receipt(pair: _Pair, row: int, turn: int) -> dict[str, Any]:
    """One turn under both: who answers, what is read, and why the rest isn't."""
    world = pair.world

    def side(played: Played) -> dict[str, Any]:
        arm = int(played.route[row])
        p = float(world.beliefs.p[row, arm])
        return {
            "candidate": world.arms.names[arm],
            "usd": float(played.bill.total[row]),
            "read": float(played.split.read[row]),
            "prompt": float(world.tokens[row, arm]),
            "cache": WHYS[int(played.split.why[row])],
            "p_success": p if np.isfinite(p) else None,
        }

    request = world.calls.frame["request_id"][row]
    return {"request": request, "turn": turn, "logged": side(pair.before), "policy": side(pair.after)}


def calibration_of(worlds: Worlds) -> list[tuple[float, float, int]]:
    """Of the answers whose outcome is known: what the bundle believed of them, and how many came true."""
    said, seen = [], []
    for world in worlds.each():
        p = world.beliefs.p[np.arange(world.calls.n), world.arms.logged]
        known = np.isfinite(world.calls.reward) & np.isfinite(p)
        said.append(p[known])
        seen.append(world.calls.reward[known])
    believed, came = np.concatenate(said).astype(float), np.concatenate(seen)
    if len(believed) < BINS:
        return []
    edges = np.quantile(believed, np.linspace(0, 1, BINS + 1)[1:-1])
    at = np.searchsorted(edges, believed, side="left")  # who is believed alike is in one bin
    parts = [at == i for i in np.unique(at)]
    return [(float(believed[p].mean()), float(came[p].mean()), int(p.sum())) for p in parts]
