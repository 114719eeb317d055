"""Judged runs: what evidence tells is used, what tells nothing adds nothing, and no knob sees scored rows."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import polars as pl
import pytest

from features.errors import BadInput
from training.evaluate import Options, render, run
from training.evaluate.beliefs import Belief
from training.evaluate.judged import matched
from training.evaluate.lots import Side, treated
from training.evaluate.menus import Menu

N = 180
OPTIONS = Options(
    group="repo", evidence=("turns", "tools"), reference="dear", check_noise=(0.4, 0.1), splits=0, draws=200
)


def runs(told=2.0, seed=0):
    """Half of the tasks are beyond the cheap model; `turns` tell its failures, by `told` spreads."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(N):
        for model, chance, usd in (("cheap", 0.55, 0.1), ("dear", 0.8, 1.0)):
            success = float(rng.random() < chance)
            turns = np.exp(2.0 + 0.3 * told * (1 - success) + 0.3 * rng.normal())
            tools = f'{{"edit": {rng.integers(1, 9)}, "read": {rng.integers(1, 30)}}}'
            rows.append((f"t{i}", f"r{i % 30}", model, success, usd * rng.lognormal(0, 0.2), turns, tools))
    names = ("task_id", "repo", "model", "success", "cost_usd", "turns", "tools")
    return pl.DataFrame(rows, schema=names, orient="row")


def played(frame, folder, options=OPTIONS):
    path = folder / "runs.parquet"
    frame.write_parquet(path)
    return run(path, options)


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    return played(runs(), tmp_path_factory.mktemp("telling"))


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    return played(runs(told=0.0, seed=1), tmp_path_factory.mktemp("silent"))


def entry(result, name):
    return next(e for e in result["policies"] if e["name"] == name)


def test_evidence_that_tells_failures_saves_more_than_a_poor_check_alone(telling):
    judged, static = entry(telling, "judged"), entry(telling, "static_cascade")
    assert judged["heads"]["auc_within_model"] > 0.85
    assert judged["cost_at_parity"]["saving"] > static["cost_at_parity"]["saving"] + 0.1
    assert judged["area_above_static_mix_ci"][0] > 0
    assert judged["parity_vs_static"]["saving_ci"][0] > 0


def test_evidence_that_tells_nothing_adds_nothing(silent):
    judged = entry(silent, "judged")
    assert abs(judged["heads"]["auc_within_model"] - 0.5) < 0.12
    low, high = judged["area_above_static_mix_ci"]
    assert low <= 0.005
    assert high >= -0.005
    assert "is not shown to add to that check" in silent["recommendation"]


def test_what_the_sentence_says_of_a_judge_stands_in_its_row(telling):
    said = telling["recommendation"].partition("judging runs")[2]
    judged = entry(telling, "judged")
    even, adds = judged["cost_at_parity"], judged["parity_vs_static"]
    assert "the success of dear with a check that is wrong at most 40 % of the time" in said
    shown = [(even["quality_difference"], even["saving"]), (adds["quality"], adds["saving"])]
    shown = shown[1:] if "is not shown" in said else shown
    assert ("is not shown" in said) == (adds["quality_ci"][0] <= -0.01)
    assert re.findall(r"([+-]\d+\.\d) points", said) == [f"{100 * quality:+.1f}" for quality, _ in shown]
    assert re.findall(r"(\d+) % (?:lower|higher)", said) == [f"{abs(100 * saved):.0f}" for _, saved in shown]


def test_each_error_rate_has_its_rows_and_a_better_check_saves_no_less(telling):
    names = [e["name"] for e in telling["policies"]]
    rows = {f"{name}{at}" for at in ("", "@0.1") for name in ("judged", "static_cascade", "static_mix")}
    assert rows <= set(names)
    by_noise = entry(telling, "judged")["by_noise"]
    static = [point["static_at_parity"]["saving"] for point in by_noise]
    assert [point["check_noise"] for point in by_noise] == [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]
    assert static[0] >= static[-1] - 1e-9
    shown = "".join(str(line) for line in render(telling) if not hasattr(line, "columns"))
    assert "judged@0.1, check wrong 10 %: saving at the success of dear" in shown


def test_outcomes_of_scored_rows_change_no_lot_that_is_chosen(tmp_path):
    """The second file's outcomes are scored, never learned from."""
    frame, other = (
        runs(),
        runs(seed=5).with_columns(pl.concat_str(pl.lit("s"), c).alias(c) for c in ("task_id", "repo")),
    )
    found = []
    for name, success in (("as it is", pl.col("success")), ("otherwise", 1 - pl.col("success"))):
        test = tmp_path / f"{name}.parquet"
        other.with_columns(success=success).write_parquet(test)
        found.append(played(frame, tmp_path, msgspec.structs.replace(OPTIONS, test=test)))
    for name in ("judged", "static_cascade", "judged@0.1"):
        assert found[0]["knobs"][name] == found[1]["knobs"][name]
        assert entry(found[0], name)["pairs"] == entry(found[1], name)["pairs"]
    assert entry(found[0], "judged")["quality"] != entry(found[1], "judged")["quality"]


