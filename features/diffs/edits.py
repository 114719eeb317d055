"""What an edit is, whatever it was written in: files, and the operations on each, in order."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PATCH_BYTES = (
    16 << 20
)  # larger answers are refused at once: nobody reviews them, and memory stays bounded
MAX_FILES = 5_000
MAX_HUNKS = 20_000


class Hunk(NamedTuple):
    """One hunk: `start` is the 1-based line of the old file, each line keeps its terminator and its op."""

    start: int
    lines: tuple[tuple[int, bytes], ...]  # (op, line); op is the byte value of " ", "-" or "+"

    @property
    def old(self) -> list[bytes]:
        """Lines of the old file which the hunk covers."""
        return [line for op, line in self.lines if op != PLUS]

    @property
    def new(self) -> list[bytes]:
        """Lines which stand there afterwards."""
        return [line for op, line in self.lines if op != MINUS]


SPACE, PLUS, MINUS = b" +-"
STRIPPED = "stripped"  # a note: blank context lines that a hunk lacks were put back


class Hunks(NamedTuple):
    """Hunks with line numbers, as in a unified diff."""

    hunks: tuple[Hunk, ...]


class Locate(NamedTuple):
    """Lines found by their own text, after the anchor lines, as in Codex's apply_patch."""

    anchors: tuple[bytes, ...]
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]
    at_end: bool = False


class Replace(NamedTuple):
    """A text replaced by another; it must occur once unless `every`."""

    old: bytes
    new: bytes
    every: bool = False


class Insert(NamedTuple):
    """Text put in after a line (0 = at the top)."""

    after: int
    text: bytes


class Whole(NamedTuple):
    """The complete new content, or None for a file taken away."""

    content: bytes | None


Op = Hunks | Locate | Replace | Insert | Whole


class FileEdit(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one file.

    `notes` holds what makes the file more than text: "created", "deleted", "renamed", "copied", "mode",
    "binary", "submodule". `problem` says why it can't be read.
    """

    path: str
    old_path: str | None = None  # where the content comes from, when it is another path
    ops: tuple[Op, ...] = ()
    notes: frozenset[str] = frozenset()
    mode: str | None = None
    problem: str | None = None


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One answer's edit. `problem` says why the whole of it can't be read."""

    files: tuple[FileEdit, ...] = ()
    problem: str | None = None

    def by_path(self) -> dict[str, FileEdit]:
        """The files by the path they have afterwards."""
        return {file.path: file for file in self.files}


def creates(file: FileEdit, base: Mapping[str, bytes] | None = None) -> bool:
    """Whether the file is known to be new: the edit says so, or the base hasn't got it."""
    if "created" in file.notes:
        return True
    return base is not None and (file.old_path or file.path) not in base


def join(parts: list[FileEdit]) -> Edit:
    """One edit from parts in order; later parts on the same path go on top of the earlier ones."""
    if len(parts) > MAX_FILES:
        return Edit(problem=f"more than {MAX_FILES} file changes")
    merged: dict[str, FileEdit] = {}
    for part in parts:
        before = merged.pop(part.old_path or part.path, None)
        merged[part.path] = part if before is None else _stack(before, part)
    return Edit(files=tuple(merged.values()))


def _stack(first: FileEdit, then: FileEdit) -> FileEdit:
    """Two changes of one file, one after the other."""
    moved = then.old_path is not None and then.old_path != then.path
    return FileEdit(
        path=then.path,
        old_path=first.old_path or (first.path if moved else None),
        ops=first.ops + then.ops,
        notes=first.notes | then.notes,
        mode=then.mode or first.mode,
        problem=first.problem or then.problem,
    )


def clean_path(path: str, root: str | None = None) -> tuple[str, str | None]:
    """A path in one spelling, relative to `root` if it lies under it; a problem if it leaves the tree."""
    plain = path.replace("\\", "/").strip()
    if root and (plain == root or plain.startswith(root.rstrip("/") + "/")):
        plain = plain[len(root.rstrip("/")) + 1 :]
    normal = posixpath.normpath(plain) if plain else ""
    if normal in ("", "."):
        return path, "a change without a path"
    if normal == ".." or normal.startswith("../"):
        return normal, "the path leaves the tree"
    if "\0" in normal:
        return normal.replace("\0", "?"), "a path with a NUL byte"
    return normal, None


def as_bytes(text: str | bytes) -> bytes:
    """Text as UTF-8; lone surrogates keep their bytes."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
