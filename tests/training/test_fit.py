"""The heads: shrinkage, out-of-fold honesty, calibration, unbiased sums, and nearly empty data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInput
from models.descriptors import Descriptor
from models.table import model_matrix
from training.calibrate import design_effect, log_loss, platt, sigmoid
from training.examples import Coded, assign_folds
from training.fit import Examples, Knobs, fit_success, fit_tokens
from training.shrink import fit_effects, out_of_fold

NOBODY = (Descriptor(),)  # a candidate of which nothing is known
FEW = Knobs(trees=(10, 30), min_data_in_leaf=20, num_threads=1)


def make(n=1500, candidates=6, types=3, signal=1.5, seed=0, groups=300, width=8):
    """Rows whose success depends on candidate, type and feature 0; tokens on feature 1."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, width)).astype(np.float32)
    features[rng.random((n, width)) < 0.05] = np.nan
    candidate, kind = rng.integers(0, candidates, n), rng.integers(0, types, n)
    logit = 0.5 * (candidate - candidates / 2) + 0.4 * (kind - 1) + signal * np.nan_to_num(features[:, 0])
    tokens = np.exp(4 + 0.3 * candidate + np.nan_to_num(features[:, 1]) + 0.5 * rng.normal(size=n))
    return Examples(
        features=features,
        candidate=np.char.add("c", candidate.astype(str)),
        task_type=np.char.add("t", kind.astype(str)),
        success=(rng.random(n) < sigmoid(logit)).astype(float),
        output_tokens=np.round(tokens),
        group=np.char.add("g", rng.integers(0, groups, n).astype(str)),
        prices={f"c{i}": (0.1 * 2**i, 0.5 * 2**i) for i in range(candidates)},
    )


def one(examples, candidate, task_type="", head=None, row=0):
    return float(head.predict(examples.features[row : row + 1], [candidate], [task_type])[0])


# --- the table ---


def test_a_cell_is_its_rows_and_the_prior_in_proportion():
    total, rows = np.array([[30.0, 20.0, 0.0], [10.0, 4.0, 0.0]]), np.array([[40.0, 40.0, 0.0]] * 2)
    free = fit_effects(total, rows, "logit", 1e-9, NOBODY * 2)
    assert sigmoid(free.cells[:, 0]) == pytest.approx([0.75, 0.25], abs=1e-3)
    tight = fit_effects(total, rows, "logit", 1e6, NOBODY * 2)
    guess = tight.candidate[:, None] + tight.task_type[None, :]
    assert tight.cells[:, :2] == pytest.approx(guess[:, :2], abs=1e-3)


def test_a_candidate_that_only_got_easy_types_is_not_taken_for_a_strong_one():
    rows = np.array([[100.0, 10.0, 0.0], [10.0, 100.0, 0.0]])
    total = rows * np.array([0.9, 0.3, 0.0])  # both succeed alike on each type
    effects = fit_effects(total, rows, "logit", 2.0, NOBODY * 2)
    marginal = 2.3  # difference of the logits of their plain success rates
    assert effects.candidate[0] - effects.candidate[1] < marginal / 10


def test_the_identity_table_is_the_plain_shrunken_mean():
    total, rows = np.array([[0.0, 50.0]]), np.array([[0.0, 10.0]])
    assert fit_effects(total, rows, "identity", 5.0, NOBODY).candidate[0] == pytest.approx(5.0)


def coded(target, fold, candidate=None):
    zeros = np.zeros(len(target), dtype=int)
    codes = zeros if candidate is None else candidate
    return Coded(codes, zeros, fold, target, int(codes.max()) + 1, 0, NOBODY * (int(codes.max()) + 1))


def test_out_of_fold_values_never_know_their_own_fold():
    rng = np.random.default_rng(0)
    target, fold = rng.random(60), np.arange(60) % 3
    values = out_of_fold(coded(target, fold), "logit", 4.0)
    changed = np.where(fold == 1, 1 - target, target)
    again = out_of_fold(coded(changed, fold), "logit", 4.0)
    assert np.array_equal(values[fold == 1], again[fold == 1])
    assert not np.allclose(values[fold != 1], again[fold != 1])
    without = out_of_fold(coded(target, fold), "logit", 4.0, without=1)
    assert np.array_equal(without, out_of_fold(coded(changed, fold), "logit", 4.0, without=1))


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 5))
def test_folds_never_split_a_group_and_none_is_empty(n_groups, folds, seed):
    group = np.random.default_rng(seed).integers(0, n_groups, 200).astype(str)
    fold = assign_folds(group, folds, seed)
    assert len({(g, f) for g, f in zip(group, fold, strict=True)}) == len(np.unique(group))
    assert set(fold) == set(range(min(folds, len(np.unique(group)))))


