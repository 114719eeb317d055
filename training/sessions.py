"""How much of a session was still to come after each of its calls, where the log has seen its end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

_QUIET_MS = 3_600_000  # at least: a session that paused as long and said no more is taken as ended
_QUIET_SHARE = 0.99  # of the pauses inside sessions that are shorter
_OPEN_SHARE = 0.01  # of sessions that may still run among those that are learned from


class Left(NamedTuple):
    """Calls after each request (n,) float64, NaN unknown, and how many requests may have more to come."""

    turns: np.ndarray  # of its session
    calls: np.ndarray  # of its session and all its sub-agents
    censored: int


def left(requests: pl.DataFrame) -> Left:
    """Count what came after each request of `request_id, session_id, parent_session_id, ts_ms`, in row order.

    A log ends while sessions run. Leaving these out alone would keep the short ones of the last days; so
    whatever started after the log began to have open sessions (more than 1 in 100) is unknown altogether:
    being known then depends on the start, not on the length. A log of single calls knows nothing of sessions.
    """
    frame = requests.select("request_id", "session_id", "ts_ms").with_columns(
        root=pl.Series(_roots(requests), dtype=pl.String), row=pl.int_range(pl.len())
    )
    frame = frame.sort("ts_ms", "request_id", nulls_last=True).with_columns(
        turns=pl.len().over("session_id") - 1 - pl.int_range(pl.len()).over("session_id"),
        calls=pl.len().over("root") - 1 - pl.int_range(pl.len()).over("root"),
        pause=pl.col("ts_ms").diff().over("root"),
    )
    unknown = np.full(len(frame), np.nan)
    if frame.is_empty() or not frame["calls"].max():
        return Left(unknown, unknown, 0)
    quiet = max(float(frame["pause"].drop_nulls().quantile(_QUIET_SHARE) or 0.0), _QUIET_MS)
    roots = frame.group_by("root").agg(start=pl.col("ts_ms").min(), end=pl.col("ts_ms").max())
    last = frame["ts_ms"].max()
    roots = roots.with_columns(open=(pl.lit(last) - pl.col("end")) < quiet).sort("start", "root")
    share = roots["open"].cum_sum().to_numpy() / np.arange(1, len(roots) + 1)
    usable = np.flatnonzero(share <= _OPEN_SHARE)
    ended = roots.head(int(usable[-1]) + 1 if len(usable) else 0).filter(~pl.col("open"))
    known = frame["root"].is_in(ended["root"].implode()).to_numpy()
    order = frame["row"].to_numpy()
    turns, calls = unknown.copy(), unknown.copy()
    turns[order[known]] = frame["turns"].to_numpy()[known]
    calls[order[known]] = frame["calls"].to_numpy()[known]
    return Left(turns, calls, int((~known).sum()))


def _roots(requests: pl.DataFrame) -> list[str | None]:
    """Session at the top of each request's session (n,), its parents followed as far as they are known."""
    pairs = requests.select("session_id", "parent_session_id").unique(maintain_order=True)
    parent = {s: p for s, p in pairs.iter_rows() if p is not None and p != s}
    top: dict[str | None, str | None] = {}
    for session in requests["session_id"].unique(maintain_order=True):
        at, seen = session, {session}
        while at in parent and parent[at] not in seen:
            at = parent[at]
            seen.add(at)
        top[session] = at
    return [top[session] for session in requests["session_id"]]
