"""A BERT as an ONNX graph, built from its weights by hand: no torch, and pooling inside the graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from training.encoder.source import Source

_OPSET = 20  # the first with Gelu
_IR_VERSION = 10


class _Graph:
    """Collects nodes and constants under readable names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant tensor and return its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", **attributes))
        return name


def bert_graph(source: Source) -> Any:
    """Build the ModelProto: `input_ids` (batch, tokens) int64 -> `embedding` (batch, hidden) float32.

    There is no mask: all rows of a batch have the same length. Raises BadInput if a weight is missing.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    graph, config = _Graph(), source.config
    _require_supported(source)
    try:
        hidden = _embeddings(graph, source)
        for layer in range(config["num_hidden_layers"]):
            hidden = _layer(graph, source, hidden, f"encoder.layer.{layer}")
    except KeyError as error:
        raise BadInput(f"{source.name}: the weights lack {error}; it is not a plain BERT") from error
    _pool(graph, hidden, source.pooling)
    made = helper.make_graph(
        graph.nodes,
        "bert",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", config["hidden_size"]])],
        graph.constants,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=_IR_VERSION, producer_name="samediff")
    onnx.checker.check_model(model)
    return model


def _require_supported(source: Source) -> None:
    wanted = {"hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in wanted.items():
        if source.config.get(key, value) != value:
            raise BadInput(f"{source.name}: {key} {source.config[key]!r} is not supported; only {value!r} is")


def _embeddings(graph: _Graph, source: Source) -> str:
    """Word + position + the one token type that a single text uses, normalised."""
    weights, stem = source.weights, "embeddings"
    places = (
        weights[f"{stem}.position_embeddings.weight"] + weights[f"{stem}.token_type_embeddings.weight"][0]
    )
    words = graph.constant("words", weights[f"{stem}.word_embeddings.weight"])
    graph.constant("places", places)
    for name, value in (("zero", [0]), ("one", [1]), ("two", [2])):
        graph.constant(name, np.array(value, np.int64))
    graph.add("Gather", [words, "input_ids"], "word_rows")
    graph.add("Shape", ["input_ids"], "shape")
    graph.add("Slice", ["shape", "one", "two"], "length")
    graph.add("Slice", ["places", "zero", "length", "zero"], "place_rows")
    graph.add("Add", ["word_rows", "place_rows"], "embedded")
    return _norm(graph, source, "embedded", f"{stem}.LayerNorm")


def _layer(graph: _Graph, source: Source, hidden: str, stem: str) -> str:
    """One transformer layer: attention and feed-forward, each added to its input and normalised."""
    heads = source.config["num_attention_heads"]
    size = source.config["hidden_size"] // heads
    if "split" not in {c.name for c in graph.constants}:
        graph.constant("split", np.array([0, 0, heads, size], np.int64))
        graph.constant("join", np.array([0, 0, heads * size], np.int64))
        graph.constant("root", np.array(1 / math.sqrt(size), np.float32))
    parts = {}
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        name = f"{stem}.attention.self.{part}"
        flat = _dense(graph, source, hidden, name)
        graph.add("Reshape", [flat, "split"], f"{name}.split")
        parts[part] = graph.add("Transpose", [f"{name}.split"], f"{name}.heads", perm=order)
    graph.add("MatMul", [parts["query"], parts["key"]], f"{stem}.scores")
    graph.add("Mul", [f"{stem}.scores", "root"], f"{stem}.scaled")
    graph.add("Softmax", [f"{stem}.scaled"], f"{stem}.shares", axis=-1)
    graph.add("MatMul", [f"{stem}.shares", parts["value"]], f"{stem}.mixed")
    graph.add("Transpose", [f"{stem}.mixed"], f"{stem}.turned", perm=[0, 2, 1, 3])
    graph.add("Reshape", [f"{stem}.turned", "join"], f"{stem}.joined")
    attended = _dense(graph, source, f"{stem}.joined", f"{stem}.attention.output.dense")
    graph.add("Add", [attended, hidden], f"{stem}.attended")
    middle = _norm(graph, source, f"{stem}.attended", f"{stem}.attention.output.LayerNorm")
    wide = _dense(graph, source, middle, f"{stem}.intermediate.dense")
    graph.add("Gelu", [wide], f"{stem}.gelu")
    narrow = _dense(graph, source, f"{stem}.gelu", f"{stem}.output.dense")
    graph.add("Add", [narrow, middle], f"{stem}.summed")
    return _norm(graph, source, f"{stem}.summed", f"{stem}.output.LayerNorm")


def _dense(graph: _Graph, source: Source, data: str, name: str) -> str:
    weight = graph.constant(f"{name}.weight", source.weights[f"{name}.weight"].T)
    bias = graph.constant(f"{name}.bias", source.weights[f"{name}.bias"])
    product = graph.add("MatMul", [data, weight], f"{name}.product")
    return graph.add("Add", [product, bias], f"{name}.out")


def _norm(graph: _Graph, source: Source, data: str, name: str) -> str:
    scale = graph.constant(f"{name}.weight", source.weights[f"{name}.weight"])
    shift = graph.constant(f"{name}.bias", source.weights[f"{name}.bias"])
    epsilon = float(source.config.get("layer_norm_eps", 1e-12))
    return graph.add("LayerNormalization", [data, scale, shift], f"{name}.out", axis=-1, epsilon=epsilon)


def _pool(graph: _Graph, hidden: str, pooling: str) -> str:
    """Take the mean over all tokens, or the first token."""
    if pooling == "mean":
        return graph.add("ReduceMean", [hidden, "one"], "embedding", keepdims=0)
    graph.constant("first", np.array(0, np.int64))
    return graph.add("Gather", [hidden, "first"], "embedding", axis=1)
