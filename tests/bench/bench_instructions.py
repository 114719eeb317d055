"""How many instructions a request takes in the gateway: what a change saved, whatever else goes on.

Run: python tests/bench/bench_instructions.py [ROOT=this] [BUNDLE=models/prior], with Debian's valgrind; ROOT
is a working copy. The gateway runs under callgrind, which counts the instructions of its own code, not the
system's, nor what waiting for memory or for the interpreter's lock costs: `bench_turns.py` shows those. It
counts a copied byte as one where a processor copies many at once. Two runs differ by half a percent.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from bench_gateway import CONNECTIONS, LEGS, TURNS
from bench_turns import KINDS
from loopback import Caller, upstream
from rivals import Player
from router_servers import ROOT, start_gateway

WARM, ROUNDS = 30, 20  # requests on each connection


def control(*arguments: str) -> None:
    """Have callgrind do something."""
    subprocess.run(["callgrind_control", *arguments], check=True, capture_output=True, timeout=60)


async def count(player: Player, sessions: list[list[bytes]], *, stream: bool) -> None:
    """Ask, counted once all is warm."""
    callers = [await Caller(player, bodies, stream=stream).connect() for bodies in sessions]

    async def ask(caller: Caller, calls: int) -> None:
        for _ in range(calls):
            await caller.call()

    await asyncio.gather(*(ask(caller, WARM) for caller in callers))
    await asyncio.to_thread(control, "--instr=on", str(player.pid))
    await asyncio.gather(*(ask(caller, ROUNDS) for caller in callers))
    await asyncio.to_thread(control, "--instr=off", str(player.pid))
    await asyncio.to_thread(control, "--dump", str(player.pid))
    for caller in callers:
        caller.close()


def measure(root: Path, bundle: Path, url: str, sessions: list[list[bytes]], *, stream: bool) -> float:
    """Instructions a request of one leg, in millions."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "callgrind"
        under = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}")
        environ = {"PYTHONHASHSEED": "0"}
        gateway = start_gateway(Path(name), bundle, url, flush_s=1.0, root=root, under=under, environ=environ)
        try:
            player = Player("samediff", int(gateway.url.rsplit(":", 1)[1]), "k", gateway.process.pid)
            asyncio.run(count(player, sessions, stream=stream))
            said = re.findall(r"^totals: (\d+)", out.with_name("callgrind.1").read_text(), re.MULTILINE)
        finally:
            gateway.process.kill()  # it would write another account
            gateway.stop()
    return int(said[-1]) / (ROUNDS * len(sessions)) / 1e6


def main() -> None:
    """Print a line for each leg."""
    if shutil.which("callgrind_control") is None:
        print("bench_instructions.py: install Debian's valgrind first", file=sys.stderr)
        sys.exit(2)
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    bundle = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else ROOT / "models" / "prior"
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=upstream, args=(theirs,), daemon=True)
    process.start()
    try:
        url = f"http://127.0.0.1:{pipe.recv()}"
        for name, size, stream, kind in LEGS:
            if kind in KINDS:
                sessions = [KINDS[kind](size, TURNS, stream=stream, session=n) for n in range(CONNECTIONS)]
                millions = measure(root, bundle, url, sessions, stream=stream)
                print(f"{name:19s} {millions:.2f} M instructions a request", flush=True)
    finally:
        process.terminate()


if __name__ == "__main__":
    main()
