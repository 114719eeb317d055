"""Does it matter that a factor of the price table varies? Its spread by harness, and coverage without it.

    python tests/bench/bench_factors.py LOG [LOG ...] [--runs 1000]

LOG is a canonical log with recorded costs (`samediff ingest`). For each candidate whose calls are billed at
a factor: its sessions' recorded costs are the truth, so many of them are drawn as its own and as many as
those that it takes over, and the 95 % interval of what these cost is told by their own spread alone and with
the spread of the factor, as `training.replay.cost.factors` has it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from router.gateway.settings import Settings
from training.replay.cost.bills import bills_of, by_counts
from training.replay.cost.factors import factors_of
from training.replay.options import Options
from training.replay.stage import set_up

if TYPE_CHECKING:
    from training.replay.cost.world import Worlds

SIZES = (20, 60, 200)


def main() -> None:
    """Print the tables of every log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=1_000)
    options = parser.parse_args()
    for log in options.logs:
        worlds = set_up(log, Options(), Settings()).worlds
        bills = bills_of(log, worlds)
        factors = factors_of(worlds._replace(scale=bills.scale), bills)
        told = sessions_of(worlds)
        many = {arm: by for arm, by in told.items() if len(by) > 1}
        print(f"{log.name}: {len(many)} of {len(told)} billed candidates in more than one harness")
        for arm, by in many.items():
            each = {name: f"{np.divide(*usd.sum(axis=1)):.3f}" for name, usd in by.items()}
            print(f"  {worlds.arms.names[arm]} by harness: {each}")
        for arm in factors.rest:
            coverage(worlds.arms.names[arm], np.concatenate(list(told[arm].values()), axis=1), options.runs)


def sessions_of(worlds: Worlds) -> dict[int, dict[str, np.ndarray]]:
    """USD (2, m) of sessions as recorded and as listed, by candidate and harness."""
    told: dict[int, dict[str, np.ndarray]] = {}
    for world in worlds.each():
        listed, known, _ = by_counts(world)
        known = known & np.isfinite(listed) & (listed > 0)
        harness = world.calls.frame["harness"].fill_null("unknown").to_numpy()
        for arm, name in sorted(set(zip(world.arms.logged[known].tolist(), harness[known], strict=True))):
            mine = known & (world.arms.logged == arm) & (harness == name)
            sums = (
                world.calls.of_session(np.where(mine, usd, 0.0)) for usd in (world.calls.recorded, listed)
            )
            usd = np.stack(list(sums))
            before = told.setdefault(arm, {}).get(name, np.zeros((2, 0)))
            told[arm][name] = np.concatenate([before, usd[:, usd[1] > 0]], axis=1)
    return told


def coverage(name: str, usd: np.ndarray, runs: int) -> None:
    """How often intervals cover what calls taken over cost; `usd` (2, m) recorded and listed by session."""
    rng = np.random.default_rng(0)
    for size in SIZES:
        held, wider = np.zeros(2), 0.0
        for _ in range(runs):
            own, taken = (usd[:, rng.integers(usd.shape[1], size=size)] for _ in range(2))
            factor = own[0].sum() / own[1].sum()
            cost = factor * taken[1]
            felt = (own[0] - factor * own[1]) / own[0].sum() * cost.sum()
            alone = size * np.var(cost, ddof=1)
            both = alone + size * np.var(felt, ddof=1)
            off = abs(cost.sum() - size * usd[0].mean())
            held += [off <= 1.96 * np.sqrt(variance) for variance in (alone, both)]
            wider += float(np.sqrt(both / alone)) / runs
        without, both_in = held / runs
        print(f"  {name}, {size} sessions: {without:.1%} without, {both_in:.1%} with, {wider:.2f} × as wide")


if __name__ == "__main__":
    main()