# --- the success head ---


def test_trees_beat_the_table_where_there_is_something_to_learn():
    head = fit_success(make(), FEW)
    assert head.learned.booster is not None
    assert head.metrics["logloss"] < head.metrics["loss_table"] - 0.03


def test_the_table_stands_alone_where_there_is_nothing_to_learn():
    head = fit_success(make(signal=0.0), FEW)
    assert head.learned.booster is None
    assert head.metrics["trees"] == 0


def test_labels_that_follow_the_group_are_no_skill():
    """Each group has one label and a fingerprint in the features: by row AUC 1, by group nothing."""
    examples = make(signal=0.0, groups=60)
    number = np.array([int(g[1:]) for g in examples.group])
    features = examples.features.copy()
    features[:, 2] = number
    success = (np.random.default_rng(1).random(60) < 0.5).astype(float)[number]
    head = fit_success(examples._replace(features=features, success=success), FEW)
    assert head.learned.booster is None
    assert head.metrics["logloss"] > 0.6
    assert head.calibration.design_effect > 2


def test_out_of_fold_predictions_are_calibrated():
    examples = make(n=3000)
    head = fit_success(examples, FEW)
    assert head.oof.mean() == pytest.approx(examples.success.mean(), abs=0.01)
    high = head.oof > 0.7
    assert examples.success[high].mean() == pytest.approx(head.oof[high].mean(), abs=0.05)


def test_soft_labels_are_taken_as_they_are():
    examples = make(n=600, signal=0.0)
    head = fit_success(examples._replace(success=np.full(600, 0.3)), FEW)
    assert head.oof == pytest.approx(np.full(600, 0.3), abs=0.02)


def test_the_same_seed_gives_the_same_head():
    examples = make()
    first, second = fit_success(examples, FEW), fit_success(examples, FEW)
    assert first.learned.booster.model_to_string() == second.learned.booster.model_to_string()
    assert np.array_equal(first.oof, second.oof)


def test_an_unseen_candidate_gets_a_prior_from_its_price():
    examples = make(n=3000, signal=0.0)  # here dearer is better
    prices = {**examples.prices, "cheap": (0.1, 0.5), "dear": (3.2, 16.0)}
    head = fit_success(examples._replace(prices=prices), FEW)
    assert one(examples, "cheap", head=head) < one(examples, "dear", head=head) - 0.2
    assert (
        one(examples, "c0", head=head) < one(examples, "unpriced", head=head) < one(examples, "c5", head=head)
    )


def test_an_unseen_task_type_is_as_good_as_none():
    examples = make(signal=0.0)
    head = fit_success(examples, FEW)
    assert one(examples, "c2", "never seen", head) == one(examples, "c2", "", head)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_only_stays_a_probability(label):
    examples = make(n=400)
    p = fit_success(examples._replace(success=np.full(400, label)), FEW).predict(
        examples.features, examples.candidate, examples.task_type
    )
    assert np.abs(p - label).max() < 0.1
    assert ((p > 0) & (p < 1)).all()


def test_a_candidate_with_five_failures_isnt_written_off():
    examples = make(n=1000, signal=0.0)
    candidate = examples.candidate.copy().astype("U8")
    candidate[:5] = "rare"
    success = examples.success.copy()
    success[:5] = 0.0
    head = fit_success(examples._replace(candidate=candidate, success=success), FEW)
    assert 0.05 < one(examples, "rare", head=head) < examples.success.mean()


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_fewer_groups_than_folds(groups):
    examples = make(n=400, groups=groups)
    head = fit_success(examples, FEW)
    assert head.metrics["folds"] == groups
    assert np.isfinite(head.predict(examples.features, examples.candidate, examples.task_type)).all()
    assert fit_tokens(examples, FEW) is not None


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_handful_of_rows(n):
    examples = Examples(*(column[:n] for column in make()[:6]), prices={})
    head, tokens = fit_success(examples, FEW), fit_tokens(examples, FEW)
    assert np.isfinite(head.predict(examples.features, examples.candidate, examples.task_type)).all()
    assert np.isfinite(tokens.predict(examples.features, examples.candidate, examples.task_type)).all()


