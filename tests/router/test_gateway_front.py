"""The short way to the endpoints: within another app, and when something of ours breaks."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.testclient import TestClient

from router.gateway.errors import error_response
from router.gateway.exchange import Patience
from router.gateway.front import Front
from router.gateway.settings import Settings


def our_fault(path):
    return error_response("openai_chat", 500, f"failed at {path}", "req_1")


def front():
    async def echo(asked):
        said = f"{asked.headers['x-said']} {asked.query} {asked.host} {len(asked.raw)} ".encode()
        return Response(said + await asked.body(Settings()))

    async def breaks(_):
        raise ValueError("a prompt")

    app = Front(our_fault)
    app.posted("/echo", echo)
    app.posted("/breaks", breaks)
    return app


@pytest.mark.parametrize("mounted", [False, True])
def test_a_request_is_read_alike_on_either_way(mounted) -> None:
    app = Starlette(routes=[Mount("/in", front())]) if mounted else front()
    client, said = TestClient(app), [("x-said", "first"), ("x-said", "second")]
    answer = client.post("/in/echo?a=b" if mounted else "/echo?a=b", content=b"body", headers=said)
    assert answer.text.startswith("first a=b testclient ")
    assert answer.text.endswith(" body")
    assert client.get("/in/echo" if mounted else "/echo").status_code == 405


@pytest.mark.parametrize("mounted", [False, True])
def test_what_breaks_is_told_without_a_word_of_it_and_left_to_the_server(mounted) -> None:
    app = Starlette(routes=[Mount("/in", front())]) if mounted else front()
    path = "/in/breaks" if mounted else "/breaks"
    answer = TestClient(app, raise_server_exceptions=False).post(path)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"].startswith("failed at ")
    assert "prompt" not in answer.text
    with pytest.raises(ValueError, match="a prompt"):
        TestClient(app).post(path)


def test_patience_without_an_end_has_none() -> None:
    async def wait(seconds):
        with Patience(seconds, lambda: True) as patience:
            await asyncio.sleep(0.05)
            patience.end()
            await asyncio.sleep(0)
        return True

    assert asyncio.run(wait(None))
    with pytest.raises(TimeoutError):
        asyncio.run(wait(0.001))
