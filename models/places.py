"""What a store of bundles lies on: a folder, or anything that fsspec reads; paths are relative to it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from features.errors import BadInput, MissingExtra
from features.files import held_alone, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

PATIENCE_S = 60  # for one file of a store that answers too slowly or not at all
# Folders come with the files in them there; to make one would at most make a bucket that nobody asked for.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "r2", "oss", "oci"})


class Place(Protocol):
    """All that a store needs."""

    def read(self, path: str) -> bytes | None:
        """Content of a file; None when there is none. BadInput, one line, when that can't be told."""

    def write(self, path: str, content: bytes) -> None:
        """Put a file there, whole or not at all; BadInput, one line, when it can't be."""

    def alone(self, path: str) -> AbstractContextManager[None]:
        """Let nobody else write a file between reading and writing it, where the place has such a lock."""


class Folder:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        """Content of a file; None when there is none."""
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            self._see_that_it_is_no_file()
            return None
        except OSError as error:
            raise BadInput(f"{self.root / path}: can't be read ({error.strerror})") from error

    def write(self, path: str, content: bytes) -> None:
        """Put a file there by renaming it into place."""
        self._see_that_it_is_no_file()
        try:
            replace_file(self.root / path, content)
        except OSError as error:
            raise BadInput(f"{self.root / path}: can't be written ({error.strerror})") from error

    @contextmanager
    def alone(self, path: str) -> Iterator[None]:
        """Hold a lock file beside it."""
        self._see_that_it_is_no_file()
        with ExitStack() as stack:
            try:
                stack.enter_context(held_alone(self.root / f".{path}.lock"))
            except BlockingIOError:
                raise BadInput(f"{self.root}: another promotion is under way; run it again") from None
            except OSError as error:
                raise BadInput(f"{self.root}: can't be written ({error.strerror})") from error
            yield

    def _see_that_it_is_no_file(self) -> None:
        if self.root.is_file():
            raise BadInput(f"{self.root}: is a file, and a store is a folder; name another place")


class Remote:
    """An object store, or another file system of fsspec's; putting one object is atomic there."""

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
        self._patience: dict[str, Any] = {"timeout": PATIENCE_S} if self.files.async_impl else {}

    def read(self, path: str) -> bytes | None:
        """Content of an object; None when there is none."""
        self.files.invalidate_cache()
        try:
            with self._asked(path, "read"):
                return bytes(self.files.cat_file(f"{self.root}/{path}", **self._patience))
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Put an object there."""
        target = f"{self.root}/{path}"
        try:
            with self._asked(path, "written"):
                if self.files.protocol and not OBJECT_STORES.intersection(_names(self.files.protocol)):
                    self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self.files.pipe_file(target, content, **self._patience)
        except FileNotFoundError as error:
            raise BadInput(f"{self.url}: there is no such bucket or container; make it first") from error

    @contextmanager
    def alone(self, path: str) -> Iterator[None]:  # noqa: ARG002 — the protocol's
        """A URL has no lock: of two promotions at once the last wins, with a whole bundle."""
        yield

    @contextmanager
    def _asked(self, path: str, done: str) -> Iterator[None]:
        """Map what a driver raises to one line: each has errors of its own, few of them OSErrors."""
        try:
            yield
        except FileNotFoundError:
            raise
        except TimeoutError as error:
            why = f"no answer within {PATIENCE_S} s"
            raise BadInput(f"{self.url}/{path}: can't be {done} ({why})") from error
        except Exception as error:
            why = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            raise BadInput(f"{self.url}/{path}: can't be {done} ({why})") from error


def _names(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else protocol
