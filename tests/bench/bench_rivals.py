"""What a request costs through samediff, LiteLLM's proxy and Switchyard, beside the direct call, in one run.

Run: make bench-gateway, or python tests/bench/bench_rivals.py [BUNDLE=models/prior] (a rival that isn't
installed is left out). The upstream answers at once, a stream event by event in writes of its own;
router/scripted itself takes 3 to 10 ms a request and would be all that one measures. Calls one at a time
alternate with direct ones, gateway after gateway in blocks, since nobody has a second gateway at work between
two requests to the first (alternating between all of them finds the caches of each cold). Loads of 8
connections take turns of 2 s. CPU is user and system time of the process tree, in calls one at a time and
under the load. In brackets: least and greatest of blocks or rounds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from multiprocessing import Pipe, Process
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from loopback import LEAVE_S, Caller, leave, turns, upstream
from rivals import RIVALS, Player, tree_cpu_s, version
from router_servers import ROOT, start_gateway

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CALLS, BLOCKS, WARM = 200, 3, 20  # one at a time: calls of a block, to be warm before
ROUNDS, ROUND_S, CONNECTIONS = 3, 2.0, 8
TURNS = 24  # of the session that each connection is
SETTLE_S = 0.3  # for what a gateway writes down after its answer
LEAVES = 25


class Leg(NamedTuple):
    """One kind of request with its goals: added p50 and p99 in ms (None: no goal), req/s, CPU ms."""

    name: str
    size: int
    stream: bool
    p50_ms: float
    p99_ms: float | None
    per_s: int
    cpu_ms: float


LEGS = (
    Leg("52 kB request", 52_000, False, 0.9, 3.0, 1_300, 0.7),
    Leg("406 kB request", 406_000, False, 1.8, None, 500, 1.7),
    Leg("41-event stream", 52_000, True, 0.9, None, 1_200, 0.8),
)
GOAL_GONE_MS = 10.0
GOAL_RATIO = {"LiteLLM": 20.0, "Switchyard": 2.0}  # their CPU over ours, at least


class Seen(NamedTuple):
    """One player's figures on one leg: of each block or round."""

    took: list[list[float]]  # ms of the calls of a block, one at a time
    direct: list[list[float]]  # of the direct calls between them
    alone_ms: list[float]  # CPU of a call
    per_s: list[float]
    cpu_ms: list[float]


async def one_at_a_time(direct: Player, player: Player, bodies: list[bytes], leg: Leg, seen: Seen) -> None:
    """A block of calls that alternate with direct ones, each connection warmed up before."""
    callers = [await Caller(who, bodies, stream=leg.stream).connect() for who in (direct, player)]
    for _ in range(WARM):  # a first call takes seconds in LiteLLM
        for caller in callers:
            await caller.call()
    await asyncio.sleep(SETTLE_S)
    spent = tree_cpu_s(player.pid)
    took = [[await caller.call() for caller in callers] for _ in range(CALLS)]
    await asyncio.sleep(SETTLE_S)
    seen.alone_ms.append((tree_cpu_s(player.pid) - spent) / CALLS * 1000)
    for caller, figures, times in zip(
        callers, (seen.direct, seen.took), zip(*took, strict=True), strict=True
    ):
        figures.append(sorted(times))
        caller.close()


async def load(player: Player, sessions: list[list[bytes]], leg: Leg, seen: Seen) -> None:
    """One round of 8 connections that ask as fast as they are answered."""
    callers = [await Caller(player, bodies, stream=leg.stream).connect() for bodies in sessions]
    await asyncio.gather(*(caller.call() for caller in callers))
    spent = tree_cpu_s(player.pid)
    start = time.perf_counter()

    async def ask(caller: Caller) -> int:
        count = 0
        while time.perf_counter() - start < ROUND_S:
            await caller.call()
            count += 1
        return count

    count = sum(await asyncio.gather(*(ask(caller) for caller in callers)))
    seen.per_s.append(count / (time.perf_counter() - start))
    for caller in callers:
        caller.close()
    await asyncio.sleep(SETTLE_S)
    seen.cpu_ms.append((tree_cpu_s(player.pid) - spent) / count * 1000)


async def measure(players: list[Player], leg: Leg) -> dict[str, Seen]:
    """All figures of one leg."""
    sessions = [turns(leg.size, TURNS, stream=leg.stream, session=n) for n in range(CONNECTIONS)]
    seen = {player.name: Seen([], [], [], [], []) for player in players}
    for _ in range(BLOCKS):
        for player in players[1:]:
            await one_at_a_time(players[0], player, sessions[0], leg, seen[player.name])
    for _ in range(ROUNDS):
        for player in players:
            await load(player, sessions, leg, seen[player.name])
    return seen


