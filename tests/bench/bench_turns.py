"""What a request costs here beside another working copy, by turns: what a change saved, told from noise.

Run: python tests/bench/bench_turns.py OTHER [BUNDLE=models/prior], where OTHER is another commit's checkout
(`git worktree add --detach run/other COMMIT`). Several processes of either serve the same load in turns: one
differs from the next by some percent for as long as it lives. The one bundle must load in both copies. CPU is
the gateway's, of all its threads, at 8 connections; the ratio is that of a turn's medians, with its least and
greatest in brackets.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from bench_gateway import CONNECTIONS, LEGS, TURNS, load, machine
from loopback import tool_turns, turns, upstream
from rivals import Player
from router_servers import ROOT, start_gateway

PROCESSES, ROUNDS = 3, 6  # of either copy; turns that each process takes
KINDS = {"talk": turns, "tools": tool_turns}


def start(root: Path, bundle: Path, port: int, stack: ExitStack) -> Player:
    """One process that serves a working copy's code."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    gateway = start_gateway(folder, bundle, f"http://127.0.0.1:{port}", flush_s=1.0, root=root)
    stack.callback(gateway.stop)
    return Player(root.name, int(gateway.url.rsplit(":", 1)[1]), "k", gateway.process.pid)


def measure(pairs: list[tuple[Player, Player]], sessions: list[list[bytes]], *, stream: bool) -> str:
    """One leg, as the end of its line."""
    taken: list[tuple[float, float]] = []
    for turn in range(ROUNDS + 1):
        cpu: tuple[list[float], list[float]] = [], []
        for pair in pairs:
            for n in (0, 1) if turn % 2 else (1, 0):
                cpu[n].append(asyncio.run(load(pair[n], sessions, stream=stream))[2])
        taken.append((statistics.median(cpu[0]), statistics.median(cpu[1])))
    there, here = zip(*taken[1:], strict=True)  # the first turn warms up
    ratio = sorted(b / a for a, b in taken[1:])
    return (
        f"{statistics.median(there):.2f} -> {statistics.median(here):.2f} ms CPU, "
        f"{statistics.median(ratio):.2f} x [{ratio[0]:.2f}, {ratio[-1]:.2f}]"
    )


def main() -> None:
    """Print a line for each leg: the other copy -> this one."""
    if len(sys.argv) < 2 or not (Path(sys.argv[1]) / "samediff.py").is_file():
        print("usage: bench_turns.py OTHER [BUNDLE]: OTHER is another working copy", file=sys.stderr)
        sys.exit(2)
    other = Path(sys.argv[1]).resolve()
    bundle = Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "models" / "prior").resolve()
    print(machine())
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=upstream, args=(theirs,), daemon=True)
    process.start()
    port = pipe.recv()
    with ExitStack() as stack:
        stack.callback(process.terminate)
        pairs = [
            (start(other, bundle, port, stack), start(ROOT, bundle, port, stack)) for _ in range(PROCESSES)
        ]
        for name, size, stream, kind in LEGS:
            if kind in KINDS:
                sessions = [KINDS[kind](size, TURNS, stream=stream, session=n) for n in range(CONNECTIONS)]
                print(f"{name:19s} {measure(pairs, sessions, stream=stream)}", flush=True)


if __name__ == "__main__":
    main()
