"""What the gateway adds: requests of 52 kB and 406 kB, whole and streamed, beside the direct call.

Run: python tests/bench/bench_gateway.py [BUNDLE]. Direct and routed calls alternate over one connection each,
to an upstream that answers at once; then 8 connections ask each as fast as they are answered, in turns. Each
connection is a session, whose turns are asked over and over: a turn goes on from an answer that the gateway
gave and repeats a prompt that it has read, as an agent's does, and only its end is new. "All new" are first
turns of as many sessions, which share nothing but their tools. "Tools" are turns whose answers call a tool
and that bring what came of the call before, as most of an agent's are; of "unseen" ones no round asks twice,
one session comes after another: what a gateway remembers of pieces that come again helps it less, as in life.
CPU is the gateway's, user and system, of all its threads, journal included; what the upstream and the caller
use isn't in it, but they take the cores that wall times and req/s hang on. Last, clients that leave, and how
long the upstream call outlives them. Without a bundle it trains a small one.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import platform
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from loopback import Caller, leave, tool_turns, turns, upstream
from rivals import Player
from router_servers import start_gateway

from router.doctor import built_plainly

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LEGS = (  # name, bytes, streamed, what its turns are
    ("52 kB whole", 52_000, False, "talk"),
    ("52 kB, 41 events", 52_000, True, "talk"),
    ("52 kB all new", 52_000, False, "first turns"),
    ("52 kB tools", 52_000, False, "tools"),
    ("52 kB tools, 41 ev.", 52_000, True, "tools"),
    ("52 kB tools unseen", 52_000, False, "unseen"),
    ("406 kB whole", 406_000, False, "talk"),
    ("406 kB, 41 events", 406_000, True, "talk"),
)
CALLS, WARM, TURNS = 400, 30, 24
UNSEEN = 20  # sessions behind each other on a connection, whose turns aren't asked over and over
ROUNDS, ROUND_S, CONNECTIONS = 3, 1.5, 8
SETTLE_S = 0.3  # for what is written down after an answer
LEAVES = 25


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used in its living threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def small_bundle(folder: Path) -> Path:
    """Train the bundle that the router's tests use."""
    import conftest

    class Folders:
        def mktemp(self, name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

    return conftest.bundle_folder.__wrapped__(Folders())


async def alternate(players: list[Player], bodies: list[bytes], *, stream: bool) -> str:
    """Calls one at a time to either player, and what they took."""
    callers = [await Caller(player, bodies, stream=stream).connect() for player in players]
    for _ in range(WARM):
        for caller in callers:
            await caller.call()
    await asyncio.sleep(SETTLE_S)
    spent = cpu_s(players[1].pid)
    took = [[await caller.call() for caller in callers] for _ in range(CALLS)]
    await asyncio.sleep(SETTLE_S)
    spent = (cpu_s(players[1].pid) - spent) / CALLS * 1000
    for caller in callers:
        caller.close()
    direct, routed = (sorted(times) for times in zip(*took, strict=True))
    (d50, d99), (r50, r99) = ((statistics.median(t), t[int(len(t) * 0.99)]) for t in (direct, routed))
    return (
        f"p50 {d50:5.2f} -> {r50:5.2f} (+{r50 - d50:.2f}) "
        f"p99 {d99:6.2f} -> {r99:6.2f} (+{r99 - d99:.2f}) ms | CPU {spent:.2f} ms"
    )


async def load(player: Player, sessions: list[list[bytes]], *, stream: bool) -> tuple[float, float, float]:
    """One round at 8 connections: req/s, p99 in ms, CPU ms a request."""
    callers = [await Caller(player, bodies, stream=stream).connect() for bodies in sessions]
    await asyncio.gather(*(caller.call() for caller in callers))
    spent, start, took = cpu_s(player.pid), time.perf_counter(), []

    async def ask(caller: Caller) -> None:
        while time.perf_counter() - start < ROUND_S:
            took.append(await caller.call())

    await asyncio.gather(*(ask(caller) for caller in callers))
    lasted = time.perf_counter() - start
    for caller in callers:
        caller.close()
    await asyncio.sleep(SETTLE_S)
    cpu = (cpu_s(player.pid) - spent) / len(took) * 1000
    return len(took) / lasted, sorted(took)[int(len(took) * 0.99)], cpu


async def measure(players: list[Player], leg: tuple[str, int, bool, str]) -> str:
    """One leg, as a line."""
    name, size, stream, kind = leg
    if kind == "first turns":
        firsts = [turns(size, 1, stream=stream, session=n)[0] for n in range(CALLS + WARM)]
        sessions = [firsts[n:] + firsts[:n] for n in range(0, CALLS, CALLS // CONNECTIONS)]
    elif kind == "unseen":
        talks = [tool_turns(size, TURNS, stream=stream, session=n) for n in range(CONNECTIONS * UNSEEN)]
        sessions = [[*itertools.chain(*talks[n::CONNECTIONS])] for n in range(CONNECTIONS)]
    else:
        session = tool_turns if kind == "tools" else turns
        sessions = [session(size, TURNS, stream=stream, session=n) for n in range(CONNECTIONS)]
    line = f"{name:19s} {await alternate(players, sessions[0], stream=stream)}"
    rounds = [[await load(player, sessions, stream=stream) for player in players] for _ in range(ROUNDS)]
    (d, _, _), (r, p99, cpu) = (
        (statistics.median(figures) for figures in zip(*(done[n] for done in rounds), strict=True))
        for n in (0, 1)
    )
    return f"{line} | at {CONNECTIONS}: {d:5.0f} -> {r:4.0f} req/s, p99 {p99:.1f} ms, CPU {cpu:.2f} ms"


def gone(player: Player, pipe: Connection) -> None:
    """Say how long upstream calls outlive clients that leave."""
    for first in (False, True):
        took = [lasted for n in range(LEAVES) if (lasted := leave(player, pipe, n, first=first)) is not None]
        when = "after the first byte" if first else "before the first byte"
        spread = f"{statistics.median(took):.1f} ms, at most {max(took):.1f}" if took else "never"
        print(f"client gone {when}: upstream closed after {spread}; {len(took)} of {LEAVES}")


def machine() -> str:
    """Cores, load and interpreter, which takes about a tenth more CPU when built without optimisations."""
    plain = built_plainly(*sysconfig.get_config_vars("CONFIG_ARGS", "PGO_PROF_USE_FLAG"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    built = "without" if plain else "with"
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {python} built {built} optimisations"


def main() -> None:
    """Print the machine, a line for each leg with direct -> routed, and how clients' leaving is passed on."""
    print(machine())
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=upstream, args=(theirs,), daemon=True)
    process.start()
    port = pipe.recv()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else small_bundle(folder)
        gateway = start_gateway(folder, bundle, f"http://127.0.0.1:{port}", flush_s=1.0)  # as users have it
        routed = Player("routed", int(gateway.url.rsplit(":", 1)[1]), "k", gateway.process.pid)
        players = [Player("direct", port, "k", process.pid or 0), routed]
        try:
            for leg in LEGS:
                print(asyncio.run(measure(players, leg)), flush=True)
            gone(routed, pipe)
        finally:
            gateway.stop()
            process.terminate()
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
