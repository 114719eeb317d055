"""The log never holds a record twice, reads after any kill, and refuses what it can't read."""

import subprocess
import sys
from decimal import Decimal

import msgspec
import pytest

from features.errors import BadInput
from features.facts import Facts
from features.records import ArmRecord, DecisionRecord, OutcomeRecord, PlanStep, RequestRecord
from training import log as log_module
from training.log import FileState, LogStore
from training.seen import Seen

HOUR = 3_600_000
START = 1_760_000_000_000


def request(n: int, **more: object) -> RequestRecord:
    return RequestRecord(request_id=f"r{n}", session_id="s", ts_ms=START + n * HOUR, source="test", **more)


def test_records_come_back_as_they_were(tmp_path):
    store = LogStore(tmp_path / "log")
    full = request(
        1,
        cost_usd=Decimal("0.123456789012"),
        facts=Facts(turn=3.0),
        prefix_hashes=[2**64 - 1, 0],
        embedding=[0.5, -1.0],
        flags=["no_model"],
    )
    assert store.append("request", [full, request(2)]) == (2, 0)
    rows = LogStore(tmp_path / "log").scan("request").collect().sort("request_id").to_dicts()
    assert rows[0]["cost_usd"] == Decimal("0.123456789012")
    assert rows[0]["facts"]["turn"] == 3.0
    assert rows[0]["prefix_hashes"] == [2**64 - 1, 0]
    assert rows[0]["embedding"] == [0.5, -1.0]
    assert rows[1]["facts"] is None
    assert rows[1]["cost_usd"] is None


def test_decisions_keep_every_arm_and_its_defaults(tmp_path):
    arms = [ArmRecord(candidate="a", propensity=1.0), ArmRecord(candidate="b", eligible=False)]
    decision = DecisionRecord(
        request_id="r1",
        session_id="s",
        ts_ms=START,
        policy="pin",
        chosen="a",
        arms=arms,
        plan=[PlanStep(action="call")],
    )
    store = LogStore(tmp_path)
    store.append("decision", [decision])
    (row,) = store.scan("decision").collect().to_dicts()
    assert [(arm["candidate"], arm["eligible"], arm["propensity"]) for arm in row["arms"]] == [
        ("a", True, 1.0),
        ("b", False, 0.0),
    ]


def test_duplicates_are_dropped_within_and_across_runs(tmp_path):
    assert LogStore(tmp_path).append("request", [request(1), request(1), request(2)]) == (2, 1)
    assert LogStore(tmp_path).append("request", [request(2), request(3)]) == (1, 1)
    outcome = OutcomeRecord(outcome_id="o", ts_ms=START, source="tests")
    assert LogStore(tmp_path).append("outcome", [outcome, outcome]) == (1, 1)
    assert LogStore(tmp_path).scan("request").collect().height == 3


def test_an_old_store_object_sees_what_another_wrote(tmp_path):
    first, second = LogStore(tmp_path), LogStore(tmp_path)
    first.append("request", [request(1)])
    second.append("request", [request(2)])
    assert first.append("request", [request(2)]) == (0, 1)


def test_days_are_partitions(tmp_path):
    store = LogStore(tmp_path)
    store.append("request", [request(0), request(30)])
    assert [folder.name for folder in sorted((tmp_path / "requests").iterdir())] == [
        "day=2025-10-09",
        "day=2025-10-10",
    ]
    assert store.scan("request").select("day").unique().collect().height == 2


def test_an_empty_log_scans_to_the_schema(tmp_path):
    frame = LogStore(tmp_path / "none").scan("outcome").collect()
    assert frame.height == 0
    assert {"outcome_id", "level", "day"} <= set(frame.columns)


def test_a_column_that_is_new_since_reads_as_null(tmp_path):
    store = LogStore(tmp_path)
    store.append("request", [request(1, facts=Facts(turn=1.0))])
    (file,) = (tmp_path / "requests").rglob("*.parquet")
    import polars as pl

    old = pl.read_parquet(file).drop("tenant")
    turn_only = pl.struct(pl.col("facts").struct.field("turn"))
    old.with_columns(turn_only.alias("facts")).write_parquet(file)
    (row,) = store.scan("request").collect().to_dicts()
    assert row["tenant"] is None
    assert (row["facts"]["turn"], row["facts"]["body_bytes"]) == (1.0, None)


