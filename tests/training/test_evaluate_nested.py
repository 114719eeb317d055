"""No knob of any policy is turned on the rows it is scored on: other outcomes there change no choice."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluate import Options, predict, run
from training.evaluate.curves import mix_menus, pin_menus
from training.evaluate.inputs import inputs_of
from training.evaluate.load import load
from training.evaluate.matrix import build
from training.evaluate.menus import Menu, as_good, beside_pin, pareto, within
from training.evaluate.options import Notes
from training.evaluate.players import ROUTERS, play
from training.evaluate.policies import setting_of

MODELS = {"small": 0.01, "middle": 0.05, "large": 0.2, "odd": 0.03}
OPTIONS = Options(draws=100, splits=1, check_noise=(0.1, 0.3))


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(7)
    rows = []
    for i in range(160):
        kind, hard = "abc"[i % 3], rng.random()
        for j, (model, price) in enumerate(MODELS.items()):
            chance = 0.35 + 0.12 * j + (0.3 if "abc"[j % 3] == kind else -0.2) * (1 - hard)
            right = bool(rng.random() < chance)
            rows.append(
                {
                    "task_id": f"task-{i:03d}",
                    "model": model,
                    "success": float(right),
                    "cost_usd": price * float(rng.lognormal(0, 0.4)),
                    "category": kind,
                    "input_tokens": int(400 + 900 * hard),
                    "answer_digest": "right" if right and i % 2 else f"{model}-{rng.integers(3)}",
                }
            )
    return pl.DataFrame(rows)


def shuffled(frame, tasks):
    """The outcomes of some tasks dealt out anew among their rows: success, cost and answers."""
    mine = pl.col("task_id").is_in(list(tasks))
    kept, moved = frame.filter(~mine), frame.filter(mine)
    deal = np.random.default_rng(1).permutation(len(moved))
    columns = ["success", "cost_usd", "answer_digest"]
    dealt = moved.select(columns)[deal].with_columns(cost_usd=pl.col("cost_usd") * 3)
    moved = moved.drop(columns).hstack(dealt).select(frame.columns)
    both = pl.concat([kept, moved])
    return frame.select("task_id", "model").join(both, on=["task_id", "model"], maintain_order="left")


def test_other_outcomes_in_the_scored_file_change_no_knob(frame, tmp_path):
    names = sorted(set(frame["task_id"]))
    first, second = names[:90], names[90:]
    frame.filter(pl.col("task_id").is_in(first)).write_parquet(tmp_path / "known.parquet")
    found = []
    for version in (frame, shuffled(frame, second)):
        version.filter(pl.col("task_id").is_in(second)).write_parquet(tmp_path / "scored.parquet")
        result = run(
            tmp_path / "known.parquet",
            Options(draws=50, test=tmp_path / "scored.parquet", check_noise=(0.1, 0.3)),
        )
        found.append(result)
    assert found[0]["knobs"] == found[1]["knobs"]
    assert {"best_single", "cascade", "cascade@0.3", "cascade3", "consensus", *ROUTERS} <= set(
        found[0]["knobs"]
    )
    assert found[0]["policies"] != found[1]["policies"]
    for here, there in zip(*(r["curves"]["cascade"] for r in found), strict=True):
        assert here["budget_usd"] == there["budget_usd"]


def setting(frame, path, split):
    notes = Notes()
    frame.write_parquet(path)
    rows, _, group = load(path, OPTIONS, notes)
    matrix = build(rows, group, (), notes)
    inputs = inputs_of(matrix, OPTIONS, notes)
    scores = {name: [predict.fit_one(name, matrix, inputs, split)] for name in ROUTERS}
    return setting_of(matrix, [split], scores, OPTIONS)


def test_predictions_menus_and_choices_never_see_the_scored_rows(frame, tmp_path):
    scored = np.arange(160) % 4 == 1
    split = predict.Split(~scored, scored)
    tasks = [f"task-{i:03d}" for i in np.flatnonzero(scored)]
    one = setting(frame, tmp_path / "a.parquet", split)
    other = setting(shuffled(frame, tasks), tmp_path / "b.parquet", split)
    assert not np.array_equal(one.matrix.success[scored], other.matrix.success[scored])
    for name in ROUTERS:
        a, b = one.scores[name][0], other.scores[name][0]
        assert np.array_equal(a.test, b.test)
        assert np.array_equal(a.train, b.train)
        assert a.knob == b.knob
    for a, b in zip(one.books[0], other.books[0], strict=True):
        assert np.array_equal(a, b)
    here, there = play(one), play(other)
    assert here.keys() == there.keys()
    menus = {n: (here[n].menus, there[n].menus) for n in here} | {
        "pins": (pin_menus(one), pin_menus(other)),
        "mix": (mix_menus(one), mix_menus(other)),
    }
    for name, (a, b) in menus.items():
        assert a[0].names == b[0].names, name
        assert np.array_equal(a[0].known_quality, b[0].known_quality)
        assert np.array_equal(a[0].known_cost, b[0].known_cost)
        if name in here:
            assert here[name].knobs == there[name].knobs
            assert not np.array_equal(here[name].outcome.quality, there[name].outcome.quality)


rows = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=9)


def menu(points):
    quality, cost = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    empty = np.zeros((len(points), 0))
    return Menu([str(i) for i in range(len(points))], quality, cost, empty, empty, empty[:, :, None])


@given(rows, st.integers(0, 25), st.integers(0, 25))
def test_rules_take_the_best_that_is_affordable_and_the_cheapest_that_is_good(points, budget, least):
    made = menu(points)
    q, c = made.known_quality, made.known_cost
    i = within(made, budget)
    if (c <= budget).any():
        assert c[i] <= budget
        assert q[i] == q[c <= budget].max()
    else:
        assert c[i] == c.min()
    i = as_good(made, least)
    if (q >= least).any():
        assert q[i] >= least
        assert c[i] == c[q >= least].min()
    else:
        assert q[i] == q.max()


@given(rows)
def test_the_frontier_leaves_out_only_what_a_cheaper_option_equals(points):
    made = menu(points)
    q, c = made.known_quality, made.known_cost
    kept = pareto(q, c)
    for i in range(len(q)):
        assert any(q[k] >= q[i] and c[k] <= c[i] for k in kept)
    assert all(np.diff(c[kept]) >= 0)
    assert all(np.diff(q[kept]) > 0)


def test_without_costs_the_best_option_is_taken():
    made = menu([(1, 1), (5, 1), (3, 1)])._replace(known_cost=np.full(3, np.nan))

    class Book:
        cost, pin = np.array([np.nan]), 0

    assert beside_pin(made, Book()) == 1
    assert pareto(made.known_quality, made.known_cost).tolist() == [1]
