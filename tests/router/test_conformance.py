"""The kit against our own gateway, which must pass, and against crooked ones, which it must find out."""

import asyncio
import json
import textwrap
import threading

import aiohttp
import pytest
import uvicorn
from router_servers import ROOT, free_port, start_gateway, wait_for
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner

import samediff
from features.errors import BadInput
from router.conformance.cases import CASES
from router.conformance.provider import stream_of
from router.conformance.run import PATHS, Plan, run
from router.conformance.wire import ends, problem

ALWAYS = {"ZAI_API_KEY": "k", "MOONSHOT_API_KEY": "k", "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
ALWAYS["OPENROUTER_API_KEY"] = "k"
CALL, NUMBER = b'"tool_calls":[{"index":%d', b'"sequence_number":%d'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
SAME = {"openai_chat": "kimi-k2.5", "anthropic_messages": "kimi-k2.5", "openai_responses": "gpt-5.4"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def trial(place, bundle_folder):
    """(our gateway, the port at which it looks for its providers)."""
    port = free_port()
    server = start_gateway(place, bundle_folder, f"http://127.0.0.1:{port}", environ=ALWAYS)
    yield server, port
    code, _, err = server.stop()
    assert (code, err) == (0, "")


def report(url, port, surface, model, only=()):
    return asyncio.run(run(Plan(url, port, (model,), (surface,), only=only, cuts=4)))


@pytest.mark.parametrize("surface", SAME)
def test_our_gateway_passes_in_one_dialect(trial, surface) -> None:
    server, port = trial
    found = report(server.url, port, surface, SAME[surface])
    assert [(row.case, row.detail) for row in found.rows if not row.ok] == []
    assert found.passed > 50


# surface -> (model, dialect in which alone its provider can be asked)
OTHER = [
    ("openai_chat", "claude-haiku-5-5", "messages"),
    ("anthropic_messages", "gpt-5.4", "responses"),
    ("anthropic_messages", "qwen3-max", "chat"),
    ("openai_responses", "glm-5", "chat"),
    ("openai_responses", "claude-haiku-5-5", "messages"),
]
BETWEEN = (
    "whole t", "tool call", "no JSON", "unicode", "empty", "comments", "mid-stream", "terminal", "dropped",
    "truncated JSON", "HTML", "error 4", "request:", "client leaves", "shape:", "state:",
)  # fmt: skip


@pytest.mark.parametrize(("surface", "model", "upstream"), OTHER)
def test_our_gateway_passes_between_dialects(trial, surface, model, upstream) -> None:
    server, port = trial
    found = report(server.url, port, surface, model, BETWEEN)
    assert [(row.case, row.detail) for row in found.rows if not row.ok] == []
    assert {row.upstream for row in found.rows if row.upstream} == {upstream}
    assert found.passed > 25


@pytest.mark.parametrize("dialect", SAME)
def test_what_the_provider_says_is_in_order(dialect) -> None:
    for case in CASES.values():
        if case.stream and case.status == 200 and case.ends == "whole":
            stream = b"".join(stream_of(case, dialect))
            assert (problem(dialect, stream), ends(dialect, stream)) == (None, (1, 0))


class Crooked:
    """A gateway that passes on what `spoil` makes of each answer."""

    def __init__(self):
        self.spoil = bytes
        self.forwarded = 0
        self.port, self.upstream = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        routes = [Route(path, self.forward, methods=["POST"]) for path in PATHS.values()]
        config = uvicorn.Config(Starlette(routes=routes), port=self.port, log_level="critical", ws="none")
        self.server = uvicorn.Server(config)

    async def forward(self, request):
        self.forwarded += 1
        body = await request.body()
        kept = {k: v for k, v in request.headers.items() if k in ("content-type", "anthropic-version")}
        target = f"http://127.0.0.1:{self.upstream}{request.url.path}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(target, data=body, headers=kept) as answer,
        ):
            got = await answer.read()
            return Response(self.spoil(got), answer.status, media_type=answer.content_type)


@pytest.fixture(scope="module")
def crooked():
    gateway = Crooked()
    thread = threading.Thread(target=gateway.server.run)
    thread.start()
    wait_for(lambda: gateway.server.started)
    yield gateway
    gateway.server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    ("surface", "case", "spoil", "said"),
    [
        ("anthropic_messages", "text", lambda b: b.replace(b'"text":"Hello ', b'"text":"'), "text of"),
        ("anthropic_messages", "text", lambda b: b.partition(b"event: message_stop")[0], "0 events end"),
        ("anthropic_messages", "stream cut", lambda b: b + STOP, "never whole"),
        ("anthropic_messages", "parallel tool", lambda b: b.replace(b"input_json_d", b"text_d"), "arguments"),
        ("openai_chat", "text", lambda b: b.replace(b'"cached_tokens":4096', b'"cached_tokens":0'), "usage"),
        ("openai_chat", "text at", lambda b: b.replace(b'"length"', b'"stop"'), "stops for"),
        ("openai_chat", "interleaved", lambda b: b.replace(CALL % 1, CALL % 0), "calls"),
        ("openai_chat", "text", lambda b: b + b"data: [DONE]\n\n", "2 events end"),
        ("openai_responses", "text", lambda b: b.replace(NUMBER % 5, NUMBER % 1), "sequence"),
        ("openai_responses", "text", lambda b: b.replace(b"response.created", b"response.other"), "SDK"),
        ("openai_chat", "bad: not JSON", lambda b: b"", "status 500"),
    ],
)  # fmt: skip
def test_crooked_gateways_are_found_out(crooked, surface, case, spoil, said) -> None:
    crooked.spoil = spoil
    found = report(crooked.url, crooked.upstream, surface, "m", only=(case,))
    assert said in " ".join(row.detail for row in found.rows if not row.ok)


