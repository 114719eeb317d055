"""The real Claude Code and Codex work through a task of several tool turns, routed by the gateway.

Needs SAMEDIFF_CLIENTS, a folder with the executables `claude` and `codex` installed from npm.
"""

import os
import subprocess
import sys

import pytest
from router_servers import journal_of, start_gateway, start_upstream

CLIENTS = os.environ.get("SAMEDIFF_CLIENTS")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(CLIENTS is None, reason="SAMEDIFF_CLIENTS names no folder of clients"),
]
TASK = "Fix the failing test in this repository"
CODEX_CONFIG = """
model = "auto"
model_provider = "samediff"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.samediff]
name = "samediff"
base_url = "{base}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
"""


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "repository"
    place.mkdir()
    (place / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (place / "test_calc.py").write_text("from calc import add\n\nassert add(2, 3) == 5\nprint('ok')\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for step in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *step], cwd=place, check=True)
    return place


def claude(base, home):
    command = ["claude", "-p", TASK, "--permission-mode", "acceptEdits", "--allowedTools", "Bash,Read,Edit"]
    return command, {
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_API_KEY": "made-up",
        "ANTHROPIC_MODEL": "auto",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",
    }


def codex(base, home):
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(base=base))
    return ["codex", "exec", "--skip-git-repo-check", TASK], {"OPENAI_API_KEY": "made-up"}


@pytest.mark.parametrize(
    ("drive", "script", "harness"),
    [(claude, "claude_code_fix", "claude_code"), (codex, "codex_fix", "codex")],
)
def test_a_real_client_does_its_task_through_the_gateway(
    drive, script, harness, repository, bundle_folder, tmp_path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    upstream = start_upstream(script, tmp_path)
    gateway = start_gateway(tmp_path, bundle_folder, upstream.url)
    try:
        (name, *arguments), environ = drive(gateway.url, home)
        done = subprocess.run(
            [os.path.join(CLIENTS, name), *arguments],
            cwd=repository,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
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
