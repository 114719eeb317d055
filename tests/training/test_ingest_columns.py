"""A table that lacks a column is told of with its file, the column and the way out, also inside a folder."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

import samediff
from features.errors import BadInput
from training.ingest import WRONG_FILE, ingest

NOW = 1_795_000_000_000
RECORD = {"request_id": "r", "session_id": "s", "ts_ms": NOW, "source": "journal"}
MODEL_LACKING = (
    "columns model, input_tokens_uncached, output_tokens; say --map model=THEIRS "
    "--map input_tokens_uncached=THEIRS --map output_tokens=THEIRS"
)
GOOD = msgspec.json.encode({"kind": "request", "record": RECORD}).decode() + "\n"
LACKING = {
    "model": f"session,turn,ts_ms,tokens\ns,0,{NOW},7\n",
    "session": f"ts_ms,model,input_tokens_uncached,output_tokens\n{NOW},m,1,1\n",
    "output_tokens": f"session,ts_ms,model,input_tokens_uncached\ns,{NOW},m,1\n",
}


def told_of(column):
    return MODEL_LACKING if column == "model" else f"column {column}; say --map {column}=THEIRS"


def folder(tmp_path, **files: str):
    place = tmp_path / "in"
    place.mkdir()
    for name, raw in {"good.jsonl": GOOD, **files}.items():
        (place / name).write_text(raw)
    return place


@pytest.mark.parametrize("column", LACKING)
def test_a_table_that_lacks_a_column_alone_is_one_line(tmp_path, column):
    path = tmp_path / "t.csv"
    path.write_text(LACKING[column])
    with pytest.raises(BadInput, match=rf"^t\.csv: lacks the {told_of(column)} \(it has"):
        ingest([path], tmp_path / "log", now_ms=NOW)


def test_tables_that_lack_a_column_in_a_folder_say_the_same_lines(tmp_path):
    place = folder(tmp_path, **{f"{column}.csv": raw for column, raw in LACKING.items()})
    result = ingest([place], tmp_path / "log", now_ms=NOW)
    assert (result.read, result.kept, result.refused, result.files_skipped) == (4, 1, 3, 0)
    assert result.refused_by_reason[WRONG_FILE].count == 3
    for column in LACKING:
        start = f"{column}.csv: lacks the {told_of(column)} (it has "
        assert any(why.startswith(start) for why in result.files_wrong)


def test_the_lines_stand_below_the_table_and_in_json(tmp_path):
    raw = LACKING["model"].replace("tokens", "tokens [/used]")  # brackets that would be broken markup
    place = folder(tmp_path, **{"t.csv": raw, "notes [bold].md": "# notes\n"})
    said = f"t.csv: lacks the {MODEL_LACKING} (it has session, turn, ts_ms, tokens [/used])"
    shown = CliRunner().invoke(samediff.app, ["ingest", str(place), "--to", str(tmp_path / "log")])
    assert shown.exit_code == 0
    assert said in " ".join(shown.output.split())
    assert "notes [bold].md" in shown.output
    command = ["ingest", str(place), "--to", str(tmp_path / "other"), "--json", "-"]
    assert json.loads(CliRunner().invoke(samediff.app, command).stdout)["files_wrong"] == [said]


def test_rows_of_json_that_lack_the_model_are_no_skipped_file(tmp_path):
    place = folder(tmp_path, **{"t.jsonl": json.dumps({"session": "s", "turn": 0, "ts_ms": NOW}) + "\n"})
    result = ingest([place], tmp_path / "log", now_ms=NOW)
    assert result.files_wrong[0].startswith("t.jsonl: lacks the columns model, ")


@pytest.mark.parametrize("header", ["session,ts_ms,input_tokens", "turn,cached_tokens,cost_usd"])
def test_three_columns_of_ours_make_a_usage_table(tmp_path, header):
    result = ingest([folder(tmp_path, **{"t.csv": f"{header}\n1,2,3\n"})], tmp_path / "log", now_ms=NOW)
    assert result.files_wrong[0].startswith("t.csv: lacks the columns ")


def test_a_surer_mark_further_down_outweighs_columns_of_ours(tmp_path):
    place = folder(
        tmp_path, **{"t.jsonl": json.dumps({"session": "s", "turn": 0, "ts_ms": NOW}) + "\n" + GOOD}
    )
    result = ingest([place], tmp_path / "log", now_ms=NOW)
    assert (result.formats.keys(), result.files_wrong) == ({"journal"}, [])


@pytest.mark.parametrize("header", ["session,turn,note", "user,repo,branch", "turn,effort,tenant"])
def test_a_table_of_something_else_is_skipped(tmp_path, header):
    result = ingest([folder(tmp_path, **{"t.csv": f"{header}\n1,2,3\n"})], tmp_path / "log", now_ms=NOW)
    assert (result.files_skipped, result.skipped_examples, result.files_wrong) == (1, ["t.csv"], [])


def test_skipped_files_that_hold_something_are_named_before_empty_ones(tmp_path):
    files = {f"a{n}.md": "" for n in range(9)} | {f"z{n}.md": "# notes\n" for n in range(4)}
    result = ingest([folder(tmp_path, **files)], tmp_path / "log", now_ms=NOW)
    assert result.files_skipped == 13
    assert result.skipped_examples == [f"z{n}.md" for n in range(4)] + [f"a{n}.md" for n in range(6)]
