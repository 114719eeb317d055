"""The exported graph is the trained model: exactly where thresholds are met, and in every odd value."""

import lightgbm as lgb
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import CheckFailed
from models.calibration import Calibration
from models.ensemble import exact_thresholds, numeric_splits
from models.export import build_graph, export_heads, parity
from models.heads import Heads, Part, Reference
from models.linear import LinearPart
from models.parity import MAX_ABS_DP, adversarial_rows
from models.table import EXTRA_COLUMNS

DOUBLES = st.floats(allow_nan=False, allow_subnormal=True, width=64)
SINGLES = st.floats(allow_nan=False, allow_subnormal=True, width=32)


def train(seed=0, objective="cross_entropy", missing=0.1, rounds=8, **params):
    """Text of a small model on five features, two categories, two prices; values repeat and are missing."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, 9)).astype(np.float32) * 10.0 ** rng.integers(-4, 5)
    rows[:, 1] = np.round(rows[:, 1])
    rows[rng.random(rows.shape) < missing] = np.nan
    rows[:, 5] = rng.integers(0, 9, 400)
    rows[:, 8] = rng.integers(-1, 4, 400)
    y = (
        rng.random(400) < 1 / (1 + np.exp(-np.clip(np.nan_to_num(rows[:, 0]), -9, 9) - (rows[:, 5] % 3 - 1)))
    ).astype(float)
    settings_ = {
        "objective": objective,
        "num_leaves": 8,
        "min_data_in_leaf": 5,
        "min_data_per_group": 5,
        "verbose": -1,
    }
    settings_ |= {"num_threads": 1, "cat_smooth": 1, "seed": seed, **params}
    data = lgb.Dataset(rows, y, categorical_feature=[5, 8], params=settings_)
    return lgb.train(settings_, data, num_boost_round=rounds).model_to_string()


def heads(success=None, tokens=None, platt=(1.3, -0.2), linear=None, weight=1.0):
    parts = Part(success, weight, linear), Part(tokens)
    return Heads(parts[0], Calibration(*platt), 5, {"tokens": (parts[1], 9.0)})


@given(SINGLES, DOUBLES)
@settings(max_examples=500)
def test_a_threshold_splits_float32_as_lightgbm_does(x, threshold):
    compared = 0.0 if abs(x) <= float(np.float32(1e-35)) else x
    expected = compared <= threshold or threshold >= 1e300  # LightGBM's way to write down infinity
    assert bool(np.float32(x) <= exact_thresholds(np.array([threshold]))[0]) == expected


@given(SINGLES)
@settings(max_examples=200)
def test_a_threshold_just_off_a_float32_value_still_splits_there(x):
    for threshold in (np.nextafter(x, -np.inf), x, np.nextafter(x, np.inf)):
        if abs(x) > 1e-34 and np.isfinite(x) and np.isfinite(threshold):
            assert bool(np.float32(x) <= exact_thresholds(np.array([threshold]))[0]) == (x <= threshold)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1]), st.floats(0.0, 3.0), st.floats(-2.0, 2.0))
@settings(max_examples=15, deadline=None)
def test_random_models_survive_adversarial_rows(seed, missing, a, b):
    both = heads(train(seed, missing=missing), train(seed + 1, "regression", missing), (a, b))
    _, report = export_heads(both, seed)
    assert report.rows_wrong == 0
    assert report.max_abs_dp <= MAX_ABS_DP


def line(seed=0, width=5, candidates=6, size=1.0):
    """A linear part on all features, with weights of its own for some candidates, on very unlike scales."""
    rng = np.random.default_rng(seed)
    slot = rng.permutation(np.arange(candidates + 1)) % 4
    slot[-1] = 3
    own = rng.normal(size=(4, width + 1)) * size
    own[-1] = 0.0
    mean, scale = rng.normal(size=width) * 10.0 ** rng.integers(-3, 6), 10.0 ** rng.uniform(-6, 4, width)
    return LinearPart(np.arange(width), mean, scale, rng.normal(size=width + 1) * size, own, slot)


@given(st.integers(0, 10_000), st.floats(0.0, 3.0), st.floats(0.25, 1.0))
@settings(max_examples=15, deadline=None)
def test_a_linear_part_survives_adversarial_rows_beside_the_trees(seed, a, weight):
    both = heads(train(seed), train(seed + 1, "regression"), (a, 0.1), line(seed), weight)
    _, report = export_heads(both, seed)
    assert report.rows_wrong == report.decisions_flipped == 0
    assert report.max_abs_dp <= MAX_ABS_DP
    assert report.decisions > 10_000


def test_heads_of_every_make_survive_side_by_side():
    """Each reads its own trees, weights, bounds and table, though all of them stand in one matrix."""
    kinds = {
        "tokens": (Part(train(2, "regression"), 0.5, line(3)), 9.0),
        "reasoning": (Part(None, 1.0, line(4, candidates=3)), 7.0),
        "calls": (Part(train(5, "regression")), 3.0),
        "turns": (Part(), 4.0),
    }
    _, report = export_heads(Heads(Part(train(1), 0.7, line(1)), Calibration(1.3, -0.2), 5, kinds))
    assert report.rows_wrong == report.decisions_flipped == 0


def test_a_graph_has_few_nodes():
    """ONNX Runtime's own work for a node costs more than most of them compute."""
    table = Part(), 4.0
    usual = Heads(
        Part(train(1)),
        Calibration(1.3, -0.2),
        5,
        {"tokens": (Part(train(2, "regression")), 9.0), "calls": table, "turns": table},
    )
    assert len(onnx.load_from_string(build_graph(usual)).graph.node) == 20
    assert len(onnx.load_from_string(build_graph(heads(train(1), linear=line()))).graph.node) == 19