def test_a_newer_log_is_refused_in_one_line(tmp_path):
    (tmp_path / "samediff-log.json").write_text('{"schema_version": 99, "files": {}, "more": 1}')
    with pytest.raises(BadInput, match=r"schema version 99.*upgrade") as caught:
        LogStore(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_broken_state_file_names_the_way_out(tmp_path):
    (tmp_path / "samediff-log.json").write_text("{")
    with pytest.raises(BadInput, match="delete it"):
        LogStore(tmp_path)


def test_a_file_in_the_place_of_the_log_is_refused(tmp_path):
    (tmp_path / "log").write_text("x")
    with pytest.raises(BadInput, match="must be a folder"):
        LogStore(tmp_path / "log")


def test_two_writers_at_once_are_refused(tmp_path):
    with LogStore(tmp_path).writing(), pytest.raises(BadInput, match="another samediff"):
        LogStore(tmp_path).append("request", [request(1)])


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    store = LogStore(tmp_path)
    store.append("request", [request(1)])
    (file,) = (tmp_path / "requests").rglob("*.parquet")
    leftover = file.with_name("half.tmp")
    leftover.write_bytes(b"PAR1 half")
    assert store.scan("request").collect().height == 1
    store.append("request", [request(2)])
    assert not leftover.exists()


def test_little_files_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "MERGE_FROM", 3)
    for n in range(5):
        LogStore(tmp_path).append(
            "request", [RequestRecord(request_id=f"r{n}", session_id="s", ts_ms=START, source="t")]
        )
    store = LogStore(tmp_path)
    assert store.merge_days() == 1
    assert len(list((tmp_path / "requests").rglob("*.parquet"))) == 1
    assert store.scan("request").collect().height == 5
    assert store.append("request", [request(0)]) == (0, 1)


@pytest.mark.parametrize("published", [False, True])
def test_a_kill_in_the_middle_of_a_merge_loses_and_doubles_nothing(tmp_path, monkeypatch, published):
    monkeypatch.setattr(log_module, "MERGE_FROM", 2)
    for n in range(3):
        LogStore(tmp_path).append(
            "request", [RequestRecord(request_id=f"r{n}", session_id="s", ts_ms=START, source="t")]
        )
    real_publish, real_finish = log_module._publish, log_module._finish_merge

    def publish(beside, file):
        if not published and file.suffix == ".parquet":
            raise KeyboardInterrupt
        real_publish(beside, file)

    def finish(folder):
        if (folder / "merging.json").exists():
            raise KeyboardInterrupt
        real_finish(folder)

    store = LogStore(tmp_path)
    monkeypatch.setattr(log_module, "_publish", publish)
    monkeypatch.setattr(log_module, "_finish_merge", finish)
    with pytest.raises(KeyboardInterrupt):
        store.merge_days()
    assert LogStore(tmp_path).scan("request").collect().height == 3  # a reader in between
    monkeypatch.setattr(log_module, "_publish", real_publish)
    monkeypatch.setattr(log_module, "_finish_merge", real_finish)
    assert LogStore(tmp_path).append("request", [request(0)]) == (0, 1)
    assert LogStore(tmp_path).scan("request").collect().height == 3


def test_the_state_survives(tmp_path):
    store = LogStore(tmp_path)
    with store.writing():
        store.state.files["key"] = FileState(1, 2, "head", 3)
        store.append("request", [request(1)])
    assert LogStore(tmp_path).state.files == {"key": FileState(1, 2, "head", 3)}


def test_seen_stays_right_when_it_folds(monkeypatch):
    seen = Seen()
    keys = [str(n) for n in range(300_000)]
    assert all(seen.add(key) for key in keys)
    assert not any(seen.add(key) for key in keys[::997])
    assert len(seen) == 300_000


def test_importing_the_log_without_polars_names_the_extra():
    code = "import sys; sys.modules['polars'] = None; import training.log"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "pip install 'samediff[train]'" in said


def test_state_file_is_json(tmp_path):
    LogStore(tmp_path).append("request", [request(1)])
    assert msgspec.json.decode((tmp_path / "samediff-log.json").read_bytes())["schema_version"] == 1
