"""Export a transformer itself: an ONNX graph in int8 or float32, with its parity measured on the spot."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from features.errors import BadInput
from features.wordpiece import WordPiece
from training.encoder.bert import bert_graph
from training.encoder.source import PUBLISHED_AS, Source, find_files, open_bert
from training.encoder.write import require_free, write_encoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

_PARITY_TEXTS = 64


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an export; the cosines compare int8 with float32 over fixed texts."""

    out: str
    source: str
    dim: int
    max_tokens: int
    quantised: bool
    cosine_mean: float
    cosine_min: float
    bytes: int
    digest: str
    licence: str | None
    seconds: float


def export_onnx(source: str, out: Path, max_tokens: int = 128, quantised: bool = True) -> ExportReport:
    """Export the lower-casing BERT `source` into the encoder folder `out`.

    Raises BadInput for a source that can't be read or is of another architecture.
    """
    started = time.monotonic()
    require_free(out)
    files = find_files(source)
    bert = open_bert(files)
    if bert is None:
        raise BadInput(
            f"{files.name}: only a lower-casing BERT with vocab.txt can be exported; distil it instead"
        )
    if not 3 <= max_tokens <= bert.config["max_position_embeddings"]:
        raise BadInput(f"--max-tokens {max_tokens}: choose 3 to {bert.config['max_position_embeddings']}")
    exact = bert_graph(bert)
    model = _quantise(exact) if quantised else exact.SerializeToString()
    cosines = _parity(bert, exact.SerializeToString(), model, max_tokens)
    card = write_encoder(
        out,
        {"vocab.txt": ("\n".join(bert.vocab) + "\n").encode(), "model.onnx": model},
        kind="onnx",
        dim=bert.config["hidden_size"],
        max_tokens=max_tokens,
        source=files.name,
        source_sha256=bert.sha256,
        licence=bert.licence,
        provenance={
            "weights": PUBLISHED_AS.get(bert.sha256, files.name),
            "changes": "ONNX graph with pooling inside"
            + (", weights quantised to int8" if quantised else ""),
        },
    )
    return ExportReport(
        out=str(out),
        source=files.name,
        dim=card.dim,
        max_tokens=max_tokens,
        quantised=quantised,
        cosine_mean=round(float(cosines.mean()), 5),
        cosine_min=round(float(cosines.min()), 5),
        bytes=sum(f.stat().st_size for f in out.iterdir()),
        digest=card.digest,
        licence=card.licence,
        seconds=round(time.monotonic() - started, 1),
    )


def _quantise(model: Any) -> bytes:
    """Quantise the weights to int8, one scale per output channel; activations at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "int8.onnx"
        root = logging.getLogger()  # onnxruntime advises there to optimise first, which changes nothing here
        level = root.level
        root.setLevel(logging.ERROR)
        try:  # the reduced range costs 0.002 of cosine and keeps processors without VNNI from overflowing
            quantize_dynamic(model, made, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        finally:
            root.setLevel(level)
        return made.read_bytes()


def _parity(source: Source, exact: bytes, model: bytes, max_tokens: int) -> np.ndarray:
    """Cosine of `model` to `exact` on each parity text."""
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    sessions = [onnxruntime.InferenceSession(graph, providers=providers) for graph in (exact, model)]
    tokenizer, cosines = WordPiece(source.vocab), []
    start, end = source.vocab.index("[CLS]"), source.vocab.index("[SEP]")
    for text in parity_texts(source.vocab):
        ids = np.array([[start, *tokenizer.ids(text)[: max_tokens - 2], end]], dtype=np.int64)
        one, other = (session.run(None, {"input_ids": ids})[0][0] for session in sessions)
        cosines.append(float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))))
    return np.array(cosines)


def parity_texts(vocab: list[str]) -> list[str]:
    """Make fixed texts of 1 to 127 words drawn from the vocabulary's whole words, the same on every run."""
    words = [w for w in vocab if w.isalpha() and len(w) > 1]
    random = np.random.default_rng(0)
    return [" ".join(random.choice(words, 1 + 2 * n)) for n in range(_PARITY_TEXTS)]


def render(report: ExportReport) -> Iterable[RenderableType]:
    """Show the report as lines for people."""
    kind = "int8" if report.quantised else "float32"
    megabytes = report.bytes / 1e6
    yield f"{report.out}: {kind}, {report.dim} dimensions, {report.max_tokens} tokens, {megabytes:.1f} MB"
    yield f"from {report.source} ({report.licence or 'licence unknown'}) in {report.seconds} s"
    yield f"cosine to float32: mean {report.cosine_mean:.5f}, worst {report.cosine_min:.5f}"
    yield f"digest {report.digest}"
