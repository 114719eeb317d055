"""Which files an ingestion reads, and in which order: our own journal's first, then the oldest first."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from features.errors import BadInput
from training.log import STATE_FILE
from training.sources.base import head

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AGE_BYTES = 16384
LINE_BYTES = 1024  # enough to unpack the start of a line
_JOURNAL_LINE = b'{"kind":'
_TIMESTAMP = re.compile(rb'"timestamp":\s*"([^"]{10,40})"')


class Found(NamedTuple):
    """A file to ingest: where it is, and its name under the source's root, fit to be shown."""

    path: Path
    name: str


def find(sources: Sequence[str | Path], log: Path) -> list[Found]:
    """All files of the sources in the order of reading; raises BadInput for a source that isn't there."""
    return sorted(_walk(sources, log), key=_journal_first)


def _walk(sources: Sequence[str | Path], log: Path) -> Iterator[Found]:
    """Find the files of the sources, oldest first in each folder, hidden ones and our own logs left out."""
    for source in map(Path, sources):
        if source.is_file():
            yield Found(source, _printable(source.name))
        elif not source.is_dir():
            raise BadInput(f"{_printable(source)}: no such file or folder")
        for folder, inner, names in os.walk(source):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            if STATE_FILE in names or Path(folder).resolve() == log.resolve():
                inner.clear()
                continue
            files = [Path(folder) / name for name in names if not name.startswith(".")]
            for path in sorted((path for path in files if path.is_file()), key=_age):
                yield Found(path, _printable(path.relative_to(source)))


def _printable(path: str | Path) -> str:
    """A path as text that can be stored and shown, even where it isn't UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _journal_first(found: Found) -> bool:
    """Sort our own journal's files to the front: of a call that other logs tell, too, its record is kept."""
    try:
        return not head(found.path, LINE_BYTES).startswith(_JOURNAL_LINE)
    except OSError:
        return True


def _age(path: Path) -> tuple[str, str, str]:
    """Sort a folder by the files' first and last timestamp, then by name.

    A session comes before its forks then, which repeat its requests, and so keeps them.
    """
    try:
        start = head(path, AGE_BYTES)
        with path.open("rb") as handle:
            handle.seek(max(0, size_of(path) - AGE_BYTES))
            end = handle.read()
    except OSError:
        return "", "", path.name
    first, last = _TIMESTAMP.search(start), _TIMESTAMP.findall(end)
    return (
        first[1].decode("ascii", "replace") if first else "",
        last[-1].decode("ascii", "replace") if last else "",
        path.name,
    )


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where that can't be told."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
