"""A log with full bodies, a scripted provider in a process of its own, and settings that lead to it."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from features.facts import Facts
from features.records import RequestRecord
from router.catalog import Catalog
from training.log import LogStore

ROOT = Path(__file__).parents[2]
REFERENCE, NEAR, FAR = "claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-5-5"
NOW_MS = 1_795_000_000_000
TOOLS = [{"name": "Edit", "input_schema": {"type": "object"}}]


def edit(new):
    return {"file_path": "/r/calc.py", "old_string": "a - b", "new_string": new}


def record(n, **changes):
    """A logged request whose answer, by the reference, is kept in full."""
    body = {
        "model": REFERENCE,
        "max_tokens": 1000,
        "stream": True,
        "tools": TOOLS,
        "messages": [{"role": "user", "content": f"task {n}: fix add in calc.py {changes.pop('mark', '')}"}],
        **changes.pop("body", {}),
    }
    kept = {
        "request_id": f"r{n}",
        "session_id": f"s{n}",
        "ts_ms": NOW_MS + n,
        "source": "journal",
        "dialect": "anthropic_messages",
        "candidate": REFERENCE,
        "model_served": REFERENCE,
        "input_tokens_uncached": 120,
        "output_tokens": 40,
        "status": "ok",
        "tools_called": ["Edit"],
        "facts": Facts(max_output_tokens=1000.0, n_tools=1.0),
        "prompt_text": json.dumps(body),
        "response_text": "I fix it.\n" + json.dumps(edit("a + b")),
    }
    return RequestRecord(**{**kept, **changes})


def make_log(folder, records):
    log = LogStore(folder / "log")
    log.append("request", records)
    return log


class Provider:
    """`python -m router.scripted` on a free port."""

    def __init__(self, script, folder, *more):
        (folder / "script.json").write_text(json.dumps(script))
        command = [
            sys.executable,
            "-m",
            "router.scripted",
            "--port",
            "0",
            "--script",
            folder / "script.json",
            *more,
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        wait_for(self._answers)

    def _answers(self):
        try:
            self.seen()
        except OSError:
            return False
        return True

    def seen(self):
        with urllib.request.urlopen(f"{self.url}/_requests", timeout=10) as answer:
            return [entry for entry in json.load(answer) if entry["method"] == "POST"]

    def forget(self):
        request = urllib.request.Request(f"{self.url}/_requests", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.process.stdout.close()


def config(folder, url):
    """A samediff.toml whose every endpoint is this URL."""
    lines = []
    for name, endpoint in Catalog.load().endpoints.items():
        urls = ", ".join(
            f'{dialect} = "{url}{"" if dialect == "anthropic_messages" else "/v1"}"'
            for dialect in endpoint.base_urls
        )
        lines += [f"[endpoints.{name}]", f"base_urls = {{ {urls} }}"]
    (folder / "catalog.toml").write_text("\n".join(lines))
    (folder / "samediff.toml").write_text(f'catalog = "{folder / "catalog.toml"}"\n')
    return folder / "samediff.toml"


def command(folder, url, *arguments, environ=None):
    """`samediff shadow` as a process; the reference is asked again for every request."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    keys = {"ANTHROPIC_API_KEY": "made-up", "OMP_NUM_THREADS": "1"} if environ is None else environ
    return subprocess.Popen(
        [
            sys.executable,
            "samediff.py",
            "shadow",
            folder / "log",
            "--config",
            config(folder, url),
            *arguments,
        ],
        cwd=ROOT,
        env={**clean, **keys, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came true")
