"""The OpenAPI document: it names what is served, and schemathesis finds nothing that it says wrongly."""

import os
import subprocess
import sys
import threading

import httpx2
import pytest
import uvicorn
from router_servers import ROOT, free_port, start_gateway, wait_for
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.conformance.case import Case
from router.conformance.provider import PATHS, WRITERS, reply, stream_of

KEYS = {f"{seller}_API_KEY": "ours" for seller in ("ANTHROPIC", "OPENAI", "ZAI", "OPENROUTER")}
DONE = Case("done", text="Done.")
# A key of another request's is refused, a body over the limit too, and /v1/route takes bodies of three
# dialects, of which one is named.
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "409", "413", "422"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "5xx"]
[[operations]]
include-path = "/v1/route"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "5xx"]
"""


def provider():
    """A provider that takes whatever it is sent; what isn't the dialect's is for the real ones to refuse."""

    def answering(dialect):
        async def answer(request):
            body = await request.json()
            if body.get("stream") is True:
                return Response(b"".join(stream_of(DONE, dialect)), media_type="text/event-stream")
            return JSONResponse(WRITERS[dialect].body(reply(DONE, "m", {})))

        return answer

    async def count(request):
        return JSONResponse({"input_tokens": len(await request.body())})

    routes = [Route(path, answering(dialect), methods=["POST"]) for path, dialect in PATHS.items()]
    return Starlette(routes=[*routes, Route("/v1/messages/count_tokens", count, methods=["POST"])])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, bundle_folder):
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(provider(), port=port, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert wait_for(lambda: server.started)
    place = tmp_path_factory.mktemp("openapi")
    ours = start_gateway(place, bundle_folder, f"http://127.0.0.1:{port}", environ=KEYS)
    yield ours
    code, _, err = ours.stop()
    server.should_exit = True
    thread.join()
    assert code == 0
    assert "Traceback" not in err, err


def test_schemathesis_finds_nothing(gateway, tmp_path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    options = ["--seed", "7", "-n", "5", "--generation-database", "none", "--no-color", "--no-shrink"]
    done = subprocess.run(
        [*command, f"{gateway.url}/openapi.json", *options, "--phases", "examples,coverage,fuzzing"],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(ROOT / "tests/router")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 12" in done.stdout  # all but the document itself
    assert "WARNINGS" not in done.stdout


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v1/messages", 405, "takes POST only"),
        ("GET", "/v1/messages/batches", 404, "nothing is served"),
        ("PUT", "/v1/responses", 405, "takes POST only"),
        ("POST", "/v1/embeddings", 404, "nothing is served"),
    ],
)
def test_what_is_not_served_is_refused_in_the_dialect(gateway, method, path, status, said) -> None:
    answer = httpx2.request(method, f"{gateway.url}{path}", json={} if method != "GET" else None)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert ("messages" in path) == (answer.json().get("type") == "error")
    assert answer.headers["x-samediff-request-id"].startswith("req_")


def test_every_path_is_described_and_every_description_served(gateway) -> None:
    document = httpx2.get(f"{gateway.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        (method,) = methods
        answer = httpx2.request("DELETE", f"{gateway.url}{path.replace('{name}', 'auto')}")
        assert (answer.status_code, method.upper() in answer.headers["allow"]) == (405, True)
    served = {"/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses"}
    served |= {
        "/v1/models",
        "/v1/models/{name}",
        "/v1/route",
        "/v1/outcomes",
        "/healthz",
        "/readyz",
        "/metrics",
        "/",
    }
    assert set(document["paths"]) == {*served, "/openapi.json"}
    assert "may have 1 MiB" in document["info"]["description"]
