"""Clients that send too much, too slowly or nonsense: one of them never keeps the others waiting."""

import json
import signal
import socket
import sys
import threading
import time

import httpx2
import pytest
from router_servers import (
    Server,
    catalog_toml,
    free_port,
    journal_of,
    start_gateway,
    start_upstream,
    wait_for,
)

from features.errors import BadInput
from features.wire import parse_request
from features.wire.head import read_head

POSTS = ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/route")
STALLS = {
    "when": {"contains": "FAULT"},
    "steps": [{"text": "x" * 400, "fault": {"then": "stall", "after_events": 3}}],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def gateway(place, bundle_folder):
    upstream = start_upstream({"rules": [STALLS], "steps": [{"text": "Done."}]}, place)
    environ = {"SAMEDIFF_CLIENT_S": "0.5", "SAMEDIFF_MAX_BODY_MIB": "32", "SAMEDIFF_GRACE_S": "1"}
    server = start_gateway(place, bundle_folder, upstream.url, environ=environ)
    server.upstream = upstream
    yield server
    code, _, err = server.stop(signal.SIGTERM)
    upstream.stop()
    assert (code, err) == (0, "")


def connect(gateway):
    return socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=10)


def send(gateway, raw):
    """Send bytes and return all that comes back until the other side hangs up."""
    with connect(gateway) as client:
        client.sendall(raw)
        said = b""
        while piece := client.recv(65536):
            said += piece
    return said


def many(key, row, n):
    return b'{"model":"auto","max_tokens":1,"%b":[%b]}' % (key, b",".join([row] * n))


@pytest.mark.parametrize("path", [*POSTS, "/v1/outcomes"])
def test_deep_nesting_is_one_line(gateway, path) -> None:
    body = b'{"model":"auto","messages":' + b"[" * 500_000
    answer = httpx2.post(f"{gateway.url}{path}", content=body, timeout=30)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"model":"auto",' + b",".join(b'"k%d":1' % n for n in range(300)) + b"}", "301 keys"),
        (many(b"messages", b'{"role":"user","content":"x"}', 20_001), "`messages` has 20001 entries"),
        (many(b"tools", b'{"name":"a"}', 2_001)[:-1] + b',"messages":[]}', "`tools` has 2001 entries"),
        (many(b"input", b'{"role":"user","content":"x"}', 20_001), "`input` has 20001 entries"),
        (b'{"model":"auto","messages":[{"role":"user","content":"\\ud800"}]}', "half of a surrogate pair"),
    ],
)
def test_bodies_that_no_client_sends_are_refused(body, said) -> None:
    dialect = "openai_responses" if b'"input"' in body else "openai_chat"
    with pytest.raises(BadInput, match=said):
        read_head(body), parse_request(dialect, body)


def test_a_key_of_megabytes_is_read_in_one_pass() -> None:
    key = b"\\n" * 5_000_000
    assert read_head(b'{"model":"auto","' + key + b'":1}').model == "auto"
    with pytest.raises(BadInput, match="a key twice"):
        read_head(b'{"model":"auto","' + key + b'":1,"model":"a"}')


def test_a_large_body_keeps_nobody_waiting(gateway) -> None:
    parts = b",".join([b'{"type":"text","text":"some words"}'] * 80_000)
    messages = b",".join([b'{"role":"user","content":[%b]}' % parts] * 5)
    body = b'{"model":"auto","max_tokens":1,"messages":[%b]}' % messages
    answers = []
    slow = threading.Thread(
        target=lambda: answers.append(httpx2.post(f"{gateway.url}/v1/messages", content=body, timeout=60))
    )
    slow.start()
    meanwhile = 0
    while slow.is_alive():
        assert httpx2.get(f"{gateway.url}/healthz", timeout=30).status_code == 200
        meanwhile += not answers
    slow.join()
    assert answers[0].status_code == 200
    assert meanwhile > 3


