"""Who calls and what for: the marks of real clients, and the shapes that speak against a mark."""

import msgspec
import pytest

from features import wire
from features.assemble import facts_of
from features.facts import Facts
from features.sessionkind import CLIENTS, KINDS, kind_name

SHELL = [{"type": "function", "function": {"name": "bash"}}]
WEATHER = [{"type": "function", "function": {"name": "get_weather"}}]

CODE = "You are Claude Code, the CLI"
INNER, NEAR = {"x-claude-code-agent-id": "a"}, {"user-agent": "claude-cli/2.1"}
COMPACT = "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools."
CODEX = "You are a coding agent running in the Codex CLI"
OPEN, EXEC = {"user-agent": "opencode/1.18"}, {"originator": "codex_exec"}
BILLED = "x-anthropic-billing-header: v; cc_is_subagent=true;"

CASES = [  # system, user, tools, headers, more of the body -> client, kind
    (CODE, "fix it", SHELL, {}, {}, "claude_code", "main"),
    (BILLED, "find", SHELL, {}, {}, "claude_code", "subagent"),
    ("", "find", SHELL, NEAR | INNER, {}, "claude_code", "subagent"),
    (CODE, COMPACT, SHELL, {}, {}, "claude_code", "summary"),
    ("You are OpenCode", "fix it", SHELL, {}, {}, "opencode", "main"),
    ("You are a title generator. Only that.", "fix it", [], OPEN, {}, "opencode", "title"),
    (CODEX, "go", SHELL, {}, {}, "codex", "main"),
    ("Review", "go", SHELL, {**EXEC, "x-openai-subagent": "review"}, {}, "codex", "review"),
    ("", "go", SHELL, {"x-openai-subagent": "collab_spawn"}, {}, None, "subagent"),
    ("", "quota", [], {}, {"max_tokens": 1}, None, "probe"),
    ("", "<|fim_prefix|>def add(<|fim_suffix|>)", [], {}, {}, None, "complete"),
    ("You write one-line Git commit messages: a commit message.", "diff", [], {}, {}, None, "commit"),
    ("You are Cline, skilled", "Write a commit message, then commit", SHELL, {}, {}, "cline", "main"),
    ("", "why is the sky blue", [], {}, {}, None, "chat"),
    ("", "weather in Rome", WEATHER, {}, {}, None, "chat"),
    ("You help at work", "fix the test", SHELL, {}, {}, None, "main"),
    ("Act as an expert software developer.", "fix", [], {}, {}, "aider", "main"),
]


@pytest.mark.parametrize(("system", "user", "tools", "headers", "more", "client", "kind"), CASES)
def test_client_and_kind(system, user, tools, headers, more, client, kind):
    messages = [{"role": "user", "content": user}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    body = {"model": "m", "messages": messages, **({"tools": tools} if tools else {}), **more}
    facts = facts_of(wire.parse_request("openai_chat", msgspec.json.encode(body)), headers=headers)
    plain = msgspec.structs.asdict(facts)
    assert [name for name in CLIENTS if plain[f"client_{name}"]] == ([client] if client else [])
    assert [name for name in KINDS if plain[f"kind_{name}"]] == [kind]
    assert kind_name(plain) == kind


def test_a_mark_of_an_earlier_request_is_forgotten():
    said = ["Respond with TEXT ONLY. Do NOT call any tools.", "Now fix the other test"]
    messages = [{"role": "user", "content": said[0]}, {"role": "assistant", "content": "so"}]
    for more, kind in (([], "summary"), ([{"role": "user", "content": said[1]}], "main")):
        body = {"model": "m", "messages": [*messages, *more], "tools": SHELL}
        request = wire.parse_request("openai_chat", msgspec.json.encode(body))
        assert kind_name(msgspec.structs.asdict(facts_of(request))) == kind


def test_a_transcript_tells_sub_agents_and_old_logs_nothing():
    assert kind_name({"is_subagent": 1.0}) == "subagent"
    assert kind_name({"is_subagent": 0.0, "kind_main": None}) == "main"
    assert kind_name({}) is None
    assert {f"kind_{k}" for k in KINDS} | {f"client_{c}" for c in CLIENTS} <= set(Facts.__struct_fields__)
