"""Bad input and bad upstreams on every surface: the right error in its dialect, and nothing else hurt."""

import gzip
import json
import signal
import socket
import time

import httpx2
import psutil
import pytest
from router_odd import odd_provider
from router_servers import start_gateway, start_upstream

SECRET, KEY = "the plan for the merger", "sk-a-key-of-the-clients-own"
DENIED = {
    "rules": [
        {"when": {"contains": "DENIED"}, "steps": [{"fault": {"status": 401, "message": "invalid key"}}]}
    ],
    "steps": [{"text": "Done."}],
}
# surface -> (model whose provider takes the client's own key, body)
SURFACES = {
    "/v1/chat/completions": ("gpt-5.4", {"messages": [{"role": "user", "content": SECRET}]}),
    "/v1/messages": (
        "claude-haiku-5-5",
        {"max_tokens": 9, "messages": [{"role": "user", "content": SECRET}]},
    ),
    "/v1/responses": ("gpt-5.4", {"input": SECRET}),
}
paths = pytest.mark.parametrize("path", SURFACES)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, bundle_folder):
    place = tmp_path_factory.mktemp("bad")
    upstream = start_upstream(DENIED, place)
    environ = {"SAMEDIFF_CLIENT_S": "0.5"}
    server = start_gateway(place, bundle_folder, upstream.url, environ=environ)
    yield server
    code, _, err = server.stop(signal.SIGINT)
    upstream.stop()
    assert code == 0
    assert all(word not in err for word in ("Traceback", SECRET, KEY)), err


@pytest.fixture(scope="module")
def odd(tmp_path_factory, bundle_folder):
    with odd_provider() as provider:
        server = start_gateway(tmp_path_factory.mktemp("odd"), bundle_folder, provider.url)
        server.left = provider.left
        yield server
        code, _, err = server.stop(signal.SIGINT)
    assert (code, "Traceback" in err) == (0, False)


def ask(gateway, path, **more):
    model, body = SURFACES[path]
    headers = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "content-type": "application/json"}
    headers |= more.pop("headers", {})
    content = more.pop("content", None) or json.dumps({"model": model, **body, **more}).encode()
    return httpx2.post(f"{gateway.url}{path}", content=content, headers=headers, timeout=60)


