"""The gateway's small parts: settings, metrics, headers, dialects; a decision without a server."""

import json
import subprocess
import sys
from unittest.mock import Mock

import pytest
from router_servers import NOW_MS, ROOT

import samediff
from features.errors import BadInput
from features.records import OutcomeRecord
from router.catalog import Catalog
from router.dialects import detect_dialect
from router.gateway.exchange import Outgoing
from router.gateway.metrics import Metrics
from router.gateway.outcomes import read_outcomes
from router.gateway.recording import harness_of
from router.gateway.settings import Settings
from router.gateway.upstream import address, request_headers


def test_settings_come_from_the_file_then_the_environment_then_the_command_line(tmp_path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('port = 1\npolicy = "learned"\n[log]\nprompts = "none"\n')
    environ = {"SAMEDIFF_PORT": "2", "SAMEDIFF_LOG_FLUSH_S": "0.5", "SAMEDIFF_UPSTREAM_CONNECT_S": "3"}
    settings = Settings.load(file, environ)
    assert (settings.port, settings.policy, settings.log.prompts) == (2, "learned", "none")
    assert (settings.log.flush_s, settings.upstream.connect_s) == (0.5, 3.0)
    last = settings.having(port=3, policy=None, journal="j")
    assert (last.port, last.policy, last.log.journal, last.log.prompts) == (3, "learned", "j", "none")


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("prot = 1", {}, "unknown field `prot`; is it `port`"),
        ("[log]\njournel = 'j'", {}, r"unknown field `journel`.*; is it `journal`"),
        ("[log]\nxyz = 'j'", {}, r"unknown field `xyz`.*; there are journal, prompts, queue, flush_s$"),
        ('[log]\nprompts = "some"', {}, "log.prompts"),
        ("port = ", {}, "not valid TOML"),
        ("", {"SAMEDIFF_PORT": "many"}, "SAMEDIFF_PORT='many'"),
    ],
)
def test_wrong_settings_name_file_or_variable(tmp_path, text, environ, said) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=said):
        Settings.load(file, environ)
    with pytest.raises(BadInput, match="nowhere"):
        Settings.load(tmp_path / "nowhere.toml", {})


def test_metrics_are_written_in_the_text_format() -> None:
    metrics = Metrics()
    metrics.add("samediff_cost_usd_total", 0.25, candidate='a"b')
    metrics.add("samediff_cost_usd_total", 0.5, candidate="c")
    text = metrics.render({"samediff_sessions": 4.0})
    assert 'samediff_cost_usd_total{candidate="a\\"b"} 0.25' in text
    assert "# TYPE samediff_sessions gauge\nsamediff_sessions 4" in text
    assert metrics.total("samediff_cost_usd_total") == 0.75
    metrics.by("samediff_cost_usd_total", "candidate")[("c",)] += 1
    assert 'samediff_cost_usd_total{candidate="c"} 1.5' in metrics.render({})
    assert len(metrics) == 2


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("claude-cli/2.1.197 (external, cli)", ("claude_code", "2.1.197")),
        ("codex_cli_rs/0.98.0 (Linux)", ("codex", "0.98.0")),
        ("OpenAI/Python 3.52.0", ("openai-python", "3.52.0")),
        ("curl/8.1", ("curl", None)),
        ("", (None, None)),
    ],
)
def test_harnesses_introduce_themselves(agent, told) -> None:
    assert harness_of(agent) == told


def sent_to(deployment, client, environ, **more):
    """Headers as a provider reads them."""
    headers = request_headers(deployment, client, environ, **more)
    lines = headers.lines.decode().split("\r\n")
    assert len(lines) == headers.count + 1
    assert not lines.pop()
    return [tuple(line.split(": ", 1)) for line in lines]


def test_credentials_are_replaced_passed_or_dropped_by_the_catalogue() -> None:
    rows = Catalog.load().deployments
    client = [
        (b"authorization", b"Bearer theirs"),
        (b"x-api-key", b"theirs"),
        (b"x-samediff-session-id", b"s"),
    ]
    native = rows["anthropic/claude-opus-5-5/anthropic_messages"]
    other = rows["zai/glm-5/anthropic_messages"]
    assert dict(sent_to(native, client, {}))["x-api-key"] == "theirs"
    ours = dict(sent_to(native, client, {"ANTHROPIC_API_KEY": "ours"}))
    assert (ours["x-api-key"], "authorization" in ours, "x-samediff-session-id" in ours) == (
        "ours",
        False,
        False,
    )
    assert "theirs" not in str(sent_to(other, client, {}))
    assert dict(sent_to(other, client, {"ZAI_API_KEY": "k"}))["x-api-key"] == "k"


