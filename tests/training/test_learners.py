"""The learners beside the table: the linear part, the advantage over the task mean, and the blend."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fit import FEW, make

from models.descriptors import Descriptor
from models.linear import LIMIT
from training.blend import blend, judged
from training.calibrate import sigmoid
from training.examples import Coded, Examples, Knobs
from training.fit import fit_amount, fit_amounts, fit_success
from training.linear import LinearLearner, Ridge
from training.trees import task_intercepts, tasks_of

NOBODY = (Descriptor(),)


def coded(candidate, fold, target, n_candidates):
    zeros = np.zeros(len(target), dtype=int)
    return Coded(candidate, zeros, fold, target, n_candidates, 0, NOBODY * n_candidates)


def learner(features, candidate, target, link="identity", **knobs):
    fold = np.arange(len(target)) % 3
    rows = coded(candidate, fold, target, int(candidate.max()) + 1)
    made = LinearLearner(features, rows, fold, link, Knobs(min_rows_own=10, **knobs))
    made.prepare(np.zeros(len(target)))
    return made


# --- the linear part ---


def test_ridge_is_the_textbook_solution_of_shared_and_own_weights():
    rng = np.random.default_rng(0)
    n, m, c = 300, 4, 3
    features = rng.normal(size=(n, m)).astype(np.float32)
    candidate = rng.integers(0, c, n)
    target = features[:, 0] + (candidate == 1) * features[:, 1] + rng.normal(size=n)
    made = learner(features, candidate, target)
    (weights,) = made.solve(np.ones(n, dtype=bool), np.zeros(n), [Ridge(2.0, 5.0)])
    blocks = [made.z.astype(float) * (candidate == k)[:, None] for k in range(c)]
    design = np.concatenate([made.z.astype(float), *blocks], axis=1)
    penalty = np.diag(np.r_[np.full(m + 1, 2.0), np.full(c * (m + 1), 5.0)])
    exact = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    assert made.values(weights, np.arange(n)) == pytest.approx(design @ exact, abs=1e-4)
    assert made.part(weights).values(features, candidate) == pytest.approx(design @ exact, abs=1e-4)


def test_what_is_left_out_teaches_nothing():
    rng = np.random.default_rng(1)
    features, candidate = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 2, 200)
    target = rng.normal(size=200)
    inside = np.arange(200) % 3 != 1
    changed = np.where(inside, target, 100.0)
    first, second = (learner(features, candidate, t) for t in (target, changed))
    ridge = [Ridge(1.0, 3.0)]
    one, other = (m.solve(inside, np.zeros(200), ridge)[0] for m in (first, second))
    assert np.array_equal(one.shared, other.shared)
    assert np.array_equal(one.own, other.own)


def test_an_unknown_value_counts_as_the_mean_and_a_huge_one_as_the_limit():
    features = np.random.default_rng(2).normal(size=(100, 2)).astype(np.float32)
    made = learner(features, np.zeros(100, dtype=int), features[:, 0].astype(float))
    (weights,) = made.solve(np.ones(100, dtype=bool), np.zeros(100), [Ridge(1e-6, 1e9)])
    part = made.part(weights)
    odd = np.array([[np.nan, 0.0], [1e30, 0.0], [np.inf, 0.0]], dtype=np.float32)
    ordinary = np.array([[part.mean[0], 0.0], [part.mean[0] + LIMIT / part.scale[0], 0.0]], dtype=np.float32)
    unseen = np.full(3, -1)
    values = part.values(odd, unseen)
    assert values[:2] == pytest.approx(part.values(ordinary, unseen[:2]), abs=1e-4)
    assert values[2] == values[1]


def test_constant_unknown_and_rare_columns_are_left_out():
    features = np.random.default_rng(3).normal(size=(1000, 4)).astype(np.float32)
    features[:, 1], features[:, 2] = 7.0, np.nan
    features[5:, 3] = np.nan
    made = learner(features, np.zeros(1000, dtype=int), np.zeros(1000))
    assert made.columns.tolist() == [0]


def test_only_candidates_with_enough_rows_have_weights_of_their_own():
    rng = np.random.default_rng(4)
    candidate = np.r_[np.zeros(100, int), np.ones(100, int), np.full(5, 2)]
    features = rng.normal(size=(205, 2)).astype(np.float32)
    made = learner(features, candidate, rng.normal(size=205))
    assert made.slots == 2
    (weights,) = made.solve(np.ones(205, dtype=bool), np.zeros(205), [Ridge(1.0, 3.0)])
    part = made.part(weights)
    row = features[:1].repeat(2, axis=0)
    few, unseen = part.values(row, np.array([2, -1]))
    assert few == unseen


def test_a_linear_signal_is_learned_by_the_linear_part_and_predicted_for_unseen_candidates():
    examples = make(n=3000)
    head = fit_success(examples, FEW)
    assert head.learned.linear is not None
    row = examples.features[:1].copy()
    row[0, 0] = 3.0
    high = head.predict(row, ["nobody"], ["t1"])[0]
    row[0, 0] = -3.0
    assert high > head.predict(row, ["nobody"], ["t1"])[0] + 0.5


# --- the advantage over the task mean ---


def test_the_task_intercept_is_what_its_rows_share_and_nothing_where_there_is_one():
    task = np.repeat(np.arange(50), 8)
    target = np.where(task < 25, 0.9, 0.2)
    alone = np.full(400, 50)
    alone[1:] = task[1:]
    intercepts = task_intercepts(np.zeros(400), target, task)
    assert sigmoid(intercepts[0]) == pytest.approx(0.9, abs=0.1)
    assert sigmoid(intercepts[-1]) == pytest.approx(0.2, abs=0.1)
    assert task_intercepts(np.zeros(400), target, np.unique(alone, return_inverse=True)[1])[0] == 0.0


@given(st.integers(1, 30), st.integers(0, 100))
def test_task_intercepts_are_finite_whatever_the_labels(n, seed):
    rng = np.random.default_rng(seed)
    value, target = rng.normal(size=n) * 20, (rng.random(n) < 0.5).astype(float)
    assert np.isfinite(task_intercepts(value, target, rng.integers(0, 5, n))).all()


def test_a_task_is_a_group_and_its_features():
    features = np.array([[1.0, np.nan], [1.0, np.nan], [2.0, 0.0], [1.0, np.nan]], dtype=np.float32)
    assert tasks_of(features, np.array(["a", "a", "a", "b"])).tolist() == [0, 0, 1, 2]


def test_trees_learn_who_is_better_at_what_where_tasks_ran_on_all():
    """What all share is noise of the task, in no feature; who is better follows feature 0."""
    rng = np.random.default_rng(5)
    n, c = 400, 4
    features = np.repeat(rng.normal(size=(n, 3)).astype(np.float32), c, axis=0)
    candidate = np.tile(np.arange(c), n)
    better = np.where(candidate % 2 == 0, 2.0, -2.0) * (features[:, 0] > 0.3)
    logit = better + np.repeat(rng.normal(size=n) * 2, c)
    examples = Examples(
        features=features,
        candidate=np.char.add("c", candidate.astype(str)),
        task_type=np.full(n * c, ""),
        success=(rng.random(n * c) < sigmoid(logit)).astype(float),
        output_tokens=np.full(n * c, np.nan),
        group=np.repeat(np.arange(n), c).astype(str),
    )
    head = fit_success(examples, FEW)
    assert head.learned.booster is not None
    row = np.array([[1.0, 0.0, 0.0]], dtype=np.float32)
    good, bad = (head.predict(row, [name], [""])[0] for name in ("c0", "c1"))
    assert good > bad + 0.3


# --- the blend ---


def rows_of(n=600, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    target = (rng.random(n) < sigmoid(signal)).astype(float)
    return coded(np.zeros(n, int), np.arange(n) % 5, target, 1), signal, np.arange(n)


def test_a_learner_that_knows_gets_weight_and_noise_gets_none():
    rows, signal, group = rows_of()
    noise = np.random.default_rng(9).normal(size=len(signal))
    table = np.zeros(len(signal))
    found = judged(blend(table, ([noise], [signal]), rows, "logit", Knobs()), table, rows, "logit", group)
    assert found.choice.linear_weight >= 0.75
    assert found.choice.tree_weight <= 0.25
    assert found.gain > 2 * found.gain_error


def test_noise_alone_does_not_beat_the_table():
    rows, _, group = rows_of()
    table, noise = np.zeros(len(group)), np.random.default_rng(8).normal(size=len(group))
    found = judged(blend(table, ([noise], []), rows, "logit", Knobs()), table, rows, "logit", group)
    assert found.gain <= found.gain_error


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(0, 4))
def test_a_folds_blend_is_chosen_without_its_own_labels(seed, fold):
    rows, signal, _ = rows_of(200, seed)
    mine = rows.fold == fold
    other = rows._replace(target=np.where(mine, 1 - rows.target, rows.target))
    learners = [signal * 0.3, signal], [np.roll(signal, 1)]
    one, two = (blend(np.zeros(200), learners, r, "logit", Knobs()) for r in (rows, other))
    assert np.array_equal(one.oof[mine], two.oof[mine])


# --- many rows, many names, nothing known ---


def test_many_rows_are_folded_in_halves_and_still_never_see_their_group():
    examples = make(signal=0.0, groups=60)
    number = np.array([int(g[1:]) for g in examples.group])
    features = examples.features.copy()
    features[:, 2] = number
    success = (np.random.default_rng(1).random(60) < 0.5).astype(float)[number]
    knobs = Knobs(trees=(10, 30), min_data_in_leaf=20, num_threads=1, many_rows=500)
    head = fit_success(examples._replace(features=features, success=success), knobs)
    assert head.metrics["logloss"] > 0.6


@pytest.mark.parametrize("column", ["candidate", "task_type"])
def test_as_many_names_as_rows_are_fitted(column):
    examples = make(n=400)._replace(prices={})
    names = np.char.add("n", np.arange(400).astype(str))
    head = fit_success(examples._replace(**{column: names}), FEW)
    assert np.isfinite(head.oof).all()
    assert np.isfinite(head.predict(examples.features, names, names)).all()


@pytest.mark.parametrize("width", [0, 3])
def test_without_any_known_feature_the_table_stands(width):
    examples = make(n=600)._replace(features=np.full((600, width), np.nan, dtype=np.float32))
    head = fit_success(examples, FEW)
    assert head.learned.linear is None
    assert np.isfinite(head.oof).all()


# --- other amounts ---


def test_each_amount_that_is_known_gets_a_head_and_its_sum_is_right():
    examples = make(n=2000)
    calls = np.round(np.exp(1 + np.nan_to_num(examples.features[:, 3])))
    unknown = np.full(2000, np.nan)
    heads = fit_amounts(
        examples._replace(calls_left=calls, turns_left=unknown, reasoning_tokens=np.zeros(2000)), FEW
    )
    assert set(heads) == {"calls", "reasoning"}
    assert heads["calls"].oof.sum() == pytest.approx(calls.sum(), rel=0.01)
    assert heads["calls"].metrics["by_mean"] == 0.0
    assert heads["reasoning"].predict(examples.features[:2], ["c0", "c1"], ["", ""]) == pytest.approx([0, 0])


def test_a_candidate_of_one_session_is_not_corrected_for_a_guess_that_is_no_longer_made():
    """Out of fold nothing is known of it; the table that is served knows its rows."""
    examples = make(n=600, signal=0.0)
    tokens = np.full(600, 100.0)
    candidate, group = examples.candidate.astype("U8"), examples.group.astype("U8")
    tokens[:30], candidate[:30], group[:30] = 5000.0, "long", "one"
    found = examples._replace(candidate=candidate, group=group)
    head = fit_amount(found, tokens, FEW)
    said = head.predict(found.features, candidate, found.task_type)
    assert said[:30].sum() == pytest.approx(tokens[:30].sum(), rel=0.1)


def test_an_amount_that_follows_nothing_is_the_mean_and_the_metrics_say_so():
    examples = make(n=1000)
    noise = np.random.default_rng(0).lognormal(3, 1, 1000)
    head = fit_amount(examples, noise, FEW)
    assert head.metrics["by_mean"] == 1.0
    assert head.learned.booster is None
    assert head.learned.linear is None
