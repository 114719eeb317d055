"""The heads as one ONNX graph, and the proof that it is the same model (needs the train extra).

Tables, trees, linear parts and calibration are inside, so that a decision over all candidates is one call.
Trees compare in float32, as they were trained; the linear part and the final sum are float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import CheckFailed, MissingExtra
from models.calibration import calibration_nodes
from models.ensemble import booster_of, ensemble_attributes
from models.heads import BASES, Heads, Part
from models.linear import LIMIT
from models.parity import parity
from models.table import EXTRA_COLUMNS

if TYPE_CHECKING:
    from models.linear import LinearPart
    from models.manifest import Parity

_OPSET, _ML_OPSET, _IR_VERSION = 17, 3, 9


def export_heads(heads: Heads, seed: int = 0) -> tuple[bytes, Parity]:
    """Graph X (n, n_features + extra columns) float32 -> p_success (n,) and log amounts (n,), with its proof.

    Raises CheckFailed when an adversarial row differs by more than MAX_ABS_DP or MAX_ABS_DLOG, or a decision
    is another one.
    """
    graph = build_graph(heads)
    report = parity(heads, graph, seed)
    if report.rows_wrong or report.decisions_flipped:
        raise CheckFailed(
            f"the exported graph differs from the model on {report.rows_wrong} of {report.rows} rows "
            f"(|Δp| up to {report.max_abs_dp:.2g}, |Δ log amount| up to {report.max_abs_dlog_tokens:.2g}) "
            f"and in {report.decisions_flipped} of {report.decisions} decisions; nothing was written"
        )
    return graph, report


def build_graph(heads: Heads) -> bytes:
    """Build the ONNX model of all heads, serialised, without the proof."""
    onnx = _onnx()
    graph = _Graph(onnx, heads.n_features)
    raw = graph.raw("success", heads.success)
    p = calibration_nodes(heads.calibration, raw, graph.node, graph.constant)
    graph.node("Cast", [p], ["real_p"], to=graph.real)
    graph.node("Reshape", ["real_p", graph.constant("flat", np.array([-1]))], ["p_success"])
    for name, (part, limit) in heads.amounts.items():
        raw = graph.raw(name, part)
        bounds = [graph.constant("zero", np.float64(0.0)), graph.constant(f"{name}_limit", np.float64(limit))]
        graph.node("Clip", [raw, *bounds], [f"{name}_cut"])
        graph.node("Cast", [f"{name}_cut"], [f"{name}_real"], to=graph.real)
        graph.node("Reshape", [f"{name}_real", "flat"], [BASES[name][1]])
    return graph.serialised(["p_success", *(BASES[name][1] for name in heads.amounts)])


class _Graph:
    """Nodes and constants as they are gathered; every constant is stored once."""

    def __init__(self, onnx: Any, n_features: int) -> None:
        self.onnx, self.n_features = onnx, n_features
        self.real, self.double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
        self.width = n_features + len(EXTRA_COLUMNS)
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.trees_read = ""

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Add a node; the name of its first output."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def constant(self, name: str, value: Any) -> str:
        """Add a constant under its name; the name."""
        self.constants[name] = np.asarray(value)
        return name

    def raw(self, name: str, part: Part) -> str:
        """Nodes for a head's sum on the link scale, (n, 1) float64: table + weight · trees + linear."""
        at = self.n_features + EXTRA_COLUMNS.index(BASES[name][0])
        column = self.node(
            "Gather", ["X", self.constant(f"{name}_at", np.array([at]))], [f"{name}_f"], axis=1
        )
        total = self.node("Cast", [column], [f"{name}_table"], to=self.double)
        if part.trees is not None:
            attributes = ensemble_attributes(booster_of(part.trees).dump_model(), self.width)
            read, grown = [self._tree_columns()], [f"{name}_trees"]
            self.node("TreeEnsembleRegressor", read, grown, domain="ai.onnx.ml", **attributes)
            self.node("Cast", [f"{name}_trees"], [f"{name}_trees64"], to=self.double)
            weight = self.constant(f"{name}_weight", np.float64(part.tree_weight))
            self.node("Mul", [f"{name}_trees64", weight], [f"{name}_grown"])
            total = self.node("Add", [total, f"{name}_grown"], [f"{name}_with_trees"])
        if part.linear is not None:
            total = self.node("Add", [total, self._linear(name, part.linear)], [f"{name}_with_line"])
        return total

    def _tree_columns(self) -> str:
        """Nodes for what the trees of all heads read, COPIES of the rows; written once."""
        if not self.trees_read:
            self.trees_read = "trees_X"
            most, least = (
                self.constant("most", np.float32(np.inf)),
                self.constant("least", np.float32(-np.inf)),
            )
            missing = self.node("IsNaN", ["X"], ["trees_missing"])
            above = self.node("Where", [missing, most, "X"], ["trees_above"])
            below = self.node("Where", [missing, least, "X"], ["trees_below"])
            flags = self.node("Cast", [missing], ["trees_flags"], to=self.real)
            self.node("Concat", [above, below, flags], [self.trees_read], axis=1)
        return self.trees_read

    def _linear(self, name: str, part: LinearPart) -> str:
        """Nodes for the linear part, (n, 1) float64, as in LinearPart.values."""

        def new(kind: str, inputs: list[str], last: str, **attributes: Any) -> str:
            return self.node(kind, inputs, [f"{name}_line_{last}"], **attributes)

        def known(last: str, value: Any) -> str:
            return self.constant(f"{name}_line_{last}", value)

        x = new(
            "Cast", [new("Gather", ["X", known("columns", part.columns)], "x", axis=1)], "x64", to=self.double
        )
        off = new(
            "Mul", [new("Sub", [x, known("mean", part.mean)], "centred"), known("scale", part.scale)], "z"
        )
        cut = new("Clip", [off, known("low", np.float64(-LIMIT)), known("high", np.float64(LIMIT))], "cut")
        zero = known("unknown", np.float64(0.0))
        z = new("Where", [new("IsNaN", [off], "is_nan"), zero, cut], "known")
        index = new("Gather", ["X", known("index_at", np.array([self.n_features]))], "index_f", axis=1)
        count = len(part.slot) - 1
        low = new("GreaterOrEqual", [index, known("first", np.float32(0.0))], "from_first")
        high = new("Less", [index, known("count", np.float32(count))], "to_last")
        seen = new("Where", [new("And", [low, high], "seen"), index, f"{name}_line_count"], "index")
        row = new(
            "Squeeze",
            [new("Cast", [seen], "row", to=self.onnx.TensorProto.INT64), known("one", np.array([1]))],
            "r",
        )
        slot = new("Gather", [known("slot", part.slot), row], "own_row")
        own = new("Gather", [known("own", part.own[:, :-1]), slot], "own_weights")
        weights = new("Add", [own, known("shared", part.shared[:-1])], "weights")
        total = new("ReduceSum", [new("Mul", [z, weights], "terms"), f"{name}_line_one"], "sum", keepdims=1)
        base = new("Gather", [known("constants", part.own[:, -1:] + part.shared[-1]), slot], "constant")
        return new("Add", [total, base], "line")

    def serialised(self, outputs: list[str]) -> bytes:
        """Serialise the whole model, checked."""
        helper, numpy_helper = self.onnx.helper, self.onnx.numpy_helper
        graph = helper.make_graph(
            self.nodes,
            "samediff_heads",
            [helper.make_tensor_value_info("X", self.real, ["n", self.width])],
            [helper.make_tensor_value_info(name, self.real, ["n"]) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, producer_name="samediff", ir_version=_IR_VERSION
        )
        self.onnx.checker.check_model(model)
        found: bytes = model.SerializeToString(deterministic=True)
        return found


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    return onnx
