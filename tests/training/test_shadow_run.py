"""`samediff shadow` for real: a process before the scripted provider, with faults, kills and caps."""

import json
import re
import signal
import time
from decimal import Decimal

import polars as pl
import pytest
from shadow_place import (
    FAR,
    NEAR,
    REFERENCE,
    TOOLS,
    Provider,
    command,
    edit,
    finished,
    make_log,
    record,
    wait_for,
)

from features.errors import BadInput, SamediffError
from router.gateway.settings import Settings
from training.log import LogStore
from training.shadow.asking import Limits
from training.shadow.run import Options, run


def _says(new, **fault):
    return [{"text": "ok", "calls": [{"name": "Edit", "arguments": edit(new)}], "fault": fault or None}]


def _rule(contains=None, model="*haiku*", new="a + b", **fault):
    return {"when": {"contains": contains, "model": model}, "steps": _says(new, **fault)}


SCRIPT = {
    "rules": [
        _rule("SLOW", model=None, delay_ms=400),
        _rule("OTHER", new="b - a"),
        _rule("RATE", status=429, retry_after_s=0, times=2),
        _rule("BROKEN", status=500),
        _rule("DROP", then="drop", after_events=1),
        _rule("STALL", then="stall", after_events=1),
        _rule("LATE", delay_ms=60_000),
        _rule("DENIED", status=401),
        {"when": {"model": "*haiku*", "contains": "TALK"}, "steps": [{"text": "I would add."}]},
        _rule("CENTS", model=None, delay_ms=5),
        {
            "when": {"contains": "DEAR"},
            "steps": [
                {
                    "calls": [{"name": "Edit", "arguments": edit("a + b")}],
                    "usage": {"uncached": 1000, "cached": 0, "cache_write": 0, "output": 700},
                    "fault": {"delay_ms": 50},
                }
            ],
        },
    ],
    "steps": _says("a + b"),
}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    server = Provider(SCRIPT, tmp_path_factory.mktemp("provider"))
    yield server
    server.stop()


@pytest.fixture
def provider(scripted):
    scripted.forget()
    return scripted


def _run(tmp_path, provider, *arguments, **more):
    out = tmp_path / "out.json"
    code, shown, err = finished(command(tmp_path, provider.url, *arguments, "--json", out, **more))
    return code, json.loads(out.read_text()) if out.exists() else None, shown, err


def _outcomes(tmp_path):
    return LogStore(tmp_path / "log").scan("outcome").collect()


def _shadow_calls(tmp_path):
    return LogStore(tmp_path / "log").scan("request").filter(pl.col("source") == "shadow").collect()


def test_pairs_are_judged_and_written_with_their_chances(tmp_path, provider):
    left_out = [
        record(50, prompt_text=None),
        record(51, source="codex"),
        record(52, body={"previous_response_id": "resp_1"}),
        record(53, body={"tools": [*TOOLS, {"type": "web_search_20250305", "name": "web_search"}]}),
        record(54, tools_called=["Bash"], response_text='{"command": "ls"}'),
        record(55, status="truncated"),
        record(56, prompt_text="{"),
    ]
    marks = ["", "", "OTHER", "TALK"]
    make_log(tmp_path, [record(n, mark=mark) for n, mark in enumerate(marks)] + left_out)
    make_log(tmp_path, [record(99, mark="", prompt_text=record(0, mark="").prompt_text)])  # asked twice
    options = ("--budget", "1", "--candidates", f"{NEAR},{FAR}", "--self-share", "1")
    code, result, shown, err = _run(tmp_path, provider, *options)
    assert (code, err) == (0, "")
    assert "every request of the plan was asked" in shown
    assert (
        len(provider.seen()) == 12
    )  # three calls for each of four bodies: the logged answer is the reference's
    arms = {(arm["role"], arm["candidate"]): arm for arm in result["arms"]}
    assert arms["self", REFERENCE]["same"] == 1.0
    near = arms["candidate", NEAR]
    assert near["levels"] | {"L0": 2, "L3": 1, "different": 1} == near["levels"]
    assert near["same"] == pytest.approx(3 / 5)  # by traffic: one of the four bodies was asked twice
    assert near["same_ci"][0] < 0.6 < near["same_ci"][1]
    assert result["requests"] == 12
    assert result["repeats"] == 1
    assert sum(result["not_replayable"].values()) == 7
    assert len(result["not_replayable"]) == 6
    labels = _outcomes(tmp_path)
    assert len(labels) == result["labels_added"] == 12
    assert set(labels["source"]) == {"shadow"}
    assert labels["sampling_probability"].to_list() == [1.0] * 12
    assert sorted(json.loads(detail)["traffic"] for detail in labels["detail"]) == [1] * 9 + [2] * 3
    same = labels["level"].is_in(["L0", "L1", "L2"])
    assert labels.filter(same)["value"].to_list() == [1.0] * int(same.sum())
    assert labels.filter(~same)["value"].null_count() == int((~same).sum()) == 2
    assert json.loads(labels["detail"][0])["against"] == "logged"
    calls = _shadow_calls(tmp_path)
    assert float(calls["cost_usd"].sum()) == pytest.approx(float(result["spent_usd"]))
    assert set(calls["parent_session_id"]) in ({"s0", "s1", "s2", "s3"}, {"s99", "s1", "s2", "s3"})
    code, again, _, _ = _run(tmp_path, provider, *options)
    assert (again["ended"], again["labels_added"], len(provider.seen())) == ("closed", 0, 12)


