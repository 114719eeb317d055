"""What stands behind a row: where its route differs from the log's, who gains and loses, how right p is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.cache.bulk import WHYS

if TYPE_CHECKING:
    from training.replay.entries import Entry
    from training.replay.world import World

SESSIONS = 5  # that gain or lose most
TURNS = 6  # of a receipt
MOVES = 12
BINS = 10


def routes_of(world: World, today: Entry, other: Entry) -> dict[str, Any]:
    """Which calls go elsewhere, and the sessions that gain and lose most with their receipts."""
    if today.played is None or other.played is None:
        return {}
    names = np.array(world.arms.names)
    before, after = today.played.route, other.played.route
    apart = before != after
    delta = other.played.bill.total - today.played.bill.total
    pairs, where = np.unique(np.stack([before[apart], after[apart]]), axis=1, return_inverse=True)
    moves = [
        {
            "from": str(names[pairs[0, i]]),
            "to": str(names[pairs[1, i]]),
            "calls": int((where.ravel() == i).sum()),
            "usd": float(np.nansum(delta[apart][where.ravel() == i])),
        }
        for i in range(pairs.shape[1])
    ]
    gain = other.usd - today.usd
    order = np.argsort(gain)
    chosen = [s for s in order[:SESSIONS] if gain[s] < 0], [s for s in order[::-1][:SESSIONS] if gain[s] > 0]
    return {
        "policy": other.name,
        "calls_elsewhere": int(apart.sum()),
        "moves": sorted(moves, key=lambda move: -abs(float(str(move["usd"]))))[:MOVES],
        "gain_most": [_session(world, int(s), today, other) for s in chosen[0]],
        "lose_most": [_session(world, int(s), today, other) for s in chosen[1]],
    }


def _session(world: World, s: int, today: Entry, other: Entry) -> dict[str, Any]:
    """One session, and the turns that make most of the difference."""
    book = world.book
    rows = np.arange(book.starts[s], book.starts[s + 1])
    delta = np.abs(np.nan_to_num(other.played.bill.total[rows] - today.played.bill.total[rows]))
    told = np.sort(rows[np.argsort(-delta)[:TURNS]])
    return {
        "session": book.frame["session_id"][int(rows[0])],
        "calls": len(rows),
        "logged_usd": float(today.usd[s]),
        "usd": float(other.usd[s]),
        "receipts": [_receipt(world, int(row), int(row - rows[0]), today, other) for row in told],
    }


def _receipt(world: World, row: int, turn: int, today: Entry, other: Entry) -> dict[str, Any]:
    """One turn under both: who answers, what is read, and why the rest isn't."""

    def side(entry: Entry) -> dict[str, Any]:
        played, arm = entry.played, int(entry.played.route[row])
        p = float(world.beliefs.p[row, arm])
        return {
            "candidate": world.arms.names[arm],
            "usd": float(played.bill.total[row]),
            "read": float(played.split.read[row]),
            "prompt": float(world.tokens[row, arm]),
            "cache": WHYS[int(played.split.why[row])],
            "p_success": p if np.isfinite(p) else None,
        }

    request = world.book.frame["request_id"][row]
    return {"request": request, "turn": turn, "logged": side(today), "policy": side(other)}


def calibration_of(world: World) -> list[tuple[float, float, int]]:
    """Of the answers whose outcome is known: what the bundle believed of them, and how many came true."""
    p = world.beliefs.p[np.arange(world.book.n), world.arms.logged].astype(float)
    known = np.isfinite(world.book.reward) & np.isfinite(p)
    if known.sum() < BINS:
        return []
    believed, came = p[known], world.book.reward[known]
    parts = np.array_split(np.argsort(believed, kind="stable"), BINS)
    return [(float(believed[part].mean()), float(came[part].mean()), len(part)) for part in parts]
