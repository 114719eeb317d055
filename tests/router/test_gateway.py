"""The gateway for real: a process of its own before the scripted upstream, driven by the official SDKs."""

import http.server
import json
import shutil
import signal
import socket
import sys
import threading
import time

import anthropic
import httpx2
import msgspec
import openai
import pytest
import xxhash
from router_servers import Server, free_port, journal_of, start_gateway, start_upstream, wait_for

from features.records import DecisionRecord, RequestRecord
from models.bundle import Bundle
from router.catalog import Catalog
from router.decide import Decider
from router.policy import parse_policy
from router.receipt import recompute

POLICY = "learned:max_loss=0.05"


def _rule(mark, **fault):
    return {"when": {"contains": mark}, "steps": [{"text": "x" * 400, "fault": fault}]}


SCRIPT = {
    "rules": [
        _rule("FAULT-429", status=429, retry_after_s=7),
        _rule("FAULT-500", status=500),
        _rule("FAULT-HEAD", then="drop"),
        _rule("FAULT-DROP", then="drop", after_events=4),
        _rule("FAULT-WHOLE", then="drop", after_events=0),
        _rule("FAULT-END", then="end", after_events=4),
        _rule("FAULT-GARBAGE", then="garbage", after_events=3),
        _rule("FAULT-STALL", then="stall", after_events=3),
        _rule("FAULT-SILENT", delay_ms=60_000),
    ],
    "steps": [
        {"text": "Let me look.", "calls": [{"name": "sh", "arguments": {"cmd": "ls \u20ac"}}]},
        {"text": "Done."},
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def upstream(place):
    server = start_upstream(SCRIPT, place)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(place, bundle_folder, upstream):
    server = start_gateway(
        place, bundle_folder, upstream.url, "--policy", POLICY, environ={"ZAI_API_KEY": "ours-zai"}
    )
    yield server
    code, _, err = server.stop(signal.SIGINT)
    assert code == 0
    assert "Traceback" not in err


@pytest.fixture
def seen(upstream):
    httpx2.delete(f"{upstream.url}/_requests")
    return lambda: httpx2.get(f"{upstream.url}/_requests").json()


def key_digest(value):
    from router.scripted.app import key_digest as digest

    return digest(value)


def chat_body(content="Fix the bug", model="auto", **more):
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def claude_body(content="Fix the bug", model="auto", **more):
    return chat_body(content, model, max_tokens=500, **more)


def post(gateway, path, body, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(f"{gateway.url}{path}", content=raw, headers=headers, timeout=30)


def records(place, response, kind="request"):
    """The journal's record of a response, once it is there."""
    request_id = response.headers["x-samediff-request-id"]
    types = {"request": RequestRecord, "decision": DecisionRecord}

    def find():
        found = [r for k, r in journal_of(place) if k == kind and r["request_id"] == request_id]
        return msgspec.convert(found[0], types[kind], strict=False) if found else None

    return wait_for(find)


TOOLS = [{"type": "function", "function": {"name": "sh", "parameters": {"type": "object"}}}]


def test_the_openai_sdk(gateway) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="theirs", max_retries=0)
    answer = client.chat.completions.create(**chat_body(), tools=TOOLS)
    call = answer.choices[0].message.tool_calls[0].function
    assert json.loads(call.arguments) == {"cmd": "ls \u20ac"}
    with client.chat.completions.create(
        **chat_body(), tools=TOOLS, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    assert "".join(d.content or "" for d in deltas) == "Let me look."
    streamed = "".join(t.function.arguments or "" for d in deltas for t in d.tool_calls or [])
    assert json.loads(streamed) == {"cmd": "ls \u20ac"}
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    assert next(m.id for m in client.models.list()) == "auto"
    response = client.responses.create(model="auto", input="Fix the bug")
    assert response.output_text.startswith("Let me look.")


def test_the_anthropic_sdk(gateway) -> None:
    client = anthropic.Anthropic(base_url=gateway.url, api_key="theirs", max_retries=0)
    tools = [{"name": "sh", "input_schema": {"type": "object"}}]
    answer = client.messages.create(**claude_body(), tools=tools)
    assert answer.content[-1].input == {"cmd": "ls \u20ac"}
    with client.messages.stream(**claude_body(), tools=tools) as stream:
        final = stream.get_final_message()
    assert final.content[-1].input == answer.content[-1].input
    assert final.usage.output_tokens == answer.usage.output_tokens
    assert client.messages.count_tokens(model="auto", messages=claude_body()["messages"]).input_tokens > 0
    assert client.models.list().data[0].id == "auto"


def test_only_the_model_changes_on_the_way(gateway, seen) -> None:
    words = b'"\\"model\\":\\"auto\\" caf\xc3\xa9"'
    raw = b'{ "messages":[{"role":"user","content":' + words + b'}],  "model" :"auto","zz":1.10}'
    answer = post(gateway, "/v1/chat/completions", raw)
    chosen = answer.headers["x-samediff-candidate"]
    model = Catalog.load().deployments[answer.headers["x-samediff-deployment"]].model
    sent = raw.replace(b'"model" :"auto"', b'"model" :' + json.dumps(model).encode())
    assert seen()[0]["body_xxh64"] == xxhash.xxh3_64_hexdigest(sent)
    assert chosen == answer.json()["model"]
    pinned = post(
        gateway, "/v1/messages", json.dumps(claude_body(model="claude-haiku-4-5-20251001")).encode()
    )
    assert pinned.headers["x-samediff-policy"] == "pin:claude-haiku-4-5-20251001"
    assert seen()[1]["model"] == "claude-haiku-4-5-20251001"


def test_headers_and_query_pass_and_hop_by_hop_does_not(gateway, seen) -> None:
    sent = {
        "anthropic-beta": "a,b",
        "anthropic-version": "2023-06-01",
        "x-api-key": "theirs",
        "te": "trailers",
    }
    answer = post(gateway, "/v1/messages?beta=true", claude_body(), **sent, cookie="c=1")
    entry = seen()[0]
    assert entry["query"] == "beta=true"
    assert entry["headers"]["anthropic-beta"] == "a,b"
    assert entry["headers"]["accept-encoding"] == "identity"
    assert entry["headers"]["x-api-key"] == key_digest("theirs")
    assert not {"te", "cookie"} & entry["headers"].keys()
    assert answer.headers["request-id"].startswith("req_")


def test_a_clients_key_never_goes_to_another_seller(gateway, seen) -> None:
    answer = post(gateway, "/v1/chat/completions", chat_body(model="glm-5"), authorization="Bearer theirs")
    assert answer.status_code == 200
    assert seen()[0]["headers"]["authorization"] == key_digest("Bearer ours-zai")
    without = post(gateway, "/v1/chat/completions", chat_body(model="kimi-k2.5"), authorization="Bearer x")
    assert without.status_code == 503
    assert "MOONSHOT_API_KEY" in without.json()["error"]["message"]
    assert len(seen()) == 1


def test_the_journal_holds_usage_cost_and_a_receipt_that_recomputes(gateway, place, bundle_folder) -> None:
    answer = post(
        gateway,
        "/v1/messages",
        claude_body("Fix " + "the bug " * 400),
        **{"user-agent": "claude-cli/2.1.9 (x)"},
    )
    record = records(place, answer)
    usage = answer.json()["usage"]
    assert record.input_tokens_uncached == usage["input_tokens"]
    assert record.output_tokens == usage["output_tokens"]
    assert record.cost_usd > 0
    assert (record.status, record.http_status, record.attempts) == ("ok", 200, 1)
    assert (record.harness, record.harness_version) == ("claude_code", "2.1.9")
    assert record.prompt_text is None
    assert record.facts is not None
    catalog = Catalog.load(place / "catalog.toml")
    decider = Decider(Bundle.load(bundle_folder), catalog, parse_policy(POLICY))
    receipt = records(place, answer, "decision")
    assert msgspec.json.encode(recompute(receipt, decider)) == msgspec.json.encode(receipt)
    assert "the bug" not in json.dumps(journal_of(place))


def test_a_session_keeps_its_candidate_and_its_loop_is_locked(gateway, place) -> None:
    header = {"x-claude-code-session-id": "session-7"}
    first = post(gateway, "/v1/chat/completions", chat_body(model="gpt-5.4"), **header)
    loop = [
        {"role": "user", "content": "Fix the bug"},
        first.json()["choices"][0]["message"]
        | {"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "sh", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]
    second = post(gateway, "/v1/chat/completions", {"model": "auto", "messages": loop}, **header)
    receipt = records(place, second, "decision")
    assert (receipt.session_id, receipt.chosen, receipt.locks) == ("session-7", "gpt-5.4", ["tool_loop"])


@pytest.mark.parametrize(("mark", "status"), [("FAULT-429", 429), ("FAULT-500", 500)])
def test_upstream_errors_pass_through(gateway, place, mark, status) -> None:
    answer = post(gateway, "/v1/chat/completions", chat_body(mark))
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == "scripted failure"
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    record = records(place, answer)
    assert (record.status, record.http_status) == ("error", status)
    assert record.cost_usd is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_that_drops_before_the_head_is_a_502(gateway, stream) -> None:
    answer = post(gateway, "/v1/messages", claude_body("FAULT-HEAD", stream=stream))
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "api_error"
    assert answer.headers["x-samediff-candidate"]


def test_a_whole_body_cut_short_is_a_502_not_half_a_body(gateway) -> None:
    answer = post(gateway, "/v1/chat/completions", chat_body("FAULT-WHOLE"))
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_failed"


def test_a_stream_cut_short_says_so_to_the_reader(gateway, place) -> None:
    client = anthropic.Anthropic(base_url=gateway.url, api_key="theirs", max_retries=0)
    with pytest.raises(anthropic.APIStatusError, match="broke off"):
        list(client.messages.create(**claude_body("FAULT-DROP"), stream=True))
    talker = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="theirs", max_retries=0)
    with pytest.raises(openai.APIError, match="broke off"):
        list(talker.chat.completions.create(**chat_body("FAULT-DROP"), stream=True))
    asked = {"model": "gpt-5.4", "input": "FAULT-DROP"}
    with pytest.raises(openai.APIError, match="broke off"):
        list(talker.responses.create(**asked, stream=True))
    told = httpx2.post(f"{gateway.url}/v1/responses", json=asked | {"stream": True}, timeout=30).text
    last = json.loads(told.rpartition("data: ")[2])
    assert (last["type"], last["code"], type(last["sequence_number"])) == ("error", "upstream_failed", int)
    assert wait_for(
        lambda: [r for k, r in journal_of(place) if k == "request" and r.get("status") == "truncated"]
    )


@pytest.mark.parametrize("mark", ["FAULT-END", "FAULT-GARBAGE"])
def test_odd_streams_pass_through_and_are_marked(gateway, place, mark) -> None:
    answer = post(gateway, "/v1/chat/completions", chat_body(mark, stream=True))
    assert answer.status_code == 200
    assert records(place, answer).status == ("truncated" if mark == "FAULT-END" else "ok")
    assert ("broke off" in answer.text) == (mark == "FAULT-END")


@pytest.mark.parametrize("mark", ["FAULT-STALL", "FAULT-SILENT"])
def test_a_client_that_leaves_stops_upstream_and_is_written_down(gateway, upstream, place, mark) -> None:
    raw = json.dumps(claude_body(f"{mark} {time.time_ns()}", stream=True)).encode()
    before = sum(r.get("status") == "cancelled" for _, r in journal_of(place))
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
        client.sendall(head.encode() + raw)
        client.settimeout(5)
        if mark == "FAULT-STALL":
            said = b""
            while b"message_start" not in said:
                said += client.recv(4096)
        else:
            time.sleep(0.3)
    gone = wait_for(lambda: [r for _, r in journal_of(place) if r.get("status") == "cancelled"][before:])
    assert gone, "the stalled upstream would have kept us a minute"
    if mark == "FAULT-STALL":  # Messages counts the prompt in its first event: it was spent, so it is written
        assert gone[0]["input_tokens_uncached"] > 0
        assert gone[0]["flags"] == ["output_tokens_estimated"]


def test_a_server_asked_to_stop_writes_down_what_it_breaks_off(bundle_folder, upstream, tmp_path) -> None:
    server = start_gateway(tmp_path, bundle_folder, upstream.url, environ={"SAMEDIFF_GRACE_S": "1"})
    raw = json.dumps(claude_body("FAULT-STALL", stream=True)).encode()
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
        client.sendall(head.encode() + raw)
        said = b""
        while b"message_start" not in said:
            said += client.recv(4096)
        code, _, err = server.stop(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in err
    kinds = [(kind, record.get("status")) for kind, record in journal_of(tmp_path)]
    assert kinds == [("decision", None), ("request", "cancelled")]


class Html(http.server.BaseHTTPRequestHandler):
    """A proxy's error page."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(502)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Bad Gateway</h1>")

    def log_message(self, *_):
        pass


def test_html_is_told_in_the_dialect_and_an_absent_upstream_is_a_502(bundle_folder, tmp_path) -> None:
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Html)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    server = start_gateway(tmp_path, bundle_folder, f"http://127.0.0.1:{proxy.server_port}")
    try:
        answer = post(server, "/v1/chat/completions", chat_body())
        told = answer.json()["error"]
        assert (answer.status_code, told["message"]) == (502, "the provider answered 502 with HTML")
        assert answer.headers["content-type"] == "application/json"
        proxy.shutdown()
        proxy.server_close()
        answer = post(server, "/v1/chat/completions", chat_body())
        assert answer.status_code == 502
        assert "can't be reached" in answer.json()["error"]["message"]
    finally:
        code, _, err = server.stop(signal.SIGTERM)
    assert (code, err) == (0, "")
    assert [r["status"] for k, r in journal_of(tmp_path) if k == "request"] == ["error", "error"]


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"", 400, "not a JSON object"),
        (b"not json", 400, "not a JSON object"),
        (b'{"model":"auto"}', 400, "messages"),
        (b'{"model":"auto","messages":7}', 400, "messages"),
        (b'{"model":["auto"],"messages":[]}', 400, "'model'"),
        (b'{"model":"auto","messages":[],"model":"gpt-5.4"}', 400, "a key twice"),
        (b'{"model":"\xff","messages":[]}', 400, "must be a string"),
        (b'{"model":"no-such-model","messages":[{"role":"user","content":"x"}]}', 404, "/v1/models"),
        (
            b'{"model":"auto","messages":[{"role":"user","content":"' + b"x" * 2**20 + b'"}]}',
            413,
            "over 1 MiB",
        ),
        (b"[" * 100_000, 400, "not a JSON object"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/route"])
def test_bad_requests_are_one_line_in_the_dialect(gateway, path, raw, status, said) -> None:
    answer = post(gateway, path, raw)
    assert answer.status_code == status
    body = answer.json()
    assert said in body["error"]["message"]
    assert "\n" not in body["error"]["message"]
    assert ("type" in body) == (path == "/v1/messages")
    assert answer.headers["x-samediff-request-id"]


def test_a_client_that_leaves_while_asking_is_no_fault_of_ours(gateway) -> None:
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    refused = 'samediff_refused_total{status="400"}'
    assert wait_for(lambda: refused in httpx2.get(f"{gateway.url}/metrics").text)


def test_a_body_without_a_length_is_limited_too(gateway) -> None:
    answer = httpx2.post(f"{gateway.url}/v1/messages", content=(b"x" * 100_000 for _ in range(30)))
    assert answer.status_code == 413


def test_route_decides_without_calling(gateway, seen) -> None:
    answer = post(gateway, "/v1/route", claude_body(system="You fix bugs."))
    receipt = msgspec.json.decode(answer.content, type=DecisionRecord)
    assert receipt.deployment.endswith("/anthropic_messages")
    assert receipt.chosen == answer.headers["x-samediff-candidate"]
    assert seen() == []
    named = post(gateway, "/v1/route?dialect=openai_responses", {"model": "auto", "input": "hi"})
    assert named.json()["deployment"].endswith("/openai_responses")
    assert post(gateway, "/v1/route?dialect=morse", {}).status_code == 400


def test_outcomes_are_written(gateway, place) -> None:
    answer = post(
        gateway, "/v1/outcomes", [{"request_id": "r", "level": "tests", "value": 1.0, "source": "ci"}]
    )
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    found = wait_for(lambda: [r for k, r in journal_of(place) if k == "outcome"])
    assert (found[0]["source"], found[0]["value"]) == ("ci", 1.0)
    for bad in ({"value": 2.0, "task_id": "t"}, {"value": 0.5}, {"task_id": "t", "level": "L9"}, 7):
        assert post(gateway, "/v1/outcomes", bad).status_code == 400


def test_the_pages_for_people_and_machines(gateway) -> None:
    assert httpx2.get(f"{gateway.url}/healthz").text == "ok\n"
    assert httpx2.get(f"{gateway.url}/readyz").json()["ready"] is True
    assert post(gateway, "/v1/chat/completions", chat_body()).status_code == 200
    counted = 'samediff_requests_total{dialect="openai_chat"'
    assert wait_for(lambda: counted in httpx2.get(f"{gateway.url}/metrics").text)
    assert "samediff_journal_dropped_total 0" in httpx2.get(f"{gateway.url}/metrics").text
    page = httpx2.get(f"{gateway.url}/").text
    assert "Last decisions" in page
    assert "Fix the bug" not in page
    assert httpx2.get(f"{gateway.url}/nowhere").status_code == 404


def test_a_port_in_use_is_one_line(gateway, bundle_folder) -> None:
    port = gateway.url.rsplit(":", 1)[1]
    command = ["samediff.py", "serve", "--port", port, "--bundle", str(bundle_folder)]
    assert _refused(command) == f"samediff: port {port} on 127.0.0.1 is in use; choose another with --port\n"


def test_a_bundle_that_was_tampered_with_is_one_line(bundle_folder, tmp_path) -> None:
    shutil.copytree(bundle_folder, tmp_path / "b")
    (tmp_path / "b" / "heads.onnx").write_bytes(b"another graph")
    said = _refused(["samediff.py", "serve", "--port", str(free_port()), "--bundle", str(tmp_path / "b")])
    assert "digest" in said
    assert said.count("\n") == 1


def _refused(command):
    server = Server([sys.executable, *command])
    assert server.process.wait(30) == 2
    _, out, err = server.stop()
    assert out == ""
    return err
