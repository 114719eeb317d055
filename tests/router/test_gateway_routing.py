"""What the gateway makes of many requests: mixes stay mixes, sessions stay apart, records are complete."""

import json

import httpx2
import pytest
from router_servers import journal_of, start_gateway, start_upstream, wait_for

from features.wire import StreamReader, parse_response
from router.gateway.call import Trace
from router.gateway.idempotency import IdempotencySettings
from router.gateway.recording import request_record
from router.gateway.service import Gateway, read_request
from router.gateway.settings import LogSettings, Settings

MIX = "mix:gpt-5.4=0.5,gpt-5.4-mini=0.5"
SCRIPT = {
    "steps": [
        {"text": "Let me look.", "calls": [{"name": "sh", "arguments": {"cmd": "ls"}}]},
        {"text": "Done."},
    ]
}
TOOL = {"type": "function", "function": {"name": "sh", "parameters": {"type": "object"}}}
CLAUDE = {"name": "sh", "input_schema": {"type": "object"}}
RESPONSES = {"type": "function", "name": "sh"}
SUBAGENT = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cc_is_subagent=true;"}]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("routing")


@pytest.fixture(scope="module")
def gateway(place, bundle_folder):
    upstream = start_upstream(SCRIPT, place)
    server = start_gateway(place, bundle_folder, upstream.url, "--policy", MIX)
    yield server
    code, _, err = server.stop()
    upstream.stop()
    assert (code, err) == (0, "")


def said(*texts):
    roles = ("user", "assistant") * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def post(gateway, path, body, **headers):
    answer = httpx2.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def chat(gateway, messages, model="auto", **headers):
    return post(gateway, "/v1/chat/completions", {"model": model, "messages": messages}, **headers)


def written(place, answers, kind):
    ids = [answer.headers["x-samediff-request-id"] for answer in answers]

    def find():
        rows = {record["request_id"]: record for k, record in journal_of(place) if k == kind}
        return [rows[i] for i in ids] if rows.keys() >= set(ids) else None

    return wait_for(find)


def chances(receipt):
    return {arm["candidate"]: arm["propensity"] for arm in receipt["arms"] if arm.get("propensity")}


def test_one_shot_requests_with_the_same_prompt_are_drawn_one_by_one(gateway, place) -> None:
    answers = [chat(gateway, said("What is 2 + 2?")) for _ in range(40)]
    receipts = written(place, answers, "decision")
    assert {r["chosen"] for r in receipts} == {"gpt-5.4", "gpt-5.4-mini"}
    assert all(chances(r) == {"gpt-5.4": 0.5, "gpt-5.4-mini": 0.5} for r in receipts)
    assert len({r["session_id"] for r in receipts}) == 40


def test_a_conversation_stays_with_its_own_draw(gateway, place) -> None:
    first = [chat(gateway, said("Count to four")) for _ in range(8)]
    more = [
        chat(gateway, [*said("Count to four"), a.json()["choices"][0]["message"], *said("And on")])
        for a in first
    ]
    began, went_on = written(place, first, "decision"), written(place, more, "decision")
    # The scripted ids depend on model and prompt alone: conversations of one candidate look the same.
    assert [r["chosen"] for r in went_on] == [r["chosen"] for r in began]
    assert all(chances(r) == {r["chosen"]: 1.0} for r in went_on)
    assert {r["session_id"] for r in went_on} <= {r["session_id"] for r in began}


