"""What a log may hold that can't be learned from: one clear line each, and nothing left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_dataset import fill
from test_pipeline import two_models

import samediff
from features.errors import BadInput
from features.facts import Facts
from models.bundle import Bundle
from training.audit import FEW_ROWS, MAX_CANDIDATES, MAX_TASK_TYPES
from training.dataset import load_dataset
from training.imputed import imputed
from training.log import LogStore
from training.pipeline import train as train_on


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """`samediff train` on rows; its exit code and what it said, the line on stderr alone if it refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def run(rows):
        fill(LogStore(tmp_path / "log"), rows)
        words = ["samediff", "train", "log", "--out", "bundle", "--no-mlflow"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            samediff.main()
        out, err = capsys.readouterr()
        left = sorted(file.name for file in tmp_path.iterdir())
        assert left == (["bundle", "log"] if ended.value.code == 0 else ["log"])
        if ended.value.code == 2:
            assert (out, err.count("\n")) == ("", 1)
        return ended.value.code or 0, out + err

    return run


@pytest.mark.parametrize(("value", "said"), [(1, "a success"), (0, "a failure")])
def test_one_class_only_tells_no_candidate_from_another(train, value, said) -> None:
    code, shown = train([{**row, "success": value} for row in two_models(200)])
    assert code == 2
    assert f"log: all 200 labels say {said}" in shown
    assert "/v1/outcomes" in shown


def test_a_model_of_five_rows_is_named_and_believed_to_be_like_the_others(train) -> None:
    new = [{**row, "model_served": "gpt-5.4", "success": 1} for row in two_models(5, seed=1)]
    code, shown = train(two_models(300) + new)
    assert code == 0
    assert f"under {FEW_ROWS} rows, so believed to be about like the others: gpt-5.4 (5)" in shown
    profiles = Bundle.load("bundle").profiles
    assert profiles["gpt-5.4"].rows == 5
    assert profiles["gpt-5.4"].base_logit < 3  # five of five are no certainty


def test_costs_that_are_all_unknown_are_said_to_be(train) -> None:
    house = {"claude-opus-4-6": "house-large", "gpt-5.4-mini": "house-small"}
    code, shown = train([{**row, "model_served": house[row["model_served"]]} for row in two_models(200)])
    assert code == 0
    assert "no price is known of house-large, house-small" in shown
    assert {p.input_usd_per_mtok for p in Bundle.load("bundle").profiles.values()} == {None}


def test_nan_and_infinite_features_make_a_bundle_that_loads(train) -> None:
    odd = (float("nan"), float("inf"), float("-inf"), 5.0)
    rows = two_models(400)
    for i, row in enumerate(rows):
        row["facts"] = Facts(turn=1.0, context_tokens_est=odd[i % 4])
        row["output_tokens"] = None if i % 3 else row["output_tokens"]
    code, _ = train(rows)
    assert code == 0
    for read in Bundle.load("bundle").manifest.support:
        assert np.isfinite([read.low, read.high]).all()


def test_a_group_of_one_can_hold_nothing_out(train) -> None:
    code, shown = train([{**row, "task_id": "t0"} for row in two_models(200)])
    assert code == 1
    assert "FAIL  held out: the log is one group: nothing can be held out" in shown
    assert "no bundle was written" in shown


def test_one_group_that_holds_most_rows_is_no_crash(train) -> None:
    rows = two_models(300)
    for row in rows[:200]:
        row["task_id"] = "huge"
    code, shown = train(rows)
    assert code in (0, 1), shown


def of_many_types(n: int) -> list[dict[str, object]]:
    """200 rows of one type, and one row of each of n others."""
    rows = two_models(200 + n)
    for i, row in enumerate(rows):
        row["task_type"] = f"type {i - 200}" if i >= 200 else "frequent"
    return rows


def test_of_many_task_types_the_frequent_ones_are_learned(train) -> None:
    code, shown = train(of_many_types(600))
    assert code == 0
    assert f"{601 - MAX_TASK_TYPES} rare task types ({601 - MAX_TASK_TYPES} rows) count as unknown" in shown
    assert "output_tokens of" not in shown  # a count on each of many types isn't an imputed constant
    learned = Bundle.load("bundle").manifest.success.task_types
    assert "frequent" in learned
    assert len(learned) <= MAX_TASK_TYPES


def test_ten_thousand_task_types_are_no_table_of_ten_thousand(tmp_path) -> None:
    found = load_dataset(fill(LogStore(tmp_path), of_many_types(10_000)), None, 0)
    assert len(np.unique(found.examples.task_type)) == MAX_TASK_TYPES + 1
    assert found.counts.odd.folded_task_types == 10_001 - MAX_TASK_TYPES


def test_ten_thousand_models_are_ids_in_the_wrong_column(train) -> None:
    rows = [{**row, "model_served": f"call-{i}"} for i, row in enumerate(two_models(MAX_CANDIDATES + 1))]
    code, shown = train(rows)
    assert code == 2
    assert "1,001 different models, at most 1,000; that looks like ids" in shown


def test_rows_of_one_task_and_model_that_disagree_are_counted(train) -> None:
    rows = two_models(200)
    against = [
        {**row, "session_id": f"again {i}", "success": 1 - row["success"]} for i, row in enumerate(rows)
    ]
    code, shown = train([dict(row) for row in rows] + against)
    assert code == 0
    assert "200 of 200 (task, model) pairs of several requests have labels that disagree" in shown


def test_a_constant_per_task_type_is_imputed_and_a_count_per_row_is_not() -> None:
    rng = np.random.default_rng(0)
    kinds = [f"k{i % 4}" for i in range(200)]
    constant = pl.DataFrame({"m": "a", "kind": kinds, "n": [int(k[1]) for k in kinds]})
    own = pl.DataFrame({"m": "b", "kind": [f"r{i}" for i in range(200)], "n": rng.integers(0, 30, 200)})
    assert imputed(pl.concat([constant, own]), "n", "m", "kind")["m"].to_list() == ["a"]


def test_two_groups_of_which_one_is_nearly_all_can_hold_nothing_out(train) -> None:
    code, shown = train(
        [{**row, "task_id": "small" if i >= 190 else "all"} for i, row in enumerate(two_models(200))]
    )
    assert code == 1
    assert "nearly all rows are of one group: nothing can be held out" in shown


def test_a_target_that_cannot_be_written_is_one_line(tmp_path) -> None:
    log = fill(LogStore(tmp_path / "log"), two_models(200)).path
    with pytest.raises(BadInput, match="can't be written") as caught:
        train_on(log, Path("/proc/no/bundle"))
    assert "\n" not in str(caught.value)
