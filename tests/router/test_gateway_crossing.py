"""Requests that the gateway sends to a provider of another dialect: who gets what, and what is said of it."""

import signal

import httpx2
import msgspec
import pytest
from router_odd import odd_provider
from router_servers import journal_of, start_gateway, start_upstream, wait_for

from features.records import DecisionRecord
from models.bundle import Bundle
from router.catalog import Catalog
from router.decide import Decider
from router.policy import parse_policy
from router.receipt import recompute
from router.scripted import key_digest

SCRIPT = {
    "rules": [
        {"when": {"contains": "FAULT-429"}, "steps": [{"fault": {"status": 429, "retry_after_s": 7}}]},
        {"when": {"contains": "FAULT-400"}, "steps": [{"fault": {"status": 400}}]},
    ],
    "steps": [
        {"text": "Let me look.", "calls": [{"name": "sh", "arguments": {"cmd": "ls"}}]},
        {"text": "Done."},
    ],
}
KEYS = {"OPENAI_API_KEY": "ours-openai", "ZAI_API_KEY": "ours-zai"}
SH = {"name": "sh", "input_schema": {"type": "object"}}
HI = [{"role": "user", "content": "Hi"}]
CLAUDE = {"model": "gpt-5.4", "max_tokens": 99, "messages": HI, "tools": [SH]}
POLICY = "pin:gpt-5.4"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("crossing")


@pytest.fixture(scope="module")
def upstream(place):
    server = start_upstream(SCRIPT, place)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(place, bundle_folder, upstream):
    server = start_gateway(place, bundle_folder, upstream.url, "--policy", POLICY, environ=KEYS)
    yield server
    code, _, err = server.stop(signal.SIGINT)
    assert (code, "Traceback" in err) == (0, False)


@pytest.fixture
def seen(upstream):
    httpx2.delete(f"{upstream.url}/_requests")
    return lambda: httpx2.get(f"{upstream.url}/_requests").json()


def post(gateway, path, body, **headers):
    return httpx2.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=30)


def test_the_other_seller_gets_our_key_and_nothing_of_the_clients_dialect(gateway, seen) -> None:
    theirs = {
        "x-api-key": "the client's for Anthropic", "authorization": "Bearer the client's", "cookie": "a=b",
        "anthropic-beta": "context-1", "anthropic-version": "2023-06-01", "x-claude-code-session-id": "s",
    }  # fmt: skip
    answer = post(gateway, "/v1/messages?beta=true", CLAUDE | {"top_k": 3}, **theirs)
    assert answer.status_code == 200
    assert answer.json()["content"][1]["name"] == "sh"
    assert answer.json()["stop_reason"] == "tool_use"
    assert answer.headers["x-samediff-left-out"] == "top_k"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["request-id"]  # OpenAI's, under the name that Anthropic's clients look for
    (call,) = seen()
    assert (call["path"], call["query"]) == ("/v1/responses", "")
    assert call["headers"]["authorization"] == key_digest("ours-openai")
    kept = set(call["headers"]) & {*theirs, "x-samediff-left-out"}
    assert kept == {"authorization"}


def test_without_a_key_of_ours_nothing_is_sent(gateway, seen) -> None:
    body = {"model": "claude-haiku-5-5", "messages": HI}
    answer = post(gateway, "/v1/chat/completions", body, authorization="Bearer the client's for OpenAI")
    assert answer.status_code == 503
    assert "set ANTHROPIC_API_KEY" in answer.json()["error"]["message"]
    assert seen() == []


def records(place, answer, kind):
    wanted = answer.headers["x-samediff-request-id"]

    def find():
        return [r for k, r in journal_of(place) if k == kind and r["request_id"] == wanted]

    return wait_for(find)


def test_a_translated_call_is_counted_and_its_decision_made_again(gateway, place, bundle_folder) -> None:
    answer = post(gateway, "/v1/messages", CLAUDE | {"model": "auto"})
    (request,) = records(place, answer, "request")
    assert request["flags"] == ["translated"]
    assert (request["dialect"], request["deployment"]) == (
        "anthropic_messages",
        "openai/gpt-5.4/openai_responses",
    )
    assert (request["tools_called"], request["status"]) == (["sh"], "ok")
    assert request["output_tokens"] == answer.json()["usage"]["output_tokens"] > 0
    assert request["cost_usd"]
    (written,) = records(place, answer, "decision")
    receipt = msgspec.convert(written, DecisionRecord, strict=False)
    catalog = Catalog.load(place / "catalog.toml")
    decider = Decider(Bundle.load(bundle_folder), catalog, parse_policy(POLICY), environ=KEYS)
    assert recompute(receipt, decider) == receipt


