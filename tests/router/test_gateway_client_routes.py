"""Real agents do three prompts of one conversation, each answered by another candidate, amid trouble."""

import subprocess
import sys

import pytest
from real_clients import NEED_CLIENTS, again, aider, claude, codex, mini, opencode, work
from router_servers import journal_of
from router_turns import (
    FIXED,
    PROMPTS,
    asked_at,
    locked_well,
    routing,
    three_tasks,
    trouble,
    who_answered,
)
from test_gateway_clients import AIDER, EDIT, MINI

pytestmark = NEED_CLIENTS
CLIENTS = {
    "claude_code": (claude, "claude_code_fix"),
    "codex": (codex, "codex_fix"),
    "opencode": (opencode, "claude_code_fix"),
}
SELLERS = {"claude": "anthropic", "gpt": "openai", "glm": "zai", "qwen": "openrouter"}
# harness, who answers its prompts in turn: of its own dialect, then of another, and back
ROUTES = [
    ("claude_code", "claude-haiku-5-5", "claude-sonnet-5-5"),
    ("claude_code", "claude-haiku-5-5", "gpt-5.4"),
    ("claude_code", "glm-5", "claude-haiku-5-5"),
    ("codex", "gpt-5.4", "gpt-5.4-mini"),
    ("codex", "gpt-5.4", "claude-haiku-5-5"),
    ("codex", "glm-5", "gpt-5.4"),
    ("opencode", "glm-5", "qwen3.5-plus"),
    ("opencode", "glm-5", "claude-haiku-5-5"),
]


def sellers_of(candidates):
    return {SELLERS[name.partition("-")[0].rstrip("0123456789.")] for name in candidates}


def through_trouble(folder):
    """How many 429s were met on the way, and how many answers broke off; what came through has a price."""
    requests = [r for k, r in journal_of(folder) if k == "request"]
    assert all(r.get("cost_usd") for r in requests if r["status"] == "ok")
    limited = [t for r in requests for t in r.get("tries") or () if t.get("http_status") == 429]
    return len(limited), sum(r["status"] == "truncated" for r in requests)


@pytest.mark.parametrize(("harness", "first", "second"), ROUTES)
def test_a_client_ends_with_the_right_file_whoever_answers(
    harness, first, second, bundle_folder, tmp_path
) -> None:
    drive, script = CLIENTS[harness]
    sellers = sellers_of((first, second))
    # OpenCode keeps half an answer as a turn of its own, and a script goes by the number of turns.
    faults = trouble(1, events=1 if harness == "opencode" else 2)
    script = three_tasks(script) | {"faults": dict.fromkeys(sellers, faults)}
    with routing(tmp_path, bundle_folder, script, (first, second)) as server:
        repository, done = work(drive, server.url, tmp_path, "auto")
        finished = [done, *(again(drive, server.url, tmp_path, prompt) for prompt in PROMPTS[1:])]
        asked = asked_at(server.upstream)
    said = "\n".join(done.stdout + done.stderr for done in finished)
    assert [done.returncode for done in finished] == [0, 0, 0], said
    assert (repository / "calc.py").read_text() == FIXED, said
    assert who_answered(tmp_path) == [first, second, first]
    assert locked_well(tmp_path) >= 8
    assert {seller for seller, _ in asked} == sellers
    limited, broken = through_trouble(tmp_path)
    print(f"\n{harness}: {first}, {second}: {len(asked)} calls, {limited} x 429, {broken} broken off")
    assert limited >= len(sellers)
    assert broken >= len(sellers)


SUM = "    return a + b"
DOCSTRING = EDIT.format("a + b", "a + b").replace(f"{SUM}\n>", f'    """Add two numbers."""\n{SUM}\n>')
SUB = EDIT.format("a + b", "a + b\n\n\ndef sub(a, b):\n    return a - b")
LATER_EDITS = {"rules": [
    {"when": {"contains": PROMPTS[2]}, "steps": [{"text": SUB}]},
    {"when": {"contains": PROMPTS[1]}, "steps": [{"text": DOCSTRING}]},
    *AIDER["rules"],
]}  # fmt: skip


@pytest.mark.parametrize("second", ["qwen3.5-plus", "claude-haiku-5-5"])
def test_aider_ends_with_the_right_file_whoever_answers(second, bundle_folder, tmp_path) -> None:
    sellers = sellers_of(("glm-5", second))
    limited = {"status": 429, "retry_after_s": 1, "times": 1}
    faults = {"zai": [limited], **{s: [{"then": "drop", "times": 1}] for s in sellers - {"zai"}}}
    script = AIDER | LATER_EDITS | {"faults": faults}
    with routing(tmp_path, bundle_folder, script, ("glm-5", second), lambda _: True) as server:
        repository, done = work(aider, server.url, tmp_path, "auto")
        finished = [done, *(again(aider, server.url, tmp_path, prompt) for prompt in PROMPTS[1:])]
    said = "\n".join(done.stdout + done.stderr for done in finished)
    assert [done.returncode for done in finished] == [0, 0, 0], said
    assert (repository / "calc.py").read_text() == FIXED, said
    assert who_answered(tmp_path, tools=False) == ["glm-5", second, "glm-5"]
    tries = [t for k, r in journal_of(tmp_path) if k == "request" for t in r.get("tries") or ()]
    assert {t.get("http_status") for t in tries} >= {429}
    assert "dropped" in {t.get("error_kind") for t in tries}


# The same model at an address of another dialect: where a tool loop may go on when its own fails.
BACKUP = """
[endpoints.backup]
provider = "zai"
key_env = "ANTHROPIC_API_KEY"
base_urls = { anthropic_messages = "URL/backup" }
[candidates.glm-5]
endpoints = { zai = "glm-5", backup = "glm-5" }
"""


def test_a_tool_loop_of_mini_goes_on_at_another_dialect_and_comes_back(bundle_folder, tmp_path) -> None:
    faults = [{"times": 1}, {"status": 529, "times": 2}, {"times": 1}, {"then": "drop", "times": 2}]
    script = MINI | {"faults": {"zai": faults}}
    with routing(tmp_path, bundle_folder, script, ("glm-5",), more=BACKUP) as server:
        repository, done = work(mini, server.url, tmp_path, "auto")
        asked = asked_at(server.upstream)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "return a + b" in (repository / "calc.py").read_text()
    tested = subprocess.run(
        [sys.executable, "test_calc.py"], cwd=repository, capture_output=True, check=False
    )
    assert tested.stdout == b"ok\n"
    answered = [r["deployment"] for k, r in journal_of(tmp_path) if k == "request" and r["status"] == "ok"]
    assert {name.partition("/")[0] for name in answered} == {"zai", "backup"}
    assert ("backup", "/v1/messages") in asked
    print(f"\nmini: {answered}")