def test_an_escalation_is_worth_what_the_reference_adds():
    belief = Belief(np.array([0.2, 0.9]), np.array([0.5, 0.5]), np.array([1.0, 0.6]))
    no, yes = belief.gain(0.1)
    bad = np.array([0.2 * 0.1, 0.9 * 0.1]) / (np.array([0.2 * 0.1, 0.9 * 0.1]) + np.array([0.8, 0.1]) * 0.9)
    assert np.allclose(no, (1 - bad) * 0.5 - bad * (1 - np.array([1.0, 0.6])))
    assert (no > yes).all()
    assert yes[1] < 0  # a run that is surely right is harmed by a reference that isn't
    assert np.allclose(*belief.gain(0.5))  # a coin's verdict tells nothing


def test_a_lot_pays_for_what_it_asks():
    side = Side(
        np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 10.0]] * 2), np.zeros((2, 2)), 0.1, 2.0, 0.5
    )
    ways = np.array([[[0, 0], [0, 0]], [[1, 1], [0, 0]], [[1, 1], [1, 1]]], dtype=bool)
    found = treated(side, (0, 1), ways)
    never, on_no, always = range(3)
    assert np.allclose(found.cost[never], 1.5)
    assert np.allclose(found.cost[always], 11.5)  # the verdict decides nothing, so no check is asked
    assert np.allclose(found.cost[on_no], [1.5 + 2 + 0.1 * 10, 1.5 + 2 + 0.9 * 10])
    assert np.allclose(found.quality, [[1, 0], [1, 0.9], [1, 1]])
    assert np.allclose(found.released, [[1, 1], [0.9, 0.1], [0, 0]])


def test_a_mix_of_lots_costs_what_it_is_matched_to():
    cost = np.array([[1.0, 1.0], [2.0, 4.0], [9.0, 9.0]])
    quality = np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
    menu = Menu(["a", "b", "c"], quality.mean(1), cost.mean(1), quality, cost, np.zeros((3, 2, 2)))
    for spent, expected in ((1.0, 0.0), (2.0, 0.25), (6.0, 0.75), (99.0, 1.0)):
        found = matched([menu], spent)
        assert found.cost.mean() == pytest.approx(min(spent, 9.0))
        assert found.quality.mean() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evidence": ("success",)}, "--evidence success: the outcome or the task itself"),
        ({"evidence": ("steps",)}, "--evidence steps: no such column; it has: task_id"),
        ({"evidence": ("task_id",)}, "--evidence task_id: the outcome or the task itself"),
        ({"evidence": ("note",)}, "neither numbers, JSON objects of numbers, nor a text of at most 30"),
        ({"evidence": ("broken",)}, "--evidence broken: holds JSON that is no object of numbers"),
        ({"evidence": ("listed",)}, "--evidence listed: holds List"),
        ({"evidence": ("wide",)}, "columns once written out; at most 200"),
        ({"reference": "gone"}, "--reference gone: no such model; there are: cheap, dear"),
    ],
)
def test_evidence_that_is_none_is_refused_in_a_line(tmp_path, options, said):
    wide = "{" + ", ".join(f'"k{i}": {i}' for i in range(150)) + "}"
    frame = runs().with_columns(
        note=pl.int_range(pl.len()).cast(pl.String),
        broken=pl.lit('{"a": "b"}'),
        listed=pl.concat_list(pl.lit(1), pl.lit(2)),
        wide=pl.lit(wide),
    )
    with pytest.raises(BadInput) as caught:
        played(frame, tmp_path, msgspec.structs.replace(OPTIONS, **options))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_evidence_that_is_the_outcome_or_missing_is_said(tmp_path):
    frame = runs().with_columns(
        turns=pl.when(pl.int_range(pl.len()) < 20).then(float("nan")).otherwise(pl.col("turns")),
        verdict=pl.when(pl.int_range(pl.len()) >= 20).then(pl.col("success") * 2),
    )
    options = msgspec.structs.replace(OPTIONS, evidence=("turns", "verdict"))
    leaks = {w["code"]: w for w in played(frame, tmp_path, options)["warnings"]}
    assert "evidence verdict all but tells success" in leaks["evidence_leaks"]["message"]
    assert leaks["missing_evidence"]["count"] == 20


def test_without_costs_nothing_is_judged(tmp_path):
    result = played(runs().drop("cost_usd"), tmp_path)
    assert not [e for e in result["policies"] if e["name"].startswith(("judged", "static"))]
    assert "judging" not in result["recommendation"]
