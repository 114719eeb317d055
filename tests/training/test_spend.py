"""`samediff cost`: money is conserved, what isn't known is counted, and every source's log can be read."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from spend_logs import MINUTE, START_MS, call, request, write
from typer.testing import CliRunner

import samediff
from features.errors import BadInput
from router import prices
from training.ingest import ingest
from training.ingest import run as ingest_run
from training.sources.checks import check, known_model, price
from training.spend.groups import KEYS, grouped, parse_keys, saved, spend_of
from training.spend.report import run
from training.spend.show import render

ROOT = Path(__file__).parents[2]
counts = st.one_of(st.none(), st.integers(0, 10**7))

calls = st.lists(
    st.builds(
        lambda n, who, model, cost, tokens: call(
            n,
            session_id=f"s{n % 5}",
            user=who,
            model_served=model,
            cost_usd=cost,
            ts_ms=START_MS + n * 7 * MINUTE,
            **dict(zip(("input_tokens_uncached", "cached_tokens", "output_tokens"), tokens, strict=True)),
        ),
        st.integers(0, 500),
        st.sampled_from([None, "ann", "bo"]),
        st.sampled_from(["claude-opus-4-6", "gpt-5.4", "nobody-sells-this", None]),
        st.one_of(st.none(), st.decimals(0, 100, places=12)),
        st.tuples(counts, counts, counts),
    ),
    max_size=30,
)


@given(some=calls, keys=st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3, unique=True))
def test_money_is_conserved_by_any_grouping(some, keys) -> None:
    lost = {one.call.request_id: Decimal(i).scaleb(-12) for i, one in enumerate(some) if i % 3 == 0}
    whole = spend_of(some, lost)
    parts = [group.spend for group in grouped(some, tuple(keys), lost)]
    for name in whole.__struct_fields__:
        if name != "sessions":
            assert sum((getattr(part, name) for part in parts), type(getattr(whole, name))(0)) == getattr(
                whole, name
            ), name
    assert whole.paid_usd == whole.recorded_usd + whole.priced_usd
    assert whole.calls == whole.recorded_calls + whole.priced_calls + whole.unknown_calls


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_caching_saved_is_the_difference_to_no_cache(fresh, cached, written, hourly) -> None:
    tokens = {
        "cached_tokens": cached,
        "cache_write_tokens": written + hourly,
        "cache_write_1h_tokens": hourly,
    }
    one = call(input_tokens_uncached=fresh, **tokens)
    without = call(input_tokens_uncached=fresh + cached + written + hourly)
    assert without.listed - one.listed == saved(one)
    assert saved(without) == 0


def test_paid_is_what_is_recorded_else_what_the_table_says(tmp_path) -> None:
    log = write(
        tmp_path / "log",
        [
            request(0, cost_usd="0.5", user="ann"),
            request(1),  # 1,000 × $5 + 200 × $25
            request(2, model_served="nobody-sells-this", user="ann"),
            request(3, cost_usd="0.02", cost_source="priced"),  # by a table of another day
        ],
    )
    result = run(log, ["user"])
    total = result.total
    assert (total.recorded_usd, total.priced_usd, total.unknown_calls) == (Decimal("0.5"), Decimal("0.02"), 1)
    assert [(g.key["user"], g.spend.paid_usd) for g in result.groups] == [
        ("ann", Decimal("0.5")),
        ("unknown", Decimal("0.02")),
    ]
    (unpriced,) = result.doubts.unpriced
    assert (unpriced.model, unpriced.calls) == ("nobody-sells-this", 1)
    assert prices.OWN_FILE in unpriced.why
    assert result.price_version == prices.PRICE_VERSION


def test_a_failed_call_of_ours_is_the_asked_model_s_and_no_alias_s(tmp_path) -> None:
    failed = {"model_served": None, "model_requested": "auto", "status": "error", "output_tokens": None}
    asked = {"source": "journal", "candidate": "claude-opus-4-6", "provider": "anthropic"}
    result = run(write(tmp_path / "log", [request(0), request(1, **failed, **asked)]), ["model"])
    assert [group.key["model"] for group in result.groups] == ["claude-opus-4-6"]
    assert "auto" not in {doubt.model for doubt in result.doubts.unpriced}


def test_a_request_paid_more_than_once_costs_what_all_its_answers_did(tmp_path) -> None:
    told = {"source": "journal", "flags": ["paid_more_than_once"], "cost_source": "priced"}
    known, unknown = request(0, **told, cost_usd="0.03"), request(1, **told | {"cost_source": "unknown"})
    result = run(write(tmp_path / "log", [known, unknown]), ["model"])
    assert (result.total.paid_usd, result.total.unknown_calls) == (Decimal("0.03"), 1)
    assert price(unknown) is unknown  # at ingestion, either
    assert price(request(1)).cost_usd == Decimal("0.01")


@pytest.mark.parametrize("status", ["error", "cancelled", "truncated"])
def test_no_price_is_asked_for_of_a_candidate_s_own_name(tmp_path, status) -> None:
    nothing = dict.fromkeys(("input_tokens_uncached", "cached_tokens", "cache_write_tokens", "output_tokens"))
    asked = {"source": "journal", "candidate": "our-fast-one", "status": status, "model_served": None}
    record = request(0, **asked, **nothing)
    assert check(record, START_MS, known_model).flags is None
    assert run(write(tmp_path / "log", [record]), ["model"]).doubts.unpriced == []
    billed = request(0, **asked)
    assert check(billed, START_MS, known_model).flags == ["unknown_model"]
    (unpriced,) = run(write(tmp_path / "billed", [billed]), ["model"]).doubts.unpriced
    assert unpriced.model == "our-fast-one"


def test_a_price_of_ones_own_counts_at_once(tmp_path) -> None:
    log = write(tmp_path / "log", [request(0, model_served="our-model", provider="rack")])
    own = tmp_path / "p.toml"
    own.write_text(
        "[[price]]\nprovider = 'rack'\nmodels = ['our-*']\ninput = 1\noutput = 5\n"
        "source = 'us'\nchecked = 2026-01-01\n"
    )
    done = CliRunner().invoke(
        samediff.app, ["cost", str(log), "--prices", str(own), "--json", "-"], catch_exceptions=False
    )
    prices.use(None)
    said = json.loads(done.stdout)
    assert said["total"]["paid_usd"] == 0.002
    assert said["doubts"]["unpriced"] == []


def test_money_in_json_is_an_exact_number(tmp_path) -> None:
    log = write(tmp_path / "log", [request(n, cost_usd="0.000000000001") for n in range(3)])
    done = CliRunner().invoke(samediff.app, ["cost", str(log), "--group-by", "day,model", "--json", "-"])
    assert '"paid_usd": 0.000000000003' in done.stdout
    assert json.loads(done.stdout)["groups"][0]["key"] == {"day": "2026-05-27", "model": "claude-opus-4-6"}


def test_what_cannot_be_believed_is_kept_flagged_counted_and_shown(tmp_path) -> None:
    table = tmp_path / "calls.jsonl"
    row = {"session": "s", "model": "gpt-5.4", "input_tokens_uncached": 10, "output_tokens": 5}
    rows = [
        {**row, "turn": 0, "ts_ms": START_MS + 5 * MINUTE, "cached_tokens": -4},
        {**row, "turn": 1, "ts_ms": START_MS, "model": "openai/gpt-5.4-2026-03-05"},
        {**row, "turn": 2, "ts_ms": START_MS + 9 * MINUTE, "output_tokens": None},
        {**row, "turn": 3, "ts_ms": 4_000_000_000_000},
        {**row, "turn": 4, "ts_ms": START_MS + 10 * MINUTE, "provider": "who-is-that"},
        {"session": "t", "model": "gpt-5.4", "ts_ms": START_MS, "output_tokens": 5, "input_tokens": 10}
        | {"cached_tokens": 50},
    ]
    table.write_text("".join(json.dumps(r) + "\n" for r in rows))
    ingest_run([table], tmp_path / "log", form="table", prompts="none")
    result = run(tmp_path / "log", now_ms=START_MS + 60 * MINUTE)
    assert result.total.calls == len(rows)
    assert result.total.unknown_calls == 3  # no output, nobody's price, no input
    counts = result.doubts.counts
    for name, n in {"clock_backwards": 1, "renamed": 1, "missing_usage": 2, "not_yet": 1}.items():
        assert counts[name] == n, name
    assert (counts["negative_tokens"], counts["unknown_model"], counts["future_timestamp"]) == (2, 1, 1)
    out = io.StringIO()
    for part in render(result):
        Console(file=out, width=100).print(part)
    shown = out.getvalue()
    for name in counts:
        assert result.doubts.means[name][:30] in shown
    assert "who-is-that" in shown


def test_a_cost_that_is_no_amount_of_money_is_flagged(tmp_path) -> None:
    table = tmp_path / "calls.csv"
    costs = ("inf", "-Infinity", "1e12", "free", "", "nan", "0.01")
    rows = [f"s,{n},{START_MS + n},claude-opus-4-6,10,0,5,{cost}" for n, cost in enumerate(costs)]
    names = "session,turn,ts_ms,model,input_tokens_uncached,cached_tokens,output_tokens,cost_usd"
    table.write_text("\n".join([names, *rows]) + "\n")
    ingested = ingest_run([table], tmp_path / "log", form="table", prompts="none")
    assert ingested.flagged == {"cost_no_number": 4}
    result = run(tmp_path / "log", now_ms=START_MS + 60 * MINUTE)
    assert (result.total.recorded_calls, result.doubts.counts) == (1, {"cost_no_number": 4})


def shown(result):
    out = io.StringIO()
    for part in render(result):
        Console(file=out, width=160).print(part)
    return out.getvalue()


def test_a_time_that_cannot_be_is_no_lack_of_a_price(tmp_path) -> None:
    year_2100 = 4_102_444_800_000
    log = write(tmp_path / "log", [request(0, ts_ms=year_2100 - 1), request(1, ts_ms=year_2100)])
    result = run(log, now_ms=START_MS)
    assert result.doubts.counts == {"not_yet": 1, "no_such_time": 1}
    assert (result.total.priced_calls, result.total.unknown_calls) == (1, 1)
    assert result.doubts.unpriced == []
    assert "[[price]]" not in shown(result)
    unheard = run(write(tmp_path / "own", [request(0, ts_ms=year_2100, model_served="my-own-model")]))
    assert [lacking.model for lacking in unheard.doubts.unpriced] == ["my-own-model"]


def test_a_saving_or_share_that_nobody_knows_is_not_0(tmp_path) -> None:
    refused = [request(n, input_tokens_uncached=None, cached_tokens=9_000) for n in range(2)]
    result = run(write(tmp_path / "log", refused), now_ms=START_MS + 60 * MINUTE)
    assert (result.caching.cached_share, result.caching.billed_calls) == (None, 0)
    assert result.caching.saving_unknown_calls == 2
    assert result.groups[0].share is None
    said = shown(result)
    assert "what caching saved is unknown of 2 calls" in said
    assert "caching saved $" not in said
    mixed = [*refused, request(2, cached_tokens=1_000), request(3, model_served="my-own-model")]
    result = run(write(tmp_path / "mixed", mixed), now_ms=START_MS + 60 * MINUTE)
    assert (result.caching.cached_share, result.caching.saving_unknown_calls) == (1 / 3, 2)
    assert {g.key["model"]: g.share for g in result.groups} == {"claude-opus-4-6": 1.0, "my-own-model": None}
    assert " 0.0%" not in shown(result)


@pytest.mark.parametrize(
    ("model", "cached", "counts"),
    [
        ("claude-haiku-4-5", 9_000, {"model_changed": 1, "hit_on_new_model": 1}),
        ("claude-haiku-4-5", 1_000, {"model_changed": 1}),  # as much as other sessions may have sent it
        ("claude-opus-4-6", 9_000, {}),
        ("anthropic/claude-opus-4-6", 9_000, {"renamed": 1}),
    ],
)
def test_a_model_that_changes_and_is_warm_at_once_is_flagged(tmp_path, model, cached, counts) -> None:
    records = [request(0), request(1, model_served=model, cached_tokens=cached)]
    again = request(2, model_served=model, cached_tokens=9_000)
    result = run(write(tmp_path / "log", [*records, again]), now_ms=START_MS + 60 * MINUTE)
    assert result.doubts.counts == counts


SPEND_LOG = {
    "request_id": "chatcmpl-1",
    "call_type": "anthropic_messages",
    "spend": 0.0042,
    "startTime": "2026-05-27T08:00:00+00:00",
    "model": "claude-sonnet-4-5",
    "prompt_tokens": 2000,
    "completion_tokens": 200,
    "session_id": "s-1",
    "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 1500}}},
}


def test_logs_of_every_source_can_be_read(tmp_path) -> None:
    logs = ROOT / "sample/logs"
    gateway, own = tmp_path / "gateway.jsonl", tmp_path / "journal.jsonl"
    gateway.write_text(json.dumps(SPEND_LOG) + "\n")
    line = {"kind": "request", "record": request(source="journal")}
    own.write_bytes(msgspec.json.encode(line) + b"\n")
    recorded = [logs / "claude_code", logs / "codex", logs / "claude_code_runs.parquet"]
    ingest([*recorded, gateway, own], tmp_path / "log")
    result = run(tmp_path / "log", ["source"])
    sources = {group.key["source"] for group in result.groups}
    assert sources == {"claude_code", "codex", "table", "litellm", "journal"}
    assert all(group.spend.paid_usd > 0 for group in result.groups)
    assert sum(loss.usd for loss in result.losses) == result.lost_usd
    assert result.agreement.reasons["output_missing"] > 40  # the runs count hardly any output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["--group-by", "colour"], "--group-by colour: no such key; there are model"),
        (["--prices", "nowhere.toml"], "price file nowhere.toml: No such file"),
    ],
)
def test_bad_options_are_one_line(tmp_path, command, said) -> None:
    log = write(tmp_path / "log", [request()])
    done = CliRunner().invoke(samediff.app, ["cost", str(log), *command])
    prices.use(None)
    assert isinstance(done.exception, BadInput)
    assert said in str(done.exception)


def test_no_log_and_an_empty_log_say_what_to_do(tmp_path) -> None:
    with pytest.raises(BadInput, match="no such log; make one with `samediff ingest"):
        run(tmp_path / "nowhere")
    write(tmp_path / "log", [])
    with pytest.raises(BadInput, match="no requests in it"):
        run(tmp_path / "log")
    assert parse_keys([]) == ("model",)


@settings(max_examples=10, deadline=None)
@given(some=calls.filter(bool))
def test_every_report_can_be_shown_and_written(tmp_path_factory, some) -> None:
    folder = tmp_path_factory.mktemp("cost") / "log"
    fields = [f for f in call().call._fields if f != "whole_prompt"]
    records = [
        request(i, **{f: getattr(one.call, f) for f in fields} | {"request_id": f"r{i}"})
        for i, one in enumerate(some)
    ]
    result = run(write(folder, records), ["session", "user"])
    out = io.StringIO()
    for part in render(result):
        Console(file=out, width=80).print(part)
    assert "paid" in out.getvalue()
    assert result.total.calls == len(records)
