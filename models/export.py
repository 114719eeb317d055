"""LightGBM -> ONNX: both heads in one graph, and the proof that it is the same model (needs the train extra).

The trees are written node by node. Two things make that exact: for float32 x, x ≤ t is x ≤ floor32(t), so
every threshold is rounded *down* to float32; and NaN goes where LightGBM sends it, which depends on the
split's missing type. Calibration and the table's addition are inside the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from features.errors import CheckFailed, MissingExtra
from models.manifest import Parity
from models.table import EXTRA_COLUMNS, TREE_COLUMNS, UNSEEN_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lightgbm as lgb

MAX_ABS_DP = 1e-6
MAX_ABS_DLOG = 1e-5  # log1p tokens reach 12, where a float32 ulp is 1e-6
_OPSET, _ML_OPSET, _IR_VERSION = 17, 3, 9
_CHUNK = 4096
_INF32 = np.float32(np.inf)
_READ_AS_ZERO = np.float32(1e-35)  # LightGBM's kZeroThreshold, a float32 itself
_DUMPED_INFINITY = 1e300
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Heads(NamedTuple):
    """What is exported; a head without trees is its table alone."""

    success_trees: str | None  # LightGBM's model text
    tokens_trees: str | None
    n_features: int  # of the request, without the extra columns
    platt: tuple[float, float]
    log_limit: float  # no prediction of log1p tokens beyond this


def export_heads(heads: Heads, seed: int = 0) -> tuple[bytes, Parity]:
    """Graph X (n, n_features + 5) float32 -> p_success (n,), log_tokens (n,), with its proof.

    Raises CheckFailed when any adversarial row differs by more than MAX_ABS_DP or MAX_ABS_DLOG.
    """
    graph = build_graph(heads)
    report = parity(heads, graph, seed)
    if report.rows_wrong:
        raise CheckFailed(
            f"the exported graph differs from the model on {report.rows_wrong} of {report.rows} rows "
            f"(|Δp| up to {report.max_abs_dp:.2g}, |Δ log tokens| up to {report.max_abs_dlog_tokens:.2g}); "
            "nothing was written"
        )
    return graph, report


def build_graph(heads: Heads) -> bytes:
    """Build the ONNX model of both heads, serialised, without the proof."""
    onnx = _onnx()
    helper, width = onnx.helper, heads.n_features + len(EXTRA_COLUMNS)
    constants: dict[str, Any] = {
        "a": np.float32(heads.platt[0]),
        "b": np.float32(heads.platt[1]),
        "zero": np.float32(0.0),
        "log_limit": np.float32(heads.log_limit),
        "flat": np.array([-1], dtype=np.int64),
        "at_table_logit": np.array([width - 2], dtype=np.int64),
        "at_token_base": np.array([width - 1], dtype=np.int64),
    }
    nodes = [
        *_sum_nodes(heads.success_trees, "success", "at_table_logit"),
        helper.make_node("Mul", ["success_raw", "a"], ["scaled"]),
        helper.make_node("Add", ["scaled", "b"], ["calibrated"]),
        helper.make_node("Sigmoid", ["calibrated"], ["p"]),
        helper.make_node("Reshape", ["p", "flat"], ["p_success"]),
        *_sum_nodes(heads.tokens_trees, "tokens", "at_token_base"),
        helper.make_node("Clip", ["tokens_raw", "zero", "log_limit"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "flat"], ["log_tokens"]),
    ]
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "samediff_heads",
        [helper.make_tensor_value_info("X", real, ["n", width])],
        [helper.make_tensor_value_info(name, real, ["n"]) for name in ("p_success", "log_tokens")],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="samediff", ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _sum_nodes(trees: str | None, name: str, column: str) -> list[Any]:
    """Nodes for `<name>_raw` (n, 1): the trees' sum, if there are trees, plus one column of X."""
    make_node = _onnx().helper.make_node
    if trees is None:
        return [make_node("Gather", ["X", column], [f"{name}_raw"], axis=1)]
    attributes = ensemble_attributes(_booster(trees).dump_model())
    return [
        make_node("TreeEnsembleRegressor", ["X"], [f"{name}_trees"], domain="ai.onnx.ml", **attributes),
        make_node("Gather", ["X", column], [f"{name}_table"], axis=1),
        make_node("Add", [f"{name}_trees", f"{name}_table"], [f"{name}_raw"]),
    ]


