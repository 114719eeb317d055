"""Answers that outlive the process, for keyed retries: SQLite, and each sealed by its own request.

What opens an answer is the idempotency key and the body it was given to, and neither is kept: from the file
alone nothing of a conversation can be read. One-time keys, so a plain key stream (SHAKE-256) and a keyed hash
(BLAKE2b) will do, and no cipher has to be installed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
from contextlib import ExitStack
from typing import TYPE_CHECKING

from features.errors import BadInput
from router.gateway.keylocks import KeyLocks

if TYPE_CHECKING:
    from pathlib import Path

_SALT, _MAC = 16, 32
_TABLES = (
    "CREATE TABLE IF NOT EXISTS answers (name BLOB PRIMARY KEY, asked BLOB NOT NULL, until REAL NOT NULL,"
    " sealed BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_until ON answers (until)",
)
_AT_A_TIME = 64  # answers let go of for want of room


def seal(secret: bytes, plain: bytes) -> bytes:
    """Make bytes that only `secret` opens again; equal ones never look alike."""
    salt = os.urandom(_SALT)
    hidden = _mixed(secret, salt, plain)
    return salt + _mac(secret, salt, hidden) + hidden


def unseal(secret: bytes, sealed: bytes) -> bytes | None:
    """Open what `seal` made; None for another secret or bytes that were changed."""
    salt, mac, hidden = sealed[:_SALT], sealed[_SALT : _SALT + _MAC], sealed[_SALT + _MAC :]
    if not hmac.compare_digest(mac, _mac(secret, salt, hidden)):
        return None
    return _mixed(secret, salt, hidden)


def _mixed(secret: bytes, salt: bytes, data: bytes) -> bytes:
    stream = hashlib.shake_256(b"stream" + salt + hashlib.sha256(secret).digest()).digest(len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def _mac(secret: bytes, salt: bytes, hidden: bytes) -> bytes:
    key = hashlib.sha256(b"mac" + secret).digest()
    return hashlib.blake2b(salt + hidden, key=key, digest_size=_MAC).digest()


class SealedAnswers:
    """Answers by the name of their key, for so many seconds; used from one thread at a time.

    Processes that share a journal share the file, and keep out of each other's way: a name is taken by one of
    them at a time.
    """

    def __init__(self, file: Path, keep_s: float, most_bytes: int = 2**30) -> None:
        self._keep_s = keep_s
        self._most = most_bytes
        with ExitStack() as opened:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(file, timeout=5.0, check_same_thread=False, isolation_level=None)
                opened.callback(self._db.close)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                for table in _TABLES:
                    self._db.execute(table)
                self._locks = KeyLocks(file.with_name(f"{file.name}.locks"))
            except (sqlite3.Error, OSError) as error:
                raise BadInput(f"answers {file}: {error}; set `disk = false` under [idempotency]") from error
            opened.pop_all()  # it stays open
        file.chmod(0o600)

    def take(self, name: bytes) -> bool:
        """Hold a name until it is freed; False where another process holds it."""
        return self._locks.take(name)

    def free(self, name: bytes) -> None:
        """Let others have a name."""
        self._locks.free(name)

    def get(self, name: bytes, now_s: float) -> tuple[bytes, bytes] | None:
        """Digest of the body that was asked, and the sealed answer; None where there is none any more."""
        found = self._db.execute(
            "SELECT asked, sealed, until FROM answers WHERE name = ?", (name,)
        ).fetchone()
        return None if found is None or found[2] < now_s else (found[0], found[1])

    def put(self, name: bytes, asked: bytes, sealed: bytes, now_s: float) -> None:
        """Keep an answer, and let go of those whose time is over, then of the oldest for want of room."""
        self._db.execute("DELETE FROM answers WHERE until < ?", (now_s,))
        while self._used() + len(sealed) > self._most:
            gone = self._db.execute(
                "DELETE FROM answers WHERE name IN (SELECT name FROM answers ORDER BY until LIMIT ?)",
                (_AT_A_TIME,),
            )
            if not gone.rowcount:
                return
        self._db.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", (name, asked, now_s + self._keep_s, sealed)
        )

    def _used(self) -> int:
        """Bytes of the file that hold something; what was freed is used again."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {said}").fetchone()[0]
            for said in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the file, and let go of every name."""
        self._db.close()
        self._locks.close()