def test_many_large_products_that_cancel_are_summed_exactly():
    """240 products of up to ±10 beside a steep calibration: in float32 their sum is off by far more."""
    wide = Heads(Part(None, 1.0, line(1, 240, size=2.0)), Calibration(3.0, 0.0), 240, {})
    _, report = export_heads(wide)
    assert report.rows_wrong == 0
    rows = adversarial_rows(wide)
    part = wide.success.linear
    z = np.clip((rows[:, :240] - part.mean) * part.scale, -5, 5)
    terms = np.nan_to_num(z) * part.shared[:-1]
    in_float32 = terms.astype(np.float32).sum(axis=1, dtype=np.float32)
    assert np.abs(in_float32 - terms.sum(axis=1)).max() > 10 * MAX_ABS_DP


def test_the_linear_part_is_what_it_says_for_seen_and_unseen_candidates():
    part = LinearPart(
        np.array([1]), np.array([2.0]), np.array([0.5]), np.array([1.0, 0.1]), np.eye(2, 2), np.array([0, 1])
    )
    rows = np.array([[0.0, 4.0], [0.0, 4.0], [0.0, np.nan], [0.0, np.inf]], dtype=np.float32)
    values = part._replace(own=np.array([[10.0, 0.0], [0.0, 0.0]])).values(rows, np.array([0, -1, np.nan, 7]))
    assert values == pytest.approx([11.1, 1.1, 0.1, 5.1])


def test_the_proof_sees_a_linear_part_of_another_model():
    one, other = heads(linear=line(3)), heads(linear=line(3)._replace(mean=line(3).mean + 0.01))
    report = parity(one, build_graph(other))
    assert report.rows_wrong > 0
    assert report.decisions_flipped > 0


def test_a_column_that_was_all_or_never_missing_is_exported_exactly():
    for missing in (0.0, 0.6):
        assert export_heads(heads(train(3, missing=missing)))[1].rows_wrong == 0


def test_a_table_alone_is_a_valid_graph():
    graph, report = export_heads(heads())
    assert report.rows_wrong == 0
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    row = np.zeros((1, 5 + len(EXTRA_COLUMNS)), dtype=np.float32)
    row[0, 5 + EXTRA_COLUMNS.index("table_logit")] = 2.0
    row[0, 5 + EXTRA_COLUMNS.index("token_base")] = 100.0
    p, log_tokens = session.run(None, {"X": row})
    assert p[0] == pytest.approx(1 / (1 + np.exp(-(1.3 * 2.0 - 0.2))), abs=1e-6)
    assert log_tokens[0] == 9.0


