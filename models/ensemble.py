"""LightGBM's trees as attributes of an ONNX ensemble, node by node, splitting exactly as LightGBM does.

Two things make that exact: for float32 x, x ≤ t is x ≤ floor32(t), so every threshold is rounded *down* to
float32; and NaN goes where LightGBM sends it, which depends on the split's missing type.

Every test is a ≤ and none asks for NaN, since ONNX Runtime is twice as fast then. NaN fails it, so x ≤ t
sends NaN right; where it goes left the test is x > t, written as -x ≤ -s of the float s next above t. The
trees therefore read the rows with their negatives beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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


def numeric_splits(dump: dict[str, Any]) -> Iterator[tuple[int, float]]:
    """Column and float32 threshold of every split of a dumped model that isn't one of categories."""
    found = [tree["tree_structure"] for tree in dump["tree_info"]]
    while found:
        node = found.pop()
        if "leaf_value" not in node:
            found += [node["left_child"], node["right_child"]]
            if node["decision_type"] != "==":
                yield node["split_feature"], _threshold(node)


def ensemble_attributes(dump: dict[str, Any], width: int) -> dict[str, Any]:
    """Turn a dumped LightGBM model into attributes of TreeEnsembleRegressor (ai.onnx.ml opset 3).

    It reads rows of this width and their negatives beside them, (n, 2 · width).
    """
    nodes: list[dict[str, Any]] = []
    leaves: list[tuple[int, int, float]] = []
    for tree_id, tree in enumerate(dump["tree_info"]):
        _Tree(tree_id, width, nodes, leaves).add(tree["tree_structure"])
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


class _Test(NamedTuple):
    """One node: where the column, or its negative, is at most `value` the row goes left, or right."""

    value: float
    left: bool = True
    negative: bool = False


class _Tree:
    """Writes the nodes of one tree, parents before children, as ONNX Runtime wants them."""

    def __init__(
        self, tree_id: int, width: int, nodes: list[dict[str, Any]], leaves: list[tuple[int, int, float]]
    ) -> None:
        self.tree_id, self.width, self.nodes, self.leaves = tree_id, width, nodes, leaves
        self.start = len(nodes)

    def add(self, node: dict[str, Any]) -> int:
        """Write a node and all below it; its id within the tree."""
        if "leaf_value" in node:
            leaf = self._write("LEAF", 0, 0.0)
            self.leaves.append((self.tree_id, leaf, float(node["leaf_value"])))
            return leaf
        tests = list(_tests(node))
        if not tests:
            return self.add(node["left_child"])
        at = [self.width * test.negative + node["split_feature"] for test in tests]
        chain = [self._write("BRANCH_LEQ", *to) for to in zip(at, (t.value for t in tests), strict=True)]
        left, right = self.add(node["left_child"]), self.add(node["right_child"])
        last = right if tests[-1].left else left
        for place, test, other in zip(chain, tests, [*chain[1:], last], strict=True):
            to = left if test.left else right
            self.nodes[self.start + place].update(truenodeids=to, falsenodeids=other)
        return chain[0]

    def _write(self, mode: str, feature: int, value: float) -> int:
        self.nodes.append(
            {
                "treeids": self.tree_id,
                "nodeids": len(self.nodes) - self.start,
                "featureids": feature,
                "modes": mode,
                "values": value,
                "truenodeids": 0,
                "falsenodeids": 0,
            }
        )
        return len(self.nodes) - self.start - 1


def _tests(node: dict[str, Any]) -> Iterator[_Test]:
    """Tests that make up one LightGBM split, none where all rows go left.

    A row that passes none goes where the last one's don't go.
    """
    if node["decision_type"] == "==":
        yield from _of_categories(sorted(int(name) for name in str(node["threshold"]).split("||")))
        return
    threshold = _threshold(node)
    if node["missing_type"] == "Zero":
        raise CheckFailed("a model trained with zero_as_missing can't be exported exactly; train without it")
    # Where training saw no NaN, LightGBM reads it as 0.
    nan_is_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
    if not nan_is_left:
        yield _Test(threshold)
    elif threshold < _INF32:
        yield _Test(-float(np.nextafter(np.float32(threshold), _INF32)), left=False, negative=True)


def _of_categories(named: list[int]) -> Iterator[_Test]:
    """Tests of one run of categories after the other, in rising order; NaN and what lies between go right."""
    for at, category in enumerate(named):
        if at == 0 or named[at - 1] != category - 1:
            yield _Test(category - 0.5, left=False)
        if at == len(named) - 1 or named[at + 1] != category + 1:
            yield _Test(float(category))


def _threshold(node: dict[str, Any]) -> float:
    return float(exact_thresholds(np.array([node["threshold"]]))[0])


def booster_of(text: str) -> lgb.Booster:
    """LightGBM's model of its own text; raises MissingExtra without lightgbm."""
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("lightgbm", "train") from error
    return lightgbm.Booster(model_str=text)
