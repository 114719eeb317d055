"""Tool calls mended before they reach their client: streams held back, other dialects, and all of it paid."""

import json
from decimal import Decimal

import httpx2
import pytest
from router_failing import ask, asked, fail, record, rows, running
from router_servers import start_upstream

from features.errors import BadInput
from features.wire import StreamReader
from router.gateway.exchange import whole
from router.gateway.settings import Settings

SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
TOOLS = {
    "/v1/chat/completions": {"type": "function", "function": {"name": "sh", "parameters": SCHEMA}},
    "/v1/messages": {"name": "sh", "input_schema": SCHEMA},
}
HOLD = '[tools]\ncheck = "retry"\nhold = "{}"\n[retry]\nbackoff_s = 0.01'
WRONG, RIGHT = '"cmd":5', '"cmd":"ls"'


def calling(arguments, text=""):
    return [{"text": text, "calls": [{"name": "sh", "arguments": arguments}]}]


@pytest.fixture(scope="module", params=["", "Let me look. "])
def upstream(tmp_path_factory, request):
    models = {"gpt-5.4-mini": calling({"cmd": "ls"}, request.param)}
    script = {"models": models, "steps": calling({"cmd": 5}, request.param)}
    server = start_upstream(script, tmp_path_factory.mktemp("upstream"))
    server.text = request.param
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def keys(monkeypatch, upstream):
    for name in ("EAST", "WEST", "SOUTH"):
        monkeypatch.setenv(f"{name}_KEY", f"key-{name}")
        fail(upstream, name.lower())
    httpx2.delete(f"{upstream.url}/_requests")


def crossing(url):
    """The catalogue, with providers that speak Chat Completions only."""
    text = rows(url)
    for name in ("east", "west", "south", "theirs"):
        text = text.replace(f', anthropic_messages = "{url}/{name}"', "")
    return text


def said(answer):
    """Arguments of the answer's tool calls, put together from a stream's pieces or as they are."""
    pieces = []
    for line in answer.text.splitlines() if "data:" in answer.text else [f"data: {answer.text}"]:
        if not line.startswith("data:") or "[DONE]" in line:
            continue
        event = json.loads(line[5:])
        for choice in event.get("choices", ()):
            calls = choice.get("delta", choice.get("message", {})).get("tool_calls", ())
            pieces += [call["function"].get("arguments", "") for call in calls]
        pieces += [event.get("delta", {}).get("partial_json", "")]
        pieces += [json.dumps(p["input"]) for p in event.get("content", ()) if p["type"] == "tool_use"]
    return "".join(pieces).replace(" ", "")


