"""`evaluate --hide-type`: types are told while fitting and hidden while scoring, beside having none."""

import numpy as np
import polars as pl
import pytest

from features.errors import BadInput
from training.evaluate import run
from training.evaluate.options import Options

WORDS = {
    "count": ["how many apples are 3 and 4 and 9?", "what is 12 plus 8, minus 2?", "add 7, 8 and 11, please"],
    "say": ["Describe the sea at Dawn", "Tell of an old house in Rome", "Write of your Mother's garden"],
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Two kinds of tasks, told apart by their prompts; each of two models is good at one of them."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(150):
        kind = "count" if rng.random() < 0.5 else "say"
        prompt = f"{WORDS[kind][i % 3]} {'.' * (i % 5)} {i}"
        for model, good in (("gpt-4o", "count"), ("claude-3-opus-20240229", "say")):
            success = float(rng.random() < (0.9 if good == kind else 0.2))
            rows.append([f"t{i}", model, success, prompt, kind, 0.01])
    columns = ["task_id", "model", "success", "prompt", "category", "cost_usd"]
    file = tmp_path_factory.mktemp("hidden") / "outcomes.parquet"
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(file)
    return file


def quality(result, policy):
    return next(p["quality"] for p in result["policies"] if p["name"] == policy)


def test_a_hidden_type_is_nearly_as_good_as_a_told_one(outcomes):
    few = {"draws": 200, "splits": 0, "folds": 2}
    hidden = run(outcomes, Options(hide_type=True, **few))
    ignored = run(outcomes, Options(ignore_type=True, **few))
    assert [r["task_type_shown"] for r in (hidden, ignored)] == ["hidden", "ignored"]
    assert quality(hidden, "table") > 0.8
    assert quality(ignored, "table") < 0.7  # the table alone knows nothing but the model
    assert hidden["calibration"]["ece"] < 0.15


def test_what_can_not_be_hidden_is_said(outcomes, tmp_path):
    plain = tmp_path / "plain.parquet"
    pl.read_parquet(outcomes).drop("category").write_parquet(plain)
    with pytest.raises(BadInput, match="no task types to hide"):
        run(plain, Options(hide_type=True))
    with pytest.raises(BadInput, match="one of them"):
        run(outcomes, Options(hide_type=True, ignore_type=True))
