"""Tool calls held against the request's own schemas: what is wrong is said, and if wanted asked for again."""

import json

import httpx2
import msgspec
import pytest
from router_failing import ask, asked, record, running
from router_servers import start_upstream

from features.wire import Part, WireResponse, parse_request
from features.wire.head import read_head
from router.gateway.toolcheck import ToolChecks

SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
WRONG, RIGHT = {"cmd": 5}, {"cmd": "ls"}
TOOL = {"type": "function", "function": {"name": "sh", "parameters": SCHEMA}}
BODIES = {
    "openai_chat": {"messages": [], "tools": [TOOL]},
    "anthropic_messages": {
        "messages": [],
        "max_tokens": 9,
        "tools": [{"name": "sh", "input_schema": SCHEMA}],
    },
    "openai_responses": {"input": "x", "tools": [{"type": "function", "name": "sh", "parameters": SCHEMA}]},
}


def kinds(dialect, body, *calls, checks=None, finish=None):
    raw = json.dumps({"model": "auto", **body}).encode()
    parts = [Part(kind="tool_call", name=name, text=text) for name, text in calls]
    found = (checks or ToolChecks()).faults(
        parse_request(dialect, raw),
        read_head(raw).values.get("tools"),
        WireResponse(parts=tuple(parts), finish_reason=finish),
    )
    return [fault.kind for fault in found]


@pytest.mark.parametrize("dialect", BODIES)
def test_arguments_are_held_against_the_schema_of_every_dialect(dialect) -> None:
    calls = ("sh", '{"cmd":"ls"}'), ("sh", '{"cmd":5}'), ("sh", '{"cmd":"l'), ("sh", ""), ("rm", "{}")
    assert kinds(dialect, BODIES[dialect], *calls) == ["schema", "not_json", "schema", "unknown_tool"]
    assert kinds(dialect, BODIES[dialect]) == []
    cut = ("sh", '{"cmd":5}'), ("sh", '{"cmd":"l')
    assert kinds(dialect, BODIES[dialect], *cut, finish="length") == ["schema"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema"},
        {"$ref": "file:///etc/passwd"},
        {"type": "nonsense"},
        {"properties": {"cmd": {"pattern": "(a+)+(?=b)"}}},
        {"properties": {"cmd": {"description": "x" * 300_000}}},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        "no schema",
    ],
)
def test_a_schema_that_cannot_be_read_or_looks_elsewhere_checks_nothing(schema) -> None:
    body = {"messages": [], "tools": [{"type": "function", "function": {"name": "sh", "parameters": schema}}]}
    assert kinds("openai_chat", body, ("sh", '{"cmd":5}')) == []


def test_a_schema_is_compiled_once_and_another_of_the_same_name_is_another() -> None:
    checks, loose = ToolChecks(), {"type": "function", "function": {"name": "sh", "parameters": {}}}
    for _ in range(3):
        assert kinds("openai_chat", BODIES["openai_chat"], ("sh", '{"cmd":5}'), checks=checks) == ["schema"]
    assert len(checks._known) == 1
    body = {"messages": [], "tools": [loose]}
    assert kinds("openai_chat", body, ("sh", '{"cmd":5}'), checks=checks) == []


def calling(arguments):
    return [{"text": "Let me look.", "calls": [{"name": "sh", "arguments": arguments}]}]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    script = {"models": {"gpt-5.4-mini": calling(RIGHT)}, "steps": calling(WRONG)}
    server = start_upstream(script, tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def keys(monkeypatch, upstream):
    for name in ("EAST", "WEST", "SOUTH"):
        monkeypatch.setenv(f"{name}_KEY", f"key-{name}")
    httpx2.delete(f"{upstream.url}/_requests")


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_call_is_passed_on_and_written_down(tmp_path, bundle_folder, upstream, stream) -> None:
    with running(tmp_path, bundle_folder, upstream, "") as server:
        answer = ask(server, tools=[TOOL], stream=stream)
        assert answer.status_code == 200
        assert record(tmp_path, answer)["flags"] == ["broken_tool_call"]
        said = httpx2.get(f"{server.url}/metrics").text
    assert len(asked(upstream)) == 1
    assert 'samediff_broken_tool_calls_total{candidate="big",kind="schema"} 1' in said


def test_whoever_breaks_a_sessions_tools_is_less_able_there(tmp_path, bundle_folder, upstream) -> None:
    def arms(server, session):
        body = {"model": "auto", "tools": [TOOL], "messages": [{"role": "user", "content": "Fix it"}]}
        url = f"{server.url}/v1/route?dialect=openai_chat"
        answer = httpx2.post(url, json=body, headers={"x-samediff-session-id": session})
        return {arm["candidate"]: arm.get("broken_calls") for arm in answer.json()["arms"]}

    with running(tmp_path, bundle_folder, upstream, "") as server:
        for session, model in (("s", "big"), ("t", "small")):
            body = {"model": model, "tools": [TOOL], "messages": [{"role": "user", "content": "Fix it"}]}
            url = f"{server.url}/v1/chat/completions"
            record(tmp_path, httpx2.post(url, json=body, headers={"x-samediff-session-id": session}))
        assert arms(server, "s") == {"big": 0.2, "small": None}
        assert set(arms(server, "t").values()) == {None}


def test_if_wanted_it_is_asked_for_again_and_all_of_it_is_charged(tmp_path, bundle_folder, upstream) -> None:
    with running(tmp_path, bundle_folder, upstream, '[tools]\ncheck = "off"') as server:
        once = record(tmp_path, ask(server, "big", tools=[TOOL]))
        assert "flags" not in once
    httpx2.delete(f"{upstream.url}/_requests")
    with running(tmp_path, bundle_folder, upstream, '[tools]\ncheck = "retry"') as server:
        answer = ask(server, tools=[TOOL])
        call = answer.json()["choices"][0]["message"]["tool_calls"][0]
        assert msgspec.json.decode(call["function"]["arguments"]) == RIGHT
        assert answer.headers["x-samediff-candidate"] == "small"
        found = record(tmp_path, answer)
        assert set(found["flags"]) == {"another_candidate_answered", "paid_more_than_once"}
        assert float(found["cost_usd"]) > 2 * float(once["cost_usd"])
        last = ask(server, "big", tools=[TOOL])  # where none gets it right, the last answer is passed on
        assert last.status_code == 200
        assert "broken_tool_call" in record(tmp_path, last)["flags"]
        assert server.gateway.health.down(0.0) == frozenset()  # nobody is down for that
    assert len(asked(upstream)) == 6