def test_no_tool_tier_or_name_is_sent_along(tmp_path):
    bodies = tmp_path / "bodies"
    make_log(tmp_path, [record(0, body={"service_tier": "priority", "metadata": {"user_id": "someone"}})])
    provider = Provider({"steps": _says("a + b")}, tmp_path, "--record", bodies)
    try:
        code, _, _, _ = _run(
            tmp_path, provider, "--budget", "1", "--candidates", NEAR, "--max-output-tokens", "500"
        )
        headers = provider.seen()[-1]["headers"]
    finally:
        provider.stop()
    assert code == 0
    sent = [json.loads(file.read_text()) for file in sorted(bodies.iterdir())]
    assert {frozenset(body) for body in sent} == {frozenset({"model", "max_tokens", "tools", "messages"})}
    assert sent[-1]["max_tokens"] == 500
    assert headers["idempotency-key"].startswith("shadow_")
    assert headers["x-api-key"].startswith("sha256:")


def test_the_reference_is_asked_anew_where_its_answer_was_not_kept(tmp_path, provider):
    make_log(tmp_path, [record(0, response_text=None), record(1, candidate=FAR), record(2)])
    more = ("--reference", REFERENCE, "--self-share", "1", "--per-request", "0.2")
    code, result, _, _ = _run(tmp_path, provider, "--budget", "1", "--candidates", NEAR, *more)
    assert code == 0
    assert [(arm["role"], arm["called"]) for arm in result["arms"]] == [
        ("reference", 2),
        ("self", 3),
        ("candidate", 3),
    ]
    labels = _outcomes(tmp_path)
    against = [json.loads(detail)["against"] for detail in labels["detail"]]
    assert sorted(against) == ["fresh"] * 4 + ["logged"] * 2 + ["nothing"]
    assert result["pairs"] == 6
    (anew,) = labels.filter(pl.col("candidate") == REFERENCE, pl.col("reference") == FAR).to_dicts()
    assert (anew["request_id"], anew["level"], anew["value"]) == ("r1", "unknown", None)
    assert anew["sampling_probability"] == 1.0  # so that its tests can be weighed, whenever they are run


