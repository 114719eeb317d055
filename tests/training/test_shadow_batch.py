"""`samediff shadow --batch` for real: a process before the scripted provider's batch endpoints, and kills."""

import json
import signal
from decimal import Decimal

import polars as pl
import pytest
from shadow_place import NEAR, Provider, command, edit, finished, make_log, record, wait_for

from training.log import LogStore

OPENAI = "gpt-5.4-mini"
SCRIPT = {
    "batch_polls": 3,
    "rules": [
        {
            "when": {"model": "*haiku*", "contains": "OTHER"},
            "steps": [{"calls": [{"name": "Edit", "arguments": edit("b - a")}]}],
        },
        {"when": {"model": "*haiku*", "contains": "BAD"}, "steps": [{"fault": {"status": 500}}]},
    ],
    "steps": [{"text": "ok", "calls": [{"name": "Edit", "arguments": edit("a + b")}]}],
}
KEYS = {
    "ANTHROPIC_API_KEY": "made-up",
    "OPENAI_API_KEY": "made-up",
    "ZAI_API_KEY": "made-up",
    "OMP_NUM_THREADS": "1",
}
OPTIONS = ("--budget", "1", "--self-share", "0.01", "--batch", "--poll", "0.05")


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    server = Provider(SCRIPT, tmp_path_factory.mktemp("provider"))
    yield server
    server.stop()


@pytest.fixture
def provider(scripted):
    scripted.forget()
    return scripted


def _run(tmp_path, provider, *arguments):
    out = tmp_path / "out.json"
    asked = (*OPTIONS, *arguments, "--json", out)
    code, shown, err = finished(command(tmp_path, provider.url, *asked, environ=KEYS))
    assert err == ""
    return code, json.loads(out.read_text()) if out.exists() else None, shown


def _shadow_calls(tmp_path):
    return LogStore(tmp_path / "log").scan("request").filter(pl.col("source") == "shadow").collect()


def _handed_in(provider):
    return [e for e in provider.seen() if e["path"].endswith("/batches")]


