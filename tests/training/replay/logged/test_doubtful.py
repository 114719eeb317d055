"""Logs with rows that can't be as they stand: written twice, drawn by no chance, out of time or too large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from replay_answers import row, what_if
from replay_logs import CHEAP, STRONG, write_log
from typer.testing import CliRunner

import samediff
from features.errors import BadInput
from training.estimators import scores
from training.estimators.bandit import Bandit
from training.replay.logged import parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def changed(log: Path, kind: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """The same log with each of its files of a kind changed."""
    for file in (log / kind).glob("day=*/*.parquet"):
        change(pl.read_parquet(file, hive_partitioning=False)).write_parquet(file)
    return log


def chances(change: Callable[[float], float | None]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Change every chance of the receipts."""

    def of(frame: pl.DataFrame) -> pl.DataFrame:
        rows = frame["arms"].to_list()
        for arm in (arm for arms in rows for arm in arms):
            arm["propensity"] = change(arm["propensity"])
        return frame.with_columns(pl.Series("arms", rows, dtype=frame.schema["arms"]))

    return of


def said(result: Any, words: str) -> str:
    """The one caveat with these words."""
    found: list[str] = [line for line in result["caveats"] if words in line]
    assert len(found) == 1, result["caveats"]
    return found[0]


@pytest.mark.parametrize("calls", [10_000, 60])
def test_rows_that_were_written_twice_are_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    monkeypatch.setattr(parts, "CALLS", calls)
    log = write_log(tmp_path / "log", sessions=40)
    once = what_if(log)
    twice = what_if(changed(log, "requests", lambda frame: pl.concat([frame, frame])))
    assert once["calls"] == twice["calls"] == 160
    assert twice["recorded_usd"] == pytest.approx(once["recorded_usd"])
    assert row(twice, f"pin:{CHEAP}")["ess"] == pytest.approx(row(once, f"pin:{CHEAP}")["ess"])
    assert twice["left_out"] == {"their request id was read before": 160}


def test_receipts_without_any_chance_tell_none(tmp_path: Path) -> None:
    result = what_if(changed(write_log(tmp_path / "log"), "decisions", chances(lambda _: None)))
    said(result, "no propensities in the log")


@pytest.mark.parametrize("factor", [7.0, 0.5, 0.0, -1.0])
def test_chances_that_do_not_sum_to_one_are_said(tmp_path: Path, factor: float) -> None:
    result = what_if(changed(write_log(tmp_path / "log"), "decisions", chances(lambda p: (p or 0) * factor)))
    assert said(result, "don't sum to 1").startswith("240 receipts")
    said(result, "no usable propensities in the log")


def test_pairs_drawn_with_more_than_certainty_are_counted(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", pairs=0.5)
    drawn = pl.when(pl.col("sampling_probability").is_not_null()).then(3.0).alias("sampling_probability")
    result = what_if(changed(log, "outcomes", lambda frame: frame.with_columns(drawn)))
    said(result, "don't say how likely they were drawn, from above 0 to 1")


def test_an_impossible_time_is_named(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log")
    off = pl.when(pl.col("turn") == 1).then(-9 * 10**18).otherwise(pl.col("ts_ms")).alias("ts_ms")
    result = what_if(changed(log, "requests", lambda frame: frame.with_columns(off)))
    assert result["left_out"] == {"their time is impossible": 60}


def test_times_to_come_are_played_and_said(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", cost_source="priced")
    ahead = pl.when(pl.col("turn") == 3).then(pl.col("ts_ms") + 10**12).otherwise(pl.col("ts_ms"))
    result = what_if(changed(log, "requests", lambda frame: frame.with_columns(ahead.alias("ts_ms"))))
    assert said(result, "a time more than a day ahead").startswith("60 rows")
    assert result["calls"] == 240


@pytest.mark.parametrize("calls", [10_000, 60])
@pytest.mark.parametrize("column", ["output_tokens", "input_tokens_uncached"])
def test_more_tokens_than_a_model_has_are_in_no_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, calls: int
) -> None:
    monkeypatch.setattr(parts, "CALLS", calls)
    log = write_log(tmp_path / "log", cost_source="priced")
    last = pl.col("turn") == 3
    much = pl.when(last).then(10**15).otherwise(pl.col(column)).alias(column)
    whole = what_if(log)
    result = what_if(changed(log, "requests", lambda frame: frame.with_columns(much)))
    assert result["left_out"] == {"they tell of more tokens than any model takes or gives": 60}
    assert result["calls"] == 180
    assert 0 < result["billed_usd"] < whole["billed_usd"]
    assert row(result, f"pin:{CHEAP}")["cost_usd"] < whole["billed_usd"]


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_write_that_fails_keeps_the_report_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    from pathlib import Path as Files

    log, report = write_log(tmp_path / "log", sessions=20), tmp_path / "report"
    report.write_text("the one before", encoding="utf-8")

    def full(path: Files, data: bytes | str, **_: Any) -> int:
        with path.open("wb") as file:
            file.write(data[:10].encode() if isinstance(data, str) else data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Files, "write_bytes", full)
    monkeypatch.setattr(Files, "write_text", full)
    asked = ["what-if", str(log), "--no-frontier", option, str(report)]
    done = CliRunner().invoke(samediff.app, asked)
    assert isinstance(done.exception, BadInput)
    assert "No space left on device" in str(done.exception)
    monkeypatch.undo()
    assert report.read_text(encoding="utf-8") == "the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "report"]
    assert CliRunner().invoke(samediff.app, asked).exit_code == 0
    assert len(report.read_bytes()) > 1_000


def test_a_refusal_counts_as_many_decisions_as_its_row(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", sessions=120, pairs=0.1)

    def silent(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter((pl.col("candidate") != CHEAP) | pl.col("sampling_probability").is_not_null())

    pin = row(what_if(changed(log, "outcomes", silent)), f"pin:{CHEAP}")
    assert not pin["supported"]
    assert f"{pin['ess']:,.0f} effective decisions of this policy are known" in pin["why"]


def test_weights_of_a_mix_whose_sum_is_no_number_are_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", sessions=20)
    with pytest.raises(BadInput, match="the weights' sum is too large"):
        what_if(log, "--policy", f"mix:{STRONG}=1e308,{CHEAP}=1e308")


def test_a_session_of_a_thousand_decisions_has_a_finite_weight() -> None:
    n = 2_000
    none = np.zeros(n, dtype=int)
    log = Bandit(("a", "b"), none, np.ones(n), np.tile([0.05, 0.95], (n, 1)), none, none.astype(bool))
    product, scored = scores.by_session(log, np.tile([1.0, 0.0], (n, 1)), np.ones(1))
    assert np.isfinite([*product, *(product * product), *scored]).all()
