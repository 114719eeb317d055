"""What cache control is worth to a client that marks nothing: python tests/bench/bench_control.py DATA.

The recorded agent sessions on claude-opus-4-6, three ways at list price: every prompt uncached, as a client
without markers pays; with our markers (`cache_control = true`), by the simulator; and as recorded, by one
with its own. Writes aren't in that log, so they are priced as input there. The interval is over sessions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from features.cache import Turns, replay_turns, rules_for
from router import prices

if TYPE_CHECKING:
    from decimal import Decimal

MODEL, SOLD_AS = "anthropic/claude-opus-4.6", "claude-opus-4-6"
DRAWS = 2_000


def main() -> None:
    """Price the three ways and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    source = parser.parse_args().data / "agent_sessions_per_turn.parquet"
    rows = pl.read_parquet(source).filter(pl.col("model") == MODEL, pl.col("ts_ms").is_not_null())
    fresh, cached, output = (
        rows[name].fill_null(0).to_numpy().astype(np.int64)
        for name in ("input_tokens_uncached", "cached_tokens", "output_tokens")
    )
    session = np.unique(rows["session"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    rules, rates = rules_for("anthropic", SOLD_AS), prices.rates(SOLD_AS, "anthropic")
    assert rules is not None
    assert rates is not None
    nought = np.zeros(len(rows), np.int64)
    turns = Turns(session, nought, nought, rows["ts_ms"].to_numpy().astype(float), fresh + cached, output)
    split = replay_turns([rules], turns)
    unmarked = usd(rates.input, fresh + cached)
    ours = usd(rates.cached, split.read) + usd(rates.write, split.write) + usd(rates.input, split.fresh)
    theirs = usd(rates.cached, cached) + usd(rates.input, fresh)
    by = [np.bincount(session, weights=each) for each in (unmarked, ours, theirs)]
    drawn = np.random.default_rng(0).integers(0, len(by[0]), (DRAWS, len(by[0])))
    low, high = np.percentile(1 - by[1][drawn].sum(1) / by[0][drawn].sum(1), [2.5, 97.5])
    sums = [each.sum() for each in by]
    print(
        f"{len(rows)} calls of {len(by[0])} sessions, input alone: unmarked ${sums[0]:.2f}, with our markers "
        f"${sums[1]:.2f} ({1 - sums[1] / sums[0]:.1%} less, {low:.1%} to {high:.1%}), "
        f"as recorded ${sums[2]:.2f}; every session cheaper: {bool((by[1] < by[0]).all())}"
    )


def usd(rate: Decimal, tokens: np.ndarray) -> np.ndarray:
    """USD of each call's tokens at a rate per million."""
    return tokens * (float(rate) / 1e6)


if __name__ == "__main__":
    main()
