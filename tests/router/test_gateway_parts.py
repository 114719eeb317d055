"""The gateway's small parts: settings, journal, sessions, metrics, dialects; a decision without a server."""

import json
import os
import subprocess
import sys
import time

import pytest
from router_servers import NOW_MS, ROOT, journal_of

import samediff
from features.errors import BadInput
from features.records import OutcomeRecord
from features.wire import parse_request
from router.dialects import detect_dialect
from router.gateway.journal import Journal
from router.gateway.metrics import Metrics
from router.gateway.recording import harness_of
from router.gateway.sessions import Sessions
from router.gateway.settings import Settings
from router.gateway.upstream import request_headers


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
        ("prot = 1", {}, "unknown field `prot`"),
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


def outcome(n):
    return OutcomeRecord(outcome_id=f"o{n}", ts_ms=NOW_MS, source="tests", task_id="t")


def test_the_journal_keeps_order_and_never_writes_over_another(tmp_path) -> None:
    for start in (0, 100):
        journal = Journal(tmp_path / "journal", 1000, 0.05)
        journal.start()
        for n in range(start, start + 100):
            journal.add("outcome", outcome(n))
        journal.close()
        assert (journal.written, journal.dropped) == (100, 0)
    files = sorted(path.name for path in (tmp_path / "journal").rglob("*.jsonl"))
    assert files == [f"{os.getpid()}-0.jsonl", f"{os.getpid()}-1.jsonl"]
    assert [r["outcome_id"] for _, r in journal_of(tmp_path)] == [f"o{n}" for n in range(200)]


def test_what_the_journal_cannot_take_is_counted(tmp_path, caplog) -> None:
    waiting = Journal(tmp_path / "journal", 3, 0.05)
    for n in range(10):
        waiting.add("outcome", outcome(n))
    assert waiting.dropped == 7
    blocked = tmp_path / "file"
    blocked.write_text("")
    broken = Journal(blocked, 10, 0.05)
    broken.start()
    for n in range(5):
        broken.add("outcome", outcome(n))
    broken.close()
    assert (broken.written, broken.dropped) == (0, 5)
    assert len(caplog.records) == 1


def claude(*texts, **more):
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    body = {"model": "auto", "max_tokens": 9, "messages": messages, **more}
    return parse_request("anthropic_messages", json.dumps(body).encode())


def test_sessions_know_who_answered_and_what_was_sent() -> None:
    sessions = Sessions(10)
    first = sessions.place(claude("Fix it"), {"x-claude-code-session-id": "s1"}, "")
    assert sessions.view(first, 0).last_candidate is None
    sessions.answered(first, "a", 1000)
    sessions.ended(first, 500, 120, None)
    again = sessions.place(claude("Fix it", "Done", "Now the docs"), {"x-claude-code-session-id": "s1"}, "")
    view = sessions.view(again, 3000)
    assert (view.last_candidate, view.last_bytes, view.last_tokens) == ("a", 500, 120)
    assert view.shared[0] == len("Fix it")
    assert view.served["a"] == (view.shared[1], 2000)
    side = sessions.place(claude("Give this a title"), {"x-claude-code-session-id": "s1"}, "")
    assert side.session_id == "s1"
    assert sessions.view(side, 3000).last_candidate is None


def test_sessions_without_a_name_go_by_first_words_and_address() -> None:
    sessions = Sessions(10)
    one, two, far = (
        sessions.place(claude(*texts), {}, host)
        for texts, host in ((("Hi",), "h1"), (("Hi", "Yes", "Go"), "h1"), (("Hi",), "h2"))
    )
    assert one.session_id == two.session_id != far.session_id


def test_a_response_id_leads_back_to_its_conversation() -> None:
    sessions = Sessions(10)
    body = {"model": "auto", "input": "Fix it"}
    first = sessions.place(parse_request("openai_responses", json.dumps(body).encode()), {}, "")
    sessions.answered(first, "a", 0)
    sessions.ended(first, 1, None, "resp_1")
    body = {"model": "auto", "input": "Go on", "previous_response_id": "resp_1"}
    later = sessions.place(parse_request("openai_responses", json.dumps(body).encode()), {}, "")
    assert sessions.view(later, 1).last_candidate == "a"


def test_sessions_are_bounded() -> None:
    sessions = Sessions(3)
    for n in range(20):
        sessions.answered(sessions.place(claude(f"task {n}"), {}, ""), "a", n)
    assert len(sessions) == 3


def test_metrics_are_written_in_the_text_format() -> None:
    metrics = Metrics()
    metrics.add("samediff_cost_usd_total", 0.25, candidate='a"b')
    metrics.add("samediff_cost_usd_total", 0.5, candidate="c")
    text = metrics.render({"samediff_sessions": 4.0})
    assert 'samediff_cost_usd_total{candidate="a\\"b"} 0.25' in text
    assert "# TYPE samediff_sessions gauge\nsamediff_sessions 4" in text
    assert metrics.total("samediff_cost_usd_total") == 0.75


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


def test_credentials_are_replaced_passed_or_dropped_by_the_catalogue() -> None:
    from router.catalog import Catalog

    rows = Catalog.load().deployments
    client = [("authorization", "Bearer theirs"), ("x-api-key", "theirs"), ("x-samediff-session-id", "s")]
    native = rows["anthropic/claude-opus-5-5/anthropic_messages"]
    other = rows["zai/glm-5/anthropic_messages"]
    assert request_headers(native, client, {})["x-api-key"] == "theirs"
    ours = request_headers(native, client, {"ANTHROPIC_API_KEY": "ours"})
    assert (ours["x-api-key"], "authorization" in ours, "x-samediff-session-id" in ours) == (
        "ours",
        False,
        False,
    )
    assert "theirs" not in str(request_headers(other, client, {}))
    assert request_headers(other, client, {"ZAI_API_KEY": "k"})["x-api-key"] == "k"


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


def test_a_timestamp_of_the_journal_is_today(tmp_path) -> None:
    journal = Journal(tmp_path / "journal", 10, 0.05)
    journal.start()
    journal.add("outcome", outcome(1))
    journal.close()
    today = {time.strftime("%Y-%m-%d", time.gmtime(time.time() - s)) for s in (0, 60)}
    assert {p.name for p in (tmp_path / "journal").iterdir()} <= today