def test_every_dialect_can_be_asked(tmp_path):
    bodies = tmp_path / "bodies"
    message = [{"role": "user", "content": "fix add"}]
    tool = {"type": "function", "function": {"name": "Edit", "parameters": {"type": "object"}}}
    flat = {"type": "function", "name": "Edit", "parameters": {"type": "object"}}
    own = {"candidate": "gpt-5.4", "model_served": "gpt-5.4-2026-03-05"}
    chat = {"model": "gpt-5.4", "messages": message, "tools": [tool], "max_tokens": 900, "n": 2}
    responses = {"model": "gpt-5.4", "input": message, "tools": [flat], "store": True}
    records = [
        record(0, dialect="openai_chat", prompt_text=json.dumps(chat), **own),
        record(1, dialect="openai_responses", prompt_text=json.dumps(responses), **own),
    ]
    make_log(tmp_path, records)
    provider = Provider({"steps": _says("a + b")}, tmp_path, "--record", bodies)
    try:
        options = ("--budget", "10", "--candidates", "gpt-5.4-mini", "--self-share", "1")
        code, result, _, _ = _run(tmp_path, provider, *options, environ={"OPENAI_API_KEY": "made-up"})
    finally:
        provider.stop()
    assert code == 0
    assert [(arm["role"], arm["levels"]["L0"]) for arm in result["arms"]] == [("self", 2), ("candidate", 2)]
    sent = [json.loads(file.read_text()) for file in sorted(bodies.iterdir()) if file.stat().st_size]
    assert {frozenset(body) for body in sent} == {
        frozenset({"model", "messages", "tools", "max_completion_tokens"}),
        frozenset({"model", "input", "tools", "max_output_tokens", "store"}),
    }
    assert not any(body.get("store") for body in sent)


def test_faults_are_counted_and_paid_for(tmp_path, provider):
    marks = ["RATE", "BROKEN", "DROP", "STALL", "LATE", "", "", ""]
    make_log(tmp_path, [record(n, mark=mark) for n, mark in enumerate(marks)])
    options = ("--budget", "1", "--candidates", NEAR, "--timeout", "0.8", "--self-share", "0.01")
    code, result, shown, err = _run(tmp_path, provider, *options)
    assert (code, err) == (0, "")
    arm = result["arms"][-1]
    assert (arm["called"], arm["answered"], arm["failed"]) == (8, 4, 4)
    assert float(arm["usd_reserved"]) > 0.9 * float(arm["usd"])
    assert "are reservations" in shown
    calls = _shadow_calls(tmp_path)
    kinds = dict(calls.group_by("error_kind").len().iter_rows())
    assert kinds[None] == 4
    assert kinds["timeout"] == 2
    assert kinds["dropped"] == 1
    refused = calls.filter(pl.col("http_status") == 429)
    assert refused["cost_usd"].to_list() == [0, 0]  # refused for its rate, twice: nothing to pay
    assert len(provider.seen()) == 10
    lost = calls.filter(pl.col("error_kind").is_in(["timeout", "dropped"]))
    assert all("cost_is_reservation" in flags for flags in lost["flags"])
    assert float(calls["cost_usd"].sum()) == pytest.approx(float(result["spent_usd"]))


def test_nothing_is_paid_twice_after_a_kill(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="SLOW") for n in range(14)])
    options = ("--budget", "1", "--candidates", NEAR, "--self-share", "0.01", "--concurrency", "3")
    running = command(tmp_path, provider.url, *options)
    wait_for(lambda: len(provider.seen()) >= 7)
    running.send_signal(signal.SIGKILL)
    finished(running)
    before = len(provider.seen())
    assert 7 <= before < 14
    code, result, _, _ = _run(tmp_path, provider, *options)
    assert code == 0
    sent = [(entry["model"], entry["body_xxh64"]) for entry in provider.seen()]
    arm = result["arms"][-1]
    lost = 14 - arm["answered"]
    assert 1 <= lost <= 3  # on their way when it was killed, some perhaps not yet there
    assert 14 - lost <= len(sent) == len(set(sent)) <= 14
    assert float(arm["usd_reserved"]) > 0
    assert arm["called"] == 14
    assert len(_outcomes(tmp_path)) == arm["answered"]
    calls = _shadow_calls(tmp_path)
    assert float(calls["cost_usd"].sum()) == pytest.approx(float(result["spent_usd"]))
    assert int((calls["status"] == "unknown").sum()) == lost


def test_what_a_kill_left_open_is_asked_again_when_wanted(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="SLOW") for n in range(4)])
    options = ("--budget", "1", "--candidates", NEAR, "--self-share", "0.01", "--concurrency", "2")
    running = command(tmp_path, provider.url, *options)
    wait_for(lambda: len(provider.seen()) >= 2)
    running.send_signal(signal.SIGINT)  # and ^C, which is polite, writes down what it broke off
    assert finished(running)[0] == 130
    code, result, _, _ = _run(tmp_path, provider, *options, "--retry-unsettled")
    assert code == 0
    assert result["arms"][-1]["answered"] == 4
    assert result["labels_added"] == 4


