"""Write an encoder folder whole or not at all: parts, digests, card."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from features.encoder import EncoderCard, digest_of
from features.errors import BadInput


def require_free(out: Path) -> None:
    """Raise BadInput if `out` exists and holds something other than an encoder; ask before long work."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / "encoder.json").is_file():
        raise BadInput(f"{out}: exists and is no encoder; choose another --out")


def write_encoder(out: Path, parts: dict[str, Any], *, kind: str, dim: int, **about: Any) -> EncoderCard:
    """Write the parts (bytes or arrays) and `encoder.json` into `out`, replacing an encoder that is there.

    Raises BadInput if `out` exists and holds something else, so that nothing foreign is deleted.
    """
    require_free(out)
    data = {name: part if isinstance(part, bytes) else _npy(part) for name, part in parts.items()}
    files = {name: hashlib.sha256(part).hexdigest() for name, part in data.items()}
    digest = digest_of(kind, dim, files)
    card = msgspec.convert(
        {"kind": kind, "dim": dim, "tokenizer": "wordpiece-lower", "files": files, "digest": digest, **about},
        EncoderCard,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".encoder-") as made:
        staged = Path(made) / "encoder"
        staged.mkdir()
        for name, part in data.items():
            (staged / name).write_bytes(part)
        (staged / "encoder.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"
        )
        if out.exists():
            shutil.rmtree(out)
        staged.rename(out)
    return card


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
