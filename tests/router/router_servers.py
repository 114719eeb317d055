"""The scripted upstream and the gateway as processes of their own, stopped by their pid."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from router.catalog import Catalog

ROOT = Path(__file__).parents[2]
NOW_MS = 1_795_000_000_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def catalog_toml(upstream):
    """The default catalogue with every endpoint pointed at one upstream."""
    lines = []
    for name, endpoint in Catalog.load().endpoints.items():
        urls = ", ".join(
            f'{dialect} = "{upstream}{"" if dialect == "anthropic_messages" else "/v1"}"'
            for dialect in endpoint.base_urls
        )
        lines += [f"[endpoints.{name}]", f"base_urls = {{ {urls} }}"]
    return "\n".join(lines) + "\n"


class Server:
    """A process that serves HTTP on loopback, stopped by its pid."""

    def __init__(self, command, environ=None, ready="/healthz", root=ROOT):
        clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        self.process = subprocess.Popen(
            command,
            cwd=root,
            env={**clean, "OMP_NUM_THREADS": "1", **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ready = ready

    def wait(self, url):
        self.url = url
        for _ in range(400):
            if self.process.poll() is not None:
                raise RuntimeError(self.process.stderr.read())
            try:
                httpx2.get(url + self.ready, timeout=2)
            except httpx2.HTTPError:
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError("the server did not come up")

    def stop(self, number=None):
        """Stop it and return what it said: (exit code, stdout, stderr)."""
        if self.process.poll() is None:
            self.process.send_signal(number) if number else self.process.terminate()
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def start_upstream(script, folder):
    """Start the scripted upstream; `script` is a shipped name or a dict."""
    if isinstance(script, dict):
        file = folder / "script.json"
        file.write_text(json.dumps(script))
        script = str(file)
    server = Server([sys.executable, "-m", "router.scripted", "--port", "0", "--script", script])
    server.ready = "/_requests"
    return server.wait(server.process.stdout.readline().strip())


def start_gateway(
    folder,
    bundle,
    upstream,
    *arguments,
    environ=None,
    catalog=None,
    settings="",
    flush_s=0.1,
    root=ROOT,
    under=(),
):
    """Start `samediff serve` of a working copy against an upstream; its journal is `folder/journal`.

    `under` is the command of a profiler that runs the interpreter.
    """
    (folder / "catalog.toml").write_text(catalog or catalog_toml(upstream))
    (folder / "samediff.toml").write_text(
        f'catalog = "{folder / "catalog.toml"}"\nbundle = "{bundle}"\nmax_body_mib = 1\n'
        f'[log]\njournal = "{folder / "journal"}"\nflush_s = {flush_s}\n{settings}'
    )
    port = free_port()
    config = ["--config", str(folder / "samediff.toml"), "--port", str(port)]
    command = [*under, sys.executable, "samediff.py", "serve", *config, *arguments]
    server = Server(command, environ, root=root)
    return server.wait(f"http://127.0.0.1:{port}")


def journal_of(folder):
    """All journal lines as (kind, record), oldest first, without one that is being written just now."""
    lines = [
        json.loads(line)
        for file in sorted((folder / "journal").rglob("*.jsonl"))
        for line in file.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    return [(line["kind"], line["record"]) for line in lines]


def wait_for(condition, seconds=10):
    """Poll until the condition gives something; its last answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    return condition()
