"""The real Claude Code and Codex work through a task of several tool turns against the shipped scripts.

Needs SAMEDIFF_CLIENTS, a folder with the executables `claude` and `codex` installed from npm.
"""

import os
import subprocess
import sys

import httpx2
import pytest

CLIENTS = os.environ.get("SAMEDIFF_CLIENTS")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(CLIENTS is None, reason="SAMEDIFF_CLIENTS names no folder of clients"),
]
CODEX_CONFIG = """
model = "gpt-5.2-codex"
model_provider = "scripted"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.scripted]
name = "scripted"
base_url = "{base}/v1"
env_key = "SCRIPTED_KEY"
wire_api = "responses"
"""
TASK = "Fix the failing test in this repository"


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
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",
    }


def codex(base, home):
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(base=base))
    return ["codex", "exec", "--skip-git-repo-check", TASK], {"SCRIPTED_KEY": "made-up"}


@pytest.mark.parametrize(("drive", "script"), [(claude, "claude_code_fix"), (codex, "codex_fix")])
def test_a_real_client_makes_the_right_edit(drive, script, repository, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "router.scripted", "--script", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as upstream:
        try:
            base = upstream.stdout.readline().strip()
            arguments, extra = drive(base, home)
            arguments[0] = os.path.join(CLIENTS, arguments[0])
            env = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", **extra}
            done = subprocess.run(
                arguments,
                cwd=repository,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
            seen = httpx2.get(f"{base}/_requests").json()
        finally:
            upstream.terminate()
    assert "The test passes now." in done.stdout
    assert (repository / "calc.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert [r["turn"] for r in seen if r.get("turn") is not None] == [0, 1, 2, 3, 4]
