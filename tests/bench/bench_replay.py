"""The replay: does it meet recorded bills and a simulated truth, and how fast is it beside a plain loop?

    python tests/bench/bench_replay.py [DATA] [--simulate TURNS] [--sticky TURNS] [--speed TURNS]

DATA holds agent_sessions_per_turn, vexp_claude_code_100 and rails_app_benchmark_runs as Parquet (their
columns: bench_bill.py). `--simulate` makes a log whose truth is known (`samediff simulate`) and holds every
pin's replayed cost and estimated quality against it. `--sticky` tells what the learned policy's stickiness
costs on such logs, and how often a session comes to the reference and leaves it. `--speed` replays a made-up
log of so many calls under ten policies and reports calls a second of CPU and the peak of memory, beside a
loop over a pandas frame that knows one policy, one cache and one price.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from bench_bill import AGENTS, RAILS, SOURCES, VEXP, rails_names

from router import prices
from router.gateway.settings import Settings
from router.policy import parse_policy
from training.ingest import run as ingest
from training.log import FOLDERS, LogStore, day_of
from training.replay.cost.bills import bills_of
from training.replay.cost.reproduction import Reproduction, reproduce
from training.replay.options import Options
from training.replay.policies.walk import AS_SERVED, Manner, walk
from training.replay.run import run
from training.replay.stage import set_up

ARMS = ("claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5")
DAY_MS = 86_400_000
COPY = 20_000  # calls of the log that is copied day by day


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--simulate", type=int)
    parser.add_argument("--sticky", type=int)
    parser.add_argument("--speed", type=int)
    options = parser.parse_args()
    if all(asked is None for asked in vars(options).values()):
        parser.error("DATA, --simulate, --sticky or --speed must be given")
    with tempfile.TemporaryDirectory() as place:
        if options.data is not None:
            reproduction(options.data, Path(place))
        if options.simulate is not None:
            truth(options.simulate, Path(place))
        if options.sticky is not None:
            sticky(options.sticky, Path(place))
        if options.speed is not None:
            speed(options.speed, Path(place))


def reproduction(data: Path, place: Path) -> None:
    """Every set replayed under its own route; beside it the simulator alone, told by no other session."""
    head = ("set", "sessions", "billed", "error", "95 %", "explained", "median session", "cached")
    print(f"| {' | '.join(head)} | every hit: error | cached |")
    print("|---" * 10 + "|")
    for name in (AGENTS, VEXP, RAILS):
        source, log = data / f"{name}.parquet", place / name
        own = rails_names(source, place) if name == RAILS else None
        prices.use(own)
        ingest([source], log, form="table", maps=SOURCES[name])
        settings = msgspec.structs.replace(Settings(), prices=None if own is None else str(own))
        worlds = set_up(log, Options(), settings, []).worlds
        bills = bills_of(log, worlds)
        worlds = worlds._replace(scale=bills.scale)
        found, control = (reproduce(w, bills, {}) for w in (worlds, worlds.changed(untold)))
        low, high = found.relative_error_ci or (float("nan"),) * 2
        print(
            f"| {name} | {found.sessions} | ${found.billed_usd:,.2f} | {found.relative_error:+.2%} | "
            f"{low:+.1%} to {high:+.1%} | {found.explained_relative_error:+.2%} | "
            f"{found.session_median_error:.1%} | {cached(found):+.2%} | {control.relative_error:+.2%} | "
            f"{cached(control):+.2%} |"
        )
    prices.use(None)


def untold(world):
    """The simulator alone: every hit comes about, and no session finds what another one sent."""
    fares = world.fares
    every = fares._replace(read=np.ones_like(fares.read), opening=np.zeros_like(fares.opening))
    return world._replace(fares=every)


def cached(found: Reproduction) -> float:
    """Cached tokens replayed over those billed, less 1."""
    return found.cached_tokens_replayed / max(found.cached_tokens_billed, 1) - 1


def truth(turns: int, place: Path) -> None:
    """A simulated team's log: what every pin would have cost and how good it would have been is known."""
    log = simulated(turns, place / "team")
    known = json.loads(Path(f"{log}.truth.json").read_text())["policies"]
    found = run(log, Options(frontier=False), Settings())
    print(f"\n{turns:,} simulated turns: {found.reproduction_says}")
    print("| policy | true cost | replayed − true | true quality, as told | estimated |")
    print("|---|---|---|---|---|")
    seen = set()
    for one in known:
        row = found.row(one["name"])
        if row is None or row.cost_usd is None or one["name"] in seen:
            continue
        seen.add(one["name"])
        usd = float(one["cost_usd"])
        quality = "refused" if row.quality_ci is None else "{:.1%} to {:.1%}".format(*row.quality_ci)
        told = f"{row.cost_usd / usd - 1:+.1%} | {one['quality_told']:.1%} | {quality}"
        print(f"| {one['name']} | ${usd:,.2f} | {told} |")


