"""LiteLLM, OpenTelemetry, request/response bodies, tables and our own journal: one small log of each."""

import csv
import gzip
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import polars as pl
import pytest

from features.encoder import load_encoder
from features.errors import BadInput
from features.records import DecisionRecord, OutcomeRecord, RequestRecord
from models.prior import PRIOR_ENCODER
from training.ingest import ingest
from training.log import LogStore
from training.sources import detect, journal, litellm, openai_jsonl, otel, table
from training.sources.base import OTHER_FORMAT, ReadOptions, Refusal, SourceFile

WHEN = "2026-10-05T12:00:00.000Z"
WHEN_MS = 1_791_201_600_000


def lines(tmp_path, *items: object, name: str = "log.jsonl"):
    file = tmp_path / name
    file.write_bytes(b"".join(msgspec.json.encode(item) + b"\n" for item in items))
    return file


def read(reader, file, **options: object) -> list:
    return list(reader.read(SourceFile(file, file.name), ReadOptions(**options)))


# --- LiteLLM -----------------------------------------------------------------------------------------------

SPEND = {
    "request_id": "chatcmpl-1",
    "call_type": "anthropic_messages",
    "spend": 0.0042,
    "total_tokens": 2200,
    "prompt_tokens": 2000,
    "completion_tokens": 200,
    "startTime": WHEN,
    "endTime": "2026-10-05T12:00:03.500Z",
    "completionStartTime": "2026-10-05T12:00:01.000Z",
    "model": "claude-sonnet-4-5",
    "model_group": "sonnet",
    "custom_llm_provider": "anthropic",
    "user": "alice",
    "team_id": "payments",
    "session_id": "s-1",
    "status": "success",
    "cache_hit": "False",
    "metadata": {"usage_object": {"cache_read_input_tokens": 1500, "cache_creation_input_tokens": 300}},
    "messages": "{}",
    "response": "{}",
}


def test_litellm_prompt_tokens_include_the_cached_ones(tmp_path):
    file = lines(tmp_path, SPEND)
    assert detect(file, ReadOptions()) == "litellm"
    (record,) = read(litellm, file)
    assert (record.input_tokens_uncached, record.cached_tokens, record.cache_write_tokens) == (200, 1500, 300)
    assert (record.output_tokens, record.cost_usd, record.cost_source) == (200, Decimal("0.0042"), "log")
    assert (record.ts_ms, record.latency_ms, record.first_byte_ms) == (WHEN_MS, 3500.0, 1000.0)
    assert (record.model_served, record.model_requested) == ("claude-sonnet-4-5", "sonnet")
    assert (record.user, record.tenant, record.session_id) == ("alice", "payments", "s-1")
    assert record.facts is None


def test_litellm_openai_details_and_stored_bodies(tmp_path):
    sent = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Fix parse_date in utils.py"}]}
    item = {
        **SPEND,
        "call_type": "acompletion",
        "metadata": msgspec.json.encode(
            {"usage_object": {"prompt_tokens_details": {"cached_tokens": 1024, "cache_creation_tokens": 0}}}
        ).decode(),
        "proxy_server_request": msgspec.json.encode(sent).decode(),
        "response": {
            "choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]
        },
    }
    (record,) = read(litellm, lines(tmp_path, item))
    assert (record.input_tokens_uncached, record.cached_tokens) == (976, 1024)
    assert record.facts.n_messages == 1
    assert (record.dialect, record.finish_reason) == ("openai_chat", "stop")


def test_litellm_spend_zero_is_unknown_and_its_own_cache_is_free(tmp_path):
    unpriced = {**SPEND, "spend": 0.0}
    hit = {**SPEND, "request_id": "2", "spend": 0.0, "cache_hit": "True"}
    first, second = read(litellm, lines(tmp_path, unpriced, hit))
    assert first.cost_usd is None
    assert (second.cost_usd, second.flags) == (0, ["response_cache_hit"])


