"""Bad input: each kind gives one clear reason with its file and row, the rest goes on, the counts add up."""

import gzip
import os
import tracemalloc

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

import samediff
from features.errors import BadInput
from features.records import OutcomeRecord, RequestRecord
from training.ingest import ingest
from training.log import LogStore
from training.sources import base
from training.sources.base import ReadOptions, SourceFile

NOW = 1_795_000_000_000


def row(n: int, **more: object) -> dict:
    record = {
        "request_id": f"r{n}", "session_id": "s", "ts_ms": NOW - 1000 + n, "source": "journal",
        "model_served": "claude-sonnet-4-5", "input_tokens_uncached": 10, "output_tokens": 5, **more,
    }  # fmt: skip
    return {"kind": "request", "record": record}


def encoded(*items: object) -> bytes:
    return b"".join(
        (item if isinstance(item, bytes) else msgspec.json.encode(item)) + b"\n" for item in items
    )


def run(tmp_path, raw: bytes, name: str = "log.jsonl", **options: object):
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(raw)
    os.utime(folder / name, ns=(NOW * 10**6, NOW * 10**6))
    result = ingest([folder], tmp_path / "log", options=ReadOptions(**options), now_ms=NOW)
    assert result.read == result.kept + result.duplicates + result.refused
    kinds = ("request", "decision", "outcome")
    assert result.kept == sum(LogStore(tmp_path / "log").scan(kind).collect().height for kind in kinds)
    return result


def refused(result) -> dict:
    return {reason: (why.count, why.examples) for reason, why in result.refused_by_reason.items()}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"kind": "request", "record": {"req', base.NOT_JSON),
        (b"\x00\x00\x00\x00", base.NUL_BYTES),
        (b'{"kind": "request\x00", "record": {}}', base.NUL_BYTES),
        (b'{"kind": "request", "record": {"request_id": "\xff\xfe"}}', base.NOT_UTF8),
        (b"[1, 2]", base.NOT_OBJECT),
        (b"[" * 100_000, base.NOT_JSON),
        (b'{"a": 1e999}', base.NOT_JSON),
        (b'{"type": "response_item", "payload": {}}', "a record of an unknown kind"),
    ],
)
def test_a_bad_line_is_refused_where_it_stands(tmp_path, bad, reason):
    result = run(tmp_path, encoded(row(1), bad, row(2)))
    assert result.kept == 2
    assert refused(result) == {reason: (1, ["log.jsonl:2"])}


def test_a_line_cut_short_at_the_end(tmp_path):
    result = run(tmp_path, encoded(row(1), row(2))[:-30])
    assert (result.kept, refused(result)) == (1, {base.CUT_LINE: (1, ["log.jsonl:2"])})


def test_a_last_line_without_a_newline_is_whole(tmp_path):
    assert run(tmp_path, encoded(row(1), row(2))[:-1]).kept == 2


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    result = run(tmp_path, b"\xef\xbb\xbf" + encoded(row(1), b"", b"   ", row(2)))
    assert (result.read, result.kept) == (2, 2)


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_gzip_cut_short_keeps_the_rows_before_the_cut(tmp_path, cut):
    noise = [row(n, error_kind=msgspec.json.encode(hash((n, "x"))).decode() * 9) for n in range(2000)]
    packed = gzip.compress(encoded(*noise))
    result = run(tmp_path, packed[: int(len(packed) * cut)], "log.jsonl.gz")
    ((reason, (count, (example,))),) = refused(result).items()
    assert (reason, count) == (base.CUT_GZIP, 1)
    assert example == f"log.jsonl.gz:{result.kept + 1}"
    assert 2000 * cut * 0.5 < result.kept < 2000


def test_a_damaged_gzip_keeps_the_rows_before_the_damage(tmp_path):
    packed = bytearray(gzip.compress(encoded(*(row(n, error_kind=f"{hash(str(n))}") for n in range(5000)))))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 1] ^= 0xFF
    result = run(tmp_path, bytes(packed), "log.jsonl.gz")
    assert result.kept > 100
    assert result.refused >= 1


def test_gzip_of_several_members_is_one_file(tmp_path):
    raw = gzip.compress(encoded(row(1))) + gzip.compress(encoded(row(2))) + b"\x00" * 64
    assert run(tmp_path, raw, "log.gz").kept == 2