def test_what_was_left_open_can_be_asked_again_after_the_run_was_over(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="SLOW") for n in range(8)])
    options = ("--budget", "1", "--candidates", NEAR, "--self-share", "0.01", "--concurrency", "2")
    running = command(tmp_path, provider.url, *options)
    wait_for(lambda: len(provider.seen()) >= 3)
    running.send_signal(signal.SIGKILL)
    finished(running)
    code, result, _, _ = _run(tmp_path, provider, *options)
    lost = result["unsettled"]
    assert (code, lost >= 1, result["labels_added"]) == (0, True, 8 - lost)
    before = len(provider.seen())
    code, result, _, _ = _run(tmp_path, provider, *options, "--retry-unsettled")
    assert (code, result["unsettled"], result["labels_added"]) == (0, 0, lost)
    assert len(provider.seen()) == before + lost
    assert result["arms"][-1]["answered"] == 8


def test_the_cap_holds_under_concurrency_and_over_resumes(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="CENTS", body={"max_tokens": 16000}) for n in range(60)])
    options = ("--candidates", f"{NEAR},{FAR}", "--self-share", "1", "--concurrency", "16")
    # A request costs 0.50 at its worst and 0.001 really: the cap is met by reservations first.
    code, result, shown, _ = _run(tmp_path, provider, "--budget", "0.52", "--per-request", "0.52", *options)
    assert code == 0
    assert "stopped at the cap" in shown
    assert 0 < result["asked"] < 60
    assert float(result["spent_usd"]) <= 0.52
    assert result["without_chance"] == 3  # of the request that the money ended with
    labels = _outcomes(tmp_path).drop_nulls("sampling_probability")
    assert 0 < labels["sampling_probability"].min() <= labels["sampling_probability"].max() < 1
    assert len(labels) == 3 * (result["asked"] - 1)
    assert _highest(tmp_path) <= Decimal("0.52")


def _highest(tmp_path):
    """The most that was spent and on its way at any moment, by the ledger."""
    (ledger,) = (tmp_path / "log" / "shadow").glob("*.jsonl")
    spent, open_, highest = Decimal(0), {}, Decimal(0)
    for line in map(json.loads, ledger.read_text().splitlines()):
        if line["type"] == "sent":
            open_[line["call"]] = Decimal(line["reserved_usd"])
        elif line["type"] == "settled":
            del open_[line["call"]]
            spent += Decimal(line["usd"])
        highest = max(highest, spent + sum(open_.values()))
    return highest


def test_calls_at_the_same_time_never_pass_the_cap(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="DEAR", input_tokens_uncached=20) for n in range(40)])
    options = ("--budget", "0.6", "--per-request", "0.1", "--candidates", NEAR, "--self-share", "1")
    code, result, shown, _ = _run(tmp_path, provider, *options, "--concurrency", "16")
    assert code == 0
    assert "stopped at the cap" in shown
    assert 20 < result["asked"] < 40  # each is told to cost two thirds of its worst case
    assert Decimal("0.3") < _highest(tmp_path) <= Decimal("0.6")


def test_there_is_nothing_to_finish_before_a_run(tmp_path):
    make_log(tmp_path, [record(0)])
    with pytest.raises(BadInput, match="no run to finish"):
        run(
            tmp_path / "log", Options("1", (NEAR,), finish=True), Settings(), {"ANTHROPIC_API_KEY": "made-up"}
        )
    with pytest.raises(BadInput, match="no run to finish"):  # which asks nobody, so it needs no key
        run(tmp_path / "log", Options("1", (NEAR,), finish=True), Settings(), {})


