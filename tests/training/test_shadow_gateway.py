"""From a served request to a paired label: gateway, journal, ingest, shadow, each as users run it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

from shadow_place import NEAR, REFERENCE, ROOT, TOOLS, Provider, command, config, edit, finished, wait_for

from training.log import LogStore

STEPS = [{"text": "I fix it.", "calls": [{"name": "Edit", "arguments": edit("a + b")}]}]


def _samediff(*arguments):
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return subprocess.Popen(
        [sys.executable, "samediff.py", *arguments],
        cwd=ROOT,
        env={**clean, "ANTHROPIC_API_KEY": "made-up", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ask(url, n):
    body = {
        "model": "auto",
        "max_tokens": 1000,
        "stream": n % 2 == 0,
        "tools": TOOLS,
        "messages": [{"role": "user", "content": f"task {n}: fix add"}],
    }
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    request = urllib.request.Request(f"{url}/v1/messages", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()
    return True


def _when_up(url):
    try:
        return _ask(url, 0)
    except OSError:
        return False


def test_what_the_gateway_keeps_can_be_asked_again(tmp_path):
    provider = Provider({"steps": STEPS}, tmp_path)
    settings = config(tmp_path, provider.url)
    journal = f'[log]\njournal = "{tmp_path / "journal"}"\nprompts = "full"\nflush_s = 0.1\n'
    settings.write_text(settings.read_text() + journal)
    gateway = _samediff("serve", "--config", settings, "--port", "0", "--policy", f"pin:{REFERENCE}")
    try:
        url = re.search(r"http://[\d.]+:\d+", gateway.stdout.readline())[0]
        wait_for(lambda: _when_up(url))
        assert all(_ask(url, n) for n in (1, 2, 3))
        gateway.send_signal(signal.SIGINT)
        assert finished(gateway)[0] == 0
        ingest = _samediff("ingest", tmp_path / "journal", "--to", tmp_path / "log", "--prompts", "full")
        assert finished(ingest)[0] == 0
        again = command(tmp_path, provider.url, "--budget", "1", "--candidates", NEAR, "--self-share", "1")
        assert finished(again)[0] == 0
    finally:
        provider.stop()
    labels = LogStore(tmp_path / "log").scan("outcome").collect()
    assert labels["level"].to_list() == ["L0"] * 8
    assert {json.loads(detail)["against"] for detail in labels["detail"]} == {"logged"}