def test_litellm_failures_embeddings_and_strangers(tmp_path):
    failed = {
        **SPEND,
        "status": "failure",
        "metadata": {"error_information": {"error_class": "RateLimitError"}},
    }
    one, two, three = read(litellm, lines(tmp_path, failed, {**SPEND, "call_type": "aembedding"}, {"x": 1}))
    assert (one.status, one.error_kind) == ("error", "RateLimitError")
    assert two.reason == litellm.NO_CHAT
    assert three.reason == OTHER_FORMAT


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl.gz"])
def test_litellm_from_csv_and_parquet(tmp_path, kind):
    flat = {**SPEND, "metadata": msgspec.json.encode(SPEND["metadata"]).decode()}
    file = tmp_path / f"spend.{kind}"
    if kind == "csv":
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, flat)
            writer.writeheader()
            writer.writerow(flat)
    elif kind == "parquet":
        pl.DataFrame([{**flat, "startTime": datetime.fromtimestamp(WHEN_MS / 1000, tz=UTC)}]).write_parquet(
            file
        )
    else:
        file.write_bytes(gzip.compress(msgspec.json.encode(flat)))
    assert detect(file, ReadOptions()) == "litellm"
    (record,) = read(litellm, file)
    assert (record.ts_ms, record.input_tokens_uncached, record.cost_usd) == (WHEN_MS, 200, Decimal("0.0042"))


# --- OpenTelemetry -----------------------------------------------------------------------------------------


def attribute(key: str, value: object) -> dict:
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue"}
    if isinstance(value, list):
        return {"key": key, "value": {"arrayValue": {"values": [{"stringValue": item} for item in value]}}}
    return {"key": key, "value": {kinds[type(value)]: str(value) if isinstance(value, int) else value}}


PROMPT = [{"role": "user", "parts": [{"type": "text", "content": "Fix the failing test in calc.py"}]}]
ANSWER = [
    {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "bash", "arguments": {"x": 1}}]}
]
CURRENT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_1",
    "gen_ai.conversation.id": "conv-1",
    "gen_ai.usage.input_tokens": 2000,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 1500,
    "gen_ai.usage.cache_creation.input_tokens": 300,
    "gen_ai.response.finish_reasons": ["tool_calls"],
    "gen_ai.input.messages": msgspec.json.encode(PROMPT).decode(),
    "gen_ai.output.messages": msgspec.json.encode(ANSWER).decode(),
}


def span(attributes: dict, **more: object) -> dict:
    return {
        "traceId": "t1",
        "spanId": "s1",
        "name": "chat",
        "startTimeUnixNano": str(WHEN_MS * 10**6),
        "endTimeUnixNano": str((WHEN_MS + 1500) * 10**6),
        "attributes": [attribute(key, value) for key, value in attributes.items()],
        "status": {},
        **more,
    }


def otlp(*spans: dict) -> dict:
    resource = {"attributes": [attribute("service.name", "billing-agent")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def test_otel_current_conventions(tmp_path):
    agent = span({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 9}, spanId="s0")
    file = lines(tmp_path, otlp(agent, span(CURRENT)))
    assert detect(file, ReadOptions()) == "otel"
    (record,) = read(otel, file)
    assert (record.request_id[:6], record.session_id, record.harness) == ("t1:s1#", "conv-1", "billing-agent")
    assert record.provider_response_id == "msg_1"
    assert (record.input_tokens_uncached, record.cached_tokens, record.cache_write_tokens) == (200, 1500, 300)
    assert (record.ts_ms, record.latency_ms, record.finish_reason) == (WHEN_MS, 1500.0, "tool_calls")
    assert record.tools_called == ["bash"]
    assert record.facts.n_user_messages == 1
    assert record.facts.body_bytes is None


def test_otel_older_names_on_a_span_a_line(tmp_path):
    older = {
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.prompt_tokens": 50,
        "gen_ai.usage.completion_tokens": 7,
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "hello",
    }
    line = {
        "name": "openai.chat",
        "context": {"trace_id": "0xabc", "span_id": "0xdef"},
        "start_time": WHEN,
        "end_time": "2026-10-05T12:00:01Z",
        "status": {"status_code": "ERROR"},
        "attributes": older,
        "resource": {"attributes": {"service.name": "svc"}},
    }
    file = lines(tmp_path, line)
    assert detect(file, ReadOptions()) == "otel"
    (record,) = read(otel, file)
    assert (record.request_id[:12], record.session_id, record.provider) == ("0xabc:0xdef#", "0xabc", "openai")
    assert (record.input_tokens_uncached, record.output_tokens, record.cached_tokens) == (50, 7, None)
    assert record.status == "error"
    assert record.facts.n_user_messages == 1


def test_otel_one_pretty_document(tmp_path):
    file = tmp_path / "traces.json"
    file.write_bytes(
        msgspec.json.format(msgspec.json.encode(otlp(span(CURRENT), span(CURRENT, spanId="s2"))), indent=2)
    )
    assert detect(file, ReadOptions()) == "otel"
    assert [record.request_id[:6] for record in read(otel, file)] == ["t1:s1#", "t1:s2#"]


# --- request and response bodies ---------------------------------------------------------------------------

CHAT = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Fix calc.py"}], "stream": False}
CHAT_ANSWER = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": WHEN_MS // 1000,
    "model": "gpt-5.2-2026-01-01",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "done"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 1024},
    },
}
MESSAGES = {
    "model": "claude-opus-4-5",
    "max_tokens": 100,
    "system": "You fix code.",
    "messages": [{"role": "user", "content": "Fix calc.py"}],
}
MESSAGES_ANSWER = {
    "id": "msg_9",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-5",
    "content": [{"type": "tool_use", "id": "t", "name": "Edit", "input": {}}],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5},
}
RESPONSES = {"model": "gpt-5.2", "input": "Fix calc.py", "instructions": "You fix code."}
RESPONSES_ANSWER = {
    "id": "resp_9",
    "object": "response",
    "created_at": WHEN_MS // 1000,
    "model": "gpt-5.2",
    "status": "completed",
    "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]}
    ],
    "usage": {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 5},
}


