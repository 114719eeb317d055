"""Real agents do a task of several tool turns, routed by the gateway to their own dialect or another."""

import json
import subprocess
import sys

import httpx2
import pytest
from real_clients import NEED_CLIENTS, aider, claude, codex, mini, opencode, work
from router_servers import ROOT, journal_of, start_gateway, start_upstream

pytestmark = NEED_CLIENTS
KEYS = {f"{seller}_API_KEY": "ours" for seller in ("ANTHROPIC", "OPENAI", "ZAI", "OPENROUTER")}
EDIT = "calc.py\n```python\n<<<<<<< SEARCH\n    return {}\n=======\n    return {}\n>>>>>>> REPLACE\n```\n"


def shell(command):
    return {"text": "Next.", "calls": [{"name": "bash", "arguments": {"command": command}}]}


# Its prompt shows answers of an assistant's, so turns can't be counted: the failed test tells the second.
AIDER = {
    "rules": [{"when": {"contains": "AssertionError"}, "steps": [{"text": EDIT.format("a * b", "a + b")}]}],
    "steps": [{"text": EDIT.format("a - b", "a * b")}],
}
MINI = {
    "steps": [
        shell("cat calc.py"),
        shell("python3 test_calc.py"),
        shell("sed -i 's/a - b/a + b/' calc.py"),
        shell("python3 test_calc.py"),
        shell("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
    ]
}
CLIENTS = {
    "aider": (aider, AIDER),
    "mini": (mini, MINI),
    "claude_code": (claude, "claude_code_fix"),
    "codex": (codex, "codex_fix"),
    "opencode": (opencode, "claude_code_fix"),
}
FIXED = "-    return a - b\n+    return a + b\n"
# harness, candidate that answers, dialect in which its provider is asked
ROUTES = [
    ("claude_code", "claude-haiku-5-5", "/v1/messages"),
    ("claude_code", "gpt-5.4", "/v1/responses"),
    ("claude_code", "qwen3.5-plus", "/v1/chat/completions"),
    ("codex", "gpt-5.4", "/v1/responses"),
    ("codex", "claude-haiku-5-5", "/v1/messages"),
    ("codex", "glm-5", "/v1/chat/completions"),
    ("opencode", "glm-5", "/v1/chat/completions"),
    ("opencode", "claude-haiku-5-5", "/v1/messages"),
]


def script_of(name, faults=()):
    """A shipped script with faults laid over its steps."""
    if isinstance(name, dict):
        return name
    script = json.loads((ROOT / "router" / "scripted" / f"{name}.json").read_text())
    for step, fault in faults:
        script["steps"][step]["fault"] = fault
    return script


def done_by(harness, policy, bundle, folder, faults=()):
    """Let a client work; (what it changed, the process, journal, paths that the provider was asked at)."""
    drive, script = CLIENTS[harness]
    upstream = start_upstream(script_of(script, faults), folder)
    gateway = start_gateway(folder, bundle, upstream.url, "--policy", policy, environ=KEYS)
    try:
        repository, done = work(drive, gateway.url, folder, "auto")
        seen = httpx2.get(f"{upstream.url}/_requests").json()
    finally:
        code, _, err = gateway.stop()
        upstream.stop()
    assert (code, err) == (0, "")
    assert done.returncode == 0, done.stdout + done.stderr
    changed = subprocess.run(["git", "diff"], cwd=repository, capture_output=True, text=True, check=True)
    tested = subprocess.run(
        [sys.executable, "test_calc.py"], cwd=repository, capture_output=True, check=False
    )
    assert tested.stdout == b"ok\n"
    return changed.stdout, done, journal_of(folder), [s["path"] for s in seen if s["method"] == "POST"]


@pytest.mark.parametrize("harness", ["aider", "mini"])
@pytest.mark.parametrize(
    ("candidate", "path"), [("glm-5", "/v1/chat/completions"), ("claude-haiku-5-5", "/v1/messages")]
)
def test_agents_on_litellm_do_their_task_through_the_gateway(
    harness, candidate, path, bundle_folder, tmp_path
) -> None:
    changed, done, journal, paths = done_by(harness, f"pin:{candidate}", bundle_folder, tmp_path)
    assert FIXED in changed
    assert set(paths) == {path}
    requests = [r for k, r in journal if k == "request"]
    assert {(r["candidate"], r["status"]) for r in requests} == {(candidate, "ok")}
    assert len(requests) >= (2 if harness == "aider" else 5)
    print(f"\n{harness} by {candidate} at {path}: {len(requests)} calls, {done.stdout.strip()[-80:]!r}")


@pytest.mark.parametrize(("harness", "candidate", "path"), ROUTES)
def test_a_real_client_does_its_task_through_the_gateway(
    harness, candidate, path, bundle_folder, tmp_path
) -> None:
    changed, done, journal, paths = done_by(harness, f"pin:{candidate}", bundle_folder, tmp_path)
    assert FIXED in changed
    assert set(paths) == {path}
    requests = [r for k, r in journal if k == "request"]
    assert {r["harness"] for r in requests} == {harness}
    assert {r["candidate"] for r in requests} == {candidate}
    assert {r["status"] for r in requests} == {"ok"}
    assert all(r["cost_usd"] for r in requests)
    assert len(requests) >= 5
    decisions = [r for k, r in journal if k == "decision"]
    assert any("tool_loop" in r.get("locks", []) or "provider_bound" in r.get("locks", []) for r in decisions)
    print(f"\n{harness} by {candidate} at {path}: {done.stdout.strip()[-80:]!r}")
    for request, decision in zip(requests, decisions, strict=True):
        print(
            request["turn"], request["cost_usd"], request.get("flags"), decision.get("locks"),
            f"{decision['decide_ms']:.2f} ms", decision["facts"]["body_bytes"],
        )  # fmt: skip


# Codex in its own dialect writes every retry anew, and the scripted fault would come again each time.
@pytest.mark.parametrize(
    ("harness", "candidate"),
    [("claude_code", "claude-haiku-5-5"), ("claude_code", "gpt-5.4"), ("codex", "glm-5")],
)
def test_a_429_and_a_dropped_connection_in_mid_task_cost_no_client_its_work(
    harness, candidate, bundle_folder, tmp_path
) -> None:
    limited = {"status": 429, "retry_after_s": 1, "times": 1}
    dropped = {"then": "drop", "after_events": 2, "times": 1}
    faults = ((1, limited), (2, dropped))
    changed, _, journal, _ = done_by(harness, f"pin:{candidate}", bundle_folder, tmp_path, faults)
    assert FIXED in changed
    statuses = [r["status"] for k, r in journal if k == "request"]
    assert statuses.count("truncated") == 1
    assert statuses.count("ok") >= 5
