"""One pair of patches, lists of tool calls, files or folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.diffs.judge import judge
from features.errors import BadInput
from training.judge.reading import base_files, files, trees
from training.judge.result import JudgedPairs, collect

if TYPE_CHECKING:
    from pathlib import Path


def run(
    a: Path, b: Path, base: Path | None = None, *, set_aside: bool = True, root: str | None = None
) -> JudgedPairs:
    """The verdict on two patches, two lists of tool calls (JSON), two files or two folders.

    `root` is the folder that absolute paths in patches and calls are relative to.
    """
    for path in (a, b, *([base] if base else [])):
        if not path.exists():
            raise BadInput(f"{path}: no such file or folder")
    if a.is_dir() != b.is_dir():
        raise BadInput(f"{a} and {b}: compare two folders or two files, not one of each")
    if a.is_dir():
        edit_a, edit_b = trees(a, b)
    else:
        edit_a, edit_b = files(a, b, root)
    known = base_files(base, edit_a, edit_b) if base is not None else None
    return collect([judge(edit_a, edit_b, known, set_aside=set_aside)])
