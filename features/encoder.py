"""Text -> vector at serving speed: a static matrix over WordPiece, or a transformer through ONNX.

An encoder is a folder: `encoder.json` (what it is, where it comes from, digests of its parts), `vocab.txt`,
and either `matrix.npy` with `scale.npy` or `model.onnx`. `training/encoder` makes such folders.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import numpy as np

from features.errors import BadInput
from features.wordpiece import WordPiece

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1
_PIECES_KEPT = 1_024  # sums remembered: a session's task comes again with every turn
_FIXED_POINT = 1 << 15  # |row| <= 1 is stored as int16, so that sums are exact in any order, on any machine
_PARTS: dict[str, tuple[str, ...]] = {
    "static": ("vocab.txt", "matrix.npy", "scale.npy"),
    "onnx": ("vocab.txt", "model.onnx"),
}


class EncoderCard(msgspec.Struct, frozen=True, kw_only=True):
    """`encoder.json`: what an encoder folder holds. `digest` covers the format, the kind and every part."""

    format: int = FORMAT
    kind: Literal["static", "onnx"]
    dim: int
    tokenizer: Literal["wordpiece-lower"]
    files: dict[str, str]  # part -> sha256
    digest: str
    max_tokens: int | None = None  # onnx: longer texts are cut, special tokens included
    source: str | None = None
    source_sha256: str | None = None
    licence: str | None = None
    provenance: dict[str, Any] = {}


class Encoder(Protocol):
    """What the rest of the project asks of an encoder."""

    dim: int
    digest: str

    def encode(self, text: str) -> np.ndarray:
        """Return the vector (dim,) float32 of one text, L2-normalised; zeros if nothing in it is known."""

    def encode_pieces(self, pieces: Sequence[str]) -> np.ndarray:
        """Return the vector (dim,) of a text given in pieces, a blank line apart; that of the whole text."""

    def encode_batch(self, texts: list[str]) -> np.ndarray:
        """Return the vectors (n, dim) of many texts, each bit for bit what `encode` gives."""


def digest_of(kind: str, dim: int, files: dict[str, str]) -> str:
    """Compute the digest of an encoder from its kind, its dimension and its parts' digests."""
    return hashlib.sha256(msgspec.json.encode([FORMAT, kind, dim, sorted(files.items())])).hexdigest()


def load_encoder(folder: Path | str) -> StaticEncoder | OnnxEncoder:
    """Load whichever encoder the folder holds; raises BadInput on a missing or changed part."""
    kind = read_card(Path(folder)).kind
    return StaticEncoder.load(folder) if kind == "static" else OnnxEncoder.load(folder)


def read_card(folder: Path, expected: str | None = None) -> EncoderCard:
    """Read `encoder.json` and verify every part against its digest.

    Raises BadInput, one line, naming the file and what is wrong with it.
    """
    file = folder / "encoder.json"
    try:
        card = msgspec.json.decode(file.read_bytes(), type=EncoderCard)
    except OSError as error:
        raise BadInput(f"{file}: no encoder here; make one with: samediff encoder distil") from error
    except msgspec.DecodeError as error:
        raise BadInput(f"{file}: not an encoder's card ({error})") from error
    if card.format != FORMAT:
        raise BadInput(f"{file}: format {card.format}, this samediff reads {FORMAT}; distil it anew")
    if expected is not None and card.kind != expected:
        raise BadInput(f"{file}: kind {card.kind}, not {expected}; load it with load_encoder")
    if sorted(card.files) != sorted(_PARTS[card.kind]):
        raise BadInput(f"{file}: files must name {', '.join(_PARTS[card.kind])}")
    for name, wanted in card.files.items():
        if _sha256(folder / name) != wanted:
            raise BadInput(
                f"{folder / name}: its digest isn't the one in encoder.json; restore or distil it anew"
            )
    if card.digest != digest_of(card.kind, card.dim, card.files):
        raise BadInput(f"{file}: digest doesn't match its contents; restore or distil it anew")
    return card


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{file}: can't be read ({error.strerror}); the encoder is incomplete") from error


def _read_vocab(folder: Path) -> list[str]:
    return (folder / "vocab.txt").read_text("utf-8").rstrip("\n").split("\n")


def _unit(vector: np.ndarray) -> np.ndarray:
    """Scale to length 1 in float64, round to float32; zeros stay zeros."""
    length = math.sqrt(vector.dot(vector))
    unit: np.ndarray = (vector / length if length > 0.0 else vector).astype(np.float32)
    return unit


