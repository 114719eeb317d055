"""Ingesting again adds nothing, a grown file only what is new, and a kill loses and doubles nothing."""

import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from training.ingest import ingest
from training.log import LogStore
from training.sources.base import ReadOptions

NOW = 1_795_000_000_000


def write(file, start: int, stop: int, mode: str = "wb") -> None:
    with file.open(mode) as out:
        for n in range(start, stop):
            record = {
                "request_id": f"r{n}",
                "session_id": f"s{n // 50}",
                "ts_ms": NOW - n * 60_000,
                "source": "journal",
            }
            out.write(msgspec.json.encode({"kind": "request", "record": record}) + b"\n")


def ids(log) -> list[str]:
    return LogStore(log).scan("request").collect()["request_id"].to_list()


def test_the_same_files_twice_add_nothing(tmp_path):
    write(tmp_path / "a.jsonl", 0, 100)
    first = ingest([tmp_path / "a.jsonl"], tmp_path / "log")
    second = ingest([tmp_path / "a.jsonl"], tmp_path / "log")
    assert (first.kept, second.read, second.files_unchanged, second.rows_unchanged) == (100, 0, 1, 100)
    os.utime(tmp_path / "a.jsonl", ns=(1, 1))  # touched: read again, and all of it known
    third = ingest([tmp_path / "a.jsonl"], tmp_path / "log")
    assert (third.read, third.kept, third.duplicates) == (100, 0, 100)
    assert len(ids(tmp_path / "log")) == 100


def test_a_grown_file_adds_what_is_new(tmp_path):
    write(tmp_path / "a.jsonl", 0, 10)
    ingest([tmp_path], tmp_path / "log")
    write(tmp_path / "a.jsonl", 10, 15, "ab")
    result = ingest([tmp_path], tmp_path / "log")
    assert (result.read, result.kept, result.duplicates) == (15, 5, 10)


def test_a_copy_elsewhere_adds_nothing(tmp_path):
    write(tmp_path / "a.jsonl", 0, 10)
    write(tmp_path / "b.jsonl", 0, 10)
    result = ingest([tmp_path], tmp_path / "log")
    assert (result.kept, result.duplicates) == (10, 10)


def test_other_options_read_the_file_again(tmp_path):
    write(tmp_path / "a.jsonl", 0, 10)
    ingest([tmp_path], tmp_path / "log")
    assert ingest([tmp_path], tmp_path / "log", options=ReadOptions(prompts="none")).duplicates == 10


def test_memory_is_given_back_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("training.ingest.BATCH_ROWS", 7)
    write(tmp_path / "a.jsonl", 0, 100)
    assert ingest([tmp_path], tmp_path / "log").kept == 100
    assert sorted(ids(tmp_path / "log")) == sorted(f"r{n}" for n in range(100))


SLOW = """
import sys, time
from training import ingest, log
ingest.BATCH_ROWS = 50
flush = log.LogStore.flush
def slow(self):
    flush(self)
    print("flushed", flush=True)
    time.sleep(0.01)
log.LogStore.flush = slow
ingest.ingest([sys.argv[1]], sys.argv[2])
"""


@pytest.mark.parametrize("flushes", [1, 4])
def test_a_kill_in_the_middle_leaves_a_log_that_the_rerun_completes(tmp_path, flushes):
    source = tmp_path / "in"
    source.mkdir()
    for part in range(4):
        write(source / f"{part}.jsonl", 150 * part, 150 * (part + 1))
    command = [sys.executable, "-c", SLOW, str(source), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(flushes):
            assert process.stdout.readline().strip() == "flushed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = ids(tmp_path / "log")
    assert 0 < len(before) < 600
    assert len(set(before)) == len(before)
    result = ingest([source], tmp_path / "log")
    after = ids(tmp_path / "log")
    assert sorted(after) == sorted(f"r{n}" for n in range(600))
    assert result.kept == 600 - len(before)
    assert result.read + result.rows_unchanged == 600
    assert not list((tmp_path / "log").rglob("*.tmp"))


def test_a_second_ingest_at_the_same_time_is_refused(tmp_path):
    write(tmp_path / "a.jsonl", 0, 600)
    command = [
        sys.executable,
        "-c",
        SLOW.replace("0.01", "30"),
        str(tmp_path / "a.jsonl"),
        str(tmp_path / "log"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        try:
            with pytest.raises(Exception, match="another samediff"):
                ingest([tmp_path / "a.jsonl"], tmp_path / "log")
        finally:
            process.kill()
    time.sleep(0)
    assert ingest([tmp_path / "a.jsonl"], tmp_path / "log").read == 600