WHO = (
    *("authorization", "x-api-key", "x-goog-api-key", "x-portkey-api-key", "openai-organization"),
    *("openai-project", "chatgpt-account-id", "cookie", "x-forwarded-for", "x-anything-new", "session_id"),
    *("x-claude-code-session-id", "x-stainless", "x-samediff-tenant"),
)


def test_another_seller_gets_the_dialects_own_headers_and_nothing_else() -> None:
    rows = Catalog.load().deployments
    protocol = {
        "content-type": "application/json",
        "accept": "*/*",
        "user-agent": "claude-cli/2",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "a",
        "openai-beta": "b",
        "idempotency-key": "i",
        "x-stainless-lang": "js",
    }
    client = [(n.encode(), v.encode()) for n, v in (*protocol.items(), *((name, "theirs") for name in WHO))]
    other = rows["zai/glm-5/anthropic_messages"]
    sent = dict(sent_to(other, client, {"ZAI_API_KEY": "ours"}))
    assert sent == {**protocol, "accept-encoding": "identity", "x-api-key": "ours"}
    assert address(other, "beta=true&key=theirs&api_key=theirs").endswith("/v1/messages?beta=true")
    native = rows["openai/gpt-5.4/openai_chat"]
    assert dict(sent_to(native, client, {}))["chatgpt-account-id"] == "theirs"
    assert address(native, "beta=true&key=theirs").endswith("?beta=true&key=theirs")
    ours = dict(sent_to(native, client, {"OPENAI_API_KEY": "ours"}))
    assert ours["authorization"] == "Bearer ours"
    assert not {"chatgpt-account-id", "openai-organization", "openai-project", "x-api-key"} & ours.keys()
    assert ours["session_id"] == "theirs"


def test_of_another_dialect_only_what_belongs_to_none_goes_on() -> None:
    rows = Catalog.load().deployments
    claude, glm = (rows[f"{name}/anthropic_messages"] for name in ("anthropic/claude-opus-5-5", "zai/glm-5"))
    names = (*("accept", "Anthropic-Beta", "openai-beta", "x-stainless-lang", "anthropic-version"), *WHO[:1])
    client = [(name.encode(), b"theirs") for name in names]
    version, plain = ("anthropic-version", "2023-06-01"), ("accept-encoding", "identity")
    for row, key in ((claude, "ANTHROPIC_API_KEY"), (glm, "ZAI_API_KEY")):
        sent = sent_to(row, client, {key: "ours"}, crossing=True)
        assert sent == [("accept", "theirs"), plain, ("x-api-key", "ours"), version]
    chat = rows["openai/gpt-5.4/openai_chat"]
    sent = sent_to(chat, client, {"OPENAI_API_KEY": "ours"}, crossing=True)
    assert sent == [("accept", "theirs"), plain, ("authorization", "Bearer ours")]


def test_headers_go_on_as_they_came() -> None:
    native = Catalog.load().deployments["anthropic/claude-opus-5-5/anthropic_messages"]
    client = [
        (b"Anthropic-Beta", b"a"),
        (b"anthropic-beta", b"b"),
        (b"x-name", "\u00e9".encode()),
        (b"connection", b"keep-alive, X-Drop"),
        (b"Connection", b"x-drop-too"),
        (b"x-drop", b"1"),
        (b"x-drop-too", b"1"),
    ]
    sent = sent_to(native, client, {})
    assert sorted(sent) == [
        ("accept-encoding", "identity"),
        ("anthropic-beta", "a"),
        ("anthropic-beta", "b"),
        ("x-name", "\u00e9"),  # which is written as UTF-8
    ]
    assert sent_to(native, [(b"x-100%", b"%d")], {})[0] == ("x-100%", "%d")
    with pytest.raises(BadInput, match="header 'x-name' is not UTF-8"):
        request_headers(native, [(b"x-name", b"\xe9")], {})


