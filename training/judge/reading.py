"""Files and folders as edits: patches, tool calls, contents, and the base they stand on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from features.diffs.calls import edit_of_calls, edit_of_text, edit_of_tree
from features.diffs.edits import MAX_PATCH_BYTES, Edit
from features.diffs.postimage import MAX_FILE_BYTES
from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KINDS = {
    ".diff": "a patch",
    ".patch": "a patch",
    ".json": "a list of tool calls",
    ".jsonl": "a list of tool calls",
}
_SKIPPED_FOLDERS = frozenset((".git", ".hg", "node_modules", "__pycache__", ".venv"))


def _read(path: Path) -> bytes:
    """A file's or an open pipe's bytes, if there aren't too many."""
    if path.is_fifo():
        return _read_pipe(path)
    if not path.is_file():
        raise BadInput(f"{path}: not a file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BadInput(
            f"{path}: larger than {MAX_FILE_BYTES >> 20} MB; nothing that size is a diff to review"
        )
    return path.read_bytes()


def _read_pipe(path: Path) -> bytes:
    """What comes through a pipe that the shell opened; a named one might wait for ever."""
    if not str(path).startswith(("/dev/fd/", "/proc/")):
        raise BadInput(f"{path}: a named pipe; give a file, or <(COMMAND)")
    with path.open("rb") as pipe:
        data = pipe.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise BadInput(f"{path}: more than {MAX_FILE_BYTES >> 20} MB")
    return data


def files(a: Path, b: Path, root: str | None) -> tuple[Edit, Edit]:
    """Two files as edits: as patches if both are, else as contents of one file. Each is read once."""
    data_a, data_b = _read(a), _read(b)
    patch_a, patch_b = _edit_of_file(a, data_a, root), _edit_of_file(b, data_b, root)
    if patch_a is not None and patch_b is not None:
        return patch_a, patch_b
    for path, data, other in ((a, data_a, patch_b), (b, data_b, patch_a)):
        if other is not None and path.suffix in (".json", ".jsonl") and not _is_json(data):
            raise BadInput(f"{path}: not JSON that can be read; is it cut off? Give a list of tool calls")
    for path, patch in ((a, patch_a), (b, patch_b)):
        if patch is not None and (what := _KINDS.get(path.suffix)):
            raise BadInput(f"{path} is {what} and the other isn't: give two of them, or two files")
    name = a.name if not a.is_fifo() else b.name if not b.is_fifo() else "file"
    return edit_of_tree({name: data_a}), edit_of_tree({name: data_b})


def _edit_of_file(path: Path, data: bytes, root: str | None) -> Edit | None:
    """The edit a file describes, as a patch or as tool calls; None if it is just a file."""
    if len(data) > MAX_PATCH_BYTES:
        return Edit(problem=f"a file over the limit of {MAX_PATCH_BYTES >> 20} MB")
    if path.suffix in (".json", ".jsonl") and (calls := _tool_calls(data)) is not None:
        return edit_of_calls(calls, root)
    if not data.strip() and path.suffix in (".diff", ".patch", ""):
        return Edit()
    edit = edit_of_text(data, root)
    return None if edit.problem == "no diff found in the text" or not data.strip() else edit


def _tool_calls(data: bytes) -> list[tuple[str, str | Mapping[str, Any]]] | None:
    """Tool calls of a JSON list or of JSON lines: objects with `name` and `input` or `arguments`.

    Those of Chat Completions have both within `function`. Anything else is data.
    """
    try:
        whole = data.lstrip().startswith(b"[")
        items = msgspec.json.decode(data) if whole else msgspec.json.Decoder().decode_lines(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    calls: list[tuple[str, str | Mapping[str, Any]]] = []
    for item in items if isinstance(items, list) else []:
        call = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return None
        arguments = call.get("input", call.get("arguments"))
        if not isinstance(arguments, dict | str):
            return None
        calls.append((call["name"], arguments))
    return calls or None


def _is_json(data: bytes) -> bool:
    """Whether the data are one JSON value, or one on each line."""
    for read in (msgspec.json.decode, msgspec.json.Decoder().decode_lines):
        try:
            read(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return True
    return False


def trees(a: Path, b: Path) -> tuple[Edit, Edit]:
    """The files in which two folders differ, as two edits."""
    names = sorted({*_files_below(a), *_files_below(b)})
    left: dict[str, bytes | None] = {}
    right: dict[str, bytes | None] = {}
    for name in names:
        one, other = (_read(root / name) if (root / name).is_file() else None for root in (a, b))
        if one != other:
            left[name], right[name] = one, other
    return edit_of_tree(left), edit_of_tree(right)


def _files_below(root: Path) -> Iterator[str]:
    """Relative paths of the files of a folder, without version control and installed packages."""
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in _SKIPPED_FOLDERS]
        for name in files:
            yield (Path(folder) / name).relative_to(root).as_posix()


def base_files(base: Path, a: Edit, b: Edit) -> dict[str, bytes]:
    """The files of the base folder (or the one base file) which the edits touch."""
    paths = {file.old_path or file.path for edit in (a, b) for file in edit.files}
    if base.is_file():
        if len(paths) > 1:
            raise BadInput(f"{base}: one base file, but the patches touch {len(paths)}; give the folder")
        return {path: _read(base) for path in paths}
    root = base.resolve()
    found = {path: (root / path).resolve() for path in paths}
    return {path: _read(at) for path, at in found.items() if at.is_relative_to(root) and at.is_file()}
