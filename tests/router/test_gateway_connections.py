"""What a connection may do: trailers without end, bodies nobody reads, upgrades, HTTP/1.0, pipelining."""

import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import httpx2
import psutil
import pytest
from router_servers import start_gateway, start_upstream, wait_for

BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}).encode()
STREAM = json.dumps({**json.loads(BODY), "stream": True}).encode()
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


def send(gateway, *pieces):
    """Send bytes and return all that comes back until the other side hangs up."""
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=10) as client:
        said = b""
        with suppress(ConnectionError):  # hung up on while there was more to say
            for piece in pieces:
                client.sendall(piece)
            while piece := client.recv(65536):
                said += piece
    return said


def test_trailers_are_bounded(gateway) -> None:
    head = CHAT + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    said = send(gateway, head, *[b"x-%02d: %b\r\n" % (n, b"y" * 996) for n in range(67)])
    assert said.startswith(b"HTTP/1.1 431 ") or not said
    few = head.replace(b"host: x", b"host: x\r\nconnection: close") + b"x-a: b\r\n\r\n"
    assert send(gateway, few).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("length", [b"content-length: 9000000", b"transfer-encoding: chunked"])
def test_a_body_that_is_too_large_is_refused_and_hung_up_on(gateway, length) -> None:
    chunk = b"x" * 65_536 if b"length" in length else b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    said = send(gateway, CHAT + length + b"\r\n\r\n", *[chunk] * 30)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in said
    assert b"request_too_large" in said


def test_upgrades_are_ignored(gateway) -> None:
    asked = (
        b"connection: Upgrade, HTTP2-Settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
    )
    head = CHAT + asked + b"content-length: %d\r\n\r\n" % len(BODY)
    for pieces in ((head + BODY,), (head, BODY), (head[:40], head[40:], BODY[:9], BODY[9:])):
        said = send(gateway, *pieces)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"Done." in said
    said = send(gateway, b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"This is no proxy." in said


@pytest.mark.parametrize("body", [BODY, STREAM])
def test_http_1_0_gets_no_chunks(gateway, body) -> None:
    head = CHAT.replace(b"1.1", b"1.0") + b"content-length: %d\r\n\r\n" % len(body)
    answered, _, said = send(gateway, head + body).partition(b"\r\n\r\n")
    assert b" 200 " in answered
    assert b"transfer-encoding" not in answered
    assert b"connection: close" in answered
    assert said.startswith(b"data: " if body is STREAM else b"{")
    assert said.endswith(b"data: [DONE]\n\n" if body is STREAM else b"}")


AHEAD = {
    "one": [STREAM],
    "several": [STREAM] * 4,
    "one not whole": [STREAM, None],
    "a large one": [b'{"model":"auto","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 400_000)],
}
AHEAD["a large one not whole"] = [*AHEAD["a large one"], None]


def asks(*bodies):
    """Requests behind one another; the last is cut short where None follows."""
    said = b"".join(CHAT + b"content-length: %d\r\n\r\n" % len(body) + body for body in bodies if body)
    return said[:-9] if bodies[-1] is None else said


@contextmanager
def stalling():
    """A provider that begins an answer and never ends it; gives its url and when its callers hung up."""
    listener, left = socket.create_server(("127.0.0.1", 0)), []
    event = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"well"}}]}\n\n'

    def answer(caller):
        with caller, suppress(ConnectionError):
            caller.recv(65536)
            caller.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event)
            while caller.recv(65536):
                pass
        left.append(time.monotonic())

    def serve():
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{listener.getsockname()[1]}", left=left)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_who_leaves_with_requests_ahead_of_its_answer_is_noticed(tmp_path, bundle_folder) -> None:
    with stalling() as provider:
        server = start_gateway(tmp_path, bundle_folder, provider.url)
        for how, ahead in AHEAD.items():
            for apart in (False, True):  # sent with the first one, or when its answer has begun
                provider.left.clear()
                with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
                    client.settimeout(5)
                    client.sendall(asks(STREAM, *(() if apart else ahead)))
                    said = b""
                    while b"well" not in said:
                        said += client.recv(65536)
                    if apart:
                        client.sendall(asks(*ahead))
                    time.sleep(0.1)
                assert wait_for(lambda: provider.left, 5), (how, apart)
        metrics = httpx2.get(f"{server.url}/metrics").text
        in_flight = [line for line in metrics.splitlines() if line.startswith("samediff_in_flight")]
        assert in_flight
        assert all(line.endswith(" 0") for line in in_flight)
        code, _, err = server.stop()
        assert (code, err) == (0, "")


def test_requests_ahead_of_their_answers_are_answered_in_turn(gateway) -> None:
    last = CHAT + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    large = AHEAD["a large one"][0]
    said = send(gateway, asks(*[BODY] * 30, large, STREAM, large) + last)
    assert said.count(b"HTTP/1.1 200 ") == 34
    assert said.count(b"data: [DONE]") == 1