def test_what_goes_out_is_shown_without_its_secrets() -> None:
    native = Catalog.load().deployments["anthropic/claude-opus-5-5/anthropic_messages"]
    client = [(b"x-api-key", b"SECRET"), (b"x-name", b"SECRET")]
    environ = {"ANTHROPIC_API_KEY": "SECRET"}
    for keys, said in (({}, "Headers(3 lines)"), (environ, "Headers(3 lines, a key of ours)")):
        headers = request_headers(native, client, keys)
        assert b"SECRET" in headers.lines
        assert repr(headers) == said
        out = Outgoing("https://h/v1?key=SECRET", headers, (b"SECRET",), {}, Mock(), Mock())
        assert repr([out]) == f"[Outgoing('https://h/v1', {said})]"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"request_id": "a", "success": 1}, 1.0),
        ({"task_id": "a", "success": True}, 1.0),
        ({"session_id": "a", "value": False}, 0.0),
        ({"request_id": "a", "level": "L2"}, None),
        ([], "none"),
        ({"request_id": "a"}, "outcome 0: has no value"),
        ({"request_id": "a", "level": "unknown"}, "outcome 0: has no value"),
        ([{"request_id": "a", "value": 1}, 3], "outcome 1: must be an object"),
        ([{"request_id": "a", "value": 1}, {"request_id": "a", "sucess": 1}], "outcome 1: .*`sucess`"),
        ({"request_id": "a", "success": 1, "value": 1}, "both success and value"),
        ({"request_id": "a", "success": "yes"}, "outcome 0: .*value"),
        ({"request_id": 5, "success": 1}, "outcome 0: .*request_id"),
        ({"request_id": "a", "value": 1.5}, "no probability"),
        ({"value": 1}, "names none of"),
        ({"request_id": "a", "value": 1, "level": "teste"}, "'teste'.*; it may be .*'tests'"),
        ({"request": "a", "value": 1}, "`request`; is it `request_id`"),
    ],
)
def test_outcomes_are_read_strictly(rows, said) -> None:
    body = json.dumps(rows).encode()
    if isinstance(said, str) and said != "none":
        with pytest.raises(BadInput, match=said):
            read_outcomes(body, 5)
        return
    records = read_outcomes(body, 5)
    assert [type(r) for r in records] == [OutcomeRecord] * len(records)
    if records:
        assert (records[0].value, records[0].recorded_ms) == (said, 5)


def test_outcomes_that_are_no_json_are_one_line() -> None:
    with pytest.raises(BadInput, match="has the key 'value' twice"):
        read_outcomes(b'[{"request_id":"a","value":1,"value":0}]', 5)
    for body, said in (
        (b"[" * 100_000, "nested too deeply"),
        (b"{", "not JSON"),
        (b'"\\ud800"}', "surrogate"),
    ):
        with pytest.raises(BadInput, match=said):
            read_outcomes(body, 5)


@pytest.mark.parametrize(
    ("body", "dialect"),
    [
        ({"model": "auto", "input": "x"}, "openai_responses"),
        ({"model": "auto", "messages": [], "system": "x"}, "anthropic_messages"),
        (
            {"model": "auto", "messages": [], "tools": [{"name": "a", "input_schema": {}}]},
            "anthropic_messages",
        ),
        ({"model": "claude-opus-5-5", "messages": []}, "anthropic_messages"),
        ({"model": "auto", "messages": [], "tools": [{"type": "function"}]}, "openai_chat"),
    ],
)
def test_a_body_tells_its_dialect(body, dialect) -> None:
    assert detect_dialect(json.dumps(body).encode()) == dialect


def run_cli(*arguments, stdin=None):
    return subprocess.run(
        [sys.executable, "samediff.py", *arguments],
        cwd=ROOT, input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_route_shows_a_receipt_without_a_server(bundle_folder, tmp_path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Fix it"}]}))
    command = ["route", str(file), "--bundle", str(bundle_folder), "--at-ms", str(NOW_MS), "--json", "-"]
    first, second = run_cli(*command), run_cli(*command)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["bundle_digest"]
    piped = run_cli("route", "-", "--bundle", str(bundle_folder), stdin=file.read_text())
    assert "Candidate" in piped.stdout


def test_route_refuses_in_one_line(bundle_folder, tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"model": "auto"}')
    bundle = ["--bundle", str(bundle_folder)]
    for arguments, said in (
        ([str(file), *bundle], f"{file}: "),
        ([str(tmp_path / "nowhere.json"), *bundle], "can't be read"),
        ([str(file), *bundle, "--policy", "best"], "unknown kind"),
        ([str(file), *bundle, "--dialect", "morse"], "unknown dialect"),
        ([str(file), "--bundle", str(tmp_path)], "not a bundle"),
    ):
        monkeypatch.setattr(sys, "argv", ["samediff", "route", *arguments])
        with pytest.raises(SystemExit) as refused:
            samediff.main()
        out, err = capsys.readouterr()
        assert refused.value.code == 2
        assert said in err
        assert (err.count("\n"), out) == (1, "")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, typer.testing, samediff;"
        "typer.testing.CliRunner().invoke(samediff.app, ['route', '--help']);"
        "bad = {'genai_prices', 'onnxruntime', 'numpy', 'fastapi', 'aiohttp'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