def spread(values: list[float], digits: int) -> str:
    """The median with the least and the greatest."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def report(leg: Leg, seen: dict[str, Seen]) -> None:
    """Print one leg: a line for each player, then our goals."""
    goal_p99 = "" if leg.p99_ms is None else f", p99 {leg.p99_ms}"
    print(f"\n{leg.name}; goals: added p50 {leg.p50_ms}{goal_p99} ms, {leg.per_s} req/s, {leg.cpu_ms} ms CPU")
    for name, figures in seen.items():
        line = f"  {name:11s} "
        if name != "direct":
            (p50, p99), (direct50, direct99) = (
                [[block[int(CALLS * q)] for block in blocks] for q in (0.5, 0.99)]
                for blocks in (figures.took, figures.direct)
            )
            added50, added99 = (
                [a - b for a, b in zip(*pair, strict=True)] for pair in ((p50, direct50), (p99, direct99))
            )
            line += f"p50 {statistics.median(direct50):.2f} -> {statistics.median(p50):.2f} ms, "
            line += f"added {spread(added50, 2)}; added p99 {spread(added99, 2)} ms | "
        line += f"{spread(figures.per_s, 0)} req/s"
        if name != "direct":
            line += f" | CPU alone {spread(figures.alone_ms, 2)}, loaded {spread(figures.cpu_ms, 2)} ms"
        if name in GOAL_RATIO:
            alone, loaded = (
                [a / b for a, b in zip(theirs, ours, strict=True)]
                for theirs, ours in (
                    (figures.alone_ms, seen["samediff"].alone_ms),
                    (figures.cpu_ms, seen["samediff"].cpu_ms),
                )
            )
            line += f" = {spread(alone, 1)}; {spread(loaded, 1)} x ours (goal {GOAL_RATIO[name]:.0f})"
        print(line, flush=True)


def gone(player: Player, pipe: Connection) -> None:
    """Print how long the upstream call outlives its client; who doesn't close it at all isn't asked again."""
    for first in (False, True):
        took: list[float] = []
        for number in range(LEAVES):
            lasted = leave(player, pipe, number, first=first)
            if lasted is None:
                print(f"  {player.name:11s} not closed within {LEAVE_S:.0f} s (try {number + 1})", flush=True)
                return
            took.append(lasted)
        when = "after the first byte " if first else "before the first byte"
        print(f"  {player.name:11s} {when} {spread(took, 1)} ms, {len(took)} of {LEAVES}", flush=True)


def machine() -> str:
    """The load just now."""
    return f"{os.cpu_count()} cores, load {' '.join(f'{value:.1f}' for value in os.getloadavg())}"


def run(folder: Path, bundle: Path, process: Process, pipe: Connection) -> None:
    """Start all players, measure, and stop them whatever happens."""
    port = pipe.recv()
    url = f"http://127.0.0.1:{port}"
    ours = start_gateway(folder, bundle, url, flush_s=1.0)  # as users have it
    stops = [ours.stop]
    players = [
        Player("direct", port, "k", process.pid),
        Player("samediff", int(ours.url.rsplit(":", 1)[1]), "k", ours.process.pid),
    ]
    try:
        for venv, (package, start) in RIVALS.items():
            if (found := version(venv, package)) is None:
                print(f"{venv} isn't installed and left out (make bench-gateway)")
                continue
            try:
                rival, player = start(folder, url)
            except RuntimeError as error:
                print(f"left out: {error}")
                continue
            stops.append(rival.stop)
            players.append(player)
            print(f"{player.name} {found}")
        for leg in LEGS:
            report(leg, asyncio.run(measure(players, leg)))
        print(f"\nclient gone to upstream closed; goal {GOAL_GONE_MS:.0f} ms, every time")
        for player in players[1:]:
            gone(player, pipe)
    finally:
        for stop in stops:
            stop()


def main() -> None:
    """Print the machine's load before and after, and all legs."""
    bundle = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "models" / "prior"
    print(machine())
    pipe, theirs = Pipe()
    process = Process(target=upstream, args=(theirs,), daemon=True)
    process.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            run(Path(name), bundle, process, pipe)
    finally:
        process.terminate()
    print(machine())


if __name__ == "__main__":
    main()