def test_infinite_and_huge_features_are_unknown():
    examples = make()
    features = examples.features.astype(np.float64)
    features[::7, 3] = np.inf
    features[1::7, 3] = -np.inf
    features[2::7, 3] = 1e300
    features[:, 4] = np.nan
    head = fit_success(examples._replace(features=features), FEW)
    row = features[:1].copy()
    row[0, 3] = np.nan
    assert one(examples._replace(features=row), "c1", head=head) == one(
        examples._replace(features=features[:1]), "c1", head=head
    )
    matrix = model_matrix(np.array([[np.inf, 1e300, 1.0]]), np.zeros((2, 9)))
    assert np.array_equal(
        matrix[:, :3], np.array([[np.nan, np.nan, 1.0]] * 2, dtype=np.float32), equal_nan=True
    )


def test_unlabelled_rows_are_left_out_and_none_labelled_is_refused():
    examples = make()
    success = np.where(np.arange(len(examples.success)) % 2, np.nan, examples.success)
    success[0] = 7.0  # not a probability
    head = fit_success(examples._replace(success=success), FEW)
    assert head.metrics["rows"] == 749
    assert np.array_equal(np.isfinite(head.oof), np.isfinite(success) & (success <= 1))
    with pytest.raises(BadInput, match="no labelled rows"):
        fit_success(examples._replace(success=np.full(len(success), np.nan)), FEW)


# --- calibration ---


def test_platt_finds_the_slope_and_never_turns_the_score_around():
    rng = np.random.default_rng(0)
    raw, fold = rng.normal(size=8000) * 2, np.arange(8000) % 5
    target = (rng.random(8000) < sigmoid(0.5 * raw - 1)).astype(float)
    a, b = platt(raw, target, fold)
    assert (a, b) == (pytest.approx(0.5, abs=0.06), pytest.approx(-1, abs=0.08))
    assert platt(-raw, target, fold)[0] == 0.0


@settings(max_examples=40)
@given(st.integers(0, 1000), st.floats(0.01, 30), st.integers(2, 30))
def test_platt_converges_and_never_hurts_much(seed, scale, n):
    rng = np.random.default_rng(seed)
    raw, target = rng.normal(size=n) * scale, (rng.random(n) < 0.5).astype(float)
    a, b = platt(raw, target, np.arange(n) % 2)
    assert a >= 0
    assert np.isfinite([a, b]).all()
    assert log_loss(sigmoid(a * raw + b), target).mean() < log_loss(sigmoid(raw), target).mean() + 0.2


def test_rows_of_a_group_that_agree_count_less():
    rng = np.random.default_rng(0)
    group, one_candidate = np.repeat(np.arange(100), 10).astype(str), np.full(1000, "c")
    assert design_effect(np.repeat(rng.normal(size=100), 10), group, one_candidate) == pytest.approx(
        10, abs=0.01
    )
    assert design_effect(rng.normal(size=1000), group, one_candidate) == pytest.approx(1, abs=0.3)


# --- output tokens ---


def test_token_sums_are_unbiased_for_each_candidate():
    examples = make(n=3000)
    head = fit_tokens(examples, FEW)
    assert head.learned.linear is not None
    for name in np.unique(examples.candidate):
        mine = examples.candidate == name
        assert head.oof[mine].sum() == pytest.approx(examples.output_tokens[mine].sum(), rel=0.01)


def test_tokens_that_follow_nothing_are_the_candidates_mean():
    examples = make(n=2000)
    rng = np.random.default_rng(3)
    mean = np.array([100.0 * (1 + int(c[1:])) for c in examples.candidate])
    tokens = mean * rng.lognormal(-0.5, 1.0, len(mean))
    head = fit_tokens(examples._replace(output_tokens=tokens), FEW)
    assert head.learned.booster is None
    assert not head.table.task_types
    assert one(examples, "c3", "t1", head) == pytest.approx(
        tokens[examples.candidate == "c3"].mean(), rel=0.05
    )


def test_unknown_tokens_are_unknown_and_not_zero():
    examples = make(n=600)
    assert fit_tokens(examples._replace(output_tokens=np.full(600, np.nan)), FEW) is None
    half = np.where(np.arange(600) % 2, np.nan, examples.output_tokens)
    half[0] = -5.0
    head = fit_tokens(examples._replace(output_tokens=half), FEW)
    assert head.metrics["rows"] == 299
    assert np.isnan(head.oof[1::2]).all()
    known = np.isfinite(half) & (half >= 0)
    assert head.oof[known].sum() == pytest.approx(half[known].sum(), rel=0.05)
