"""LightGBM's trees as attributes of an ONNX ensemble, node by node, splitting exactly as LightGBM does.

Two things make that exact: for float32 x, x ≤ t is x ≤ floor32(t), so every threshold is rounded *down* to
float32; and NaN goes where LightGBM sends it, which depends on the split's missing type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import CheckFailed, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lightgbm as lgb

_INF32 = np.float32(np.inf)
_READ_AS_ZERO = np.float32(1e-35)  # LightGBM's kZeroThreshold, a float32 itself
_DUMPED_INFINITY = 1e300


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


def booster_of(text: str) -> lgb.Booster:
    """LightGBM's model of its own text; raises MissingExtra without lightgbm."""
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("lightgbm", "train") from error
    return lightgbm.Booster(model_str=text)
