"""What may be asked again, what is sent, and what the log's answer can be told to have done."""

import json

import pytest
from shadow_place import TOOLS, edit

from training.shadow.bodies import (
    BOUND,
    HOSTED,
    REGION,
    UNREADABLE,
    Answer,
    body_to_send,
    edits,
    logged_answer,
    output_limit,
    read_body,
)
from training.shadow.labels import compare

ASKED = [
    {"role": "user", "content": 'a text that says "previous_response_id" and "file_id" and "item_reference"'}
]
SIGNED = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]}


def _claude(**more):
    return "anthropic_messages", {"model": "m", "max_tokens": 9, "messages": ASKED, **more}


def _codex(**more):
    return "openai_responses", {"model": "m", "input": ASKED, **more}


FILE = {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}
REASONS = [
    (_claude(tools=TOOLS), None),
    (_claude(tools=[{"type": "bash_20250124", "name": "bash"}]), None),
    (_claude(messages=[*ASKED, SIGNED, *ASKED]), BOUND),
    (_claude(container="c"), BOUND),
    (_claude(mcp_servers=[{"url": "x"}]), HOSTED),
    (_claude(tools=[{"type": "web_search_20250305", "name": "web_search"}]), HOSTED),
    (_claude(inference_geo="us"), REGION),
    (_codex(tools=[{"type": "custom", "name": "apply_patch"}]), None),
    (_codex(previous_response_id="resp_1"), BOUND),
    (_codex(conversation="conv_1"), BOUND),
    (_codex(input=[{"type": "item_reference", "id": "i"}, *ASKED]), BOUND),
    (_codex(input=[{"type": "reasoning", "encrypted_content": "e", "summary": []}, *ASKED]), BOUND),
    (_codex(input=[FILE]), BOUND),
    (_codex(tools=[{"type": "code_interpreter"}]), HOSTED),
    (_codex(tools=["nonsense"]), UNREADABLE),
    (("openai_chat", {"model": "m", "messages": ASKED, "web_search_options": {"a": 1}}), HOSTED),
    (("openai_chat", {"model": "m"}), UNREADABLE),
]


@pytest.mark.parametrize(("given", "reason"), REASONS)
def test_what_has_effects_is_not_asked_again(given, reason):
    dialect, body = given
    assert read_body(dialect, json.dumps(body))[2] == reason


def test_a_thinking_budget_lifts_the_limit():
    request, body, _ = read_body("anthropic_messages", json.dumps(_claude(max_tokens=32_000)[1]))
    assert output_limit(request, body, 16_000) == 16_000
    assert output_limit(request, body, 64_000) == 32_000
    thinking = {"type": "enabled", "budget_tokens": 20_000}
    assert output_limit(request, {**body, "thinking": thinking}, 16_000) == 21_024
    request, body, _ = read_body("openai_responses", json.dumps(_codex()[1]))
    assert output_limit(request, body, 16_000) == 16_000


def test_chat_has_one_limit_in_the_seller_s_own_words():
    body = {"model": "m", "messages": ASKED, "max_tokens": 5, "max_completion_tokens": 7, "stream": True}
    older = json.loads(body_to_send(body, "openai_chat", "k", 3, newer=False))
    assert older == {"model": "k", "messages": ASKED, "max_tokens": 3}
    newer = json.loads(body_to_send(body, "openai_chat", "k", 3, newer=True))
    assert newer == {"model": "k", "messages": ASKED, "max_completion_tokens": 3}


CALL = json.dumps(edit("a + b"))
KEPT = [
    (None, ["Edit"], None),
    ("text", None, None),
    ("I would.", [], ((), "I would.")),
    (f"first\n{CALL}", ["Edit"], ([("Edit", CALL)], "")),
    (f"{CALL}\n{CALL}", ["Read", "Edit"], ([("Read", CALL), ("Edit", CALL)], "")),
    (f"{CALL}\n{CALL}", ["Edit"], None),  # one of them is text
    ("*** Begin Patch\n*** End Patch", ["apply_patch"], None),  # no JSON, so not told from text
    (json.dumps(edit("a + b"), indent=1), ["Edit"], None),
]


@pytest.mark.parametrize(("text", "called", "expected"), KEPT)
def test_the_logged_answer_is_used_only_when_it_is_certain(text, called, expected):
    assert logged_answer(text, called) == expected


def test_whether_an_answer_edits():
    assert edits(Answer([("Edit", CALL)]), None, None)
    assert not edits(Answer([("Bash", '{"command": "ls"}')]), None, None)
    assert edits(None, None, ["mcp__fs__edit_file"])
    assert edits(None, "*** Begin Patch", ["shell"])
    assert not edits(None, "text", ["Read"])
    blocks = "calc.py\n<<<<<<< SEARCH\na - b\n=======\na + b\n>>>>>>> REPLACE\n"
    assert Answer((), blocks).edit.files[0].path == "calc.py"
    assert not Answer((), "Done.").edit.files


def test_answers_are_compared():
    right = Answer([("Edit", CALL)])
    assert compare(right, Answer([("Edit", CALL)])).level == "L0"
    assert compare(right, Answer([("Edit", json.dumps(edit("b - a")))])).level in ("L3", "different")
    assert compare(right, Answer((), "I would.")).level == "different"
    assert compare(right, None).level == "unknown"
    assert compare(Answer((), "No."), right).level == "unknown"
    assert compare(right, Answer([("Edit", "[")])).level == "unknown"
