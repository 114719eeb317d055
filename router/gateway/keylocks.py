"""One process at a time for an idempotency key: a byte of a lock file, which the system lets go of if we die.

POSIX record locks, so no clock and no lease: a killed process holds nothing. They keep processes apart, not
callers in one process, and closing any handle on the file would let go of all: there is one handle.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class KeyLocks:
    """Locks by name, held until freed or until the process ends."""

    def __init__(self, file: Path) -> None:
        self._handle = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)

    def take(self, name: bytes) -> bool:
        """Hold a name; False where another process does. `name` is a digest: 56 bits of it tell it apart."""
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def free(self, name: bytes) -> None:
        """Hold it no longer."""
        with suppress(OSError):
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place(name))

    def close(self) -> None:
        """Let go of all."""
        os.close(self._handle)


def _place(name: bytes) -> int:
    return int.from_bytes(name[:7])