def exact_thresholds(values: np.ndarray) -> np.ndarray:
    """Float32 thresholds (n,) that split float32 rows exactly as LightGBM's float64 ones (n,) do.

    That is the largest float32 not above each, with two of LightGBM's habits kept: a threshold dumped as
    1e300 is infinite ("all but NaN"), and a value no larger than 1e-35 is read as 0 before it is compared.
    """
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        near = values.astype(np.float32)
        floored = np.where(near > values, np.nextafter(near, -_INF32), near)
    floored[values >= _DUMPED_INFINITY] = _INF32
    floored[(values >= -float(_READ_AS_ZERO)) & (values < 0)] = np.nextafter(-_READ_AS_ZERO, -_INF32)
    floored[(values >= 0) & (values <= float(_READ_AS_ZERO))] = _READ_AS_ZERO
    exact: np.ndarray = floored
    return exact


def ensemble_attributes(dump: dict[str, Any]) -> dict[str, Any]:
    """Turn a dumped LightGBM model into attributes of TreeEnsembleRegressor (ai.onnx.ml opset 3)."""
    nodes: list[dict[str, Any]] = []
    leaves: list[tuple[int, int, float]] = []
    for tree_id, tree in enumerate(dump["tree_info"]):
        _Tree(tree_id, nodes, leaves).add(tree["tree_structure"])
    columns = {f"nodes_{key}": [node[key] for node in nodes] for key in nodes[0]}
    return {
        **columns,
        "target_treeids": [tree for tree, _, _ in leaves],
        "target_nodeids": [node for _, node, _ in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights": [value for _, _, value in leaves],
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


class _Tree:
    """Writes the nodes of one tree, parents before children, as ONNX Runtime wants them."""

    def __init__(
        self, tree_id: int, nodes: list[dict[str, Any]], leaves: list[tuple[int, int, float]]
    ) -> None:
        self.tree_id, self.nodes, self.leaves, self.start = tree_id, nodes, leaves, len(nodes)

    def add(self, node: dict[str, Any]) -> int:
        """Write a node and all below it; its id within the tree."""
        if "leaf_value" in node:
            leaf = self._write("LEAF", 0, 0.0, False)
            self.leaves.append((self.tree_id, leaf, float(node["leaf_value"])))
            return leaf
        chain = [self._write(*test) for test in _tests(node)]
        left, right = self.add(node["left_child"]), self.add(node["right_child"])
        for test, other in zip(chain, [*chain[1:], right], strict=True):
            self.nodes[self.start + test].update(truenodeids=left, falsenodeids=other)
        return chain[0]

    def _write(self, mode: str, feature: int, value: float, nan_is_true: bool) -> int:
        self.nodes.append(
            {
                "treeids": self.tree_id,
                "nodeids": len(self.nodes) - self.start,
                "featureids": feature,
                "modes": mode,
                "values": value,
                "truenodeids": 0,
                "falsenodeids": 0,
                "missing_value_tracks_true": int(nan_is_true),
            }
        )
        return len(self.nodes) - self.start - 1


def _tests(node: dict[str, Any]) -> Iterator[tuple[str, int, float, bool]]:
    """ONNX tests that make up one LightGBM split: one comparison, or one equality for each category."""
    feature = node["split_feature"]
    if node["decision_type"] == "==":
        for category in str(node["threshold"]).split("||"):
            yield "BRANCH_EQ", feature, float(category), False
        return
    threshold = float(exact_thresholds(np.array([node["threshold"]]))[0])
    if node["missing_type"] == "Zero":
        raise CheckFailed("a model trained with zero_as_missing can't be exported exactly; train without it")
    # Where training saw no NaN, LightGBM reads it as 0.
    nan_is_true = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
    yield "BRANCH_LEQ", feature, threshold, bool(nan_is_true)


def parity(heads: Heads, graph: bytes, seed: int = 0) -> Parity:
    """Compare the graph with LightGBM's own prediction plus table and calibration in float64."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    rows = adversarial_rows(heads, seed)
    a, b = heads.platt
    trees_see = heads.n_features + TREE_COLUMNS
    dp, dlog = [], []
    boosters = [
        None if text is None else _booster(text) for text in (heads.success_trees, heads.tokens_trees)
    ]
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        p, log_tokens = session.run(None, {"X": part})
        raw, raw_log = (
            part[:, column].astype(np.float64)
            + (
                0.0
                if booster is None
                else booster.predict(part[:, :trees_see], raw_score=True, num_threads=1)
            )
            for booster, column in zip(boosters, (-2, -1), strict=True)
        )
        dp.append(np.abs(p - 0.5 * (1.0 + np.tanh(0.5 * (a * raw + b)))))
        dlog.append(np.abs(log_tokens - np.clip(raw_log, 0.0, heads.log_limit)))
    all_dp, all_dlog = np.concatenate(dp), np.concatenate(dlog)
    # Not "> limit": a NaN must count as wrong.
    wrong = ~((all_dp <= MAX_ABS_DP) & (all_dlog <= MAX_ABS_DLOG))
    return Parity(
        rows=len(rows),
        rows_wrong=int(wrong.sum()),
        max_abs_dp=float(all_dp.max()),
        max_abs_dlog_tokens=float(all_dlog.max()),
    )


def adversarial_rows(heads: Heads, seed: int = 0) -> np.ndarray:
    """Rows (n, n_features + 5) float32 meant to tell the two models apart.

    Each threshold is met at its float32 floor and one ulp to either side, in a row whose other values are
    such edges too, or NaN, ±infinity, the largest float, zero of either sign, an unseen or unknown category.
    """
    rng = np.random.default_rng(seed)
    width = heads.n_features + len(EXTRA_COLUMNS)
    edges = [list(_ODDITIES) for _ in range(width)]
    hits: list[tuple[int, float]] = []
    for feature, threshold in sorted(set(_thresholds(heads))):
        exact = np.float32(threshold)
        with np.errstate(over="ignore", under="ignore"):  # the largest float's neighbour is infinite
            near = (np.nextafter(exact, -_INF32), exact, np.nextafter(exact, _INF32))
        edges[feature].extend(float(v) for v in near)
        hits.extend((feature, float(v)) for v in near)
    categories = [UNSEEN_INDEX, np.nan, 10_000.0, *range(64)]
    rows = np.empty((len(hits) + 512, width), dtype=np.float32)
    for column in range(width):
        values = categories if column == heads.n_features else edges[column]
        rows[:, column] = rng.choice(np.array(values, dtype=np.float32), size=len(rows))
    for row, (feature, value) in enumerate(hits):
        rows[row, feature] = value
    rows[:, -2] = rng.uniform(-8, 8, len(rows))
    rows[:, -1] = rng.uniform(0, max(heads.log_limit, 1.0), len(rows))
    return rows


_ODDITIES = (np.nan, np.inf, -np.inf, _FLOAT32_MAX, -_FLOAT32_MAX, 0.0, -0.0, 1e-45, 1.0, -1.0)


def _thresholds(heads: Heads) -> Iterator[tuple[int, float]]:
    """(feature, float32 floor of the threshold) of every numeric split of both heads."""
    for text in (heads.success_trees, heads.tokens_trees):
        if text is None:
            continue
        attributes = ensemble_attributes(_booster(text).dump_model())
        for mode, feature, value in zip(
            *(attributes[f"nodes_{key}"] for key in ("modes", "featureids", "values")), strict=True
        ):
            if mode == "BRANCH_LEQ":
                yield feature, value


def _booster(text: str) -> lgb.Booster:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("lightgbm", "train") from error
    return lightgbm.Booster(model_str=text)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    return onnx