def _ledger(tmp_path):
    (file,) = (tmp_path / "log" / "shadow").glob("*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_batch_costs_half_and_gives_the_same_labels(tmp_path, provider):
    single, batched = tmp_path / "single", tmp_path / "batched"
    results = []
    for folder, options in ((single, OPTIONS[:4]), (batched, OPTIONS)):
        folder.mkdir()
        make_log(folder, [record(n, mark="OTHER" if n % 3 == 0 else "") for n in range(9)])
        out = folder / "out.json"
        code, _, err = finished(
            command(folder, provider.url, "--candidates", NEAR, *options, "--json", out, environ=KEYS)
        )
        assert (code, err) == (0, "")
        results.append(json.loads(out.read_text()))
    one, half = results
    assert one["arms"][-1]["levels"] == half["arms"][-1]["levels"]
    assert half["arms"][-1]["levels"]["L0"] == 6
    assert Decimal(half["spent_usd"]) == Decimal(one["spent_usd"]) / 2 > 0
    assert len(_handed_in(provider)) == 1
    calls = _shadow_calls(batched)
    assert set(calls["service_tier"]) == {"batch"}
    assert float(calls["cost_usd"].sum()) == pytest.approx(float(half["spent_usd"]))


def test_what_a_batch_lists_as_errored_is_free_and_is_not_asked_for_ever(tmp_path, provider):
    make_log(tmp_path, [record(n, mark="BAD" if n == 2 else "") for n in range(4)])
    code, result, _ = _run(tmp_path, provider, "--candidates", NEAR)
    arm = result["arms"][-1]
    assert (code, arm["called"], arm["answered"], arm["failed"]) == (0, 4, 3, 1)
    assert Decimal(arm["usd_reserved"]) == 0
    assert _shadow_calls(tmp_path).filter(pl.col("status") == "error")["cost_usd"].to_list() == [0]


def _openai_rows(dialect, n):
    tool = {"name": "Edit", "parameters": {"type": "object"}}
    said = {"role": "user", "content": "fix add in calc.py"}
    body = (
        {"max_tokens": 1000, "messages": [said], "tools": [{"type": "function", "function": tool}]}
        if dialect == "openai_chat"
        else {"max_output_tokens": 1000, "input": [said], "tools": [{"type": "function", **tool}]}
    )
    reference = {"dialect": dialect, "candidate": "gpt-5.4", "model_served": "gpt-5.4"}
    texts = [json.dumps({"model": "gpt-5.4", **body, "seed": number}) for number in range(n)]
    return [record(number, prompt_text=text, **reference) for number, text in enumerate(texts)]


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses"])
def test_openai_takes_a_file_and_a_batch(tmp_path, provider, dialect):
    make_log(tmp_path, _openai_rows(dialect, 3))
    code, result, _ = _run(tmp_path, provider, "--candidates", OPENAI, "--reference", "gpt-5.4")
    assert code == 0
    assert result["arms"][-1]["levels"]["L0"] == 3
    assert [entry["path"] for entry in provider.seen()] == ["/v1/files", "/v1/batches"]


def test_a_seller_without_batches_is_asked_the_ordinary_way(tmp_path, provider):
    make_log(tmp_path, _openai_rows("openai_chat", 3))
    candidates = ("--candidates", f"{OPENAI},glm-5", "--reference", "gpt-5.4")
    code, result, _ = _run(tmp_path, provider, *candidates)
    assert code == 0
    assert [arm["answered"] for arm in result["arms"][-2:]] == [3, 3]
    paths = sorted(entry["path"] for entry in provider.seen())
    assert paths == ["/v1/batches", *["/v1/chat/completions"] * 3, "/v1/files"]
    tiers = dict(
        _shadow_calls(tmp_path).group_by("candidate").agg(pl.col("service_tier").first()).iter_rows()
    )
    assert (tiers[OPENAI], tiers["glm-5"]) == ("batch", None)


def test_a_killed_run_finds_its_batch_again_and_pays_once(tmp_path):
    slow = Provider({**SCRIPT, "batch_polls": 8}, tmp_path)
    try:
        make_log(tmp_path, [record(n) for n in range(6)])
        asked = ("--candidates", NEAR, *OPTIONS)
        running = command(tmp_path, slow.url, *asked, environ=KEYS)
        wait_for(lambda: any(line["type"] == "submitted" for line in _lines(tmp_path)))
        running.send_signal(signal.SIGKILL)
        finished(running)
        assert not any(line["type"] == "settled" for line in _ledger(tmp_path))
        code, result, _ = _run(tmp_path, slow, "--candidates", NEAR)
        assert code == 0
        assert len(_handed_in(slow)) == 1
        arm = result["arms"][-1]
        assert (arm["called"], arm["answered"], arm["usd_reserved"]) == (6, 6, "0")
        paid = sum(Decimal(line["usd"]) for line in _ledger(tmp_path) if line["type"] == "settled")
        assert paid == Decimal(result["spent_usd"]) > 0
    finally:
        slow.stop()


def _lines(tmp_path):
    found = list((tmp_path / "log" / "shadow").glob("*.jsonl"))
    return [json.loads(line) for line in found[0].read_text().splitlines() if line] if found else []


@pytest.mark.parametrize("arrived", [True, False])
def test_a_batch_whose_id_was_never_written_is_looked_for(tmp_path, provider, arrived):
    make_log(tmp_path, [record(n) for n in range(5)])
    assert _run(tmp_path, provider, "--candidates", NEAR)[0] == 0
    (file,) = (tmp_path / "log" / "shadow").glob("*.jsonl")
    kept = [line for line in _ledger(tmp_path) if line["type"] in ("plan", "item", "sent", "batch")]
    if not arrived:  # as if these calls had never been in any batch there
        other = {"sent": ("call", "batch"), "batch": ("batch",)}
        kept = [{**line, **{k: f"{line[k]}x" for k in other.get(line["type"], ())}} for line in kept]
    file.write_text("".join(json.dumps(line) + "\n" for line in kept))
    code, result, _ = _run(tmp_path, provider, "--candidates", NEAR)
    assert code == 0
    arm = result["arms"][-1]
    if arrived:
        assert len(_handed_in(provider)) == 1
        assert (arm["answered"], arm["usd_reserved"]) == (5, "0")
    else:
        assert len(_handed_in(provider)) == 2
        assert Decimal(result["spent_usd"]) > Decimal(arm["usd"])  # the lost ones count at their reservation


def test_the_cap_holds_over_rounds(tmp_path, provider):
    make_log(tmp_path, [record(n, body={"max_tokens": 16000}) for n in range(12)])
    out = tmp_path / "out.json"
    options = ("--budget", "0.03", "--per-request", "0.03", "--candidates", NEAR, "--self-share", "0.01")
    code, _, err = finished(
        command(tmp_path, provider.url, *options, "--batch", "--poll", "0.05", "--json", out, environ=KEYS)
    )
    result = json.loads(out.read_text())
    assert (code, err) == (0, "")
    assert len(_handed_in(provider)) > 1
    assert result["asked"] == 12
    open_, spent = {}, Decimal(0)
    for line in _ledger(tmp_path):
        if line["type"] == "sent":
            open_[line["call"]] = Decimal(line["reserved_usd"])
        elif line["type"] == "settled":
            del open_[line["call"]]
            spent += Decimal(line["usd"])
        assert spent + sum(open_.values()) <= Decimal("0.03")


def test_a_key_that_is_refused_is_one_line(tmp_path, provider):
    make_log(tmp_path, [record(n) for n in range(2)])
    asked = ("--candidates", NEAR, *OPTIONS)
    process = command(tmp_path, f"{provider.url}/nowhere", *asked, environ=KEYS)
    code, _, err = finished(process)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "refuses a batch with 404: check" in err
