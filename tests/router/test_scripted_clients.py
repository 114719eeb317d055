"""The real Claude Code and Codex work through a task of several tool turns against the shipped scripts."""

import httpx2
import pytest
from real_clients import NEED_CLIENTS, claude, codex, work
from router_servers import start_upstream

pytestmark = NEED_CLIENTS


@pytest.mark.parametrize(("drive", "script"), [(claude, "claude_code_fix"), (codex, "codex_fix")])
def test_a_real_client_makes_the_right_edit(drive, script, tmp_path):
    upstream = start_upstream(script, tmp_path)
    try:
        repository, done = work(drive, upstream.url, tmp_path)
        seen = httpx2.get(f"{upstream.url}/_requests").json()
    finally:
        upstream.stop()
    assert "The test passes now." in done.stdout
    assert (repository / "calc.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert [r["turn"] for r in seen if r.get("turn") is not None] == [0, 1, 2, 3, 4]