def test_a_tool_loop_goes_on_where_it_began(gateway, place, seen) -> None:
    first = post(gateway, "/v1/messages", CLAUDE | {"model": "auto"}).json()
    call = first["content"][1]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "a.py"}
    messages = [
        *HI,
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    answer = post(gateway, "/v1/messages", CLAUDE | {"model": "auto", "messages": messages})
    assert answer.json()["content"] == [{"type": "text", "text": "Done."}]
    (decision,) = records(place, answer, "decision")
    assert decision["locks"] == ["tool_loop"]
    assert any(c.startswith("session_candidate=gpt-5.4") for c in decision["constraints"])
    assert [c["path"] for c in seen()] == ["/v1/responses"] * 2


def test_a_stream_comes_in_the_clients_dialect(gateway) -> None:
    answer = post(gateway, "/v1/messages", CLAUDE | {"stream": True})
    kinds = [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")]
    assert (kinds[0], kinds[-1], kinds.count("message_stop")) == ("message_start", "message_stop", 1)
    assert answer.headers["content-type"].startswith("text/event-stream")


def responses(gateway, **more):
    return post(gateway, "/v1/responses", {"model": "glm-5", "input": "Hi", **more})


def test_stateful_fields_are_honoured_or_refused(gateway, seen) -> None:
    answer = responses(gateway)
    assert answer.json()["store"] is False  # whatever the client asked for: there is nobody to keep it
    ours = answer.json()["id"]
    again = responses(gateway, previous_response_id=ours)
    assert again.status_code == 400
    assert "send the whole conversation" in again.json()["error"]["message"]
    native = responses(gateway, model="gpt-5.4", previous_response_id=ours)
    assert native.status_code == 400  # OpenAI doesn't know it either
    for kept in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}):
        refused = responses(gateway, **kept)
        assert (refused.status_code, next(iter(kept)) in refused.text) == (400, True)
    assert [c["path"] for c in seen()] == ["/v1/chat/completions"]
    passed = responses(gateway, model="gpt-5.4", previous_response_id="resp_1", store=True)
    assert passed.json()["previous_response_id"] == "resp_1"


def test_what_is_to_be_kept_is_routed_to_who_keeps_it(place, bundle_folder, upstream, tmp_path) -> None:
    server = start_gateway(tmp_path, bundle_folder, upstream.url, "--policy", "pin:glm-5", environ=KEYS)
    try:
        stored = responses(server, model="auto")
        crossed = responses(server, model="auto", store=False)
        search = {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}
        unsayable = responses(server, model="auto", store=False, **search)
        pinned = responses(server, model="glm-5", store=False, **search)
        later = [responses(server, model=m, store=False, background=True) for m in ("auto", "gpt-5.4")]
        fetched = httpx2.get(f"{server.url}/v1/responses/resp_1")
    finally:
        server.stop()
    assert stored.headers["x-samediff-deployment"].endswith("openai_responses")
    assert crossed.headers["x-samediff-deployment"] == "zai/glm-5/openai_chat"
    assert unsayable.headers["x-samediff-deployment"].endswith("openai_responses")
    assert (pinned.status_code, "tool_choice" in pinned.text) == (400, True)
    assert [(answer.status_code, "background" in answer.text) for answer in later] == [(400, True)] * 2
    assert (fetched.status_code, "only at the provider" in fetched.text) == (404, True)


def test_the_setting_keeps_every_request_in_its_dialect(bundle_folder, upstream, tmp_path) -> None:
    environ = {**KEYS, "SAMEDIFF_DIALECTS": "same"}
    server = start_gateway(tmp_path, bundle_folder, upstream.url, environ=environ)
    try:
        answer = post(server, "/v1/messages", CLAUDE)
        listed = post(server, "/v1/route?dialect=anthropic_messages", CLAUDE | {"model": "auto"}).json()
    finally:
        server.stop()
    assert answer.status_code == 404
    assert "only in openai_chat, openai_responses" in answer.json()["error"]["message"]
    excluded = {arm["candidate"]: arm.get("excluded_by") for arm in listed["arms"]}
    assert excluded["gpt-5.4"] == "dialect"


def test_tokens_that_nobody_counts_are_estimated_and_said_to_be(gateway, seen) -> None:
    answer = post(gateway, "/v1/messages/count_tokens", CLAUDE)
    assert answer.json()["input_tokens"] > 10
    assert answer.headers["x-samediff-policy"] == "count_tokens_estimate"
    assert seen() == []


def test_errors_come_in_the_clients_dialect(gateway) -> None:
    for fault, status, kind in ((400, 400, "invalid_request_error"), (429, 429, "rate_limit_error")):
        messages = [{"role": "user", "content": f"FAULT-{fault}"}]
        for stream in (False, True):  # the last of all: 429 lets the provider rest
            answer = post(gateway, "/v1/messages", CLAUDE | {"messages": messages, "stream": stream})
            assert (answer.status_code, answer.json()["type"]) == (status, "error")
            assert answer.json()["error"]["type"] == kind
            assert answer.json()["request_id"] == answer.headers["x-samediff-request-id"]
            assert answer.headers.get("retry-after") in (("6", "7") if fault == 429 else (None,))


@pytest.fixture(scope="module")
def odd(tmp_path_factory, bundle_folder):
    with odd_provider() as provider:
        place = tmp_path_factory.mktemp("odd")
        server = start_gateway(place, bundle_folder, provider.url, environ=KEYS)
        server.left = provider.left
        yield server
        code, _, err = server.stop(signal.SIGINT)
    assert (code, "Traceback" in err) == (0, False)


@pytest.mark.parametrize("what", ["BOMB", "HTML", "UTF-8", "ENDLESS"])
def test_what_no_client_can_read_is_an_error_between_dialects(odd, what) -> None:
    body = {"model": "glm-5", "input": what, "store": False}
    answer = post(odd, "/v1/responses", body)
    assert answer.status_code == 502
    assert "content-encoding" not in answer.headers
    assert answer.json()["error"]["type"] == "server_error"
    assert httpx2.get(f"{odd.url}/healthz").text == "ok\n"


@pytest.mark.parametrize("model", ["gpt-5.4", "glm-5"])
def test_a_stream_without_end_ends_with_its_client(odd, model) -> None:
    odd.left.clear()
    path, body = "/v1/responses", {"model": model, "input": "ENDLESS", "store": False, "stream": True}
    with httpx2.stream("POST", f"{odd.url}{path}", json=body, timeout=30) as answer:
        read = 0
        for piece in answer.iter_raw():
            read += len(piece)
            if read > 3_000_000:
                break
    assert odd.left.wait(10)
