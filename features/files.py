"""Writing a file whole or not at all, and keeping others out meanwhile."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees either the old content or the new one; durable."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with beside.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def held_alone(file: Path) -> Iterator[None]:
    """Hold a lock file, which a kill releases too; BlockingIOError when another process holds it."""
    import fcntl  # POSIX only; nothing that serves holds a lock

    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            there = os.path.samestat(os.fstat(handle), file.stat())
        except FileNotFoundError:
            there = False
        if not there:  # whoever held it has just let it go, and taken the file away
            raise BlockingIOError
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
    finally:
        os.close(handle)
