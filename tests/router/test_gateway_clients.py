"""The real Claude Code and Codex work through a task of several tool turns, routed by the gateway."""

import subprocess
import sys

import pytest
from real_clients import NEED_CLIENTS, claude, codex, work
from router_servers import journal_of, start_gateway, start_upstream

pytestmark = NEED_CLIENTS


@pytest.mark.parametrize(
    ("drive", "script", "harness"),
    [(claude, "claude_code_fix", "claude_code"), (codex, "codex_fix", "codex")],
)
def test_a_real_client_does_its_task_through_the_gateway(
    drive, script, harness, bundle_folder, tmp_path
) -> None:
    upstream = start_upstream(script, tmp_path)
    gateway = start_gateway(tmp_path, bundle_folder, upstream.url)
    try:
        repository, done = work(drive, gateway.url, tmp_path, "auto")
    finally:
        code, _, err = gateway.stop()
        upstream.stop()
    assert (code, err) == (0, "")
    assert done.returncode == 0, done.stdout + done.stderr
    tested = subprocess.run(
        [sys.executable, "test_calc.py"], cwd=repository, capture_output=True, check=False
    )
    assert tested.stdout == b"ok\n"
    journal = journal_of(tmp_path)
    requests = [r for k, r in journal if k == "request"]
    assert {r["harness"] for r in requests} == {harness}
    assert {r["status"] for r in requests} == {"ok"}
    assert all(r["cost_usd"] for r in requests)
    assert len({r["session_id"] for r in requests}) == 1
    decisions = [r for k, r in journal if k == "decision"]
    assert any("tool_loop" in r.get("locks", []) or "provider_bound" in r.get("locks", []) for r in decisions)
    print(f"\n{harness}: {done.stdout.strip()!r}")
    for request, decision in zip(requests, decisions, strict=True):
        print(
            request["turn"], request["candidate"], request["cost_usd"], decision.get("locks"),
            f"{decision['decide_ms']:.2f} ms", decision["facts"]["body_bytes"],
        )  # fmt: skip