def test_the_command_shows_a_table_and_exits_1_where_anything_is_wrong(trial, crooked) -> None:
    server, port = trial
    crooked.spoil = lambda b: b.replace(b"Hello ", b"")
    for url, listen, code in ((server.url, port, 0), (crooked.url, crooked.upstream, 1)):
        args = [
            "conformance",
            url,
            "--listen",
            str(listen),
            "--surface",
            "openai_chat",
            "--model",
            "kimi-k2.5",
        ]
        shown = CliRunner().invoke(samediff.app, [*args, "--only", "whole text", "--json", "-"])
        assert shown.exit_code == code
        assert json.loads(shown.stdout)["failed"] == code
    shown = CliRunner().invoke(samediff.app, [*args, "--only", "whole text"])
    assert "0 passed, 1 failed" in shown.stdout


def test_a_gateway_that_is_wired_to_another_is_asked_once_and_no_more(trial, crooked) -> None:
    server, port = trial
    with pytest.raises(BadInput, match="no gateway answers there"):
        report(f"http://127.0.0.1:{free_port()}", 0, "openai_chat", "m")
    wrong = free_port()
    crooked.forwarded = 0
    with pytest.raises(BadInput, match=rf"answered 500 .*http://127\.0\.0\.1:{wrong}/v1"):
        report(crooked.url, wrong, "openai_chat", "m")
    assert crooked.forwarded == 1
    with pytest.raises(BadInput, match="asked for no-such-model, the gateway answered 404"):
        report(server.url, port, "anthropic_messages", "no-such-model")


def test_the_readme_says_how_our_own_is_wired(tmp_path, bundle_folder) -> None:
    port = free_port()
    block = (ROOT / "README.md").read_text().partition("    # kit.toml\n")[2].partition("\n\n")[0]
    catalog = textwrap.dedent(block).replace("8485", str(port))
    server = start_gateway(tmp_path, bundle_folder, "", catalog=catalog)
    plan = Plan(server.url, port, ("auto",), only=("whole text", "tool call", "state: store"), cuts=4)
    found = asyncio.run(run(plan))
    assert server.stop()[0] == 0
    assert [(row.case, row.detail) for row in found.rows if not row.ok] == []
    assert {row.upstream for row in found.rows} == {"chat", "messages", "responses"}