@pytest.mark.parametrize(
    ("item", "dialect", "tokens"),
    [
        ({"request": CHAT, "response": CHAT_ANSWER}, "openai_chat", (176, 1024, 30)),
        ({"body": MESSAGES, "response": MESSAGES_ANSWER, "ts": WHEN_MS}, "anthropic_messages", (10, 90, 5)),
        ({"request": RESPONSES, "response": RESPONSES_ANSWER}, "openai_responses", (40, 60, 5)),
        (
            {
                "id": "b",
                "custom_id": "c",
                "response": {"status_code": 200, "request_id": "r", "body": CHAT_ANSWER},
            },
            "openai_chat",
            (176, 1024, 30),
        ),
        (
            {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": CHAT},
            "openai_chat",
            None,
        ),
        (CHAT, "openai_chat", None),
        (CHAT_ANSWER, "openai_chat", (176, 1024, 30)),
        (MESSAGES_ANSWER, "anthropic_messages", (10, 90, 5)),
        (
            {"request": msgspec.json.encode(CHAT).decode(), "response": CHAT_ANSWER},
            "openai_chat",
            (176, 1024, 30),
        ),
    ],
)
def test_bodies_of_every_dialect(tmp_path, item, dialect, tokens):
    file = lines(tmp_path, item)
    assert detect(file, ReadOptions()) == "openai_jsonl"
    (record,) = read(openai_jsonl, file)
    assert record.dialect == dialect
    found = (record.input_tokens_uncached, record.cached_tokens, record.output_tokens)
    assert found == (tokens or (None, None, None))


def test_bodies_of_one_conversation_stay_together(tmp_path):
    later = {
        **CHAT,
        "messages": [
            *CHAT["messages"],
            {"role": "assistant", "content": "a"},
            {"role": "user", "content": "b"},
        ],
    }
    other = {**CHAT, "messages": [{"role": "user", "content": "Something else"}]}
    one, two, three = read(
        openai_jsonl, lines(tmp_path, {"request": CHAT}, {"request": later}, {"request": other})
    )
    assert one.session_id == two.session_id != three.session_id
    assert two.facts.cache_shared_bytes > 0
    assert (one.facts.turn, two.facts.turn) == (0, 1)
    assert one.flags == ["time_from_file"]


def test_bodies_that_fail_and_strangers(tmp_path):
    error = {
        "request": CHAT,
        "response": {"error": {"type": "rate_limit_error", "message": "calc.py"}},
        "ts": WHEN,
    }
    nothing = {"hello": "world"}
    no_messages = {"request": {"model": "m", "messages": 7}, "response": CHAT_ANSWER}
    one, two, three = read(openai_jsonl, lines(tmp_path, error, nothing, no_messages))
    assert (one.status, one.error_kind) == ("error", "rate_limit_error")
    assert two == Refusal("log.jsonl", 2, OTHER_FORMAT)
    assert three.reason == openai_jsonl.BAD_REQUEST


def test_negative_usage_is_flagged(tmp_path):
    usage = {"prompt_tokens": -5, "completion_tokens": 3}
    (record,) = read(openai_jsonl, lines(tmp_path, {**CHAT_ANSWER, "usage": usage}))
    assert (record.input_tokens_uncached, record.output_tokens, record.flags) == (
        None,
        3,
        ["negative_tokens"],
    )


# --- tables ------------------------------------------------------------------------------------------------

USAGE = {
    "session": "s",
    "turn": 0,
    "ts_ms": WHEN_MS,
    "model": "openai/gpt-5.2-codex",
    "input_tokens_uncached": 185,
    "cached_tokens": 8576,
    "cache_write_tokens": 0,
    "output_tokens": 30.0,
    "reasoning_tokens": 9,
    "harness": "opencode",
    "tools": '["skill", "bash"]',
}
RATES = {"input": Decimal("1.75"), "cached": Decimal("0.175"), "output": Decimal(14)}  # USD per Mtok


def cost(row: dict, *, apart: bool) -> float:
    output = Decimal(row["output_tokens"]) + (row["reasoning_tokens"] if apart else 0)
    total = row["input_tokens_uncached"] * RATES["input"] + row["cached_tokens"] * RATES["cached"]
    return float((total + output * RATES["output"]) / 10**6)


def rows(n: int, *, apart: bool) -> list[dict]:
    made = [
        {**USAGE, "turn": i, "ts_ms": WHEN_MS + i, "reasoning_tokens": 10 * i, "output_tokens": 30.0 + i}
        for i in range(n)
    ]
    return [{**row, "cost_usd": cost(row, apart=apart)} for row in made]


@pytest.mark.parametrize("apart", [True, False])
def test_reasoning_convention_is_inferred_from_the_cost(tmp_path, apart):
    file = tmp_path / "t.parquet"
    pl.DataFrame(rows(8, apart=apart)).write_parquet(file)
    records = read(table, file)
    assert {record.reasoning_in_output for record in records[1:]} == {not apart}
    assert records[0].reasoning_in_output is None  # no reasoning tokens, nothing to say
    assert records[1].tools_called == ["skill", "bash"]
    assert records[2].facts.context_tokens_last == 185 + 8576
    assert records[2].cost_source == "log"


def test_reasoning_convention_stays_unknown_without_a_cost_or_is_told(tmp_path):
    file = tmp_path / "t.parquet"
    pl.DataFrame([{**USAGE, "turn": i} for i in range(5)]).write_parquet(file)
    assert {record.reasoning_in_output for record in read(table, file)} == {None}
    assert {record.reasoning_in_output for record in read(table, file, reasoning="apart")} == {False}


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "jsonl", "parquet"])
def test_a_table_with_other_names_in_any_file(tmp_path, kind):
    theirs = {
        "run": "r1",
        "when": WHEN,
        "llm": "gpt-5.2",
        "fresh": 5,
        "cached": 6,
        "out": 7,
        "prompt": "Fix calc.py",
    }
    file = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pl.DataFrame([theirs]).write_parquet(file)
    elif kind == "jsonl":
        lines(tmp_path, theirs, name="t.jsonl")
    else:
        mark = "\t" if kind == "tsv" else ","
        raw = f"{mark.join(theirs)}\n{mark.join(map(str, theirs.values()))}\n".encode()
        file.write_bytes(gzip.compress(raw) if kind == "csv.gz" else raw)
    renamed = {
        "session": "run", "ts_ms": "when", "model": "llm", "input_tokens_uncached": "fresh",
        "cached_tokens": "cached", "output_tokens": "out",
    }  # fmt: skip
    assert detect(file, ReadOptions(column_map=renamed)) == "table"
    (record,) = read(table, file, column_map=renamed)
    assert (record.session_id, record.ts_ms, record.model_served) == ("r1", WHEN_MS, "gpt-5.2")
    assert (record.input_tokens_uncached, record.cached_tokens, record.output_tokens) == (5, 6, 7)
    assert record.cache_write_tokens is None
    assert record.facts.text_bytes == 11


