"""What a provider's bytes may do to a call: events cut in two, statuses that are none, odd waits."""

import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_failing import ask, record, running
from router_servers import journal_of

from router.gateway.exchange import _has_event, first_event, stillborn
from router.gateway.ratelimits import MOST_S

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WHOLE = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"well"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
_SAID = b'event: %b\ndata: {"type":"%b","response":{"id":"r","status":"%b","output":[]}}\n\n'
_DELTA = b'data: {"type":"response.output_text.delta","output_index":0,"delta":"well"}\n\n'
BEGUN = _SAID % (b"response.created", b"response.created", b"in_progress") + _DELTA
DONE = _SAID % (b"response.completed", b"response.completed", b"completed")
RESPONSES_PATHS = ["/v1/responses", "/v1/chat/completions", "/v1/messages"]
CHAT_ERROR = b'data: {"error":{"type":"server_error","message":"busy"}}\n\n'


@contextmanager
def provider(*pieces):
    """Answer every connection with these bytes, 30 ms apart."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(65536)
                for piece in pieces:
                    client.sendall(piece)
                    time.sleep(0.03)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def rows(east, west, *, responses=False):
    def endpoint(name, url):
        urls = f'{{ openai_chat = "{url}/v1", anthropic_messages = "{url}" }}'
        if responses:
            urls = f'{{ openai_responses = "{url}/v1" }}'
        return f'[endpoints.{name}]\nprovider = "openai"\nbase_urls = {urls}\nkey_env = "EAST_KEY"\n'

    return f"""replace = true
{endpoint("east", east)}
{endpoint("west", west)}
[candidates.big]
endpoints = {{ east = "gpt-5.4", west = "gpt-5.4" }}
[aliases.auto]
candidates = ["big"]
reference = {{ openai_chat = "big", anthropic_messages = "big", openai_responses = "big" }}
"""


@pytest.fixture
def gateway(tmp_path, bundle_folder, monkeypatch):
    monkeypatch.setenv("EAST_KEY", "key")

    @contextmanager
    def start(east, west=None, more="", *, responses=False):
        with provider(*east) as first, provider(*(west or east)) as second:
            settings = f"[retry]\nbackoff_s = 0.01\nwait_s = 0.2\n{more}"
            catalog = rows(first.url, second.url, responses=responses)
            with running(tmp_path, bundle_folder, None, settings, catalog) as server:
                yield server

    return start


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD, CHAT_ERROR[:9], CHAT_ERROR[9:]),
        (HEAD, CHAT_ERROR[:-1], CHAT_ERROR[-1:]),
        (HEAD, b": keep-alive\n\n", CHAT_ERROR),
        (HEAD, b": keep-alive\n\n"),
    ],
)
def test_an_error_that_comes_in_pieces_is_answered_by_another(gateway, pieces) -> None:
    with gateway(pieces, (HEAD, WHOLE)) as server:
        answer = ask(server, stream=True)
    assert (answer.status_code, "well" in answer.text, "busy" in answer.text) == (200, True, False)
    assert answer.headers["x-samediff-deployment"].startswith("west/")


def test_an_answer_in_pieces_goes_out_whole(gateway) -> None:
    pieces = (HEAD, b": hello\n\n", WHOLE[:20], WHOLE[20:60], WHOLE[60:])
    with gateway(pieces) as server:
        assert ask(server, stream=True).content == b": hello\n\n" + WHOLE


def test_an_answer_that_comes_with_its_end_goes_out_whole(gateway, tmp_path) -> None:
    kept = HEAD.replace(b"connection: close", b"content-length: %d")
    cut = WHOLE.partition(b"\n\n")[0].replace(b'"stop"', b"null") + b"\n\n"
    with gateway((kept % len(WHOLE) + WHOLE,)) as server:
        assert ask(server, stream=True).content == WHOLE
    with gateway((kept % len(cut) + cut,)) as server:
        said = ask(server, stream=True).content
    assert said.startswith(cut)
    assert b"broke off" in said.removeprefix(cut)
    statuses = [kept["status"] for kind, kept in journal_of(tmp_path) if kind == "request"]
    assert statuses == ["ok", "truncated"]


@pytest.mark.parametrize("path", RESPONSES_PATHS)
def test_a_responses_stream_that_has_only_begun_is_cut_short(gateway, tmp_path, path) -> None:
    kept = HEAD.replace(b"connection: close", b"content-length: %d") % len(BEGUN)
    breaker = "[breaker]\nfailures = 1\n"
    with gateway((kept + BEGUN,), (HEAD, BEGUN + DONE), breaker, responses=True) as server:
        answer, again = (ask(server, path=path, input="Hi", stream=True) for _ in range(2))
        found = record(tmp_path, answer)
    assert (answer.status_code, "well" in answer.text, '"error"' in answer.text) == (200, True, True)
    assert (found["status"], found["error_kind"], found.get("finish_reason")) == (
        "truncated",
        "dropped",
        None,
    )
    assert again.headers["x-samediff-deployment"].startswith("west/")
    assert record(tmp_path, again)["status"] == "ok"


@pytest.mark.parametrize("path", RESPONSES_PATHS)
def test_a_held_responses_stream_that_has_only_begun_is_asked_for_elsewhere(gateway, tmp_path, path) -> None:
    tool = {"name": "sh", "input_schema": {}}
    if path != "/v1/messages":
        tool = {"type": "function", "name": "sh", "parameters": {}, "function": {"name": "sh"}}
    hold = '[tools]\ncheck = "retry"\nhold = "all"\n'
    with gateway((HEAD, BEGUN), (HEAD, BEGUN + DONE), hold, responses=True) as server:
        answer = ask(server, path=path, input="Hi", stream=True, tools=[tool])
        found = record(tmp_path, answer)
    assert ("well" in answer.text, "broke off" in answer.text, found["status"]) == (True, False, "ok")
    assert [attempt.get("error_kind") for attempt in found["tries"]] == ["dropped", None]


@pytest.mark.parametrize("path", RESPONSES_PATHS)
@pytest.mark.parametrize("status", ["in_progress", "queued"])
def test_a_whole_response_that_is_not_final_is_no_answer(gateway, tmp_path, path, status) -> None:
    text = [{"type": "message", "content": [{"type": "output_text", "text": "well"}]}]
    head = HEAD.replace(b"text/event-stream", b"application/json")
    first, last = (
        (head, json.dumps({"id": "r", "status": said, "output": text}).encode())
        for said in (status, "completed")
    )
    with gateway(first, last, responses=True) as server:
        answer = ask(server, path=path, input="Hi")
        found = record(tmp_path, answer)
    assert (answer.status_code, "well" in answer.text, found["status"]) == (200, True, "ok")
    assert [attempt.get("error_kind") for attempt in found["tries"]] == ["dropped", None]
    with gateway(first, responses=True) as server:
        answer = ask(server, path=path, input="Hi")
        found = record(tmp_path, answer)
    assert (answer.status_code, found["status"], found["error_kind"]) == (502, "error", "dropped")


def test_a_header_that_none_can_send_is_left_out(gateway) -> None:
    head = HEAD.replace(b"\r\n\r\n", b"\r\nx-odd: a\x01b\x7f\r\nx-plain: c\r\n\r\n")
    with gateway((head, WHOLE)) as server:
        answer = ask(server, stream=True)
    assert (answer.status_code, answer.content) == (200, WHOLE)
    assert (answer.headers.get("x-odd"), answer.headers["x-plain"]) == (None, "c")


def test_an_error_that_calls_itself_a_stream_is_passed_on(gateway) -> None:
    head = HEAD.replace(b"200 OK", b"400 Bad Request")
    with gateway((head, CHAT_ERROR)) as server:
        answer = ask(server, stream=True)
    assert (answer.status_code, answer.content) == (400, CHAT_ERROR)


async def test_comments_are_not_held_back_for_ever(monkeypatch) -> None:
    monkeypatch.setattr("router.gateway.exchange._PEEK_S", 0.05)

    async def comments():
        for _ in range(100):
            yield b": keep-alive\n\n"
        raise AssertionError("more was taken in than fits")

    monkeypatch.setattr("router.gateway.exchange._PEEK_BYTES", 60)
    assert len(await first_event(b": keep-alive\n\n", comments())) < 100


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("status", [b"999 Odd", b"600 Odd", b"302 Found", b"307 Temporary", b"304 Same"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_answer_is_an_error_in_the_dialect(gateway, tmp_path, path, status, stream) -> None:
    body = b"" if status.startswith(b"304") else b"content-length: 2\r\n"
    raw = b"HTTP/1.1 %b\r\nlocation: http://127.0.0.1:1/\r\n%bconnection: close\r\n\r\n" % (status, body)
    with gateway((raw + (b"{}" if body else b""),)) as server:
        answer = ask(server, path=path, stream=stream)
        assert answer.status_code == 502
        assert "location" not in answer.headers
        assert answer.json()["error"]["type"] == ("api_error" if path == "/v1/messages" else "server_error")
        assert record(tmp_path, answer)["status"] == "error"


@pytest.mark.parametrize(
    ("said", "told"),
    [("-5", None), ("1e20", None), (f"{MOST_S * 9:.0f}", None), ("soon", None), ("7", "7")],
)
def test_only_times_that_can_be_waited_are_passed_on(gateway, said, told) -> None:
    raw = f"HTTP/1.1 400 Bad\r\nretry-after: {said}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    with gateway((raw.encode(),)) as server:
        answer = httpx2.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": "x"}]},
            timeout=30,
        )
    assert (answer.status_code, answer.headers.get("retry-after")) == (400, told)


@given(st.lists(st.sampled_from([b"data", b"x", b": ", b"\n", b"\r"]), max_size=12).map(b"".join))
def test_an_event_is_seen_to_be_whole_however_its_lines_end(said) -> None:
    line, end = rb"(?:^|[\r\n])data.*?", rb"(?:\n\n|\r\r|\r\n\r\n)"
    assert _has_event(said) == (re.search(line + end, said, re.DOTALL) is not None)


@pytest.mark.parametrize(
    ("dialect", "said", "kind"),
    [
        ("anthropic_messages", b'{"type": "error", "error": {"type": "overloaded_error"}}', "http_529"),
        ("openai_chat", b'{"id":"c","error":{"type":"server_error"}}', "http_500"),
        ("openai_responses", b'{"type":"error","code":"server_error"}', "http_500"),
        (
            "openai_responses",
            b'{"type":"response.failed","response":{"error":{"code":"server_error"},"x":{"error":null}}}',
            "http_500",
        ),
        ("openai_responses", b'{"type":"response.created","response":{"error": null}}', None),
    ],
)
def test_a_stream_that_begins_with_an_error_is_none(dialect, said, kind) -> None:
    failure = stillborn(dialect, b"event: x\ndata: %b\n\n" % said)
    assert (failure and failure.kind) == kind


@pytest.mark.parametrize(
    "said",
    [
        b'{"type":"x","delta":{"type":"input_json_delta","partial_json":"{\\"error\\":1}"}}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"an error, \\"error\\""}}',
        b'{"type":"response.created","response":{"error":null,"incomplete_details":null}}',
    ],
)
def test_what_only_speaks_of_errors_is_not_read_for_one(monkeypatch, said) -> None:
    monkeypatch.setattr("router.gateway.exchange.StreamReader", None)
    assert stillborn("anthropic_messages", b"event: x\ndata: %b\n\n" % said) is None
