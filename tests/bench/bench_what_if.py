"""What `what-if` says of made-up logs, beside their truth. `bench_what_if.py [--logs N] [--turns N]`.

Every log has other luck. Printed by policy: how often 95 % intervals of cost and of quality hold the truth
(what the told outcomes would say on average, so that their noise isn't held against an estimate), how far the
estimates are off, and how often quality is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from router.gateway.settings import Settings
from training.replay.options import Options
from training.replay.run import run as what_if
from training.simulate.traffic import Traffic
from training.simulate.world import World
from training.simulate.write import Wanted, make

ARMS = {"claude-opus-4-6": 0.85, "claude-sonnet-4-6": 0.80, "kimi-k2.5": 0.70}


class Said(NamedTuple):
    """One policy of one log; NaN where quality was refused or the truth isn't known."""

    usd: float
    true_usd: float
    usd_held: float
    quality: float
    true_quality: float
    quality_held: float
    half: float  # of the quality's interval


def said_of(log: Path, seed: int, args: argparse.Namespace) -> dict[str, Said]:
    """Make a log, ask it about each pin, and hold the answers against the truth."""
    world = World(arms=ARMS.copy(), seed=seed)
    traffic = Traffic(turns=args.turns_of_ask, pairs=args.pairs)
    wanted = Wanted(to=log, turns=args.turns, policy=f"learned:max_loss=0.05,explore={args.explore:g}")
    made = make(world, traffic, wanted, Settings())
    names = tuple(f"pin:{arm}" for arm in ARMS)
    with contextlib.redirect_stderr(io.StringIO()):
        answer = what_if(log, Options(policies=names, frontier=False), Settings())
    truth = {t.name: t for t in made.policies}
    found = {}
    for name in ("logged", *names):
        row, true = answer.row(name), truth[name]
        if row is None or row.cost_usd is None or row.cost_usd_ci is None or true.cost_usd is None:
            continue
        usd = float(true.cost_usd)
        inside = float(row.cost_usd_ci[0] <= usd <= row.cost_usd_ci[1])
        quality, told = row.quality, true.quality_told
        if quality is None or row.quality_ci is None or told is None:
            found[name] = Said(row.cost_usd, usd, inside, *[np.nan] * 4)
        else:
            held = float(row.quality_ci[0] <= told <= row.quality_ci[1])
            half = (row.quality_ci[1] - row.quality_ci[0]) / 2
            found[name] = Said(row.cost_usd, usd, inside, quality, told, held, half)
    return found


def main() -> None:
    """Make logs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3_000)
    parser.add_argument("--turns-of-ask", type=float, default=1.5)
    parser.add_argument("--explore", type=float, default=1.0)
    parser.add_argument("--pairs", type=float, default=0.0)
    args = parser.parse_args()
    every: dict[str, list[Said]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.logs):
            for name, one in said_of(Path(folder) / f"log{seed}", seed, args).items():
                every[name].append(one)
    print(f"{args.logs} logs of {args.turns:,} turns, explore {args.explore:g}, pairs {args.pairs:.1%}")
    print(f"{'policy':24} {'USD held':>9} {'USD off, median':>16} {'worst':>7} ", end="")
    print(f"{'refused':>8} {'quality held':>13} {'off, RMSE':>10} {'half-width':>10}")
    for name, rows in every.items():
        table = np.array(rows)
        off = table[:, 0] / table[:, 1] - 1
        error = table[:, 3] - table[:, 4]
        known = np.isfinite(error)
        quality = f"{np.nanmean(table[:, 5]):.0%}" if known.any() else "–"
        rmse = f"{100 * np.sqrt(np.mean(error[known] ** 2)):.1f}" if known.any() else "–"
        half = f"{100 * np.nanmedian(table[:, 6]):.1f}" if known.any() else "–"
        worst = off[np.abs(off).argmax()]
        print(f"{name:24} {table[:, 2].mean():9.0%} {np.median(off):+16.1%} {worst:+7.1%} ", end="")
        print(f"{1 - known.mean():8.0%} {quality:>13} {rmse:>10} {half:>10}")


if __name__ == "__main__":
    main()
