"""Train, promote and roll back by the real commands under a gateway with steady traffic; counts what is lost.

    python tests/bench/promotion.py [SECONDS]

In a folder of its own: two logs of made-up outcomes, a store, an MLflow store, an upstream that answers at
once, `samediff serve` that looks at the store each second, and four clients for SECONDS (default 300, which
has to be longer than the commands take).
"""

import collections
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / room) for room in ("router", "training"))]

BODY = {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": "Fix the bug"}]}
STEPS = (
    ("train", "other", "--out", "two"),
    ("promote", "--store", "store"),
    ("rollback", "--store", "store"),
    ("promote", "--store", "store", "--version", "2"),
    ("rollback", "--store", "store"),
)


def command(folder, *words):
    """Run a command and print it with its last line."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "SAMEDIFF"))}
    environ = {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "110"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "samediff.py", *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
    )
    said = (done.stdout + done.stderr).strip().splitlines()[-1:]
    print(f"$ samediff {' '.join(words)}   [exit {done.returncode}, {time.monotonic() - began:.0f} s]", *said)


def ask(url, until, statuses, slowest):
    """One client: an answer after another, counted by status."""
    with httpx2.Client(timeout=30) as client:
        while time.monotonic() < until:
            started = time.monotonic()
            try:
                status = client.post(f"{url}/v1/messages", json=BODY).status_code
            except httpx2.HTTPError as error:
                status = type(error).__name__
            statuses[status] += 1
            slowest.append(time.monotonic() - started)
            time.sleep(0.02)


def main():
    """Play it and print what became of the answers."""
    from registry_place import fill, two_models
    from router_servers import journal_of, start_gateway, start_upstream

    from training.log import LogStore

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fill(LogStore(folder / "log"), two_models(2000))
        fill(LogStore(folder / "other"), two_models(3000, seed=3))
        command(folder, "train", "log", "--out", "one")
        command(folder, "promote", "--store", "store")
        upstream = start_upstream({"steps": [{"text": "ok"}]}, folder)
        follow = {"SAMEDIFF_FOLLOW_S": "1"}
        gateway = start_gateway(folder, str(folder / "store"), upstream.url, environ=follow)
        until, statuses, slowest = time.monotonic() + seconds, collections.Counter(), []
        traffic = gateway.url, until, statuses, slowest
        clients = [threading.Thread(target=ask, args=traffic) for _ in range(4)]
        for client in clients:
            client.start()
        for words in STEPS:
            command(folder, *words)
            time.sleep(3)
            print("   served now:", httpx2.get(f"{gateway.url}/readyz").json()["bundle"][:12])
        print("all of it under traffic:", time.monotonic() < until)
        for client in clients:
            client.join()
        lost = sum(n for status, n in statuses.items() if status != 200)
        print(
            f"{len(slowest):,} answers, {dict(statuses)}, {lost} lost, slowest {max(slowest) * 1000:.0f} ms"
        )
        time.sleep(1)
        bundles = (r["bundle_digest"][:12] for kind, r in journal_of(folder) if kind == "decision")
        print("decisions by bundle:", dict(collections.Counter(bundles)))
        gateway.stop()
        upstream.stop()


if __name__ == "__main__":
    main()
