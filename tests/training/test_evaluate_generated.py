"""On generated outcomes the advice never says more than the figures beside it."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.evaluate import Options
from training.evaluate.figures import figures
from training.evaluate.matrix import Matrix
from training.evaluate.players import ROUTERS
from training.evaluate.policies import setting_of
from training.evaluate.predict import FoldScores, Split

HEADS = (
    *("Route by the task-type table", "A logistic router would do", "A kNN router would do"),
    *("Use the learned router", "Pin ", "Not enough evidence to tell the models apart: pin "),
)

worlds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "tasks": st.integers(6, 60),
        "models": st.integers(2, 4),
        "per_group": st.sampled_from([1, 1, 5]),
        "routable": st.floats(0, 1),
        "skill": st.floats(0, 0.3),
        "known_cost": st.sampled_from([1.0, 1.0, 0.9, 0.0]),
        "noise": st.sampled_from([0.0, 0.1, 0.5]),
    }
)


def setting(world):
    """A matrix whose models have strengths of their own, and routers that see them through a fog."""
    rng = np.random.default_rng(world["seed"])
    n, m = world["tasks"], world["models"]
    kind = rng.integers(0, m, n)
    own = kind[:, None] == np.arange(m)
    chance = np.clip(0.3 + world["skill"] * np.arange(m) + 0.6 * world["routable"] * own, 0, 1)
    success = (rng.random((n, m)) < chance).astype(float)
    cost = 0.01 * 4.0 ** np.arange(m) * rng.lognormal(0, 0.3, (n, m))
    cost[rng.random((n, m)) >= world["known_cost"]] = np.nan
    group = np.arange(n) // world["per_group"]
    names = [f"g{g}" for g in group]
    matrix = Matrix(
        tasks=pl.DataFrame({"task_id": [f"t{i}" for i in range(n)], "_group": names}),
        models=[f"model-{j}" for j in range(m)],
        success=success,
        cost=cost,
        output_tokens=np.full((n, m), np.nan),
        prices={},
        group=group,
        category=kind.astype(str),
        category_column="category",
    )
    fold = group % 2
    parts = [Split(fold != f, fold == f) for f in (0, 1)]
    scores = {
        name: [FoldScores(chance[part.train], chance[part.test], 1.0) for part in parts] for name in ROUTERS
    }
    return setting_of(matrix, parts, scores, Options(draws=150, check_noise=(world["noise"],)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(worlds)
def test_the_sentence_says_only_what_the_figures_support(world):
    result = figures(setting(world), [])
    entries = {entry["name"]: entry for entry in result["policies"]}
    said, chosen = result["recommendation"], entries[result["recommended"]]
    assert said.startswith(HEADS)
    against = chosen["vs_best_single"]
    quality, saving = against["quality_ci"], against["saving_ci"]
    if chosen["name"] in ROUTERS:
        assert said.startswith(HEADS[:4])
        assert 2 * chosen["abstained"] <= chosen["folds"]
        mixed = chosen["vs_random_mix"]["quality_ci"]
        assert quality[0] > 0 or (saving[0] > 0 and quality[0] > -0.01 and mixed[0] > 0)
    else:
        assert said.startswith(HEADS[4:])
        named = re.search(r"in (model-\d)|[Pp]in (model-\d)", said)
        assert named.group(2) in {model["model"] for model in result["models"]}
        if chosen["name"] != "best_single":
            assert quality[1] >= 0
            assert quality[0] > 0 or saving[0] > 0
    if said.startswith("Not enough"):
        best = named.group(2)
        ends = {m["model"]: m["vs_best"]["quality_ci"] for m in result["models"]}
        assert chosen["name"] == "best_single"
        assert all(e is None or e[1] >= 0 for name, e in ends.items() if name != best)
    if result["recommended_if_checked"]:
        entry = entries[result["recommended_if_checked"]]
        ends = entry["vs_best_single"]["quality_ci"]
        assert ends[0] > 0 or (ends[0] > -0.01 and entry["vs_best_single"]["saving_ci"][0] > 0)
    assert ("if you have a check" in said) == bool(result["recommended_if_checked"])
    held = [e[k] for e in entries.values() for k in ("vs_best_single", "vs_recommended") if k in e]
    points = {f"{100 * h['quality']:+.1f}" for h in held if h["quality"] is not None}
    assert set(re.findall(r"([+-]\d+\.\d) points", said)) <= points
    costs = {f"{abs(100 * h['saving']):.0f}" for h in held if h["saving"] is not None}
    assert set(re.findall(r"(\d+) % (?:lower|higher)", said)) <= costs
    assert "nan" not in said
    assert "None" not in said


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(worlds, st.floats(0.001, 10))
def test_what_a_check_or_a_decision_costs_is_paid_by_those_that_make_it(world, usd):
    free = setting({**world, "known_cost": 1.0})
    paid = free._replace(
        options=Options(draws=50, check_noise=(world["noise"],), router_usd=usd, check_usd=usd)
    )
    results = [figures(one, []) for one in (free, paid)]
    before, after = ({e["name"]: e for e in found["policies"]} for found in results)
    for name in ("best_single", "cheapest", "oracle"):
        assert np.isclose(after[name]["cost_usd"], before[name]["cost_usd"])
    if after["cascade"]["pairs"] == before["cascade"]["pairs"] and len(before["cascade"]["pairs"]) == 1:
        # Of several pairs, equal counts may be of other folds.
        assert np.isclose(after["cascade"]["cost_usd"], before["cascade"]["cost_usd"] + usd)
    for name in ROUTERS:
        first, then = (found["curves"][name][0]["cost_usd"] for found in results)
        assert np.isclose(then, first + usd)
