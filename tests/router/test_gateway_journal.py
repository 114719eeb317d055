"""The gateway's journal: its order, its bounds, and what a disk that fails costs."""

import asyncio
import json
import os
import subprocess
import sys
import time

import pytest
from router_servers import NOW_MS, ROOT, journal_of

from features.errors import BadInput
from features.records import OutcomeRecord
from router.gateway.journal import Journal


def outcome(n):
    return OutcomeRecord(outcome_id=f"o{n}", ts_ms=NOW_MS, source="tests", task_id="t")


def test_the_journal_keeps_order_and_never_writes_over_another(tmp_path) -> None:
    for start in (0, 100):
        journal = Journal(tmp_path / "journal", 1000, 0.05)
        journal.start()
        for n in range(start, start + 100):
            journal.add("outcome", outcome(n))
        journal.close()
        assert (journal.written, journal.dropped) == (100, 0)
    files = sorted(path.name for path in (tmp_path / "journal").rglob("*.jsonl"))
    assert files == [f"{os.getpid()}-0.jsonl", f"{os.getpid()}-1.jsonl"]
    assert [r["outcome_id"] for _, r in journal_of(tmp_path)] == [f"o{n}" for n in range(200)]


@pytest.mark.parametrize("batch_bytes", [2**20, 100])
def test_what_the_journal_cannot_take_is_counted(tmp_path, caplog, monkeypatch, batch_bytes) -> None:
    monkeypatch.setattr("router.gateway.journal._BATCH_BYTES", batch_bytes)
    waiting = Journal(tmp_path / "journal", 3, 0.05)
    for n in range(10):
        waiting.add("outcome", outcome(n))
    assert waiting.dropped == 7
    blocked = tmp_path / "file"
    blocked.write_text("")
    broken = Journal(blocked, 10, 0.05)
    broken.start()
    for n in range(5):
        broken.add("outcome", outcome(n))
    broken.close()
    assert (broken.written, broken.dropped) == (0, 5)
    assert len(caplog.records) == 1


def test_lines_that_wait_are_bounded_in_bytes_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("router.gateway.journal._ROOM_BYTES", 1000)
    journal = Journal(tmp_path / "journal", 1000, 0.05)
    added = [journal.add("outcome", outcome(n)) for n in range(100)]
    assert added == sorted(added, reverse=True)
    kept = sum(added)
    assert (journal.dropped, 5 < kept < 15) == (100 - kept, True)
    journal.start()
    until(lambda: journal.written == kept)
    assert journal.add("outcome", outcome(100))
    journal.close()
    assert [r["outcome_id"] for _, r in journal_of(tmp_path)] == [f"o{n}" for n in (*range(kept), 100)]


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from router.gateway.journal import Journal
from test_gateway_journal import outcome, until
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))  # the disk takes no more
journal = Journal(Path(sys.argv[1]), 100, 0.05)
journal.start()
for n in range(80):  # about 80 bytes each
    journal.add("outcome", outcome(n))
until(lambda: journal._failed)
for n in range(80, 300):
    journal.add("outcome", outcome(n))
kept = 300 - journal.dropped
if sys.argv[2] == "recovers":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: journal.written == kept)
    journal.add("outcome", outcome(999))