def test_a_huge_line_is_refused_without_being_held(tmp_path):
    path = tmp_path / "big.jsonl"
    with path.open("wb") as out:
        out.write(encoded(row(1)))
        out.write(b'{"kind": "')
        for _ in range(50):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n' + encoded(row(2)))
    tracemalloc.start()
    items = list(base.read_objects(SourceFile(path, path.name), ReadOptions(max_line_bytes=4 << 20)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [item if isinstance(item, base.Refusal) else item[0] for item in items] == [
        1,
        base.Refusal("big.jsonl", 2, base.TOO_LONG),
        3,
    ]
    assert peak < 20 << 20


def test_a_line_just_under_the_limit_is_kept(tmp_path):
    result = run(tmp_path, encoded(row(1, error_kind="x" * 100_000), row(2)), max_line_bytes=90_000)
    assert (result.kept, refused(result)) == (1, {base.TOO_LONG: (1, ["log.jsonl:1"])})


def test_future_and_impossible_timestamps(tmp_path):
    day = 24 * 3_600_000
    result = run(
        tmp_path, encoded(row(1, ts_ms=NOW + 30 * day), row(2, ts_ms=0), row(3, ts_ms=10**17), row(4))
    )
    assert result.flagged == {"future_timestamp": 1}
    assert (result.kept, refused(result)) == (2, {base.NO_TIME: (2, ["log.jsonl:2", "log.jsonl:3"])})


def test_negative_and_absurd_tokens_become_unknown(tmp_path):
    result = run(
        tmp_path, encoded(row(1, output_tokens=-7), row(2, cached_tokens=10**15), row(3, cost_usd="-1"))
    )
    assert result.flagged == {"negative_tokens": 1, "absurd_tokens": 1, "negative_cost": 1}
    frame = LogStore(tmp_path / "log").scan("request").collect().sort("request_id")
    assert frame["output_tokens"].to_list() == [None, 5, 5]
    assert frame["cached_tokens"].to_list() == [None, None, None]
    assert frame["cost_usd"].to_list()[0] is None  # without its output it has no price


def test_unknown_models_and_empty_calls_are_kept_without_a_price(tmp_path):
    nothing = row(2, input_tokens_uncached=0, output_tokens=0)
    result = run(
        tmp_path, encoded(row(1, model_served="my-own-model"), nothing, row(3, model_served=None), row(4))
    )
    assert result.flagged == {"unknown_model": 1, "no_tokens": 1, "no_model": 1}
    assert (result.kept, result.cost_unknown_rows, result.cost_known_rows) == (4, 3, 1)


def test_a_call_that_failed_is_priced_by_whom_it_asked_if_it_used_anything(tmp_path):
    failed = {"model_served": None, "model_requested": "auto", "status": "error"}
    asked = {**failed, "candidate": "claude-sonnet-4-5", "provider": "anthropic"}
    unused = {"input_tokens_uncached": None, "output_tokens": None}
    elsewhere = {**failed, "source": "usage-table", "candidate": "claude-sonnet-4-5", "model_requested": "m"}
    result = run(
        tmp_path,
        encoded(
            row(1, **asked, **unused),
            row(2, **{**asked, "candidate": "my-own"}, **unused),
            row(3, **asked),
            row(4, **{**asked, "status": "cancelled"}, **unused),
            row(5, **{**asked, "candidate": "my-own"}),
            row(6, **elsewhere),
        ),
    )
    assert result.flagged == {"unknown_model": 2}
    frame = LogStore(tmp_path / "log").scan("request").collect().sort("request_id")
    assert [cost is not None for cost in frame["cost_usd"]] == [False, False, True, False, False, False]


def test_duplicate_ids_are_counted(tmp_path):
    result = run(tmp_path, encoded(row(1), row(1, output_tokens=6), row(2)))
    assert (result.read, result.kept, result.duplicates) == (3, 2, 1)


def test_each_kind_of_record_is_counted(tmp_path):
    outcome = OutcomeRecord(outcome_id="o", ts_ms=NOW, source="tests")
    result = run(tmp_path, encoded(row(1), {"kind": "outcome", "record": outcome}))
    assert result.kinds == {"request": 1, "outcome": 1}


def test_one_json_document_over_the_limit_is_refused_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "DOCUMENT_BYTES", 1000)
    document = tmp_path / "a.json"
    document.write_bytes(msgspec.json.encode([row(n) for n in range(50)]))
    with pytest.raises(BadInput, match=r"a\.json: one JSON document over 64 MiB; export one object a line"):
        ingest([document], tmp_path / "other")
    result = ingest([document], tmp_path / "third", form="journal")
    assert refused(result) == {base.TOO_LARGE: (1, ["a.json"])}
    monkeypatch.undo()
    assert ingest([document], tmp_path / "fourth").kept == 50


def test_csv_rows_that_break_the_table(tmp_path):
    head = b"session,ts_ms,model,input_tokens_uncached,output_tokens\n"
    good = b"s,1790000000000,m,1,2\n"
    bad = [b"s,1790000000000,m,1\n", b"s,1790000000000,\xff,1,2\n", b",1790000000000,m,1,2\n"]
    result = run(tmp_path, head + good + b"".join(bad) + b"t,1790000000000,m,-1,2\n" + b"u,,m,1,2\n", "t.csv")
    assert {reason: why[1] for reason, why in refused(result).items()} == {
        "row with another number of fields than the header": ["t.csv:2"],
        base.NOT_UTF8: ["t.csv:3"],
        base.NO_SESSION: ["t.csv:4"],
    }
    assert result.kept == 3
    assert result.flagged == {"negative_tokens": 1, "time_from_file": 1, "unknown_model": 3}


def test_an_unclosed_quote_swallows_no_more_than_the_limit(tmp_path):
    head = b"session,ts_ms,model,input_tokens_uncached,output_tokens\n"
    rows = [b"s%d,1790000000000,m,1,2\n" % n for n in range(400)]
    result = run(
        tmp_path, head + rows[0] + b'"s,1,m,1,2\n' + b"".join(rows[1:]), "t.csv", max_line_bytes=2000
    )
    assert result.kept > 200
    assert result.refused > 0


def test_a_damaged_parquet_is_refused_and_the_rest_goes_on(tmp_path):
    good = tmp_path / "in" / "good.jsonl"
    good.parent.mkdir()
    good.write_bytes(encoded(row(1)))
    usage = {"session": "s", "ts_ms": NOW, "model": "m", "input_tokens_uncached": 1, "output_tokens": 1}
    pl.DataFrame([usage] * 5).write_parquet(tmp_path / "whole.parquet")
    raw = (tmp_path / "whole.parquet").read_bytes()
    result = run(tmp_path, raw[: len(raw) // 2], "t.parquet")
    assert (result.kept, refused(result)) == (1, {base.BAD_PARQUET: (1, ["t.parquet"])})


def test_a_table_that_lacks_a_column_beside_good_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("session,model,output_tokens\ns,m,1\n")
    result = run(tmp_path, encoded(row(1)), "b.jsonl")
    assert result.kept == 1
    assert list(refused(result).values()) == [(1, ["a.csv"])]
    with pytest.raises(BadInput, match=r"lacks the columns ts_ms, input_tokens_uncached"):
        ingest([tmp_path / "in" / "a.csv"], tmp_path / "other")


def test_a_strange_file_in_a_folder_is_skipped_and_said(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.md").write_text("# notes\n")
    (tmp_path / "in" / "empty.jsonl").write_bytes(b"")
    (tmp_path / "in" / ".hidden.jsonl").write_bytes(encoded(row(9)))
    result = run(tmp_path, encoded(row(1)))
    assert (result.kept, result.files_skipped) == (1, 2)
    assert result.skipped_examples == ["notes.md", "empty.jsonl"]


def test_a_log_inside_its_own_source_is_left_alone(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(encoded(row(1)))
    first = ingest([tmp_path], tmp_path / "log")
    second = ingest([tmp_path], tmp_path / "log")
    assert (first.files_read, second.files_read, second.files_unchanged) == (1, 0, 1)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    def refuse(*_: object) -> str:
        raise PermissionError

    monkeypatch.setattr("training.ingest.detect", refuse)
    result = run(tmp_path, encoded(row(1)))
    assert refused(result) == {base.UNREADABLE: (1, ["log.jsonl"])}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: ["missing.jsonl"], "no such file or folder"),
        (
            lambda folder: [folder.mkdir() or str(folder)],
            "no file of a known format; the formats are journal,",
        ),
        (lambda folder: [str(folder), "--format", "nope"], "--format nope: no such format"),
        (lambda folder: [str(folder), "--map", "x"], "say --map ours=theirs"),
        (lambda folder: [str(folder), "--prompts", "some"], "say full, features or none"),
        (lambda folder: [str(folder), "--reasoning", "maybe"], "say apart or inside"),
    ],
)
def test_the_command_line_ends_in_one_line(tmp_path, make, says):
    arguments = make(tmp_path / "in")
    result = CliRunner().invoke(samediff.app, ["ingest", *arguments, "--to", str(tmp_path / "log")])
    assert isinstance(result.exception, BadInput)
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


def test_the_command_line_shows_the_account_and_says_no_when_nothing_is_left(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(encoded(row(1), b"{", row(1)))
    arguments = ["ingest", str(file), "--to", str(tmp_path / "log"), "--json", str(tmp_path / "out.json")]
    result = CliRunner().invoke(samediff.app, arguments)
    assert result.exit_code == 0
    assert "not valid JSON" in result.output
    assert "a.jsonl:2" in result.output
    told = msgspec.json.decode((tmp_path / "out.json").read_bytes())
    assert (told["read"], told["kept"], told["duplicates"], told["refused"]) == (3, 1, 1, 1)
    file.write_bytes(b"{\n{\n")
    result = CliRunner().invoke(
        samediff.app, ["ingest", str(file), "--format", "journal", "--to", str(tmp_path / "b")]
    )
    assert "all 2 rows were refused" in str(result.exception)


def test_records_keep_their_types(tmp_path):
    run(tmp_path, encoded(row(1)))
    (kept,) = LogStore(tmp_path / "log").scan("request").drop("day", "facts").collect().to_dicts()
    assert msgspec.convert(kept, RequestRecord).request_id == "r1"


def test_usage_that_contradicts_itself_is_kept_flagged_and_counted(tmp_path):
    said = {"input_tokens_uncached": 10, "output_tokens": 5, "reasoning_tokens": 900}
    odd = row(0, **said, reasoning_in_output=True)
    apart = row(1, **said, reasoning_in_output=False)
    result = run(tmp_path, encoded(odd, apart))
    assert (result.kept, result.refused) == (2, 0)
    assert result.flagged["reasoning_over_output"] == 1