@pytest.mark.parametrize("pinned", ["gpt-5.4", "gpt-5.2", "gpt-5.4-2099-01-01"])
def test_what_a_client_asked_for_once_does_not_hold_later_requests(gateway, place, pinned) -> None:
    session = {"x-session-id": f"pin-{pinned}"}
    talk = said("Fix it")
    asked = [chat(gateway, talk, pinned, **session)]
    for _ in range(2):
        talk = [*talk, *said("go on", "Done.")[::-1]]
        asked.append(chat(gateway, talk, "auto", **session))
    receipts = written(place, asked, "decision")
    assert chances(receipts[0]) == {pinned: 1.0}
    assert chances(receipts[1]) == {"gpt-5.4": 0.5, "gpt-5.4-mini": 0.5}
    assert chances(receipts[2]) == {receipts[1]["chosen"]: 1.0}  # the policy's own choice holds


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("dialect", "path", "body"),
    [
        ("openai_chat", "/v1/chat/completions", {"messages": said("Fix"), "tools": [TOOL]}),
        ("anthropic_messages", "/v1/messages", {"messages": said("Fix"), "tools": [CLAUDE], "max_tokens": 9}),
        ("openai_responses", "/v1/responses", {"input": "Fix", "tools": [RESPONSES]}),
    ],
)  # fmt: skip
def test_an_answers_id_tier_and_first_tool_call_are_kept(gateway, place, dialect, path, body, stream) -> None:
    answer = post(gateway, path, {"model": "auto", "stream": stream, **body})
    reader = StreamReader(dialect)
    reader.feed(answer.content)
    read = reader.response() if stream else parse_response(dialect, answer.content)
    (record,) = written(place, [answer], "request")
    assert record["provider_response_id"] == read.response_id
    assert read.response_id
    assert record["service_tier"] == ("standard" if dialect == "anthropic_messages" else "default")
    assert 0 < record["first_byte_ms"] <= record["first_tool_call_ms"] <= record["latency_ms"]


def test_a_subagent_is_written_under_its_parent(gateway, place) -> None:
    session = {"x-claude-code-session-id": "parent"}
    body = {"model": "auto", "max_tokens": 9, "system": SUBAGENT, "messages": said("Look around")}
    first = post(gateway, "/v1/messages", body, **session)
    talk = [*body["messages"], {"role": "assistant", "content": first.json()["content"]}, *said("Go on")]
    second = post(gateway, "/v1/messages", {**body, "messages": talk}, **session)
    main = post(gateway, "/v1/messages", {**body, "system": "You fix bugs."}, **session)
    one, two, three = written(place, [first, second, main], "request")
    assert one["session_id"].startswith("parent/")
    assert (one["parent_session_id"], one["turn"], one["facts"]["is_subagent"]) == ("parent", 0, 1)
    assert (two["session_id"], two["turn"]) == (one["session_id"], 1)
    assert (three["session_id"], three.get("parent_session_id")) == ("parent", None)


def test_responses_chained_by_id_are_one_session(gateway, place) -> None:
    answers, previous = [], {}
    for text in ("Fix it", "Go on", "And on"):
        answers.append(post(gateway, "/v1/responses", {"model": "auto", "input": text, **previous}))
        previous = {"previous_response_id": answers[-1].json()["id"]}
    records = written(place, answers, "request")
    assert len({r["session_id"] for r in records}) == 1
    assert [r["turn"] for r in records] == [0, 1, 2]
    assert len({r["candidate"] for r in records}) == 1  # locked: the provider holds what went before


def test_names_that_clients_invent_make_no_series(gateway) -> None:
    for n in range(5):
        chat(gateway, said("Hi"), f"gpt-invented-{n}")
    text = wait_for(lambda: httpx2.get(f"{gateway.url}/metrics").text)
    assert 'samediff_decisions_total{policy="pin",candidate="other"}' in text
    assert "invented" not in text


@pytest.mark.parametrize(("answered", "tier"), [("flex", "flex"), (None, "priority"), ("default", "default")])
def test_a_call_costs_what_its_tier_costs(bundle_folder, tmp_path, answered, tier) -> None:
    log, none = LogSettings(journal=str(tmp_path)), IdempotencySettings(disk=False)
    gateway = Gateway(Settings(bundle=str(bundle_folder), log=log, idempotency=none))
    body = {"model": "gpt-5.4", "messages": said("Hi"), "service_tier": "priority"}
    call = gateway.decide(read_request("openai_chat", json.dumps(body).encode()), {}, "")
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    trace = Trace()
    whole = {"id": "c", "service_tier": answered, "choices": [], "usage": usage}
    trace.answer = parse_response("openai_chat", json.dumps(whole).encode())
    record = request_record(call, trace, "features")
    factor = {"flex": 0.5, "default": 1, "priority": 2}[tier]
    assert (record.service_tier, float(record.cost_usd)) == (tier, pytest.approx(factor * 0.004))
    assert f"service_tier={body['service_tier']}" in call.receipt.constraints
