"""Outcome tables that can't teach much, through the command: a report that says so, or one clear line."""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import polars as pl
import pytest

import samediff

ODD = (float("nan"), float("inf"), float("-inf"), 1.0)


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """`samediff evaluate` on a table: exit code, result (None if refused), and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def run(table, *words):
        table.write_parquet("m.parquet")
        command = ["samediff", "evaluate", "m.parquet", "--splits", "0", "--json", "r.json", *words]
        monkeypatch.setattr(sys, "argv", command)
        code = 0
        try:
            samediff.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        if code:
            assert (code, out, err.count("\n")) == (2, "", 1)
            return code, None, err
        result = msgspec.json.decode((tmp_path / "r.json").read_bytes())
        assert "nan" not in result["recommendation"].lower()
        return code, result, " ".join(w["message"] for w in result["warnings"]) + result["recommendation"]

    return run


def table(n=60, models=("cheap", "dear"), seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (f"t{i}", m, float(rng.random() < 0.5 + 0.2 * j), 0.01 * 10**j, ("a", "b")[i % 2], f"r{i % 12}")
        for i in range(n)
        for j, m in enumerate(models)
    ]
    names = ("task_id", "model", "success", "cost_usd", "category", "repo")
    return pl.DataFrame(rows, schema=names, orient="row")


def test_one_class_only_is_said_and_no_model_is_preferred(evaluate):
    _, result, said = evaluate(table().with_columns(success=pl.lit(0.0)))
    assert "every success is 0: no model is better than another here" in said
    assert "Not enough evidence to tell the models apart" in said
    assert result["recommended"] == "best_single"


def test_a_model_of_five_rows_is_left_out_by_name(evaluate):
    new = table(5, models=("new",))
    _, result, said = evaluate(pl.concat([table(), new]))
    assert {m["model"] for m in result["models"]} == {"cheap", "dear"}
    assert "without new" in said


def test_costs_that_are_all_missing_stay_unknown(evaluate):
    missing = pl.Series("cost_usd", [None, *ODD[:2], -1.0] * 30, pl.Float64)
    _, result, said = evaluate(table().with_columns(missing))
    assert "120 of 120 rows have no cost and no price" in said
    assert {policy["cost_usd"] for policy in result["policies"]} == {None}


def test_nan_and_infinite_features_are_unknown(evaluate):
    odd = pl.Series("size", [ODD[i // 2 % 4] for i in range(120)])
    _, _, said = evaluate(table().with_columns(odd, turns=pl.Series(ODD * 30)), "--features", "size")
    assert "45 of 60 tasks have no number in size: taken as unknown" in said


def test_a_group_of_one_beside_others_is_scored_like_them(evaluate):
    alone = table().with_columns(
        repo=pl.when(pl.col("task_id") == "t7").then(pl.lit("lonely")).otherwise("repo")
    )
    _, result, said = evaluate(alone, "--group", "repo")
    assert result["tasks_scored"] == 60
    assert "only 13 groups" in said or result["groups"] == 13


def test_one_group_of_all_is_refused(evaluate):
    code, _, said = evaluate(table().with_columns(repo=pl.lit("r")), "--group", "repo")
    assert code == 2
    assert "all tasks are in one group, so nothing can be held out; choose another --group" in said


def test_ten_thousand_categories_are_no_task_type(evaluate):
    many = table().with_columns(category=pl.col("task_id"))
    _, result, said = evaluate(many)
    assert result["task_type"] is None
    assert "category has 60 values on 120 rows: too many to be a task type, so left out" in said


def test_repeated_rows_that_disagree_are_averaged_and_counted(evaluate):
    twice = pl.concat([table(), table().with_columns(success=1 - pl.col("success"))])
    _, result, said = evaluate(twice)
    assert "120 (task, model) pairs have several rows: averaged" in said
    assert "120 of the 120 repeated (task, model) pairs disagree on success" in said
    assert {m["quality"] for m in result["models"]} == {0.5}


def test_ids_in_the_column_of_models_are_refused(evaluate):
    ids = table().with_columns(model=pl.lit("call-") + pl.int_range(pl.len()).cast(pl.String))
    code, _, said = evaluate(ids)
    assert code == 2
    assert "0 of 120 models with at least 5 rows; a choice needs two" in said
