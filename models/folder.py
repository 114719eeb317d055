"""A bundle as a folder: where its files lie, how it is verified, and how it is written in one step."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from features.errors import BadInput
from models.manifest import MANIFEST_VERSION, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_BESIDE = ("__init__.py", "README.md")  # may lie beside a bundle that ships inside a package
_UNSEALED = b'"digest": ""'
RETRAIN = "retrain with `samediff train`"


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a bundle folder; the encoder may be absent."""

    root: Path

    @property
    def manifest(self) -> Path:
        """What the bundle is."""
        return self.root / "manifest.json"

    @property
    def heads(self) -> Path:
        """Both heads as one ONNX graph."""
        return self.root / "heads.onnx"

    @property
    def encoder(self) -> Path:
        """Folder of the text encoder."""
        return self.root / "encoder"

    @property
    def valid(self) -> bool:
        """Whether this looks like a bundle at all."""
        return self.manifest.is_file() and self.heads.is_file()


class _Version(msgspec.Struct):
    manifest_version: int


def read_manifest(layout: Layout) -> tuple[Manifest, bytes]:
    """Manifest and its bytes; raises BadInput where it is missing, of another version or changed."""
    try:
        raw = layout.manifest.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{layout.root}: not a bundle (no manifest.json); make one with `samediff train`"
        ) from error
    try:
        version = msgspec.json.decode(raw, type=_Version).manifest_version
        if version != MANIFEST_VERSION:
            known = f"this samediff reads {MANIFEST_VERSION}"
            raise BadInput(f"{layout.manifest}: manifest version {version}, {known}; {RETRAIN}")
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{layout.manifest}: not a bundle's manifest ({error}); {RETRAIN}") from error
    if hashlib.sha256(_unsealed(raw, manifest.digest)).hexdigest() != manifest.digest:
        raise BadInput(f"{layout.manifest}: changed since it was written; {RETRAIN}")
    return manifest, raw


def verify_files(layout: Layout, manifest: Manifest) -> None:
    """Hold every file to its digest in the manifest; raises BadInput, one line, at the first that differs."""
    if layout.heads.name not in manifest.files:
        raise BadInput(f"{layout.manifest}: lists no {layout.heads.name}; {RETRAIN}")
    root = layout.root.resolve()
    for name, wanted in manifest.files.items():
        file = layout.root / name
        if not file.resolve().is_relative_to(root):
            raise BadInput(f"{layout.manifest}: names a file outside the bundle; {RETRAIN}")
        try:
            found = _sha256(file)
        except OSError as error:
            raise BadInput(f"{file}: missing from the bundle; restore it or {RETRAIN}") from error
        if found != wanted:
            raise BadInput(
                f"{file}: digest {found[:12]}, the manifest says {wanted[:12]}; restore it or {RETRAIN}"
            )


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_bundle(
    folder: Path | str,
    manifest: Manifest,
    heads: bytes,
    encoder: Path | None = None,
    *,
    extra: Mapping[str, bytes] | None = None,
) -> str:
    """Write a bundle in one step and return its digest; a bundle already there is replaced.

    It is built beside the target and renamed into place, so no reader sees half of one. Raises BadInput when
    the target holds anything that isn't a bundle's; what lies beside a shipped bundle is kept. `extra` are
    more files of the bundle, relative path -> bytes.
    """
    target = Path(folder)
    kept = kept_beside(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        new = Layout(work / "new")
        new.root.mkdir()
        new.heads.write_bytes(heads)
        if encoder is not None:
            shutil.copytree(encoder, new.encoder)
        for name, content in (extra or {}).items():
            file = new.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        manifest = msgspec.structs.replace(manifest, files=dict(_digests(new.root)))
        raw = sealed(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        new.manifest.write_bytes(raw)
        for file in kept:
            shutil.copy2(file, new.root)
        _swap(new.root, target, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return hashlib.sha256(raw).hexdigest()


def install_bundle(built: Path, target: Path) -> None:
    """Put a bundle that was built beside `target`, on the same disk, in its place in one step.

    What was there is left beside `built`, whose folder is the caller's to take away. Raises BadInput when the
    target holds anything that isn't a bundle's.
    """
    for file in kept_beside(target):
        shutil.copy2(file, built)
    _swap(built, target, built.with_name(f"{built.name}.old"))


def kept_beside(target: Path) -> list[Path]:
    """Files that stay when the bundle at `target` is replaced; BadInput if replacing it would lose others."""
    if not target.exists():
        return []
    layout = Layout(target)
    own = {layout.manifest.name, layout.heads.name, layout.encoder.name, "__pycache__", *_listed(layout)}
    rest = sorted(target.iterdir()) if target.is_dir() else [target]
    rest = [file for file in rest if file.name not in own]
    foreign = next((file for file in rest if file.name not in _BESIDE), None)
    if foreign is not None:
        raise BadInput(f"{foreign}: would be lost, {target} is not a bundle; choose another folder")
    return rest


class _Files(msgspec.Struct):
    files: dict[str, str] = {}


def _listed(layout: Layout) -> set[str]:
    """Names at the top of a bundle that its manifest lists."""
    try:
        files = msgspec.json.decode(layout.manifest.read_bytes(), type=_Files).files
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return set()
    return {name.split("/", 1)[0] for name in files}


def sealed(raw: bytes) -> bytes:
    """A manifest with its own digest written into it, over the bytes as they are without one."""
    return raw.replace(_UNSEALED, _UNSEALED[:-1] + hashlib.sha256(raw).hexdigest().encode() + b'"', 1)


def _unsealed(raw: bytes, digest: str) -> bytes:
    return raw.replace(_UNSEALED[:-1] + digest.encode() + b'"', _UNSEALED, 1)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, where the system can (Linux); a kill then finds one of them there."""
    import ctypes  # the standard library has no name for it

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and not renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange)


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put `new` at `target`; where folders can't be exchanged, what was there goes to `old` in between."""
    if target.exists():
        if _exchange(new, target):
            return
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _digests(root: Path) -> Iterable[tuple[str, str]]:
    for file in sorted(root.rglob("*")):
        if file.is_file():
            yield file.relative_to(root).as_posix(), _sha256(file)