def test_half_a_request_is_not_waited_for(gateway) -> None:
    assert send(gateway, b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n").startswith(b"HTTP/1.1 408")
    assert send(gateway, b"").startswith(b"HTTP/1.1 408")
    head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{"
    said = send(gateway, head)
    assert said.startswith(b"HTTP/1.1 408")
    assert b"stopped coming" in said


@pytest.mark.parametrize(
    "headers",
    [
        b"x-long: " + b"a" * 1_000_000 + b"\r\n",
        b"".join(b"x-%d: a\r\n" % n for n in range(20_000)),
        b"x-endless: " + b"a" * 200_000,
    ],
)
def test_a_head_of_any_length_is_refused(gateway, headers) -> None:
    said = send(gateway, b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 431")
    assert b"ok" not in said
    assert httpx2.get(f"{gateway.url}/healthz").text == "ok\n"


def test_kept_connections_are_kept(gateway) -> None:
    with httpx2.Client() as client:
        for _ in range(3):
            assert client.get(f"{gateway.url}/healthz").text == "ok\n"
            time.sleep(0.4)  # longer in all than a head may take


def test_counting_tokens_wants_a_request_and_ends_with_its_client(gateway) -> None:
    path = f"{gateway.url}/v1/messages/count_tokens"
    refused = httpx2.post(path, json={"model": "auto"})
    assert (refused.status_code, "messages" in refused.text) == (400, True)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    answer = httpx2.post(path, json=body)
    assert answer.json()["input_tokens"] > 0
    assert answer.headers["x-samediff-policy"] == "count_tokens"


def test_a_decision_is_written_down_before_the_answer_is_through(gateway, place) -> None:
    body = {
        "model": "auto",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "FAULT"}],
    }
    with httpx2.stream("POST", f"{gateway.url}/v1/messages", json=body, timeout=30) as answer:
        request_id = answer.headers["x-samediff-request-id"]
        decided = wait_for(lambda: ("decision", request_id) in written(place))
        assert decided
        assert ("request", request_id) not in written(place)
    assert wait_for(lambda: ("request", request_id) in written(place))


def test_a_killed_server_loses_no_decision_and_no_outcome_it_accepted(
    gateway, bundle_folder, tmp_path
) -> None:
    environ = {"SAMEDIFF_LOG_FLUSH_S": "30"}
    server = start_gateway(tmp_path, bundle_folder, gateway.upstream.url, environ=environ)
    body = {
        "model": "auto",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "FAULT"}],
    }
    with httpx2.stream("POST", f"{server.url}/v1/messages", json=body, timeout=30) as answer:
        request_id = answer.headers["x-samediff-request-id"]
        pieces = answer.iter_raw()
        next(pieces)  # held, as a generator let go of would hang up
        assert wait_for(lambda: written(tmp_path) == {("decision", request_id)})
        outcome = {"request_id": request_id, "value": 1.0, "level": "tests", "source": "ci"}
        assert httpx2.post(f"{server.url}/v1/outcomes", json=[outcome] * 3).status_code == 202
        server.stop(signal.SIGKILL)
    kept = [(kind, record["request_id"]) for kind, record in journal_of(tmp_path)]
    assert kept == [("decision", request_id), *[("outcome", request_id)] * 3]


def written(place):
    return {(kind, record.get("request_id")) for kind, record in journal_of(place)}


def test_a_model_of_another_dialect_wants_a_key_of_ours(gateway) -> None:
    body = {"model": "gpt-5.4", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-api-key": "a client's key for Anthropic, which is none for OpenAI"}
    answer = httpx2.post(f"{gateway.url}/v1/messages", json=body, headers=headers)
    assert answer.status_code == 503
    assert "set OPENAI_API_KEY" in answer.json()["error"]["message"]


def test_a_guessed_dialect_is_said_to_be_one(gateway) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    guessed = httpx2.post(f"{gateway.url}/v1/route", json=body).json()["constraints"]
    named = httpx2.post(f"{gateway.url}/v1/route?dialect=openai_chat", json=body).json()["constraints"]
    assert "dialect_by=body" in guessed
    assert [line for line in guessed if line != "dialect_by=body"] == named


def test_serve_says_in_json_what_it_serves(bundle_folder, tmp_path) -> None:
    (tmp_path / "c.toml").write_text(catalog_toml("http://127.0.0.1:9"))
    port = free_port()
    command = ["samediff.py", "serve", "--port", str(port), "--bundle", str(bundle_folder), "--json", "-"]
    journal = tmp_path / "journal"
    server = Server([sys.executable, *command, "--journal", str(journal)])
    server.wait(f"http://127.0.0.1:{port}")
    assert httpx2.get(f"{server.url}/readyz").json()["journal"] is True
    code, out, err = server.stop()
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert said.keys() == {"url", "policy", "bundle", "bundle_kind", "journal"}
    assert (said["url"], said["journal"]) == (f"http://127.0.0.1:{port}", str(journal))


def test_a_journal_that_cannot_be_written_stops_serve_in_one_line(bundle_folder, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    command = ["samediff.py", "serve", "--port", "0", "--bundle", str(bundle_folder)]
    server = Server([sys.executable, *command, "--journal", str(tmp_path / "file")])
    assert server.process.wait(30) == 2
    _, out, err = server.stop()
    assert out == ""
    assert (
        err == f"samediff: journal {tmp_path / 'file'}: File exists; choose another folder with --journal\n"
    )


def test_a_count_that_is_under_way_when_the_server_stops_is_told_so(bundle_folder, tmp_path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes the call and never answers
    server = start_gateway(
        tmp_path,
        bundle_folder,
        f"http://127.0.0.1:{silent.getsockname()[1]}",
        environ={"SAMEDIFF_GRACE_S": "1"},
    )
    answers = []
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    path = f"{server.url}/v1/messages/count_tokens"
    asking = threading.Thread(target=lambda: answers.append(httpx2.post(path, json=body, timeout=30)))
    asking.start()
    call, _ = silent.accept()
    code, _, err = server.stop(signal.SIGTERM)
    asking.join(10)
    call.close()
    silent.close()
    assert (code, "Traceback" in err) == (0, False)
    assert (answers[0].status_code, "being stopped" in answers[0].text) == (503, True)