def refused(answer, path, status):
    """An error as the dialect writes it, with nothing of the conversation and of the key in it."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["type"]
    assert (body.get("type") == "error") == (path == "/v1/messages")
    for word in ("Traceback", SECRET, KEY):
        assert word not in answer.text
    return body["error"]["message"]


@paths
@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"{not json " + SECRET.encode(), 400, "not a JSON object"),
        (b'"%b"' % SECRET.encode(), 400, "not a JSON object"),
        (b'{"model":"auto","x":' + b"[" * 500_000 + b"]" * 500_000 + b"}", 400, "nested too deeply"),
        (b'{"model":"auto","model":"gpt-5.4"}', 400, "a key twice"),
        (b'{"model":"auto","messages":[],"input":[],"stream":"%b"}' % SECRET.encode(), 400, "`stream`"),
        (b'{"model":"auto","messages":[7],"input":[7]}', 400, "[0]` must be an object"),
        (b'{"model":"auto","messages":[{"role":7}],"input":[{"role":7}]}', 400, "role"),
        (b'{"model":"auto","messages":[{"role":"\xff"}],"input":"\xff\xfe"}', 400, "UTF-8"),
        (b'{"model":"auto","messages":[],"input":"\\ud800"}', 400, None),
        (b'{"model":"no-such-model","messages":[],"input":[]}', 404, "/v1/models"),
        (b'{"model":"auto","input":"%b"}' % (b"x" * 2**20), 413, "over 1 MiB"),
    ],
)
def test_a_body_that_is_none_is_refused_in_its_dialect(gateway, path, content, status, said) -> None:
    answer = ask(gateway, path, content=content)
    if said is None and answer.status_code == 200:  # Messages and Chat have no such field, and pass it on
        assert path != "/v1/responses"
        return
    assert (said or "half of a surrogate pair") in refused(answer, path, status)


@paths
def test_a_packed_body_is_never_unpacked(gateway, path) -> None:
    bomb = gzip.compress(bytes(200 * 2**20), 9)
    before = psutil.Process(gateway.process.pid).memory_info().rss
    answer = ask(gateway, path, content=bomb, headers={"content-encoding": "gzip"})
    assert "gzip" in refused(answer, path, 415)
    assert psutil.Process(gateway.process.pid).memory_info().rss - before < 50 * 2**20


@paths
def test_a_wrong_key_is_its_clients_own_affair(gateway, path) -> None:
    for stream in (False, True):
        for _ in range(6):  # as often as would open the breaker of a deployment
            _, body = SURFACES[path]
            key = "input" if "input" in body else "messages"
            words = "DENIED" if key == "input" else [{"role": "user", "content": "DENIED"}]
            answer = ask(gateway, path, **{key: words, "stream": stream})
            assert refused(answer, path, 401) == "invalid key"
    answer = ask(gateway, path)
    assert (answer.status_code, answer.headers["x-samediff-candidate"]) == (200, SURFACES[path][0])


@paths
def test_a_missing_key_is_said_or_left_to_the_provider(gateway, path) -> None:
    answer = ask(gateway, path, model="glm-5", store=False)
    assert "set ZAI_API_KEY" in refused(answer, path, 503)


@paths
def test_ten_megabytes_of_headers_are_not_taken_in(gateway, path) -> None:
    before = psutil.Process(gateway.process.pid).memory_info().rss
    with connect(gateway) as client:
        client.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\nx-long: " % path.encode())
        for _ in range(160):  # it is let finish, as a client does who reads only then
            client.sendall(b"a" * 2**16)
        head, body = said_to(client)
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    assert "over 64 kB" in refused(httpx2.Response(431, content=body), path, 431)
    assert psutil.Process(gateway.process.pid).memory_info().rss - before < 5 * 2**20


@paths
@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        (b"POST %b HTTP/1.1\r\nhost: x\r\n", 408, "did not come in time"),
        (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400, "no HTTP request"),
        (b"POST %b HTTP/1.1\r\nhost: x\r\nno header\r\n\r\n", 400, "no HTTP request"),
    ],
)
def test_what_is_no_request_is_refused_in_the_dialect_of_its_path(gateway, path, sent, status, why) -> None:
    with connect(gateway) as client:
        client.sendall(sent % path.encode())
        head, body = said_to(client)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    assert b"request-id: req_" in head
    assert why in refused(httpx2.Response(status, content=body), path, status)


def said_to(client):
    """Head and body of the answer before a hang-up."""
    said = b""
    while piece := client.recv(65536):
        said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    return head, body


def test_many_slow_clients_keep_nobody_waiting(gateway) -> None:
    clients = [connect(gateway) for _ in range(200)]
    try:
        for n, client in enumerate(clients):
            path = (*SURFACES,)[n % 3].encode()
            client.sendall((b"POST %b HTTP/1.1\r\nhost: x\r\n" % path, b"P")[n % 2])
        assert ask(gateway, "/v1/messages").status_code == 200
        deadline = time.monotonic() + 20
        for client in clients:
            client.settimeout(max(0.1, deadline - time.monotonic()))
            assert client.recv(4096).startswith(b"HTTP/1.1 408")
    finally:
        for client in clients:
            client.close()
    assert ask(gateway, "/v1/messages").status_code == 200


def connect(gateway):
    return socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=10)


@paths
def test_a_body_that_stops_coming_is_refused_in_its_dialect(gateway, path) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\nconnection: close\r\n\r\n"
    with connect(gateway) as client:
        client.sendall(head.encode() + b'{"model": "%b' % SECRET.encode())
        head, body = said_to(client)
    assert head.startswith(b"HTTP/1.1 408")
    assert "stopped coming" in refused(httpx2.Response(408, content=body), path, 408)


@paths
def test_a_packed_answer_goes_on_as_it_came(odd, path) -> None:
    before = psutil.Process(odd.process.pid).memory_info().rss
    with httpx2.stream("POST", f"{odd.url}{path}", content=odd_body(path, "BOMB"), timeout=60) as answer:
        said = b"".join(answer.iter_raw())
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
    assert said.startswith(b"\x1f\x8b")
    assert psutil.Process(odd.process.pid).memory_info().rss - before < 20 * 2**20
    assert httpx2.get(f"{odd.url}/healthz").text == "ok\n"


@paths
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("what", "said"), [("HTML", "answered with HTML"), ("UTF-8", "is not JSON")])
def test_what_no_client_can_read_is_an_error_in_its_dialect(odd, path, stream, what, said) -> None:
    answer = httpx2.post(f"{odd.url}{path}", content=odd_body(path, what, stream=stream), timeout=60)
    assert said in refused(answer, path, 502)
    assert httpx2.get(f"{odd.url}/healthz").text == "ok\n"


def odd_body(path, what, **more):
    model, body = SURFACES[path]
    key = "input" if "input" in body else "messages"
    said = {key: [{"role": "user", "content": what}]}
    return json.dumps({"model": model, **body, **said, **more}).encode()


@paths
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_end_ends_with_its_client(odd, path, stream) -> None:
    odd.left.clear()
    body = odd_body(path, "ENDLESS", stream=stream)
    most = 70 * 2**20  # what is no stream is kept up to 64 MiB, so that half of it is never taken for all
    with httpx2.stream("POST", f"{odd.url}{path}", content=body, timeout=60) as answer:
        read = 0
        for piece in answer.iter_raw():
            read += len(piece)
            if read > (most if not stream else 2**21):
                break
    assert odd.left.wait(20)
    assert httpx2.get(f"{odd.url}/healthz").text == "ok\n"
