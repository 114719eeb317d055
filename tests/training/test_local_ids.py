"""Ids that only count are local to what they come from; rows that are whole runs have no context."""

from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.account import render
from training.ids import is_global, own_id
from training.ingest import ingest
from training.log import LogStore

RUNS = Path(__file__).parents[2] / "sample" / "logs" / "claude_code_runs.parquet"
ROW = {"session": "s", "ts_ms": 1_791_201_600_000, "model": "gpt-5.2", "input_tokens_uncached": 10}


def table(folder, *rows, name="t.csv"):
    file = folder / name
    frame = pl.DataFrame([{**ROW, **row} for row in rows])
    frame.write_parquet(file) if name.endswith("parquet") else frame.write_csv(file)
    return file


@pytest.mark.parametrize(
    "said",
    [
        "msg_01XFDUDYJgAACzvnptvVoYEL",
        "chatcmpl-BkQ0ntmu4Gd5hBvLUq6IDpTvSNYy4",
        "resp_fcc3e75a0cd8891f_t2",
        "6b1a3f52-1111-4222-8333-123456789abc",
        "gen-1759000000-AbCdEfGhIjKlMnOp",
    ],
)
def test_ids_of_providers_are_global(said):
    assert is_global(said)
    assert own_id(said, "anything") == said


@pytest.mark.parametrize(
    "said",
    ["1", "chatcmpl-417", "request_000000000000000001", "my-long-session-name-12", "astropy__astropy-1"],
)
def test_counters_and_names_are_local(said):
    assert not is_global(said)
    assert own_id(said, 1) == own_id(said, 1) != own_id(said, 2)


@given(st.text())
def test_any_text_has_an_id(said):
    assert own_id(said, said)


def test_tables_that_both_count_from_one_are_other_calls(tmp_path):
    """Two exports of one table stay one; two tables whose ids are 1 and 2 are four calls."""
    rows = [{"request_id": n, "output_tokens": n} for n in (1, 2)]
    other = [{"request_id": n, "output_tokens": 10 * n} for n in (1, 2)]
    (tmp_path / "in").mkdir()
    table(tmp_path / "in", *rows, name="a.csv")
    table(tmp_path / "in", *rows, name="b.parquet")
    table(tmp_path / "in", *other, name="c.csv")
    result = ingest([tmp_path / "in"], tmp_path / "log")
    assert (result.kept, result.duplicates) == (4, 2)


def test_spend_logs_that_both_count_from_one_are_other_calls(tmp_path):
    spend = {"request_id": "chatcmpl-7", "startTime": "2026-10-05T12:00:00Z", "model": "m", "spend": 0.1}
    later = {**spend, "startTime": "2026-10-05T12:00:09Z"}
    lines = [msgspec.json.encode(item) + b"\n" for item in (spend, spend, later)]
    (tmp_path / "spend.jsonl").write_bytes(b"".join(lines))
    result = ingest([tmp_path / "spend.jsonl"], tmp_path / "log")
    assert (result.kept, result.duplicates) == (2, 1)


def test_bodies_whose_ids_count_are_other_calls(tmp_path):
    answer = {"object": "chat.completion", "id": "chatcmpl-7", "model": "m", "choices": []}
    line = {"request": {"messages": [{"role": "user", "content": "a"}]}, "response": answer}
    other = {"request": {"messages": [{"role": "user", "content": "b"}]}, "response": answer}
    lines = [msgspec.json.encode(item) + b"\n" for item in (line, line, other)]
    (tmp_path / "calls.jsonl").write_bytes(b"".join(lines))
    result = ingest([tmp_path / "calls.jsonl"], tmp_path / "log")
    assert (result.kept, result.duplicates) == (2, 1)


@pytest.mark.parametrize("column", ["n_turns", "api_calls", "n_calls", "num_turns"])
def test_a_row_of_many_calls_has_no_context(tmp_path, column):
    rows = [{column: n, "output_tokens": 5, "cost_usd": 0.5, "effort": "High"} for n in (78, 1, 1)]
    result = ingest([table(tmp_path, *rows)], tmp_path / "log")
    run, first, second = LogStore(tmp_path / "log").scan("request").sort("turn").collect().to_dicts()
    assert (run["flags"], first["flags"]) == (["run_totals"], None)
    assert (run["output_tokens"], float(run["cost_usd"])) == (5, 0.5)
    assert run["facts"]["context_tokens_est"] is run["facts"]["context_tokens_last"] is None
    assert first["facts"]["context_tokens_last"] is None  # the row before was no turn
    assert (second["facts"]["context_tokens_est"], second["facts"]["context_tokens_last"]) == (10, 10)
    assert [row["facts"]["effort"] for row in (run, first, second)] == [3, 3, 3]
    assert result.flagged == {"run_totals": 1}
    doubts = [part for part in render(result) if getattr(part, "columns", None)]
    assert any("whole run" in str(cell) for part in doubts for cell in part.columns[0].cells)


def test_the_sample_of_runs_has_no_context(tmp_path):
    result = ingest([RUNS], tmp_path / "log")
    facts = LogStore(tmp_path / "log").scan("request").select("facts").unnest("facts").collect()
    assert result.flagged["run_totals"] == result.kinds["request"] == len(facts)
    assert facts["context_tokens_est"].null_count() == len(facts)
