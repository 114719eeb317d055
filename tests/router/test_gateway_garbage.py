"""A request frees itself as it ends, however it does: what waits for a collection holds its body so long."""

import gc
import json
import socket
import time
from collections import Counter
from contextlib import ExitStack

import pytest
from router_failing import fail, running
from router_servers import start_upstream, wait_for

N = 4
OURS = ("router", "features", "models", "uvicorn", "aiohttp")
SETTINGS = "[retry]\nbackoff_s = 0.01\n[breaker]\nfailures = 100\n"
FAILING = {"failed over": ["east"], "failed everywhere": ["east", "west", "south"]}
FAILING |= {"left": ["east"], "left in between": ["east"]}
FAULT = {"left": {"delay_ms": 600}, "left in between": {"event_delay_ms": 20}}
MESSAGES = [{"role": "user", "content": "Fix the failing test in app.py."}]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    server = start_upstream({"steps": [{"text": "words " * 50}]}, tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture
def gateway(tmp_path, bundle_folder, upstream, monkeypatch):
    for name in ("EAST", "WEST", "SOUTH"):
        monkeypatch.setenv(f"{name}_KEY", f"key-{name}")
    for name in ("east", "west", "south"):
        fail(upstream, name)
    with ExitStack() as stack:
        yield stack.enter_context(running(tmp_path, bundle_folder, upstream, SETTINGS))


def request(url, *, stream, leaves=False):
    """Ask over a connection of its own; the answer's first bytes, or nothing for one who leaves."""
    body = json.dumps({"model": "auto", "stream": stream, "messages": MESSAGES}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    said = b""
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        while not leaves and (more := client.recv(65536)):
            said += more
        time.sleep(0.1 if leaves else 0)
    return said


def garbage():
    """Count the kinds of what only a collection frees, as far as a request may be made of it."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(
        f"{type(o).__module__}.{type(o).__qualname__}"
        for o in gc.garbage
        if type(o).__module__.startswith(OURS) or type(o).__name__ in ("Task", "coroutine", "TimerHandle")
    )
    gc.garbage.clear()
    return found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["through", "failed over", "failed everywhere", "left", "left in between"])
def test_a_request_leaves_nothing_to_collect(gateway, upstream, stream, how) -> None:
    for name in FAILING.get(how, ()):
        fail(upstream, name, *[FAULT.get(how, {"status": 500})] * 4 * N)

    def play():
        return [request(gateway.url, stream=stream, leaves=how.startswith("left")) for _ in range(N)]

    play()
    assert wait_for(lambda: not any(gateway.gateway.health.in_flight().values()))
    gc.collect()
    gc.disable()
    try:
        answers = play()
        assert wait_for(lambda: not any(gateway.gateway.health.in_flight().values()))
        time.sleep(0.1)
        assert garbage() == {}
    finally:
        gc.enable()
    if not how.startswith("left"):
        status = b" 500 " if how == "failed everywhere" else b" 200 "
        assert all(status in said[:16] for said in answers), answers[0][:200]
