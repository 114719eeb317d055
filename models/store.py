"""Where published bundles lie: content-addressed folders and one small file that says which is served.

STORE/bundles/DIGEST/… never changes once it is there. STORE/current names the digest in force and those
before it, and is replaced in one step: a reader sees the old or the new, and a kill leaves one of them.
A store is a folder, or a URL of anything that fsspec reads (s3://…, gs://…, with its own package installed).
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from features.errors import BadInput
from models.bundle import Bundle
from models.folder import Layout
from models.places import Folder, Remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.places import Place

KEPT = 50  # digests before the one in force, and rolled back
POINTER = "current"
BROKEN = "current.broken"  # a pointer that couldn't be read when the next was put in its place

_log = logging.getLogger("samediff")


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundle is in force, since when (UTC epoch ms), and what was before it, the newest first."""

    digest: str
    since_ms: int
    before: list[str] = []
    withdrawn: list[str] = []  # what was rolled back: put in force again by people only, not by `retrain`


class _Listed(msgspec.Struct):
    files: dict[str, str]


class Store:
    """A place of published bundles; made by being written to."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._files: Place = Remote(place) if "://" in place else Folder(Path(place))

    def pointer(self) -> Pointer | None:
        """What is in force; None when nothing was ever published. BadInput when that can't be read."""
        raw = self._files.read(POINTER)
        if raw is None:
            return None
        try:
            return _decoded(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{self.place}/{POINTER}: no pointer of ours ({error}); promote again") from error

    def add(self, folder: Path) -> str:
        """Copy a bundle in and return its digest; BadInput when it doesn't verify. Twice is once."""
        bundle = Bundle.load(folder)
        layout = Layout(folder)
        for name in bundle.manifest.files:
            self._files.write(f"bundles/{bundle.digest}/{name}", (folder / name).read_bytes())
        # The manifest comes last: without it the folder is no bundle.
        self._files.write(f"bundles/{bundle.digest}/{layout.manifest.name}", layout.manifest.read_bytes())
        return bundle.digest

    def point(self, digest: str, now_ms: int) -> Pointer:
        """Put a bundle in force; BadInput when the store doesn't hold it. The same again changes nothing.

        A pointer that can't be read is set aside, aloud: what was in force before is lost with it.
        """
        self._manifest(digest)
        with self._files.alone(POINTER):
            old = self._readable()
            if old is not None and old.digest == digest:
                return old
            before = [] if old is None else [old.digest, *old.before][:KEPT]
            withdrawn = [] if old is None else [each for each in old.withdrawn if each != digest]
            return self._put(Pointer(digest=digest, since_ms=now_ms, before=before, withdrawn=withdrawn))

    def _readable(self) -> Pointer | None:
        """What is in force; None, and the file kept beside, where there is one that is no pointer of ours."""
        raw = self._files.read(POINTER)
        try:
            return None if raw is None else _decoded(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._files.write(BROKEN, raw or b"")
            said = "%s/%s was no pointer of ours: it is kept as %s, and what was in force before is lost"
            _log.warning(said, self.place, POINTER, BROKEN)
            return None

    def back(self, now_ms: int) -> Pointer:
        """Put what was before in force again; BadInput when there is nothing before."""
        with self._files.alone(POINTER):
            old = self.pointer()
            if old is None or not old.before:
                raise BadInput(f"{self.place}: nothing was in force before; there is nowhere to roll back to")
            digest, *before = old.before
            self._manifest(digest)
            withdrawn = [old.digest, *(each for each in old.withdrawn if each not in (digest, old.digest))]
            return self._put(
                Pointer(digest=digest, since_ms=now_ms, before=before, withdrawn=withdrawn[:KEPT])
            )

    def owes(self, digest: str) -> bool:
        """Whether a bundle has never been in force here, or rolled back: whether `retrain` may promote it."""
        now = self.pointer()
        return now is None or digest not in {now.digest, *now.before, *now.withdrawn}

    def last_good(self) -> Bundle | None:
        """What is in force; where that can't be used, what was before it, aloud. None: nothing was published.

        Raises BadInput, of what is in force, when none of them can be used.
        """
        now = self.pointer()
        if now is None:
            return None
        try:
            return self.load(now.digest)
        except BadInput as error:
            for digest in now.before:
                try:
                    found = self.load(digest)
                except BadInput:
                    continue
                said = "bundle %s is in force and can't be used (%s); %s, before it, goes on"
                _log.error(said, now.digest[:12], error, digest[:12])
                return found
            raise

    def load(self, digest: str) -> Bundle:
        """The bundle, verified; BadInput when it isn't what its folder is called."""
        try:
            return self._verified(digest)
        except BadInput:
            copy = _copies() / digest
            if isinstance(self._files, Folder) or not copy.exists():
                raise
            # The copy was damaged, or what it was made of is mended by now.
            shutil.rmtree(copy, ignore_errors=True)
            return self._verified(digest)

    def _verified(self, digest: str) -> Bundle:
        bundle = Bundle.load(self.fetch(digest))
        if bundle.digest != digest:
            raise BadInput(
                f"{self.place}: what lies under {digest[:12]} is {bundle.digest[:12]}; promote it again"
            )
        return bundle

    def fetch(self, digest: str, cache: Path | None = None) -> Path:
        """The bundle's folder; that of a remote store is copied under `cache` first, whole or not at all."""
        if isinstance(self._files, Folder):
            return self._files.root / "bundles" / digest
        cache = cache or _copies()
        target = cache / digest
        if Layout(target).manifest.is_file():
            return target
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        work = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}-", dir=cache))
        try:
            for name, content in self._contents(digest):
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_bytes(content)
            work.rename(target)
        except OSError as error:
            if not Layout(target).manifest.is_file():  # another process was quicker: as good
                raise BadInput(f"{target}: can't be written ({error.strerror})") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return target

    def _contents(self, digest: str) -> Iterator[tuple[str, bytes]]:
        manifest = self._manifest(digest)
        try:
            names = msgspec.json.decode(manifest, type=_Listed).files
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            said = f"bundle {digest[:12]} has no manifest of ours ({error}); promote it again"
            raise BadInput(f"{self.place}: {said}") from error
        for name in names:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise BadInput(f"{self.place}: bundle {digest[:12]} names a file outside of it; train again")
            content = self._files.read(f"bundles/{digest}/{name}")
            if content is None:
                raise BadInput(f"{self.place}: bundle {digest[:12]} lacks {name}; promote it again")
            yield name, content
        yield Layout(Path()).manifest.name, manifest

    def _manifest(self, digest: str) -> bytes:
        manifest: bytes | None = self._files.read(f"bundles/{digest}/{Layout(Path()).manifest.name}")
        if manifest is None:
            raise BadInput(f"{self.place}: holds no bundle {digest[:12]}; promote it again")
        return manifest

    def _put(self, pointer: Pointer) -> Pointer:
        self._files.write(POINTER, msgspec.json.format(msgspec.json.encode(pointer), indent=2) + b"\n")
        return pointer


def _decoded(raw: bytes) -> Pointer:
    return msgspec.json.decode(raw, type=Pointer)


def _copies() -> Path:
    """Where this user's copies of remote bundles lie."""
    return Path(tempfile.gettempdir()) / f"samediff-bundles-{os.getuid()}"


def is_store(place: str) -> bool:
    """Whether this names a store and not a bundle's folder."""
    return "://" in place or (Path(place) / POINTER).is_file() or (Path(place) / "bundles").is_dir()
