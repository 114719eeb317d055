"""Distil a static encoder: every vocabulary token encoded alone, PCA, SIF weights by Zipf rank, int8.

The recipe is model2vec's (Tulkens and van Dongen 2024); the SIF weight a / (a + p) is Arora, Liang and
Ma's (2017), with p from the token's rank, because a BERT vocabulary is ordered by frequency.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from features.errors import BadInput, MissingExtra
from training.encoder.bert import bert_graph
from training.encoder.source import PUBLISHED_AS, Files, find_files, licence_of, open_bert
from training.encoder.write import require_free, write_encoder
from training.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from features.encoder import EncoderCard
    from training.encoder.source import Source

SIF_A = 1e-4
_BATCH = 512
_SPECIAL = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK|unused\d+)\]")
_DEFAULT_VOCAB = Path("models/prior/encoder/vocab.txt")


class DistilReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a distillation."""

    out: str
    source: str
    dim: int
    vocabulary: int
    encoded: int  # tokens with a vector; special and unused ones have none
    explained_variance: float  # share kept by the PCA
    quantised_cosine: float  # mean over tokens, int8 against float
    bytes: int
    digest: str
    licence: str | None
    seconds: float


def distil(source: str, out: Path, dim: int = 128, vocab: Path | None = None) -> DistilReport:
    """Distil `source` into the encoder folder `out`.

    `vocab` replaces the source's WordPiece vocabulary; a source without one gets the shipped encoder's.
    Raises BadInput for a source that can't be read, or a `dim` it doesn't have.
    """
    started = time.monotonic()
    require_free(out)
    files = find_files(source)
    bert = open_bert(files) if vocab is None else None
    words = bert.vocab if bert is not None else _read_vocab(vocab)
    used = np.array([i for i, word in enumerate(words) if not _SPECIAL.fullmatch(word)])
    vectors = (
        _bert_vectors(bert, used) if bert is not None else _text_vectors(files, [words[i] for i in used])
    )
    if not 1 <= dim <= vectors.shape[1]:
        raise BadInput(f"--dim {dim}: {files.name} has {vectors.shape[1]} dimensions; choose 1 to that many")
    reduced, explained = principal(vectors, dim)
    rows = np.zeros((len(words), dim))
    rows[used] = reduced * zipf_sif(len(used))[:, None]
    matrix, scale = quantise(rows / np.abs(rows).max())
    restored = matrix.astype(np.float64) * scale[:, None]
    card = write_encoder(
        out,
        {"vocab.txt": ("\n".join(words) + "\n").encode(), "matrix.npy": matrix, "scale.npy": scale},
        kind="static",
        dim=dim,
        source=files.name,
        source_sha256=bert.sha256 if bert is not None else None,
        licence=licence_of(files),
        provenance={
            "weights": files.name if bert is None else PUBLISHED_AS.get(bert.sha256, files.name),
            "changes": "each token encoded alone, PCA, SIF weights by Zipf rank, rows quantised to int8",
            "sif_a": SIF_A,
        },
    )
    return _report(out, card, (words, used), (explained, _cosine(rows[used], restored[used])), started)


def _report(
    out: Path,
    card: EncoderCard,
    tokens: tuple[list[str], np.ndarray],
    kept: tuple[float, float],
    started: float,
) -> DistilReport:
    return DistilReport(
        out=str(out),
        source=card.source or "",
        dim=card.dim,
        vocabulary=len(tokens[0]),
        encoded=len(tokens[1]),
        explained_variance=round(kept[0], 4),
        quantised_cosine=round(kept[1], 6),
        bytes=sum(f.stat().st_size for f in out.iterdir()),
        digest=card.digest,
        licence=card.licence,
        seconds=round(time.monotonic() - started, 1),
    )


def _read_vocab(vocab: Path | None) -> list[str]:
    file = vocab if vocab is not None else Path(__file__).parents[2] / _DEFAULT_VOCAB
    try:
        words = file.read_text("utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: can't be read as a vocabulary, one piece a line") from error
    if "[UNK]" not in words:
        raise BadInput(f"{file}: holds no [UNK]; it is not a WordPiece vocabulary")
    return words


def _bert_vectors(source: Source, used: np.ndarray) -> np.ndarray:
    """Encode [CLS] token [SEP] for each token -> (tokens, hidden) float64."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    graph = bert_graph(source).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    ids = np.full((len(used), 3), source.vocab.index("[SEP]"), dtype=np.int64)
    ids[:, 0], ids[:, 1] = source.vocab.index("[CLS]"), used
    batches = [ids[i : i + _BATCH] for i in range(0, len(ids), _BATCH)]
    vectors = [session.run(None, {"input_ids": b})[0] for b in track(batches, "encoding tokens")]
    return np.concatenate(vectors).astype(np.float64)


def _text_vectors(files: Files, words: list[str]) -> np.ndarray:
    """Encode each piece as a text of its own with sentence-transformers -> (tokens, hidden) float64."""
    if files.folder is None:
        raise BadInput(f"{files.name}: not a lower-casing BERT; unpack it into a folder first")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "encoder") from error
    model: Any = SentenceTransformer(str(files.folder), device="cpu", trust_remote_code=False)
    texts = [word.removeprefix("##") for word in words]
    return np.asarray(model.encode(texts, batch_size=_BATCH, show_progress_bar=False), dtype=np.float64)


def principal(vectors: np.ndarray, dim: int) -> tuple[np.ndarray, float]:
    """Project onto the first `dim` principal components -> (n, dim) and the share of variance kept.

    A component's sign is arbitrary; it is fixed so that its largest entry is positive.
    """
    centred = vectors - vectors.mean(axis=0)
    variance, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :dim]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dim)])
    return centred @ axes, float(variance[::-1][:dim].sum() / variance.sum())


def zipf_sif(tokens: int) -> np.ndarray:
    """Weight a / (a + p) of each rank, with p proportional to 1 / rank -> (tokens,)."""
    share = 1.0 / np.arange(2, tokens + 2)
    share /= share.sum()
    weights: np.ndarray = SIF_A / (SIF_A + share)
    return weights


def quantise(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise each row to int8 with a scale of its own -> (n, d) int8, (n,) float32."""
    scale = (np.abs(rows).max(axis=1) / 127.0).astype(np.float32)
    steps = np.divide(rows, scale[:, None], out=np.zeros_like(rows), where=scale[:, None] > 0)
    return np.rint(steps).clip(-127, 127).astype(np.int8), scale


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean(np.sum(one * other, axis=1)[lengths > 0] / lengths[lengths > 0]))


def render(report: DistilReport) -> Iterable[RenderableType]:
    """Show the report as lines for people."""
    yield f"{report.out}: {report.dim} dimensions, {report.encoded:,} tokens, {report.bytes / 1e6:.1f} MB"
    yield f"from {report.source} ({report.licence or 'licence unknown'}) in {report.seconds} s"
    yield f"kept {report.explained_variance:.1%} of variance; int8 cosine {report.quantised_cosine:.5f}"
    yield f"digest {report.digest}"
