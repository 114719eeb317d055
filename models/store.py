"""Where published bundles lie: content-addressed folders and one small file that says which is served.

STORE/bundles/DIGEST/… never changes once it is there. STORE/current names the digest in force and those
before it, and is replaced in one step: a reader sees the old or the new, and a kill leaves one of them.
A store is a folder, or a URL of anything that fsspec reads (s3://…, gs://…, with its own package installed).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from features.errors import BadInput, MissingExtra
from features.files import held_alone, replace_file
from models.bundle import Bundle
from models.folder import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 50  # digests before the one in force
POINTER = "current"


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundle is in force, since when (UTC epoch ms), and what was before it, the newest first."""

    digest: str
    since_ms: int
    before: list[str] = []


class _Files(Protocol):
    """All that a store needs of what it lies on; paths are relative to it."""

    def read(self, path: str) -> bytes | None:
        """Content of a file; None when there is none."""

    def write(self, path: str, content: bytes) -> None:
        """Put a file there, whole or not at all."""


class _Folder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadInput(f"{self.root / path}: can't be read ({error.strerror})") from error

    def write(self, path: str, content: bytes) -> None:
        try:
            replace_file(self.root / path, content)
        except OSError as error:
            raise BadInput(f"{self.root / path}: can't be written ({error.strerror})") from error


class _Remote:
    """An object store; putting one object is atomic there."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtra("fsspec", "store") from error
        try:
            self.files, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise BadInput(f"{url}: {error}") from error
        self.url = url

    def read(self, path: str) -> bytes | None:
        self.files.invalidate_cache()
        try:
            return bytes(self.files.cat_file(f"{self.root}/{path}"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{self.url}/{path}: can't be read ({error})") from error

    def write(self, path: str, content: bytes) -> None:
        target = f"{self.root}/{path}"
        try:
            self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.files.pipe_file(target, content)
        except OSError as error:
            raise BadInput(f"{self.url}/{path}: can't be written ({error})") from error


class Store:
    """A place of published bundles; made by being written to."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._files: Any = _Remote(place) if "://" in place else _Folder(Path(place))

    def pointer(self) -> Pointer | None:
        """What is in force; None when nothing was ever published. BadInput when that can't be read."""
        raw = self._files.read(POINTER)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=Pointer)
        except msgspec.DecodeError as error:
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
        """Put a bundle in force; BadInput when the store doesn't hold it. The same again changes nothing."""
        self._manifest(digest)
        with self._alone():
            old = self.pointer()
            if old is not None and old.digest == digest:
                return old
            before = [] if old is None else [old.digest, *old.before][:KEPT]
            return self._put(Pointer(digest=digest, since_ms=now_ms, before=before))

    def back(self, now_ms: int) -> Pointer:
        """Put what was before in force again; BadInput when there is nothing before."""
        with self._alone():
            old = self.pointer()
            if old is None or not old.before:
                raise BadInput(f"{self.place}: nothing was in force before; there is nowhere to roll back to")
            self._manifest(old.before[0])
            return self._put(Pointer(digest=old.before[0], since_ms=now_ms, before=old.before[1:]))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nobody else move the pointer between reading and writing it; a URL has no such lock."""
        with ExitStack() as stack:
            if isinstance(self._files, _Folder):
                try:
                    stack.enter_context(held_alone(self._files.root / f".{POINTER}.lock"))
                except BlockingIOError:
                    raise BadInput(f"{self.place}: another promotion is under way; run it again") from None
                except OSError as error:
                    raise BadInput(f"{self.place}: can't be written ({error.strerror})") from error
            yield

    def load(self, digest: str) -> Bundle:
        """The bundle, verified; BadInput when it isn't what its folder is called."""
        bundle = Bundle.load(self.fetch(digest))
        if bundle.digest != digest:
            raise BadInput(
                f"{self.place}: what lies under {digest[:12]} is {bundle.digest[:12]}; promote it again"
            )
        return bundle

    def fetch(self, digest: str, cache: Path | None = None) -> Path:
        """The bundle's folder; that of a remote store is copied under `cache` first, whole or not at all."""
        if isinstance(self._files, _Folder):
            return self._files.root / "bundles" / digest
        cache = cache or Path(tempfile.gettempdir()) / f"samediff-bundles-{os.getuid()}"
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
        for name in msgspec.json.decode(manifest)["files"]:
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


def is_store(place: str) -> bool:
    """Whether this names a store and not a bundle's folder."""
    return "://" in place or (Path(place) / POINTER).is_file() or (Path(place) / "bundles").is_dir()