LONG = b"GET /healthz HTTP/1.1\r\nhost: x\r\na: " + b"b" * 66_000 + b"\r\n\r\n"
SMALL = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("behind", [SMALL, b"no request\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_who_was_refused_is_hung_up_on_whatever_it_sent_behind(gateway, behind) -> None:
    """Its own side stays open, and sees no more than the end of what it is told."""
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall(LONG + behind)
        said = b""
        while piece := client.recv(65536):
            said += piece
        assert said.startswith(b"HTTP/1.1 431 ")
        assert said.count(b"HTTP/1.1 ") == 1
        assert wait_for(lambda: not holds(gateway, client), 5)


def holds(gateway, client):
    """Whether the gateway still has its end of a client's connection."""
    port = client.getsockname()[1]
    theirs = psutil.Process(gateway.process.pid).net_connections()
    return any(here.raddr and here.raddr.port == port for here in theirs)


@pytest.mark.parametrize("upgrade", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"])
def test_a_head_that_begins_where_a_body_ends_is_bounded(gateway, upgrade) -> None:
    first = CHAT + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    head = SMALL[:-2] + upgrade + b"a: " + b"b" * 60_000
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall(first + head)
        said = client.recv(65536)
        client.sendall(b"\r\nc: " + b"d" * 4_000)
        time.sleep(0.2)
        client.sendall(b"d" * 4_000 + b"\r\n\r\n")
        while piece := client.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 431 " in said


def test_small_requests_in_any_number_are_no_long_head(gateway) -> None:
    last = SMALL[:-2] + b"connection: close\r\n\r\n"
    count = 3_000
    assert send(gateway, SMALL * count + last[:30], last[30:]).count(b"HTTP/1.1 200 ") == count + 1


def test_how_long_a_connection_is_kept_with_nothing_and_with_half_a_head_on_it(gateway) -> None:
    """An empty line is nothing; a head may take longer, also one that was begun ahead of an answer."""
    place = ("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    with (
        socket.create_connection(place, timeout=20) as idle,
        socket.create_connection(place, timeout=20) as slow,
    ):
        idle.sendall(SMALL)
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
        idle.sendall(b"\r\n")
        slow.sendall(SMALL + SMALL[:20])
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert idle.recv(65536) == b""
        time.sleep(1)
        slow.sendall(SMALL[20:])
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")


BAD = {
    "no head": (b"no request\r\n\r\n", 400),
    "a long one": (LONG, 431),
    "a proxy's": (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "half of one": (SMALL[:20], 408),
    "a bad chunk": (CHAT + b"transfer-encoding: chunked\r\n\r\nx\r\n", 400),
}


@pytest.fixture(scope="module")
def slow_gateway(tmp_path_factory, bundle_folder):
    """Its provider takes longer than a head may."""
    place = tmp_path_factory.mktemp("slow")
    upstream = start_upstream({"steps": [{"text": "Done.", "fault": {"delay_ms": 700}}]}, place)
    server = start_gateway(place, bundle_folder, upstream.url, environ={"SAMEDIFF_CLIENT_S": "0.3"})
    yield server
    server.stop()
    upstream.stop()


def refused(gateway, status):
    """How many requests the gateway says it refused so before they got to an endpoint."""
    metrics = httpx2.get(f"{gateway.url}/metrics").text
    named = f'samediff_refused_total{{status="{status}"}} '
    return next((int(line.split()[-1]) for line in metrics.splitlines() if line.startswith(named)), 0)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("bad", "status"), BAD.values(), ids=BAD)
def test_what_is_refused_waits_for_the_answers_before_it(slow_gateway, bad, status, apart) -> None:
    """It neither cuts one off nor is taken for it; and it is counted."""
    before = refused(slow_gateway, status)
    for asked, ends in ((BODY, b"}"), (STREAM, b"data: [DONE]\n\n")):
        head = CHAT + b"content-length: %d\r\n\r\n" % len(asked)
        pieces = (head + asked, head + asked + bad) if apart else ((head + asked) * 2 + bad,)
        said = send(slow_gateway, *pieces)
        first, second, last = said.split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200 ")
        assert second.startswith(b"200 ")
        assert ends in first
        assert ends in second
        assert last.startswith(b"%d " % status)
        assert json.loads(last.partition(b"\r\n\r\n")[2])["error"]
    assert refused(slow_gateway, status) == before + 2


def test_connections_on_which_nothing_was_asked_count_as_no_refusal(slow_gateway) -> None:
    before = refused(slow_gateway, 408)
    assert send(slow_gateway).startswith(b"HTTP/1.1 408 ")
    assert refused(slow_gateway, 408) == before


def test_who_is_stopped_says_so_in_the_dialect(tmp_path, bundle_folder) -> None:
    with stalling() as provider:
        environ = {"SAMEDIFF_GRACE_S": "1"}
        server = start_gateway(tmp_path, bundle_folder, provider.url, environ=environ)
        place = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        half = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{"
        with socket.create_connection(place, timeout=10) as client:
            client.sendall(half)
            time.sleep(0.2)
            code, _, err = server.stop()
            assert code == 0
            assert "Traceback" not in err
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in head
        assert json.loads(body)["type"] == "error"
        assert "is being stopped" in json.loads(body)["error"]["message"]