class StaticEncoder:
    """The sum of the text's token vectors, normalised; each row already carries its SIF weight.

    (Smooth inverse frequency: Arora, Liang, Ma 2017.) The length of the sum is lost in the normalisation,
    so sum and weighted mean are the same vector.
    """

    def __init__(self, card: EncoderCard, tokenizer: WordPiece, rows: np.ndarray) -> None:
        self.card = card
        self.dim = card.dim
        self.digest = card.digest
        self.tokenizer = tokenizer
        self._rows = rows  # (vocabulary, dim) int16 fixed point
        self._remembered = lru_cache(maxsize=_PIECES_KEPT)(self._sum)

    @classmethod
    def load(cls, folder: Path | str) -> StaticEncoder:
        """Load and verify a static encoder; raises BadInput on a missing or changed part."""
        folder = Path(folder)
        card = read_card(folder, "static")
        matrix = np.load(folder / "matrix.npy", allow_pickle=False)
        scale = np.load(folder / "scale.npy", allow_pickle=False)
        vocab = _read_vocab(folder)
        if matrix.shape != (len(vocab), card.dim) or scale.shape != (len(vocab),):
            raise BadInput(f"{folder}: matrix.npy, scale.npy and vocab.txt disagree in shape; distil it anew")
        fixed = np.rint(matrix * (scale * _FIXED_POINT)[:, None].astype(np.float32))
        rows = np.clip(fixed, 1 - _FIXED_POINT, _FIXED_POINT - 1).astype(np.int16)
        return cls(card, WordPiece(vocab), rows)

    def encode(self, text: str) -> np.ndarray:
        """Return the vector (dim,) float32 of one text, L2-normalised; zeros if nothing in it is known."""
        return _unit(self._sum(text))

    def encode_pieces(self, pieces: Sequence[str]) -> np.ndarray:
        """Return the vector (dim,) of a text given in pieces, a blank line apart; that of the whole text.

        The sums are whole numbers and no word crosses a blank line, so a piece that comes again is not read.
        """
        if not pieces:
            return np.zeros(self.dim, np.float32)
        total = self._remembered(pieces[0])
        for piece in pieces[1:]:
            total = total + self._remembered(piece)
        return _unit(total)

    def _sum(self, text: str) -> np.ndarray:
        """Sum (dim,) of the rows of a text's tokens, in fixed point: whole numbers, as float64."""
        chosen = self._rows.take(self.tokenizer.rows(text), axis=0)
        total: np.ndarray = np.add.reduce(chosen, axis=0, dtype=np.int32).astype(np.float64)
        return total

    def encode_batch(self, texts: list[str]) -> np.ndarray:
        """Return the vectors (n, dim) of many texts, each bit for bit what `encode` gives."""
        return np.stack([self.encode(t) for t in texts]) if texts else np.zeros((0, self.dim), np.float32)


class OnnxEncoder:
    """A transformer exported to ONNX (pooling and normalisation inside its graph), on one thread."""

    def __init__(self, card: EncoderCard, tokenizer: WordPiece, session: Any) -> None:
        self.card = card
        self.dim = card.dim
        self.digest = card.digest
        self.tokenizer = tokenizer
        self._session = session
        self._start = tokenizer.vocab.index("[CLS]")
        self._end = tokenizer.vocab.index("[SEP]")

    @classmethod
    def load(cls, folder: Path | str) -> OnnxEncoder:
        """Load and verify an ONNX encoder; raises BadInput on a missing or changed part."""
        import onnxruntime

        folder = Path(folder)
        card = read_card(folder, "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = str(folder / "model.onnx")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return cls(card, WordPiece(_read_vocab(folder)), session)

    def encode(self, text: str) -> np.ndarray:
        """Return the vector (dim,) float32 of one text, L2-normalised; zeros for a text without tokens."""
        ids = self.tokenizer.ids(text)[: (self.card.max_tokens or 128) - 2]
        if not ids:
            return np.zeros(self.dim, np.float32)
        tokens = np.array([[self._start, *ids, self._end]], dtype=np.int64)
        return _unit(self._session.run(None, {"input_ids": tokens})[0][0].astype(np.float64))

    def encode_pieces(self, pieces: Sequence[str]) -> np.ndarray:
        """Return the vector (dim,) of a text given in pieces, a blank line apart."""
        return self.encode("\n\n".join(pieces))

    def encode_batch(self, texts: list[str]) -> np.ndarray:
        """Return the vectors (n, dim) of many texts, one run each: padding would change their last bits."""
        return np.stack([self.encode(t) for t in texts]) if texts else np.zeros((0, self.dim), np.float32)
