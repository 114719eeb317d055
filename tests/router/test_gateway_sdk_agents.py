"""Agents on the two SDKs do three prompts of one conversation, each answered by another candidate.

In mid-task there is a 429 and a broken connection at every seller; the files on the disk end up right.
"""

import json
import subprocess

import anthropic
import openai
import pytest
from real_clients import make_repository
from router_servers import journal_of, wait_for
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

TOOL = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


def sh(place, arguments):
    done = subprocess.run(
        ["bash", "-c", arguments["command"]],
        cwd=place,
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr or "(nothing)"


def twice(ask):
    """What an agent does when a stream breaks off in its middle: it asks again."""
    try:
        return ask()
    except (anthropic.APIError, openai.APIError, RuntimeError):  # the last: a response that failed
        return ask()


def messages_agent(client, place, stream):
    tools = [{"name": "Bash", "description": "a shell", "input_schema": TOOL}]
    talk = []

    def ask():
        options = {"model": "auto", "max_tokens": 900, "tools": tools, "messages": talk}
        if not stream:
            return client.messages.create(**options)
        with client.messages.stream(**options) as events:
            return events.get_final_message()

    for prompt in PROMPTS:
        talk.append({"role": "user", "content": prompt})
        while True:
            answer = twice(ask)
            talk.append({"role": "assistant", "content": [b.model_dump() for b in answer.content]})
            calls = [block for block in answer.content if block.type == "tool_use"]
            if not calls:
                break
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": sh(place, call.input)}
                for call in calls
            ]
            talk.append({"role": "user", "content": results})


def chat_agent(client, place, stream):
    function = {"name": "Bash", "description": "a shell", "parameters": TOOL}
    tools = [{"type": "function", "function": function}]
    talk = []

    def ask():
        options = {"model": "auto", "tools": tools, "messages": talk}
        if not stream:
            return client.chat.completions.create(**options).choices[0].message
        with client.chat.completions.stream(**options, stream_options={"include_usage": True}) as events:
            return events.get_final_completion().choices[0].message

    for prompt in PROMPTS:
        talk.append({"role": "user", "content": prompt})
        while True:
            answer = twice(ask)
            calls = answer.tool_calls or []
            said = {"role": "assistant", "content": answer.content}
            listed = [
                {
                    "id": c.id,
                    "type": "function",
                    "function": c.function.model_dump(include={"name", "arguments"}),
                }
                for c in calls
            ]
            talk.append(said | ({"tool_calls": listed} if listed else {}))
            if not calls:
                break
            for call in calls:
                result = sh(place, json.loads(call.function.arguments))
                talk.append({"role": "tool", "tool_call_id": call.id, "content": result})


def responses_agent(client, place, stream):
    tools = [
        {"type": "function", "name": "Bash", "description": "a shell", "parameters": TOOL, "strict": False}
    ]
    talk = []

    def ask():
        options = {"model": "auto", "tools": tools, "input": talk, "store": False}
        if not stream:
            return client.responses.create(**options)
        with client.responses.stream(**options) as events:
            return events.get_final_response()

    for prompt in PROMPTS:
        talk.append({"role": "user", "content": prompt})
        while True:
            answer = twice(ask)
            talk += [
                item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output
            ]
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                break
            for call in calls:
                result = sh(place, json.loads(call.arguments))
                talk.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


AGENTS = {"messages": messages_agent, "chat": chat_agent, "responses": responses_agent}


def client_of(agent, url):
    if agent == "messages":
        return anthropic.Anthropic(base_url=url, api_key="theirs", max_retries=2)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="theirs", max_retries=2)


# agent, who answers its prompts, and the dialect and seller of each
ROUTES = [
    ("messages", ("claude-haiku-5-5", "claude-sonnet-5-5"), ("anthropic", "anthropic")),
    ("messages", ("claude-haiku-5-5", "gpt-5.4"), ("anthropic", "openai")),
    ("messages", ("glm-5", "qwen3.5-plus"), ("zai", "openrouter")),
    ("chat", ("glm-5", "claude-haiku-5-5"), ("zai", "anthropic")),
    ("responses", ("gpt-5.4", "gpt-5.4-mini"), ("openai", "openai")),
    ("responses", ("gpt-5.4", "claude-haiku-5-5"), ("openai", "anthropic")),
    ("responses", ("glm-5", "gpt-5.4"), ("zai", "openai")),
]


@pytest.mark.parametrize(
    ("agent", "candidates", "sellers", "stream"),
    [*((*route, True) for route in ROUTES), *((*route, False) for route in ROUTES[1::2])],
)
def test_an_agent_ends_with_the_right_file_whoever_answers(
    agent, candidates, sellers, stream, bundle_folder, tmp_path
) -> None:
    place = make_repository(tmp_path)
    script = three_tasks() | {"faults": dict.fromkeys(sellers, trouble(0.1))}
    with routing(tmp_path, bundle_folder, script, candidates) as server:
        with client_of(agent, server.url) as client:
            AGENTS[agent](client, place, stream)
        asked = [place for place, _ in asked_at(server.upstream)]
        served = wait_for(lambda: who_answered(tmp_path)[2:] and who_answered(tmp_path))
    assert (place / "calc.py").read_text() == FIXED
    assert served == [*candidates, candidates[0]]
    assert locked_well(tmp_path) >= 8
    assert set(asked) == set(sellers)
    requests = [r for k, r in journal_of(tmp_path) if k == "request"]
    assert all(r["cost_usd"] for r in requests if r["status"] == "ok")
    limited = [t for r in requests for t in r.get("tries") or () if t.get("http_status") == 429]
    assert len(limited) == len(set(sellers))
    broken = [r for r in requests if r["status"] == "truncated" or r.get("error_kind") == "dropped"]
    broken += [t for r in requests for t in r.get("tries") or () if t.get("error_kind") == "dropped"]
    assert broken
