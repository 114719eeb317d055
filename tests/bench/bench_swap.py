"""Latency of a gateway's answers while its bundle is swapped again and again, beside one left alone.

    python tests/bench/bench_swap.py [SECONDS]

The prior and a copy of it with another digest take turns in a store, once a second; one client asks without a
pause, at an upstream that answers at once.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "router")]

BODY = {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": "Fix the bug"}]}


def main() -> None:
    """Print a line for each half of the time."""
    from router_servers import start_gateway, start_upstream

    from models.folder import sealed
    from models.prior import PRIOR
    from models.store import Store

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        other = folder / "other"
        shutil.copytree(PRIOR, other, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = json.loads((other / "manifest.json").read_text()) | {"lineage": {"n": "2"}, "digest": ""}
        (other / "manifest.json").write_bytes(sealed(json.dumps(manifest).encode()))
        store = Store(str(folder / "store"))
        digests = [store.add(PRIOR), store.add(other)]
        store.point(digests[0], 0)
        upstream = start_upstream({"steps": [{"text": "ok"}]}, folder)
        gateway = start_gateway(folder, store.place, upstream.url, environ={"SAMEDIFF_FOLLOW_S": "0.1"})
        try:
            for name, swaps in (("left alone", False), ("swapped each second", True)):
                report(
                    name,
                    asked(
                        gateway.url,
                        seconds / 2,
                        (lambda n: store.point(digests[n % 2], n)) if swaps else None,
                    ),
                )
            text = httpx2.get(f"{gateway.url}/metrics").text
            print(next(line for line in text.splitlines() if line.startswith("samediff_bundle_swaps_total")))
        finally:
            gateway.stop()
            upstream.stop()


def asked(url, seconds, swap):
    """Milliseconds of each answer."""
    spent, began, swaps = [], time.perf_counter(), 0
    with httpx2.Client(timeout=30) as client:
        for _ in range(50):
            client.post(f"{url}/v1/messages", json=BODY)
        while (now := time.perf_counter()) - began < seconds:
            if swap and now - began > swaps:
                swaps += 1
                swap(swaps)
            started = time.perf_counter()
            if client.post(f"{url}/v1/messages", json=BODY).status_code != 200:
                raise SystemExit("an answer failed")
            spent.append((time.perf_counter() - started) * 1000)
    return np.array(spent)


def report(name, spent):
    """Print quantiles."""
    p50, p99, p999 = np.quantile(spent, [0.5, 0.99, 0.999])
    said = f"p50 {p50:.2f} ms, p99 {p99:.2f}, p99.9 {p999:.2f}, max {spent.max():.0f}"
    print(f"{name:22}{len(spent):7} answers, {said}")


if __name__ == "__main__":
    main()
