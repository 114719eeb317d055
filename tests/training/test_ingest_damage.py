"""Damage of every kind is refused and counted where it stands; the other rows and files are kept."""

import csv
import gzip
import os
import resource

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

import samediff
from features.errors import BadInput
from training.ingest import WRONG_FILE, ingest
from training.log import LogStore
from training.sources import base, journal, rows
from training.sources.base import ReadOptions, SourceFile

NOW = 1_795_000_000_000
USAGE = {"session": "s", "ts_ms": NOW, "model": "m", "input_tokens_uncached": 1, "output_tokens": 1}


def line(n: int, **more: object) -> bytes:
    record = {"request_id": f"r{n}", "session_id": "s", "ts_ms": NOW - n, "source": "journal", **more}
    return msgspec.json.encode({"kind": "request", "record": record}) + b"\n"


def run(folder, log=None, **files: bytes):
    """Ingest a folder of these files beside one good one."""
    place = folder / "in"
    place.mkdir(exist_ok=True)
    (place / "good.jsonl").write_bytes(line(0))
    for name, raw in files.items():
        (place / name.replace("__", ".")).write_bytes(raw)
    result = ingest([place], log or folder / "log", now_ms=NOW)
    assert result.read == result.kept + result.duplicates + result.refused
    return result


def refused(result) -> dict[str, int]:
    return {reason: why.count for reason, why in result.refused_by_reason.items()}


def test_objects_parted_by_bare_returns_end_no_other_file(tmp_path):
    result = run(tmp_path, bare__jsonl=b"\r".join([line(1).strip()] * 3), bare__csv=b"a,b\rc,d\r1,2\r")
    assert result.kept == 1


def test_a_reader_that_gives_up_is_a_refusal_of_its_file(tmp_path, monkeypatch):
    def breaks(file: SourceFile, options: ReadOptions):
        yield from journal.read(file, options)
        raise KeyError(file.name)

    from training.sources import FORMATS

    monkeypatch.setitem(FORMATS, "journal", FORMATS["journal"]._replace(read=breaks))
    result = run(tmp_path, other__jsonl=line(1))
    assert (result.kept, refused(result)) == (2, {base.GAVE_UP: 2})
    again = run(tmp_path, other__jsonl=line(1))
    assert (again.files_unchanged, again.duplicates) == (0, 2)  # such a file is tried again


