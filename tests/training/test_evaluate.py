"""`samediff evaluate` on matrices whose truth is known."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import polars as pl
import pytest

from features.errors import BadInput
from training.evaluate import Options, render, run

POLICIES = {
    *("best_single", "cheapest", "random_mix", "cascade", "knn", "logistic", "table", "learned", "oracle"),
}
FAST = Options(draws=400)


def matrix(n, chance, costs, seed=0, **columns):
    """A table of n tasks × len(costs) models; chance(task, model) is the probability of success."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "task_id": f"task-{i:04d}",
            "model": model,
            "success": float(rng.random() < chance(i, model)),
            "cost_usd": cost,
            **{name: value(i) for name, value in columns.items()},
        }
        for i in range(n)
        for model, cost in costs.items()
    ]
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def routable(tmp_path_factory):
    """Half of the tasks are for `cheap`, half for `dear`, which is a little better over all."""
    kinds = ("easy", "hard")

    def chance(i, model):
        own = (model == "cheap") == (kinds[i % 2] == "easy")
        return (0.9 if own else 0.25) + (0.08 if model == "dear" else 0.0)

    frame = matrix(300, chance, {"cheap": 0.01, "dear": 0.1}, category=lambda i: kinds[i % 2])
    path = tmp_path_factory.mktemp("routable") / "m.parquet"
    frame.write_parquet(path)
    return frame, path, run(path, FAST)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Success is a coin, the same for every model and task type."""
    kinds = ("a", "b", "c")
    costs = {"one": 0.01, "two": 0.05, "three": 0.1}
    frame = matrix(300, lambda i, m: 0.5, costs, seed=5, category=lambda i: kinds[i % 3])
    path = tmp_path_factory.mktemp("noise") / "m.parquet"
    frame.write_parquet(path)
    return run(path, FAST)


def policy(result, name):
    return next(entry for entry in result["policies"] if entry["name"] == name)


def test_the_result_has_every_key_of_the_contract(routable):
    result = routable[2]
    assert {entry["name"] for entry in result["policies"]} == POLICIES
    for entry in result["policies"]:
        assert {"name", "quality", "quality_ci", "cost_usd", "cost_usd_ci", "share"} <= set(entry)
        assert entry["quality_ci"][0] <= entry["quality"] <= entry["quality_ci"][1]
        assert sum(entry["share"].values()) == pytest.approx(1)
    learned = policy(result, "learned")
    assert {"saving", "ci"} <= set(learned["cost_at_parity"])
    assert {"area_above_mix", "oracle_gap_closed", "curve"} <= set(learned)
    assert {"ece", "brier", "auc", "per_model"} <= set(result["calibration"])
    assert set(result["calibration"]["per_model"]) == {"cheap", "dear"}
    assert isinstance(result["recommendation"], str)


def test_a_routable_structure_is_found_and_recommended(routable):
    result = routable[2]
    learned = policy(result, "learned")
    assert learned["quality"] > policy(result, "best_single")["quality"] + 0.2
    assert learned["vs_best_single"]["quality_ci"][0] > 0
    assert learned["abstained"] == 0
    assert learned["area_above_mix"] > 0.1
    assert learned["oracle_gap_closed"] > 0.5
    assert result["recommended"] in {"learned", "table"}
    assert result["calibration"]["auc"] > 0.75
    assert result["calibration"]["ece"] < 0.06


def test_pins_and_the_oracle_are_exact(routable):
    frame, _, result = routable
    pins = frame.group_by("model").agg(pl.col("success").mean(), pl.col("cost_usd").mean())
    for name, success, cost in pins.iter_rows():
        entry = next(m for m in result["models"] if m["model"] == name)
        assert entry["quality"] == pytest.approx(success)
        assert entry["cost_usd"] == pytest.approx(cost)
    assert policy(result, "cheapest")["share"] == {"cheap": 1.0}
    wide = frame.pivot("model", index="task_id", values="success")
    best = wide.select(pl.max_horizontal("cheap", "dear")).to_series()
    oracle = policy(result, "oracle")
    assert oracle["quality"] == pytest.approx(best.mean())
    dear = ((wide["dear"] == 1) & (wide["cheap"] == 0)).mean()
    assert oracle["share"]["dear"] == pytest.approx(dear)
    assert oracle["cost_usd"] == pytest.approx(0.01 + 0.09 * dear)


def test_the_mix_costs_what_the_learned_router_costs(routable):
    result = routable[2]
    learned, mix = policy(result, "learned"), policy(result, "random_mix")
    assert mix["cost_usd"] == pytest.approx(learned["cost_usd"], rel=0.02)
    assert mix["quality"] < learned["quality"]


def test_on_noise_the_router_abstains_and_the_cheapest_pin_is_recommended(noise):
    learned, single = policy(noise, "learned"), policy(noise, "best_single")
    assert learned["abstained"] >= 3
    assert noise["recommended"] == "cheapest"
    assert noise["recommendation"].startswith("Pin one: ")
    assert abs(learned["quality"] - single["quality"]) < 0.06


def test_every_figure_of_the_recommendation_is_one_of_the_rows(noise, routable):
    for result in (noise, routable[2]):
        rows = [entry for entry in result["policies"] if entry["cost_usd"] is not None]
        held = [row["vs_best_single"] for row in rows] + [row["vs_recommended"] for row in rows]
        shown = {f"{100 * against['quality']:+.1f}" for against in held}
        assert result["recommended"] in {row["name"] for row in rows}
        assert set(re.findall(r"([+-]\d+\.\d) points", result["recommendation"])) <= shown
        costs = {f"{abs(100 * against['saving']):.0f}" for against in held}
        assert set(re.findall(r"(\d+) % (?:lower|higher)", result["recommendation"])) <= costs


def test_on_noise_nothing_leaks_into_the_predictions(noise):
    assert abs(noise["calibration"]["auc"] - 0.5) < 0.05
    assert abs(noise["calibration"]["auc_within_model"] - 0.5) < 0.05
    assert noise["calibration"]["brier"] == pytest.approx(0.25, abs=0.01)


def test_unknown_costs_stay_unknown(tmp_path):
    path = tmp_path / "m.csv"
    matrix(40, lambda i, m: 0.6, {"x-unpriced": None, "y-unpriced": 0.0}).write_csv(path)
    result = run(path, FAST)
    assert all(entry["cost_usd"] is None for entry in result["policies"])
    assert policy(result, "cheapest")["quality"] is None
    assert policy(result, "learned")["cost_at_parity"] == {
        "saving": None,
        "ci": None,
        "quality_difference": policy(result, "learned")["cost_at_parity"]["quality_difference"],
        "quality_difference_ci": policy(result, "learned")["cost_at_parity"]["quality_difference_ci"],
    }
    assert {"zero_cost", "unknown_cost"} <= {w["code"] for w in result["warnings"]}


def test_a_missing_cost_is_priced_from_tokens(tmp_path):
    path = tmp_path / "m.parquet"
    frame = matrix(40, lambda i, m: 0.6, {"gpt-4o": None, "mine": None})
    frame = frame.with_columns(
        input_tokens=pl.lit(1_000_000),
        output_tokens=pl.lit(0),
        price_in=pl.when(pl.col("model") == "mine").then(7.0),
        price_out=pl.when(pl.col("model") == "mine").then(9.0),
    )
    frame.write_parquet(path)
    costs = {m["model"]: m["cost_usd"] for m in run(path, FAST)["models"]}
    assert costs["mine"] == pytest.approx(7.0)
    assert costs["gpt-4o"] == pytest.approx(2.5)


def test_a_second_file_is_scored_with_what_the_first_taught(tmp_path, routable):
    frame, path, _ = routable
    other = frame.with_columns(task_id=pl.lit("other-") + pl.col("task_id"))
    shared = frame.filter(pl.col("task_id") == "task-0000")
    pl.concat([other.head(200), shared]).write_parquet(tmp_path / "other.parquet")
    result = run(path, Options(draws=200, test=tmp_path / "other.parquet"))
    assert result["tasks_scored"] == 101
    assert result["folds"] == 1
    assert "tasks_in_both" in {w["code"] for w in result["warnings"]}
    assert policy(result, "learned")["quality"] > policy(result, "best_single")["quality"] + 0.15


def test_repeated_rows_are_averaged_and_named(tmp_path):
    path = tmp_path / "m.parquet"
    frame = matrix(30, lambda i, m: 0.5, {"a": 1.0, "b": 2.0})
    again = frame.with_columns(success=1 - pl.col("success"), benchmark=pl.lit("second"))
    pl.concat([frame.with_columns(benchmark=pl.lit("first")), again]).write_parquet(path)
    result = run(path, FAST)
    assert {m["quality"] for m in result["models"]} == {0.5}
    told = next(w for w in result["warnings"] if w["code"] == "disagreeing_rows")
    assert told["count"] == 60
    chosen = run(path, Options(draws=200, where=("benchmark=first",)))
    assert chosen["rows"]["read"] == 60
    assert "repeated_rows" not in {w["code"] for w in chosen["warnings"]}


def test_an_incomplete_matrix_says_what_is_scored(tmp_path):
    path = tmp_path / "m.parquet"
    frame = matrix(40, lambda i, m: 0.5, {"a": 1.0, "b": 2.0, "rare": 3.0})
    late = (pl.col("model") == "rare") & (pl.col("task_id") >= "task-0008")
    frame.filter(~late).write_parquet(path)
    result = run(path, FAST)
    assert {m["model"] for m in result["models"]} == {"a", "b"}
    assert result["tasks_scored"] == 40
    told = next(w for w in result["warnings"] if w["code"] == "incomplete_matrix")
    assert "without rare" in told["message"]


def test_prompts_are_read_by_the_serving_code_and_their_ids_stripped(tmp_path):
    path = tmp_path / "m.parquet"

    def prompt(i):
        return f"# task-{i:04d} (audited)\nFix the bug number {i} in parser.py, please."

    frame = matrix(
        40,
        lambda i, m: 0.5,
        {"a": 1.0, "b": 2.0},
        prompt=prompt,
        tools_json=lambda i: '[{"name": "grep", "parameters": {}}]' if i % 2 else "not json",
    )
    frame.write_parquet(path)
    result = run(path, FAST)
    counts = {w["code"]: w["count"] for w in result["warnings"]}
    assert counts["prompt_leaks_id"] == 40
    assert counts["unread_tools"] == 20
    assert "n_tools" in result["features"]


def test_equal_prompts_stay_in_one_fold(tmp_path):
    path = tmp_path / "m.parquet"
    frame = matrix(40, lambda i, m: 0.5, {"a": 1.0, "b": 2.0}, prompt=lambda i: f"the same words {i // 2}")
    frame.write_parquet(path)
    result = run(path, FAST)
    assert result["groups"] == 20
    assert {w["code"]: w["count"] for w in result["warnings"]}["equal_prompts"] == 20


def test_suspect_rows_are_counted(tmp_path):
    path = tmp_path / "m.parquet"
    frame = matrix(60, lambda i, m: 0.0 if m == "bad" else 0.9, {"good": None, "fair": None, "bad": 0.5})
    frame = frame.with_columns(
        cost_usd=pl.when(pl.col("model") == "bad").then(0.5).otherwise(pl.int_range(pl.len()) + 1.0),
        output_tokens=pl.when(pl.col("model") == "bad").then(500).otherwise(pl.int_range(pl.len())),
        error_type=pl.when(pl.col("model") == "bad").then(pl.lit("decoder:failed")),
    )
    frame.write_parquet(path)
    codes = {w["code"] for w in run(path, FAST)["warnings"]}
    expected = {
        "imputed_cost_usd",
        "imputed_output_tokens",
        "broken_runs",
        "failed_blocks",
        "zero_output_tokens",
    }
    assert expected <= codes


def test_the_table_for_people_holds_the_sentence_and_every_warning(noise):
    from rich.console import Console

    console = Console(width=1000, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in render(noise):
        console.print(part)
    console.file.close()
    text = console.export_text()
    assert noise["recommendation"] in text
    assert all(w["message"] in text for w in noise["warnings"])
    assert all(name in text for name in POLICIES)


def refused(tmp_path, frame, **options):
    path = tmp_path / "bad.parquet"
    frame.write_parquet(path)
    with pytest.raises(BadInput) as error:
        run(path, Options(draws=100, **options))
    message = str(error.value)
    assert "\n" not in message
    return message


GOOD = matrix(20, lambda i, m: 0.5, {"a": 1.0, "b": 2.0}, kind=lambda i: f"k{i}", level=lambda i: i % 3)


@pytest.mark.parametrize(
    ("frame", "options", "says"),
    [
        (GOOD.drop("success"), {}, "lacks success"),
        (GOOD.filter(pl.col("model") == "a"), {}, "only one model (a)"),
        (pl.concat([GOOD.filter(pl.col("model") == "a"), GOOD.tail(1)]), {}, "1 of 2 models"),
        (GOOD.clear(), {}, "no rows"),
        (GOOD.with_columns(success=pl.lit(2.0)), {}, "outside 0..1"),
        (GOOD, {"group": "nope"}, "--group nope"),
        (GOOD, {"features": ("nope",)}, "--features nope"),
        (GOOD, {"features": ("cost_usd",)}, "only after the answer"),
        (GOOD.with_columns(x=pl.int_range(pl.len())), {"features": ("x",)}, "differs between the rows"),
        (GOOD, {"maps": ("prompt=nope",)}, "--map prompt=nope"),
        (GOOD, {"where": ("nope=1",)}, "--where nope=1"),
        (GOOD, {"where": ("kind=none",)}, "left by --where"),
        (GOOD, {"check_noise": (0.9,)}, "--check-noise"),
        (GOOD.with_columns(one=pl.lit("g")), {"group": "one"}, "in one group"),
        (GOOD.with_columns(task_id=pl.col("task_id") + pl.col("model")), {}, "no task was run by two models"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, frame, options, says):
    assert says in refused(tmp_path, frame, **options)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"", "is empty"), (b"PAR1 and then nothing", "can't be read")],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path, content, says):
    path = tmp_path / "x.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=says) as error:
        run(path, FAST)
    assert "\n" not in str(error.value)


def test_bad_rows_are_refused_and_counted(tmp_path):
    path = tmp_path / "m.csv"
    bad = pl.DataFrame({"task_id": ["t", "u", None], "model": ["a", "a", "b"], "success": [1.5, None, 1.0]})
    pl.concat([GOOD, bad], how="diagonal_relaxed").write_csv(path)
    result = run(path, FAST)
    rows = result["rows"]
    assert rows["refused"] == {"no task_id": 1, "success is null or no number": 1, "success outside 0..1": 1}
    assert rows["read"] == rows["kept"] + 3


def test_a_scalar_named_by_the_user_becomes_a_feature(tmp_path):
    path = tmp_path / "m.parquet"
    GOOD.with_columns(word=pl.lit("w") + pl.col("level").cast(pl.String)).write_parquet(path)
    result = run(path, Options(draws=100, features=("level", "word")))
    assert {"level", "word=w0", "word=w1", "word=w2"} <= set(result["features"])


def test_with_a_perfect_check_the_cascade_of_two_is_as_good_as_the_oracle(routable):
    frame, path, _ = routable
    result = run(path, Options(draws=100, check_noise=(0.0,)))
    cascade = policy(result, "cascade")
    assert cascade["quality"] == pytest.approx(policy(result, "oracle")["quality"])
    first = frame.filter(pl.col("model") == "cheap")["success"].mean()
    if cascade["pairs"] == {"cheap → dear": 5}:
        assert cascade["cost_usd"] == pytest.approx(0.01 + (1 - first) * 0.1)
        assert cascade["share"]["cheap"] == pytest.approx(first)


def test_the_command_writes_json_and_bad_input_ends_with_2(routable, tmp_path, monkeypatch, capfd):
    import samediff

    monkeypatch.setattr("sys.argv", ["samediff", "evaluate", str(routable[1]), "--json", "-"])
    with pytest.raises(SystemExit) as done:
        samediff.main()
    out = capfd.readouterr().out
    assert done.value.code == 0
    assert {entry["name"] for entry in msgspec.json.decode(out)["policies"]} == POLICIES
    monkeypatch.setattr("sys.argv", ["samediff", "evaluate", str(tmp_path / "none.csv")])
    with pytest.raises(SystemExit) as failed:
        samediff.main()
    assert failed.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1
