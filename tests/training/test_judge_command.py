"""`samediff diff`: one pair of each kind, tables of pairs, and errors of one line."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from features.errors import BadInput
from training.judge import bulk
from training.judge.bulk import _judge_chunk, _judged, judge_pair, run_pairs
from training.judge.pair import run
from training.judge.result import collect
from training.judge.show import render

PATCH = "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n def f():\n-    return 1\n+    return {}\n"
A, B, C = PATCH.format("2"), PATCH.format("(2)  # two"), PATCH.format("3")


def shown(result) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        for part in render(result):
            console.print(part)
    return console.export_text()


def write(folder: Path, **files: str) -> list[Path]:
    paths = []
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(text)
        paths.append(path)
    return paths


def test_two_patches_are_shown_side_by_side(tmp_path):
    a, c = write(tmp_path, a__diff=A, c__diff=C)
    result = run(a, c)
    assert result.pairs[0].level == "L3"
    text = shown(result)
    assert "similar (L3)" in text
    assert "return 2" in text
    assert "return 3" in text
    assert "weaker" in text


def test_patches_with_their_base(tmp_path):
    a, b, base = write(tmp_path, a__diff=A, b__diff=B, base__py="def f():\n    return 1\n")
    for given in (base, tmp_path / "tree"):
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / "a.py").write_text(base.read_text())
        verdict = run(a, b, given).pairs[0]
        assert (verdict.level, verdict.weak) == ("L2", False)
    assert run(a, b).pairs[0].weak


def test_files_folders_and_tool_calls(tmp_path):
    one, two = write(tmp_path, one__py="x = 'a'\n", two__py='x = "a"\n')
    assert run(one, two).pairs[0].level == "L2"
    for name, text in (("left", "x = 1\n"), ("right", "x = 2\n")):
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / ".git" / "index").write_text(name)
        (tmp_path / name / "m.py").write_text(text)
        (tmp_path / name / "same.py").write_text("y")
    result = run(tmp_path / "left", tmp_path / "right")
    assert [file.path for file in result.pairs[0].files] == ["m.py"]
    call = {
        "name": "Edit",
        "input": {"file_path": "a.py", "old_string": "return 1", "new_string": "return 2"},
    }
    calls, patch = write(tmp_path, calls__json=json.dumps([call]), a__diff=A)
    assert run(calls, patch).pairs[0].level == "L0"


def test_pairs_come_back_in_the_order_of_the_rows(tmp_path):
    table = tmp_path / "pairs.parquet"
    rows = [(A, A), (A, B), (A, C), (A, None), (A, "nonsense"), ("", "")] * 40
    pl.DataFrame(rows, schema={"patch_a": pl.String, "patch_b": pl.String}, orient="row").write_parquet(table)
    result = run_pairs(table, processes=2)
    assert [pair.level for pair in result.pairs] == ["L0", "L2", "L3", "unknown", "unknown", "L0"] * 40
    assert result.summary["pairs"] == 240
    assert result.summary["levels"]["unknown"] == 80
    assert "unknown" in shown(result)


def test_pairs_with_a_base(tmp_path):
    table = tmp_path / "pairs.csv"
    plain, keyed = "def f():\n    return 1\n", json.dumps({"a.py": "def f():\n    return 1\n"})
    pl.DataFrame({"patch_a": [A] * 4, "patch_b": [B] * 4, "base": [plain, keyed, None, "other"]}).write_csv(
        table
    )
    found = run_pairs(table).pairs
    assert [(pair.level, pair.weak) for pair in found] == [
        ("L2", False),
        ("L2", False),
        ("L2", True),
        ("unknown", False),
    ]


def test_a_killed_process_costs_no_verdict():
    chunks = [([(A, B, None), (A, None, None)], True)] * 6
    judged = _judged(chunks, 2)
    found = [next(judged)]
    multiprocessing.active_children()[0].kill()
    found += judged
    assert found == [_judge_chunk(chunk) for chunk in chunks]


def test_a_pair_that_kills_its_process_is_unknown(monkeypatch):
    dying = {"mp_context": multiprocessing.get_context("spawn"), "initializer": os._exit, "initargs": (1,)}
    monkeypatch.setattr(bulk, "_pool", lambda workers: ProcessPoolExecutor(workers, **dying))
    (verdict,) = bulk._one_by_one([(A, B, None)], True)
    assert (verdict.level, verdict.reason) == ("unknown", "judging it ended the process")


def test_json_has_the_keys_of_the_contract(tmp_path):
    table = tmp_path / "pairs.parquet"
    pl.DataFrame({"patch_a": [A, A], "patch_b": [C, "x"]}).write_parquet(table)
    command = [sys.executable, "-m", "samediff", "diff", "--pairs", str(table), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    result = json.loads(done.stdout)
    assert set(result) == {"pairs", "summary"}
    for pair in result["pairs"]:
        assert {"level", "similarity", "reason", "files"} <= set(pair)
    assert result["pairs"][0]["level"] == "L3"
    assert result["pairs"][1]["similarity"] is None


def test_errors_name_the_file_and_the_way_out(tmp_path):
    (a,) = write(tmp_path, a__diff=A)
    with pytest.raises(BadInput, match="no such file"):
        run(a, tmp_path / "nothing")
    with pytest.raises(BadInput, match="two folders or two files"):
        run(a, tmp_path)
    table = tmp_path / "t.parquet"
    pl.DataFrame({"patch_a": [A]}).write_parquet(table)
    with pytest.raises(BadInput, match="no column patch_b"):
        run_pairs(table)
    with pytest.raises(BadInput, match="not a table"):
        run_pairs(a)
    with pytest.raises(BadInput, match="no such file"):
        run_pairs(tmp_path / "nothing.parquet")


def test_an_empty_table_and_odd_verdicts_can_be_shown():
    assert shown(collect([])) != ""
    assert judge_pair(None, A).level == "unknown"
    assert "unknown" in shown(collect([judge_pair("[bold", A)]))


def test_each_side_is_read_once_so_that_pipes_can_be_compared(tmp_path):
    one, two = write(tmp_path, one__py="a = 1\n", two__py="a = 2\n")
    command = f'"{sys.executable}" -m samediff diff <(cat "{one}") <(cat "{two}") --json -'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["pairs"][0]["level"] not in ("L0", "L1", "L2"), done.stderr
    named = tmp_path / "named"
    os.mkfifo(named)
    with pytest.raises(BadInput, match="named pipe"):
        run(named, two)


def test_json_that_is_data_is_compared_as_data(tmp_path):
    rows = [{"name": "alice", "age": 1}]
    one, two = write(tmp_path, one__json=json.dumps(rows), two__json=json.dumps([{**rows[0], "age": 2}]))
    assert not run(one, two).pairs[0].same


def test_calls_of_chat_completions_are_calls_whatever_their_ids(tmp_path):
    arguments = json.dumps({"file_path": "a.py", "old_string": "return 1", "new_string": "return 2"})
    calls = [
        json.dumps([{"id": key, "type": "function", "function": {"name": "Edit", "arguments": arguments}}])
        for key in ("x", "y")
    ]
    one, two = write(tmp_path, one__json=calls[0], two__json=calls[1])
    assert run(one, two).pairs[0].level == "L0"


def test_a_patch_and_a_file_are_not_compared(tmp_path):
    patch, file = write(tmp_path, a__diff=A, b__py="x = 1\n")
    with pytest.raises(BadInput, match="two of them, or two files"):
        run(patch, file)


@pytest.mark.parametrize(
    "broken", ['[{"name": "Edit", "input": ' + '{"a":' * 5000, '[{"name": "\\ud800"}]', "["]
)
def test_calls_that_cannot_be_read_are_not_compared_as_data(tmp_path, broken):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('[{"name": "Edit", "input": {"file_path": "a", "old_string": "x", "new_string": "y"}}]')
    bad.write_text(broken)
    with pytest.raises(BadInput, match=r"bad\.json: not JSON that can be read"):  # the broken one is named
        run(good, bad)
    bad.write_text('{"data": 1}')
    with pytest.raises(BadInput, match=r"good\.json is a list of tool calls and the other isn't"):
        run(good, bad)


def test_absolute_paths_need_their_root(tmp_path):
    call = {
        "name": "Edit",
        "input": {"file_path": "/r/a.py", "old_string": "return 1", "new_string": "return 2"},
    }
    calls, patch = write(tmp_path, calls__json=json.dumps([call]), a__diff=A)
    assert "--root" in (run(calls, patch).pairs[0].reason or "")
    assert run(calls, patch, root="/r").pairs[0].level == "L0"


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path):
    for name, text in (("left", "x = 1\n"), ("right", "x = 2\n")):
        folder = tmp_path / name / "app" / "[id]"
        folder.mkdir(parents=True)
        (folder / "page.py").write_text(text)
        (tmp_path / name / "[").mkdir()
        (tmp_path / name / "[" / "bold].py").write_text(text)
    text = shown(run(tmp_path / "left", tmp_path / "right"))
    assert "app/[id]/page.py" in text


@pytest.mark.parametrize(
    ("name", "a", "b", "line"),
    [
        ("m.c", "int f(int *p)\n{\n  *p = 1;\n}\n", "int f(int *p)\n{\n  *p = 2;\n}\n", "*p = 2;"),
        ("m.h", "#define N 1\n", "#define N 2\n", "#define N 2"),
        ("m.css", "#id {\n  color: red;\n}\n", "#ix {\n  color: red;\n}\n", "#ix {"),
        ("m.py", "# one\nx = 1\n", "# two\nx = 2\n", "x = 2"),
        ("m.txt", "a\n", "a\nb\n", "b"),
    ],
)
def test_the_first_difference_is_the_line_that_differs(tmp_path, name, a, b, line):
    for side, text in (("left", a), ("right", b)):
        (tmp_path / side).mkdir()
        (tmp_path / side / name).write_text(text)
    first = run(tmp_path / "left", tmp_path / "right").pairs[0].files[0].first_difference
    assert first is not None
    assert first.text_b.split("\n")[0].strip() == line
    assert b.split("\n")[first.line_b - 1].strip() == line
