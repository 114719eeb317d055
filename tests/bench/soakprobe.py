"""`samediff serve` with a thread that writes down, again and again, what the process holds.

Run: SOAK_PROBE=FILE python tests/bench/soakprobe.py serve ...; a line of JSON every two seconds. It looks
into private places, so that what is bounded, by count and by bytes, is seen at its bound; where one has been
renamed, its last line says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EVERY_S = 2.0


def main() -> None:
    """Serve as the command line does, watched."""
    sys.path.insert(0, str(ROOT))
    from router.gateway import service

    found: list[Any] = []
    made = service.Gateway.__init__

    def noted(self: Any, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        found.append(self)

    service.Gateway.__init__ = noted  # type: ignore[method-assign]
    threading.Thread(target=_watch, args=(found, Path(os.environ["SOAK_PROBE"])), daemon=True).start()
    runpy.run_path(str(ROOT / "samediff.py"), run_name="__main__")


def _watch(found: list[Any], file: Path) -> None:
    began = time.monotonic()
    with file.open("a", buffering=1) as out:
        while True:
            time.sleep(EVERY_S)
            row = {"s": round(time.monotonic() - began, 1), **_process()}
            if found and hasattr(found[0], "upstream"):
                try:
                    row |= held(found[0])
                except RuntimeError:  # a table has changed while it was looked at
                    continue
                except Exception as error:
                    out.write(json.dumps({"died": f"{type(error).__name__}: {error}"}) + "\n")
                    raise
            out.write(json.dumps(row) + "\n")


def _process() -> dict[str, float]:
    """Memory in MiB, CPU in seconds, and handles of this process."""
    fds = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            fds.append(str(fd.readlink()))
        except OSError:  # it was the one that lists them
            continue
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "mib": round(pages * 4096 / 2**20, 1),
        "blocks": sys.getallocatedblocks(),
        "cpu_s": round(time.process_time(), 1),
        "fds": len(fds),
        "sockets": sum("socket" in fd for fd in fds),
        "threads": threading.active_count(),
    }


def held(gateway: Any) -> dict[str, int]:
    """Tasks and connections under way, and the size of whatever grows with requests."""
    connector = gateway.upstream.pool._connector
    idle = sum(map(len, gateway.upstream.pool._kept.values()))
    sessions, repeats = gateway.sessions, gateway.repeats
    return {
        "tasks": len(asyncio.all_tasks(connector._loop)),
        "upstream_busy": len(connector._acquired) - idle,
        "upstream_idle": idle,
        "in_flight": sum(gateway.health.in_flight().values()),
        "conversations": len(sessions),
        "threads_known": len(sessions._threads),
        "prefixes": len(sessions._memory),
        "prefix_messages": sessions._memory.n_messages,
        "trajectories": len(sessions._trajectories),
        "answers_known": len(sessions._answers),
        "repeats_keyed": len(repeats._by_key),
        "repeats_counted": len(repeats._by_body),
        "repeats_bytes": repeats._held,
        "lines": len(gateway.health._lines),
        "series": len(gateway.metrics),
        "schemas": len(gateway.checks._known),
    }


if __name__ == "__main__":
    main()