def run(both, rows):
    """P(success) and log tokens of heads' graph for rows (n, width)."""
    session = onnxruntime.InferenceSession(build_graph(both), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": np.asarray(rows, dtype=np.float32)})


@pytest.mark.parametrize("linear", [None, line()])
@pytest.mark.parametrize("knots", [(), ((0.0, 0.2), (1.0, 0.9))])
def test_no_rows_have_no_answers(linear, knots):
    calibration = Calibration(kind="isotonic" if knots else "platt", knots=knots)
    for trees in (None, train(1)):
        part = Part(trees, 1.0, linear)
        both = Heads(part, calibration, 5, {"tokens": (part, 9.0)})
        answers = run(both, np.zeros((0, 5 + len(EXTRA_COLUMNS))))
        assert [answer.shape for answer in answers] == [(0,), (0,)]


@pytest.mark.parametrize("linear", [None, line()])
def test_an_unknown_table_value_stays_unknown_and_is_no_other_heads(linear):
    both = Heads(Part(train(1), 1.0, linear), Calibration(), 5, {"tokens": (Part(None, 1.0, linear), 9.0)})
    rows = np.zeros((3, 5 + len(EXTRA_COLUMNS)))
    rows[0, 5 + EXTRA_COLUMNS.index("table_logit")] = np.nan
    rows[1, 5 + EXTRA_COLUMNS.index("token_base")] = np.nan
    p, log_tokens = run(both, rows)
    assert np.isnan(p).tolist() == [True, False, False]
    assert np.isnan(log_tokens).tolist() == [False, True, False]


def test_the_proof_sees_an_unknown_table_value_that_was_made_a_number():
    both = heads(linear=line(3))
    model = onnx.load_from_string(build_graph(both))
    (unknown,) = (value for value in model.graph.initializer if value.name == "success_unknown")
    zeros = np.nan_to_num(onnx.numpy_helper.to_array(unknown))
    unknown.CopyFrom(onnx.numpy_helper.from_array(zeros, unknown.name))
    assert parity(both, build_graph(both)).rows_wrong == 0
    assert parity(both, model.SerializeToString()).rows_wrong > 0


def test_a_linear_part_that_has_seen_no_candidate_is_exported():
    assert export_heads(heads(linear=line(candidates=0)))[1].rows_wrong == 0


def test_a_calibration_of_whole_numbers_is_exported():
    assert export_heads(heads(platt=(1, 0)))[1].rows_wrong == 0


def test_a_fraction_is_no_candidates_index():
    both = heads(linear=line())
    rows = np.zeros((3, 5 + len(EXTRA_COLUMNS)), dtype=np.float32)
    rows[:, 5] = [0.0, 0.5, -1.0]
    expected, _ = Reference(both).predict(rows)
    assert expected[0] != expected[1] == expected[2]
    assert run(both, rows)[0] == pytest.approx(expected, abs=MAX_ABS_DP)


def test_a_model_of_single_leaves_is_a_valid_graph():
    assert export_heads(heads(train(min_data_in_leaf=399)))[1].rows_wrong == 0


def test_the_same_heads_give_the_same_bytes():
    both = heads(train(1), train(2, "regression"))
    assert build_graph(both) == build_graph(both)


def test_the_proof_sees_a_graph_of_another_model():
    model = train(4)
    assert parity(heads(model), build_graph(heads(train(5)))).rows_wrong > 0
    assert parity(heads(model), build_graph(heads(model, platt=(1.3001, -0.2)))).rows_wrong > 0


def test_the_proof_sees_thresholds_that_were_rounded_to_nearest():
    """What a plain conversion does: right almost everywhere, wrong where a value meets its threshold."""
    text = train(6)
    model = onnx.load_from_string(build_graph(heads(text)))
    (trees,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    attributes = {attribute.name: attribute for attribute in trees.attribute}
    dumped = []
    stack = [tree["tree_structure"] for tree in lgb.Booster(model_str=text).dump_model()["tree_info"]]
    while stack:
        node = stack.pop()
        if node.get("decision_type") == "<=":
            dumped.append(node["threshold"])
        stack += [node[side] for side in ("left_child", "right_child") if side in node]
    nearest = dict(zip(exact_thresholds(np.array(dumped)), np.float32(dumped), strict=True))
    values = [nearest.get(np.float32(v), v) for v in attributes["nodes_values"].floats]
    attributes["nodes_values"].floats[:] = values
    assert parity(heads(text), model.SerializeToString()).rows_wrong > 0


def test_zero_as_missing_is_refused():
    with pytest.raises(CheckFailed, match="zero_as_missing"):
        build_graph(heads(train(zero_as_missing=True)))


def test_adversarial_rows_meet_every_threshold_from_both_sides():
    both = heads(train(7))
    rows = adversarial_rows(both)
    splits = set(numeric_splits(lgb.Booster(model_str=both.success.trees).dump_model()))
    assert len(splits) > 10
    for feature, value in splits:
        column, exact = rows[:, feature], np.float32(value)
        with np.errstate(over="ignore"):
            above, below = (np.nextafter(exact, np.float32(np.inf)), np.nextafter(exact, np.float32(-np.inf)))
        assert all((column == edge).any() for edge in (below, exact, above))
