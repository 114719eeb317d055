"""One scripted upstream that plays several deployments, and gateways in this process in front of it."""

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx2
import uvicorn
from router_servers import journal_of, wait_for

from router.gateway.protocol import BoundedProtocol
from router.gateway.serve import prepare
from router.gateway.settings import Settings

WEST = 'key_env = "WEST_KEY"\naccount = "second"\nlimits = { concurrent = 1 }'
LONG = "a line of context that a client repeats at every turn\n" * 300


def rows(url):
    def endpoint(name, more):
        urls = f'{{ openai_chat = "{url}/{name}/v1", anthropic_messages = "{url}/{name}" }}'
        return f'[endpoints.{name}]\nprovider = "openai"\nbase_urls = {urls}\n{more}\n'

    return f"""
replace = true
{endpoint("east", 'key_env = "EAST_KEY"')}
{endpoint("west", WEST)}
{endpoint("south", 'key_env = "SOUTH_KEY"')}
{endpoint("theirs", "passthrough = true")}
[candidates.big]
endpoints = {{ east = "gpt-5.4", west = "gpt-5.4" }}
fallbacks = ["small"]
[candidates.small]
endpoints = {{ south = "gpt-5.4-mini" }}
[candidates.own]
endpoints = {{ theirs = "gpt-5.4-nano" }}
[aliases.auto]
candidates = ["big", "small"]
reference = {{ openai_chat = "big", anthropic_messages = "big" }}
"""


@contextmanager
def running(place, bundle, upstream, text, catalog=None):
    (place / "catalog.toml").write_text(catalog or rows(upstream.url))
    log = f'[log]\njournal = "{place / "journal"}"\nflush_s = 0.1\n'
    head = f'catalog = "{place / "catalog.toml"}"\nbundle = "{bundle}"\npolicy = "pin:big"\nport = 0\n'
    (place / "samediff.toml").write_text(head + log + text)
    settings = Settings.load(place / "samediff.toml", {})
    prepared = prepare(settings)
    config = uvicorn.Config(
        prepared.app,
        http=BoundedProtocol,
        log_level="error",
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [prepared.listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield SimpleNamespace(url=prepared.url, gateway=prepared.app.state.gateway)
        assert set(prepared.app.state.gateway.health.in_flight().values()) <= {0}
    finally:
        server.should_exit = True
        thread.join()
        prepared.listener.close()


def fail(upstream, at, *faults):
    assert httpx2.put(f"{upstream.url}/_faults/{at}", json=list(faults)).status_code == 204


def asked(upstream):
    """Which deployments were asked, in order."""
    return [entry["path"].split("/")[1] for entry in httpx2.get(f"{upstream.url}/_requests").json()]


def ask(gateway, model="auto", path="/v1/chat/completions", messages=None, **more):
    body = {"model": model, "messages": messages or [{"role": "user", "content": "Fix it"}], **more}
    if path == "/v1/messages":
        body["max_tokens"] = 500
    return httpx2.post(f"{gateway.url}{path}", json=body, timeout=30)


def record_of(place, answer):
    name = answer.headers["x-samediff-request-id"]
    found = [r for k, r in journal_of(place) if k == "request" and r["request_id"] == name]
    return found[0] if found else None


def record(place, answer):
    return wait_for(lambda: record_of(place, answer))
