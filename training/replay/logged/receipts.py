"""What only receipts tell of a served decision: whom its client pinned, and what was known beyond a request.

An offset is what a repository's outcomes said beside the bundle that served, so it moves that bundle only.
How often answers broke off, or called tools in vain, is as it was seen along the logged route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from models.offset import shifted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.logged.arms import Arms
    from training.replay.logged.beliefs import Beliefs
    from training.replay.logged.calls import Calls
    from training.replay.logged.plan import Slice

ASKED = "the client asked for "  # as `router.decide` reasons where a client named a model


class Served(NamedTuple):
    """What receipts tell of n calls and k arms; NaN is unknown."""

    pinned: np.ndarray  # (n,) bool: the client named the model
    log_odds: np.ndarray  # (n,) of the offset in force
    foreign: np.ndarray  # (n,) bool: that offset is of another bundle
    retry: np.ndarray  # (n, k) float32 share of answers that break off
    broken: np.ndarray  # (n, k) float32 share of its answers in the session with a tool call of no use


def read_served(part: Slice, calls: Calls, arms: Arms, about: tuple[str, Sequence[str]]) -> Served | None:
    """Read the receipts of a part, `about` being the bundle's digest and the aliases; None without any."""
    digest, aliases = about
    rows = calls.frame.select("request_id", "model_requested").with_row_index("row")
    arm = pl.element().struct
    each = pl.struct(arm.field("candidate"), arm.field("retry_rate"), arm.field("broken_calls"))
    scan = part.receipts(rows["request_id"]).select(
        *("request_id", "policy", "chosen", "reasons", "offset", "bundle_digest"),
        seen=pl.col("arms").list.eval(each),
    )
    frame = rows.lazy().join(scan.unique("request_id", keep="first"), on="request_id", how="inner").collect()
    if frame.is_empty():
        return None
    at, n, k = frame["row"].to_numpy(), calls.n, len(arms.arms)
    pinned, foreign = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    pinned[at] = frame.select(_pinned(aliases)).to_series().to_numpy()
    log_odds = np.full(n, np.nan)
    moves = frame["offset"].struct.field("log_odds").cast(pl.Float64).fill_null(float("nan")).to_numpy()
    log_odds[at] = moves
    foreign[at] = np.isfinite(moves) & (frame["bundle_digest"].fill_null("") != digest).to_numpy()
    found = Served(pinned, log_odds, foreign, *(np.full((n, k), np.nan, dtype=np.float32) for _ in range(2)))
    known = frame.select("row", "seen").explode("seen", empty_as_null=True).unnest("seen")
    known = known.filter(pl.col("retry_rate").is_not_null() | pl.col("broken_calls").is_not_null())
    places = {name: -1 if (i := arms.find(name)) is None else i for name in known["candidate"].unique()}
    place = np.array([places[name] for name in known["candidate"].to_list()], dtype=np.int64)
    for table, name in ((found.retry, "retry_rate"), (found.broken, "broken_calls")):
        values = known[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        table[known["row"].to_numpy()[place >= 0], place[place >= 0]] = values[place >= 0]
    return found


def _pinned(aliases: Sequence[str]) -> pl.Expr:
    """Whether a client named the model; older receipts give no reasons, but who asked for no alias did."""
    asked = pl.col("reasons").list.eval(pl.element().str.starts_with(ASKED)).list.any()
    named = pl.col("model_requested").is_not_null() & ~pl.col("model_requested").is_in(list(aliases))
    silent = pl.col("reasons").list.len().fill_null(0) == 0
    by_pin = pl.col("policy") == pl.concat_str(pl.lit("pin:"), "chosen")
    return (by_pin & (asked.fill_null(value=False) | (silent & named))).fill_null(value=False)


def moved(beliefs: Beliefs, served: Served | None) -> Beliefs:
    """Beliefs with every success moved by their bundle's own offsets, as `router.arms.moved`."""
    if served is None:
        return beliefs
    at = np.flatnonzero(np.isfinite(served.log_odds) & ~served.foreign)
    if not len(at):
        return beliefs
    p, spread, low = beliefs.p.copy(), beliefs.spread.copy(), beliefs.low.copy()
    by = served.log_odds[at, None]
    ends = [_shifted(column[at], by) for column in (low, low + spread)]
    p[at], low[at], spread[at] = _shifted(p[at], by), ends[0], ends[1] - ends[0]
    return beliefs._replace(p=p, low=low, spread=spread)


def _shifted(p: np.ndarray, by: np.ndarray) -> np.ndarray:
    return shifted(p.astype(np.float64), by)