def test_a_missing_column_names_the_way_out(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("session,model,input_tokens_uncached,output_tokens\ns,m,1,2\n")
    with pytest.raises(BadInput, match=r"t\.csv: lacks the column ts_ms; say --map ts_ms=THEIRS.*@file"):
        read(table, file)
    (record,) = read(table, file, column_map={"ts_ms": "@file"})
    assert record.flags == ["time_from_file"]
    with pytest.raises(BadInput, match="no such column of ours"):
        read(table, file, column_map={"sesion": "session"})
    with pytest.raises(BadInput, match="names the column nope"):
        read(table, file, column_map={"ts_ms": "nope"})


def test_the_whole_prompt_is_split_only_where_the_cached_part_is_known(tmp_path):
    file = lines(
        tmp_path,
        {
            "session": "s",
            "ts_ms": WHEN_MS,
            "model": "m",
            "input_tokens": 100,
            "cached_tokens": 60,
            "output_tokens": 1,
        },
        {"session": "t", "ts_ms": WHEN_MS, "model": "m", "input_tokens": 100, "output_tokens": 1},
    )
    known, unknown = read(table, file)
    assert known.input_tokens_uncached == 40
    assert unknown.input_tokens_uncached is None
    assert unknown.facts.context_tokens_est == 100


def test_equal_rows_are_the_same_request_and_others_are_not(tmp_path):
    one, two, three = read(table, lines(tmp_path, USAGE, USAGE, {**USAGE, "output_tokens": 31}))
    assert one.request_id == two.request_id != three.request_id


# --- our own journal ---------------------------------------------------------------------------------------


def test_the_journal_keeps_all_three_kinds_and_tells_a_torn_line(tmp_path):
    request = RequestRecord(
        request_id="r", session_id="s", ts_ms=WHEN_MS, source="journal", prompt_text="secret"
    )
    decision = DecisionRecord(request_id="r", session_id="s", ts_ms=WHEN_MS, policy="pin", chosen="a")
    outcome = OutcomeRecord(outcome_id="o", ts_ms=WHEN_MS, source="tests", value=1.0)
    pairs = (("request", request), ("decision", decision), ("outcome", outcome))
    file = lines(tmp_path, *({"kind": kind, "record": record} for kind, record in pairs))
    file.write_bytes(file.read_bytes() + b'{"kind": "request", "record": {"request_id": "x", "sess')
    assert detect(file, ReadOptions()) == "journal"
    got_request, got_decision, got_outcome, torn = read(journal, file)
    assert (got_decision, got_outcome) == (decision, outcome)
    assert (got_request.source_row, got_request.prompt_text) == (1, None)
    assert read(journal, file, prompts="full")[0].prompt_text == "secret"
    assert torn == Refusal("log.jsonl", 4, "line cut short at the end of the file")


def test_the_journal_of_a_newer_version_is_refused_row_by_row(tmp_path):
    newer = {"kind": "request", "record": {"schema_version": 99, "request_id": "r"}}
    lacking = {"kind": "request", "record": {"request_id": "r"}}
    strange = {"kind": "wish", "record": {}}
    reasons = [item.reason for item in read(journal, lines(tmp_path, newer, lacking, strange))]
    assert reasons == [journal.NEWER, journal.WRONG_SHAPE, journal.UNKNOWN_KIND]


def test_a_success_column_is_an_outcome(tmp_path):
    scored = {**USAGE, "success": 0.5, "task_id": "t1", "category": "fix"}
    file = lines(
        tmp_path, scored, {**scored, "turn": 1, "success": None}, {**scored, "turn": 2, "success": 7}
    )
    first, second, third = read(table, file)
    assert (first.outcome.value, first.outcome.level, first.outcome.request_id) == (
        0.5,
        "score",
        first.request.request_id,
    )
    assert first.request.task_type == "fix"
    assert isinstance(second, RequestRecord)
    assert third.flags == ["success_not_a_share"]
    result = ingest([file], tmp_path / "log")
    assert (result.read, result.kept, result.kinds) == (3, 3, {"request": 3, "outcome": 1})
    assert LogStore(tmp_path / "log").scan("outcome").collect()["value"].to_list() == [0.5]


def test_prompts_are_embedded_where_there_is_an_encoder(tmp_path):
    file = lines(tmp_path, {**USAGE, "prompt": "Fix calc.py"}, {**USAGE, "turn": 1, "prompt": "Fix calc.py"})
    encoder = load_encoder(PRIOR_ENCODER)
    one, two = read(table, file, encoder=encoder)
    assert one.embedding == two.embedding == pytest.approx(encoder.encode("Fix calc.py").tolist())
    assert one.encoder_digest == encoder.digest
    assert read(table, file, encoder=encoder, prompts="none")[0].embedding is None
