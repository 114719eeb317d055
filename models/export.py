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
from models.heads import BASES
from models.linear import LIMIT
from models.parity import parity
from models.table import EXTRA_COLUMNS

if TYPE_CHECKING:
    from models.heads import Heads
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
    graph = _Graph(_onnx(), heads)
    calibration = heads.calibration
    z = graph.raw("success", calibration.a, calibration.b)
    p = calibration_nodes(calibration, z, graph.node, graph.constant)
    graph.node("Cast", [p], ["p_success"], to=graph.real)
    for name, (part, limit) in heads.amounts.items():
        output = BASES[name][1]
        if part.trees is None and part.linear is None:
            graph.cut(graph.column(name, graph.table_at(name)), np.float32(limit), output)
        else:
            cut = graph.cut(graph.raw(name), np.float64(limit), f"{name}_cut")
            graph.node("Cast", [cut], [output], to=graph.real)
    return graph.serialised(["p_success", *(BASES[name][1] for name in heads.amounts)])


class _Graph:
    """Nodes and constants as they are gathered.

    What ONNX Runtime does about a node costs more than most nodes compute, so there are few: the sums of all
    heads' trees stand beside the rows, and each head is one weighted sum over both, calibration's line in it.
    """

    def __init__(self, onnx: Any, heads: Heads) -> None:
        self.onnx, self.n_features = onnx, heads.n_features
        self.real, self.double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
        self.width = heads.n_features + len(EXTRA_COLUMNS)
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.parts = {"success": heads.success, **{name: part for name, (part, _) in heads.amounts.items()}}
        trees = {name: part.trees for name, part in self.parts.items() if part.trees is not None}
        self.sums = {name: self.width + at for at, name in enumerate(trees)}  # columns of `values`
        self.values = self._values(trees)

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Add a node; the name of its first output."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def constant(self, name: str, value: Any) -> str:
        """Add a constant under its name; the name."""
        self.constants[name] = np.asarray(value)
        return name

    def cut(self, source: str, limit: np.floating[Any], output: str) -> str:
        """A node for an amount (n,) cut to 0 … limit, of the limit's type."""
        bounds = {"zero": limit.dtype.type(0), "limit": limit}
        known = [self.constant(f"{output}_{name}", value) for name, value in bounds.items()]
        return self.node("Clip", [source, *known], [output])

    def table_at(self, name: str) -> int:
        """The column of the rows that holds a head's table."""
        return self.n_features + EXTRA_COLUMNS.index(BASES[name][0])

    def column(self, name: str, at: int) -> str:
        """A node for one column of the rows, (n,) float32."""
        return self.node("Gather", ["X", self.constant(f"{name}_column", at)], [f"{name}_read"], axis=1)

    def raw(self, name: str, a: float = 1.0, b: float = 0.0) -> str:
        """Nodes for a · s + b (n,) float64, s a head's table + weight · trees + linear on the link scale."""
        part = self.parts[name]
        weights = {self.table_at(name): a}
        if part.trees is not None:
            weights[self.sums[name]] = a * part.tree_weight
        if part.linear is not None:
            return self._with_line(name, part.linear, weights, (a, b))
        at = self.constant(f"{name}_at", np.array(list(weights)))
        some = self.node("Gather", [self.values, at], [f"{name}_some"], axis=1)
        factors = np.array([[weight] for weight in weights.values()], dtype=np.float64)
        known = {"weights": factors, "b": np.array([b], dtype=np.float64)}
        read = [some, *(self.constant(f"{name}_{last}", value) for last, value in known.items())]
        # MatMul by weights (k,) would give (n,) at once, but ONNX Runtime refuses it no rows.
        total = self.node("Gemm", read, [f"{name}_sum"])
        return self.node("Squeeze", [total, self.constant(f"{name}_one", np.array([1]))], [f"{name}_raw"])

    def _values(self, trees: dict[str, str]) -> str:
        """Nodes for the rows with the sums of each head's trees beside them, (n, width + sums) float64."""
        if not trees:
            return self.node("Cast", ["X"], ["values"], to=self.double)
        negative = self.node("Neg", ["X"], ["negative_X"])
        read = self.node("Concat", ["X", negative], ["trees_X"], axis=1)
        # One for each: an ensemble of many targets takes a quarter longer for each tree.
        for name, text in trees.items():
            attributes = ensemble_attributes(booster_of(text).dump_model(), self.width)
            self.node("TreeEnsembleRegressor", [read], [f"{name}_trees"], domain="ai.onnx.ml", **attributes)
        self.node("Concat", ["X", *(f"{name}_trees" for name in trees)], ["real_values"], axis=1)
        return self.node("Cast", ["real_values"], ["values"], to=self.double)

    def _with_line(
        self, name: str, part: LinearPart, weights: dict[int, float], scale: tuple[float, float]
    ) -> str:
        """Nodes for `weights` of columns plus the linear part, scaled, as in LinearPart.values, (n,) float64.

        Every column goes the same way: less its mean, cut, 0 where it is unknown, times the weight that the
        row's candidate gives it. What nothing reads is cut to 0, and to 1 what stands for the constant; a
        table's unknown value stays unknown.
        """

        def known(last: str, value: Any) -> str:
            return self.constant(f"{name}_{last}", value)

        def new(kind: str, inputs: list[str], last: str, **attributes: Any) -> str:
            return self.node(kind, inputs, [f"{name}_{last}"], **attributes)

        a, b = scale
        at, one = list(weights), self.n_features  # the candidate's index stands for the constant
        mean, low, high, unknown = np.zeros((4, self.width + len(self.sums)))
        mean[part.columns], high[part.columns] = part.mean, LIMIT / part.scale
        high[at], high[one] = np.inf, 1.0
        low[:], low[one] = -high, 1.0
        unknown[at], unknown[one] = np.nan, 1.0
        factors = np.zeros((len(part.own), len(mean)))
        factors[:, part.columns] = a * part.scale * (part.own[:, :-1] + part.shared[:-1])
        factors[:, one] = a * (part.own[:, -1] + part.shared[-1]) + b
        factors[:, at] = list(weights.values())
        off = new("Sub", [self.values, known("mean", mean)], "off")
        within = new("Min", [new("Max", [off, known("low", low)], "raised"), known("high", high)], "within")
        missing = new("IsNaN", [self.values], "missing")
        seen = new("Where", [missing, known("unknown", unknown), within], "seen")
        own = new("Gather", [known("factors", factors), self._slot(name, part.slot)], "own")
        terms = new("Mul", [seen, own], "terms")
        return new("ReduceSum", [terms, known("columns", np.array([1]))], "raw", keepdims=0)

    def _slot(self, name: str, slot: np.ndarray) -> str:
        """Nodes for the slots (n,) int64 of the rows' candidates; any other index has the last one."""
        index = self.column(f"{name}_index", self.n_features)
        # The first index past all candidates has the last one too: no keys at all are refused.
        seen = {"keys_floats": np.arange(len(slot), dtype=np.float64), "values_int64s": slot}
        last = int(slot[-1])
        return self.node(
            "LabelEncoder", [index], [f"{name}_slot"], domain="ai.onnx.ml", default_int64=last, **seen
        )

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