@pytest.mark.parametrize("path", TOOLS)
@pytest.mark.parametrize("crosses", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_broken_calls_are_mended_in_every_dialect(
    tmp_path, bundle_folder, upstream, path, crosses, stream
) -> None:
    catalog = crossing(upstream.url) if crosses else None
    with running(tmp_path, bundle_folder, upstream, HOLD.format("all"), catalog) as server:
        answer = ask(server, path=path, tools=[TOOLS[path]], stream=stream)
        assert answer.status_code == 200
        assert (RIGHT in said(answer), WRONG in answer.text) == (True, False)
        assert ("data:" in answer.text) == stream
        assert answer.headers["x-samediff-candidate"] == "small"
        found = record(tmp_path, answer)
        assert {"another_candidate_answered", "paid_more_than_once"} <= set(found["flags"])
        assert [t.get("error_kind") for t in found["tries"]] == ["broken_tool_call"] * 2 + [None]
        assert found.get("cost_usd") is not None or path == "/v1/chat/completions"  # no usage was asked for
        metrics = httpx2.get(f"{server.url}/metrics").text
    assert len(asked(upstream)) == 3
    assert 'samediff_broken_tool_calls_total{candidate="big",kind="schema"} 2' in metrics


def test_a_stream_is_held_only_as_far_as_is_wanted(tmp_path, bundle_folder, upstream) -> None:
    tool = TOOLS["/v1/chat/completions"]
    for hold, calls in (("calls", 1 if upstream.text else 3), ("none", 1)):
        httpx2.delete(f"{upstream.url}/_requests")
        for name in ("east", "west"):
            fail(upstream, name, {"event_delay_ms": 10})
        head = '[tools]\ncheck = "retry"' if hold == "none" else HOLD.format(hold)
        with running(tmp_path, bundle_folder, upstream, head) as server:
            answer = ask(server, tools=[tool], stream=True)
            assert (RIGHT in said(answer)) == (calls == 3)
            assert "[DONE]" in answer.text
            flags = set(record(tmp_path, answer)["flags"])
            assert ("broken_tool_call" in flags) == (calls == 1)
        assert len(asked(upstream)) == calls


@pytest.mark.parametrize("bound", ["hold_kib = 0.2", "hold_s = 0.02"])
def test_what_is_held_too_long_goes_out_as_it_is(tmp_path, bundle_folder, upstream, bound) -> None:
    text = HOLD.format("all").replace("hold =", f"{bound}\nhold =")
    fail(upstream, "east", {"event_delay_ms": 10})
    with running(tmp_path, bundle_folder, upstream, text) as server:
        answer = ask(server, tools=[TOOLS["/v1/chat/completions"]], stream=True)
        assert WRONG in said(answer)
        assert "[DONE]" in answer.text
    assert len(asked(upstream)) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", TOOLS)
def test_a_broken_call_is_better_than_no_answer(tmp_path, bundle_folder, upstream, path, stream) -> None:
    with running(tmp_path, bundle_folder, upstream, HOLD.format("all")) as server:
        for name in ("west", "south"):
            fail(upstream, name, {"status": 500})
        answer = ask(server, path=path, tools=[TOOLS[path]], stream=stream)
        assert (answer.status_code, WRONG in said(answer)) == (200, True)
        assert answer.headers["x-samediff-deployment"].startswith("east")
        assert answer.headers["x-samediff-attempts"] == "3"
        found = record(tmp_path, answer)
        assert (found["status"], found["http_status"], found["candidate"]) == ("ok", 200, "big")
        broken = [t.get("error_kind") for t in found["tries"]].count("broken_tool_call")
        assert found["flags"] == ["broken_tool_call"] + ["paid_more_than_once"] * (broken == 2)


def test_a_held_stream_that_breaks_off_is_asked_for_again_and_paid(tmp_path, bundle_folder, upstream) -> None:
    path = "/v1/messages"
    with running(tmp_path, bundle_folder, upstream, HOLD.format("all")) as server:
        once = record(tmp_path, ask(server, "small", path, tools=[TOOLS[path]], stream=True))
        for then in ("drop", "end", "error"):
            fail(upstream, "south", {"then": then, "after_events": 3, "event_delay_ms": 20, "times": 1})
            answer = ask(server, "small", path, tools=[TOOLS[path]], stream=True)
            assert RIGHT in said(answer)
            assert answer.text.count("message_start") == 2  # its event's name and its type
            found = record(tmp_path, answer)
            assert found["flags"] == ["paid_more_than_once"]
            assert Decimal(found["cost_usd"]) > Decimal(once["cost_usd"])
            assert (found["status"], len(found["tries"])) == ("ok", 2)
        fail(upstream, "south", {"then": "end", "after_events": 3})
        answer = ask(server, "small", path, tools=[TOOLS[path]], stream=True)
        assert "broke off" in answer.text  # the last attempt isn't held: there is none to come
        found = record(tmp_path, answer)
        assert (found["status"], "paid_more_than_once" in found["flags"]) == ("truncated", True)
        assert Decimal(found["cost_usd"]) > 0


def test_settings_that_do_nothing_are_refused(tmp_path) -> None:
    file = tmp_path / "samediff.toml"
    file.write_text('[tools]\nhold = "all"')
    with pytest.raises(BadInput, match=r"samediff.toml: .*of no use unless check"):
        Settings.load(file, {})
    file.write_text('[tools]\ncheck = "retry"\nhold_kib = 0')
    with pytest.raises(BadInput, match="hold_kib: 0 must be a finite number over 0"):
        Settings.load(file, {})


def test_a_chat_stream_that_told_its_finish_is_over_without_a_done() -> None:
    reader = StreamReader("openai_chat")
    reader.feed(b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n')
    assert not whole(reader.response())
    reader.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    assert whole(reader.response())