def sticky(turns: int, place: Path) -> None:
    """The learned policy as served, free to leave who holds a session, decided once, and blind to caches."""
    spec = "learned:max_loss=0.02"
    manners = {
        "as served": (parse_policy(spec), AS_SERVED),
        "not sticky": (parse_policy(f"{spec},sticky=0"), AS_SERVED),
        "once a session": (parse_policy(spec), Manner(by_session=True)),
        "blind to caches": (parse_policy(f"{spec},sticky=0"), Manner(blind=True)),
    }
    print(f"\n{turns:,} simulated turns, {spec}")
    print("| seed | manner | cost | on the reference | comes to it | leaves it | other switches |")
    print("|---" * 7 + "|")
    for seed in range(4):
        worlds = set_up(simulated(turns, place / f"sticky{seed}", seed), Options(), Settings()).worlds
        assert len(worlds.parts) == 1
        world = worlds.at(0)
        for name, (policy, manner) in manners.items():
            played = walk(world, policy, manner)
            on = played.route == world.reference
            moved = np.append(False, played.route[1:] != played.route[:-1])
            moved[world.calls.starts[:-1]] = False
            left = np.append(False, on[:-1]) & moved
            print(
                f"| {seed} | {name} | ${played.total:,.2f} | {on.mean():.0%} | {(moved & on).sum()} | "
                f"{left.sum()} | {(moved & ~on & ~left).sum()} |"
            )


def simulated(turns: int, log: Path, seed: int = 0) -> Path:
    """A log of so many turns by `samediff simulate`."""
    from typer.testing import CliRunner

    import samediff

    asked = ["simulate", "--to", str(log), "--turns", str(turns), "--seed", str(seed)]
    done = CliRunner().invoke(samediff.app, asked)
    assert done.exit_code == 0, done.output
    return log


def speed(turns: int, place: Path) -> None:
    """One run with ten policies, and the loop."""
    log = grown(turns, place / "grown")
    mixes = tuple(f"mix:{ARMS[0]}={w},{ARMS[2]}={10 - w}" for w in range(1, 5))
    learned = tuple(f"learned:max_loss={loss}" for loss in (0.0, 0.05, 0.1))
    pins = tuple(f"pin:{arm}" for arm in ARMS)
    start, wall = time.process_time(), time.monotonic()
    found = run(log, Options(policies=(*mixes, *learned, *pins), frontier=False), Settings())
    cpu, wall = time.process_time() - start, time.monotonic() - wall
    played = len(found.policies)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"\n{found.calls:,} calls, {played} policies (10 asked for, the rest controls), {len(found.arms)} "
        f"candidates: {cpu:.0f} s CPU ({wall:.0f} s), {found.calls * played / cpu:,.0f} calls × policies a "
        f"second of CPU, {found.calls / cpu:,.0f} calls a second for all; peak {peak:.2f} GB"
    )
    start = time.process_time()
    usd, rows = plain(log, min(turns, 200_000))
    took = time.process_time() - start
    print(f"plain loop over a pandas frame, a pin, {rows:,} calls: {rows / took:,.0f} a second (${usd:,.2f})")


def grown(turns: int, place: Path) -> Path:
    """A log of so many calls: one made-up day, copied day by day under other names."""
    import sys

    sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
    from replay_logs import write_log

    per = min(turns, COPY)
    seedling = place.with_name("seedling")
    write_log(seedling, sessions=per // 20, turns=20, pace_ms=40_000)
    place.mkdir(parents=True)
    (place / "samediff-log.json").write_bytes((seedling / "samediff-log.json").read_bytes())
    for kind, folder in FOLDERS.items():
        base = LogStore(seedling).scan(kind).drop("day").collect()
        for copy in range(max(1, turns // per)):
            names = [n for n in ("request_id", "session_id", "outcome_id") if n in base.columns]
            day = base.with_columns(
                *(pl.col(n) + f"#{copy}" for n in names), ts_ms=pl.col("ts_ms") + copy * DAY_MS
            )
            for (name,), part in day.group_by(
                pl.col("ts_ms").map_elements(day_of, return_dtype=pl.String).alias("day")
            ):
                there = place / folder / f"day={name}"
                there.mkdir(parents=True, exist_ok=True)
                part.drop("day", strict=False).write_parquet(there / f"{copy}.parquet")
    return place


def plain(log: Path, most: int) -> tuple[float, int]:
    """A pin's cost by a loop over rows: one dictionary for the cache, one price for all."""
    import pandas as pd

    frame = pd.DataFrame(
        LogStore(log)
        .scan("request")
        .select("session_id", "ts_ms", "cached_tokens", "cache_write_tokens", "output_tokens")
        .head(most)
        .collect()
        .to_dict(as_series=False)
    ).sort_values(["session_id", "ts_ms"])
    rates = prices.rates(ARMS[0], "anthropic", int(frame["ts_ms"].iloc[0]))
    assert rates is not None
    last: dict[str, tuple[int, int]] = {}
    total = 0.0
    for _, row in frame.iterrows():
        tokens = int(row["cached_tokens"] + row["cache_write_tokens"])
        sent = last.get(row["session_id"])
        read = sent[0] if sent and tokens >= sent[0] >= 4_096 and row["ts_ms"] - sent[1] < 300_000 else 0
        total += (
            read * float(rates.cached)
            + (tokens - read) * float(rates.write)
            + row["output_tokens"] * float(rates.output)
        )
        last[row["session_id"]] = tokens, row["ts_ms"]
    return total / 1e6, len(frame)


if __name__ == "__main__":
    main()