def test_lost_money_counts_against_the_cap_of_a_resumed_run(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="LATE") for n in range(30)])
    options = ("--budget", "0.01", "--per-request", "0.002", "--candidates", NEAR, "--self-share", "0.01")
    for _ in range(3):
        count = len(provider.seen())
        running = command(tmp_path, provider.url, *options, "--concurrency", "3")
        wait_for(lambda: len(provider.seen()) > count or running.poll() is not None)  # noqa: B023
        time.sleep(0.2)
        running.send_signal(signal.SIGKILL)
        finished(running)
    code, result, _, _ = _run(tmp_path, provider, *options, "--finish")
    assert code == 1  # nothing came back
    assert 0 < float(result["spent_usd"]) <= 0.01
    assert float(result["spent_usd"]) == pytest.approx(float(result["arms"][-1]["usd_reserved"]))
    assert result["arms"][-1]["called"] == len(provider.seen()) >= 5


def test_a_refused_key_stops_at_once_and_can_be_mended(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="DENIED") for n in range(20)])
    options = ("--budget", "1", "--candidates", NEAR, "--self-share", "0.01", "--concurrency", "2")
    code, _, out, err = _run(tmp_path, provider, *options)
    assert (code, out) == (2, "")
    assert "refuses with 401: check ANTHROPIC_API_KEY" in err
    assert len(err.splitlines()) == 1
    assert len(provider.seen()) <= 3


def test_a_provider_that_is_down_stops_the_run(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="BROKEN") for n in range(30)])
    options = ("--budget", "1", "--candidates", NEAR, "--self-share", "0.01", "--concurrency", "1")
    code, result, shown, _ = _run(tmp_path, provider, *options)
    assert code == 1
    assert "fails again and again" in shown
    assert len(provider.seen()) == 10
    assert result["labels_added"] == 0


BAD = [
    ({"budget": "much"}, 2, "is not a number"),
    ({"budget": "-1"}, 2, "from 0 up"),
    ({"budget": "nan"}, 2, "from 0 up"),
    ({"budget": "0"}, 1, "pays for nothing"),
    ({"candidates": ("nobody",)}, 2, "'nobody' is no candidate"),
    ({"candidates": ()}, 2, "give the candidates"),
    ({"candidates": (REFERENCE,)}, 2, "is the reference"),
    ({"candidates": ("gpt-5.4",)}, 2, "no key for gpt-5.4: set OPENAI_API_KEY"),
    ({"self_share": 0.0}, 2, "--self-share"),
    ({"per_request": "x"}, 2, "--per-request 'x'"),
    ({"limits": Limits(concurrency=0)}, 2, "--concurrency"),
    ({"limits": Limits(timeout_s=float("nan"))}, 2, "--timeout"),
    ({"budget": "0.0001"}, 1, "dearer than --per-request"),
]


@pytest.mark.parametrize(("given", "code", "words"), BAD)
def test_bad_input_is_one_line(tmp_path, given, code, words):
    make_log(tmp_path, [record(0)])
    options = Options(**{"budget": "1", "candidates": (NEAR,), **given})
    with pytest.raises(SamediffError, match=re.escape(words)) as error:
        run(tmp_path / "log", options, Settings(), {"ANTHROPIC_API_KEY": "made-up"})
    assert error.value.exit_code == code
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "log").glob("shadow/*.jsonl"))


@pytest.mark.parametrize(
    ("records", "code", "words"),
    [
        (None, 2, "no such log"),
        ([], 2, "names no candidate"),
        ([record(0, prompt_text=None)], 1, "1 × no full body in the log"),
        ([record(0, candidate="gone")], 2, "--reference"),
    ],
)
def test_a_log_that_cannot_be_used_is_one_line(tmp_path, records, code, words):
    if records is not None:
        make_log(tmp_path, records)
    with pytest.raises(SamediffError, match=re.escape(words)) as error:
        run(tmp_path / "log", Options("1", (NEAR,)), Settings(), {"ANTHROPIC_API_KEY": "made-up"})
    assert error.value.exit_code == code


def test_a_candidate_without_a_price_is_never_asked(tmp_path):
    make_log(tmp_path, [record(0)])
    (tmp_path / "catalog.toml").write_text('[candidates.own]\nendpoints = { anthropic = "our-own-model" }\n')
    settings = Settings(catalog=str(tmp_path / "catalog.toml"))
    with pytest.raises(BadInput, match="own has no published price"):
        run(tmp_path / "log", Options("1", ("own",)), settings, {"ANTHROPIC_API_KEY": "made-up"})