def test_a_file_name_that_is_no_text_is_written_out(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    bad = os.fsencode(folder) + b"/bad\xff\xfename.jsonl"
    with open(bad, "wb") as out:
        out.write(line(1) + b"{\n")
    result = ingest([folder], tmp_path / "log", now_ms=NOW)
    assert (result.kept, result.refused) == (1, 1)
    assert LogStore(tmp_path / "log").scan("request").collect()["source_file"].to_list() == [
        r"bad\udcff\udcfename.jsonl"
    ]


@pytest.mark.parametrize("name", ["t[1].parquet", "t*.parquet", "t?.parquet"])
def test_a_name_with_wildcards_is_read(tmp_path, name):
    folder = tmp_path / "in[1]"
    folder.mkdir()
    pl.DataFrame([USAGE]).write_parquet(folder / name)
    assert ingest([folder], tmp_path / "log[2]").kept == 1
    assert ingest([folder / name], tmp_path / "log[2]").files_unchanged == 1
    assert LogStore(tmp_path / "log[2]").scan("request").collect().height == 1


def test_a_full_disk_is_one_line_and_leaves_a_valid_log(tmp_path):
    run(tmp_path)
    more = b"".join(line(n, prompt_text=os.urandom(300).hex()) for n in range(1, 200))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "m.jsonl").write_bytes(more)
    options = ReadOptions(prompts="full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(BadInput, match=r"can't be written .*make space"):
            ingest([folder], tmp_path / "log", options=options, now_ms=NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert LogStore(tmp_path / "log").scan("request").collect().height == 1
    assert ingest([folder], tmp_path / "log", options=options, now_ms=NOW).kept == 199


def test_a_log_where_no_folder_can_be_is_one_line(tmp_path):
    (tmp_path / "good.jsonl").write_bytes(line(0))
    place = "/dev/null/x"
    ran = CliRunner().invoke(samediff.app, ["ingest", str(tmp_path / "good.jsonl"), "--to", place])
    assert isinstance(ran.exception, BadInput)
    assert place in str(ran.exception)


@pytest.mark.parametrize("form", [None, "journal"])
def test_damaged_gzip_keeps_what_comes_before(tmp_path, form):
    raw = bytearray(gzip.compress(b"".join(line(n, user=os.urandom(40).hex()) for n in range(1, 400))))
    raw[len(raw) // 2 : len(raw) // 2 + 40] = b"\xff" * 40
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "d.jsonl.gz").write_bytes(raw)
    result = ingest([folder], tmp_path / "log", form=form, now_ms=NOW)
    assert 150 < result.kept < 250
    assert base.BAD_GZIP in refused(result)


def test_damage_before_anything_can_be_told_is_refused(tmp_path):
    pl.DataFrame([USAGE] * 5).write_parquet(tmp_path / "whole.parquet")
    parquet = (tmp_path / "whole.parquet").read_bytes()
    packed = gzip.compress(line(1))
    result = run(
        tmp_path,
        cut__parquet=parquet[: len(parquet) // 2],
        bad__gz=packed[:10] + b"\xff" * 20,
        short__gz=packed[:14],
        text__md=b"# no log at all\n",
        link__md=b"[a link](b) to something\n",
    )
    assert refused(result) == {base.BAD_PARQUET: 1, base.BAD_GZIP: 1, base.CUT_GZIP: 1}
    assert sorted(result.skipped_examples) == ["link.md", "text.md"]


def test_a_cut_array_keeps_its_whole_elements(tmp_path):
    items = [msgspec.json.decode(line(n)) for n in range(1, 6)]
    result = run(tmp_path, array__json=msgspec.json.format(msgspec.json.encode(items), indent=1)[:-40])
    assert (result.kept, refused(result)) == (5, {base.CUT_DOCUMENT: 1})
    assert result.refused_by_reason[base.CUT_DOCUMENT].examples == ["array.json:5"]


def test_a_first_line_nested_deep_hides_no_good_rows(tmp_path):
    result = run(tmp_path, deep__jsonl=b"[" * 100_000 + b"\n" + line(1) + line(2))
    assert (result.kept, refused(result)) == (3, {base.NOT_JSON: 1})


@pytest.mark.parametrize("junk", [b"[" * 3000, b"x" * 3000])
def test_the_bound_of_a_table_read_before_hides_no_rows(tmp_path, junk):
    default = csv.field_size_limit(2000)  # one for the process, as `max_line_bytes` sets it
    try:
        result = run(tmp_path, long__jsonl=junk + b"\n" + line(1) + line(2))
    finally:
        csv.field_size_limit(default)
    assert (result.kept, refused(result)) == (3, {base.NOT_JSON: 1})


def test_an_open_quote_says_how_many_rows_it_takes(tmp_path):
    head = "session,ts_ms,model,input_tokens_uncached,output_tokens\n"
    good = "".join(f"s,{NOW + n},m,1,1\n" for n in range(4))
    result = run(tmp_path, t__csv=(head + good + 's,"' + good).encode())
    assert (result.kept, refused(result)) == (5, {rows.OPEN_QUOTE: 4})
    assert result.refused_by_reason[rows.OPEN_QUOTE].examples == ["t.csv:5"]


def test_options_that_name_no_column_stay_an_error(tmp_path):
    pl.DataFrame([USAGE]).write_csv(tmp_path / "t.csv")
    options = ReadOptions(column_map={"nonsense": "x"})
    with pytest.raises(BadInput, match="nonsense"):
        ingest([tmp_path / "t.csv"], tmp_path / "log", options=options)
    result = ingest([tmp_path / "t.csv"], tmp_path / "log")
    assert (result.kept, WRONG_FILE in refused(result)) == (1, False)