journal.close()
print(journal.written, journal.dropped)
"""


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(condition)


@pytest.mark.parametrize("then", ["recovers", "is closed"])
def test_a_full_disk_costs_no_record_unseen(tmp_path, then) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "journal"), then],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'router'}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    written, dropped = map(int, done.stdout.split())
    kept = [int(r["outcome_id"][1:]) for _, r in journal_of(tmp_path)]
    ends = {file.read_text()[-1:] for file in tmp_path.rglob("*.jsonl")}
    assert ends <= {"", "\n"}  # no line is torn
    assert len(kept) == written == len(set(kept))
    if then == "recovers":
        assert written + dropped == 301
        assert (kept[:80], kept[-1]) == (list(range(80)), 999)
    else:
        assert written + dropped == 300
        assert dropped > 200
    assert done.stderr.count("can't be written") == done.stderr.count("\n") == 1


def test_a_record_that_is_no_json_does_not_stop_the_journal(tmp_path, caplog) -> None:
    journal = Journal(tmp_path / "journal", 10, 0.05)
    journal.start()
    journal.add("outcome", OutcomeRecord(outcome_id="o", ts_ms=0, source="tests", detail="\ud800"))
    journal.add("outcome", outcome(1))
    journal.close()
    assert (journal.written, journal.dropped) == (1, 1)
    assert "can't be written as JSON" in caplog.text


def test_a_line_is_handed_over_before_it_is_durable(tmp_path) -> None:
    journal = Journal(tmp_path / "journal", 10, 60.0)
    journal.start()
    assert asyncio.run(journal.hand_over("outcome", [outcome(1), outcome(2)]))
    assert [r["outcome_id"] for _, r in journal_of(tmp_path)] == ["o1", "o2"]
    assert journal.written == 0
    journal.close()
    assert (journal.written, journal.dropped) == (2, 0)


def test_a_journal_that_lets_lines_gather_lets_nobody_wait_for_that(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("router.gateway.journal._LINGER_S", 60.0)
    journal = Journal(tmp_path / "journal", 10, 60.0)
    journal.start()
    journal.add("outcome", outcome(1))
    assert asyncio.run(journal.hand_over("outcome", [outcome(2)]))
    assert [r["outcome_id"] for _, r in journal_of(tmp_path)] == ["o1", "o2"]
    journal.add("outcome", outcome(3))
    journal.close()
    assert journal.written == 3


@pytest.mark.parametrize("queue_size", [1, 9, 10])
def test_lines_gather_no_longer_than_there_is_room_for_more(tmp_path, monkeypatch, queue_size) -> None:
    monkeypatch.setattr("router.gateway.journal._LINGER_S", 60.0)
    journal = Journal(tmp_path / "journal", queue_size, 60.0)
    journal.start()
    for turn in range(1, 4):
        half = (queue_size + 1) // 2
        assert all(journal.add("outcome", outcome(n)) for n in range(half))
        until(lambda: len(journal_of(tmp_path)) == turn * half)  # noqa: B023
    journal.close()
    assert (journal.written, journal.dropped) == (3 * half, 0)


def test_a_journal_that_sleeps_hears_the_next_record_and_the_next_who_waits(tmp_path) -> None:
    journal = Journal(tmp_path / "journal", 10, 0.05)
    journal.start()
    for n in range(3):
        journal.add("outcome", outcome(n))
        until(lambda: journal.written > n)  # noqa: B023
        until(lambda: not journal._bell.is_set())
    assert asyncio.run(journal.hand_over("outcome", [outcome(3)]))
    journal.close()
    assert journal.written == 4


def test_lines_come_in_order_from_a_queue_of_many_batches(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("router.gateway.journal._BATCH_BYTES", 300)
    monkeypatch.setattr("router.gateway.journal._ROTATE_BYTES", 1000)
    journal = Journal(tmp_path / "journal", 1000, 60.0)
    journal.start()
    assert asyncio.run(journal.hand_over("outcome", [outcome(n) for n in range(100)]))
    lines = [r["outcome_id"] for _, r in journal_of(tmp_path)]
    assert sorted(lines) == sorted(f"o{n}" for n in range(100))
    journal.close()
    files = sorted((tmp_path / "journal").rglob("*.jsonl"), key=lambda file: int(file.stem.split("-")[1]))
    assert len(files) > 5
    assert "".join(file.read_text() for file in files).count("\n") == journal.written == 100
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [row["record"]["outcome_id"] for row in rows] == [f"o{n}" for n in range(100)]


def test_a_sync_that_fails_takes_its_lines_back_and_writes_them_anew(tmp_path, monkeypatch) -> None:
    fails = True

    def fsync(_):
        if fails:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    journal = Journal(tmp_path / "journal", 10, 0.05)
    journal.start()
    journal.add("outcome", outcome(1))
    until(lambda: not journal.writable)
    journal.add("outcome", outcome(2))
    assert journal.written == 0
    fails = False
    until(lambda: journal.written == 2)
    assert journal.writable
    journal.close()
    assert [r["outcome_id"] for _, r in journal_of(tmp_path)] == ["o1", "o2"]


def test_a_journal_that_has_no_room_or_no_disk_says_so_to_one_who_waits(tmp_path) -> None:
    full = Journal(tmp_path / "journal", 1, 0.05)
    assert not asyncio.run(full.hand_over("outcome", [outcome(1), outcome(2)]))
    blocked = tmp_path / "file"
    blocked.write_text("")
    broken = Journal(blocked, 10, 0.05)
    broken.start()
    assert not asyncio.run(broken.hand_over("outcome", [outcome(1)]))
    broken.close()
    assert (broken.written, broken.dropped) == (0, 1)


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_served(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"journal .*file/journal: Not a directory; choose another"):
        Journal(tmp_path / "file" / "journal", 1, 1.0).check()
    Journal(tmp_path / "journal", 1, 1.0).check()
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_timestamp_of_the_journal_is_today(tmp_path) -> None:
    journal = Journal(tmp_path / "journal", 10, 0.05)
    journal.start()
    journal.add("outcome", outcome(1))
    journal.close()
    today = {time.strftime("%Y-%m-%d", time.gmtime(time.time() - s)) for s in (0, 60)}
    assert {p.name for p in (tmp_path / "journal").iterdir()} <= today
