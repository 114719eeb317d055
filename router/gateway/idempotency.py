"""One call for a request that is sent twice: the second joins the first, or is given its answer again.

A client says so by an `Idempotency-Key`, or by the count of tries that the SDKs send. Such a count alone is
matched with care: a retry goes on from the one request whose try it repeats, and where that can't be told, or
what it repeats failed, it is a call of its own. Only answers that came through are given again.

Keyed answers are found again after a restart and by other processes that share the journal; one that another
process is about to get is waited for. Counts are known to one process only.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from features.errors import BadInput
from router.gateway.errors import Refused
from router.gateway.sealed import seal, unseal
from router.gateway.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.types import Message

    from router.gateway.sealed import SealedAnswers

_LOG = logging.getLogger("samediff")
KEY_HEADER = "idempotency-key"
COUNT_HEADER = "x-stainless-retry-count"
_CREDENTIALS = ("authorization", "x-api-key", "api-key")
MAX_KEY = 255
MAX_KEPT = 10_000  # answers, however small
_SIBLINGS = 64  # requests with the same body that are told apart
_POLL_S = 0.1  # between two looks whether another process is through


class IdempotencySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long answers are kept for retries, and where."""

    enabled: bool = True
    keep_s: float = 600.0
    max_mib: float = 32.0  # in memory, of all answers; one may be a sixteenth of it
    disk: bool = True  # keyed answers outlive the process, sealed, beside the journal
    disk_mib: float = 1_024.0  # of them; the oldest go first
    wait_s: float = 300.0  # for the answer that another process is about to get

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        for name in ("keep_s", "max_mib", "disk_mib", "wait_s"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name}: {value:g} must be a finite number over 0")


class KeyReused(Refused):
    """An idempotency key comes with another request than before."""

    status = 422


class KeyBusy(Refused):
    """What was asked with this key can't be given again."""

    status = 409


_TOO_LONG = f"what was asked with this {KEY_HEADER} was answered at too great a length to be kept"
_ELSEWHERE = f"what was asked with this {KEY_HEADER} is still being answered by another process"
_REUSED = f"this {KEY_HEADER} came with another request before; give every request a key of its own"
_Kept = tuple[int, list[tuple[bytes, bytes]], bytes]


class Claim(NamedTuple):
    """What a request is to others; `joined`: it is to be given another's answer, and at once joins in."""

    shared: Shared
    joined: bool


class Repeats:
    """The answers that may be asked for again, and those under way."""

    def __init__(self, settings: IdempotencySettings, disk: SealedAnswers | None = None) -> None:
        self._settings = settings
        self._bytes = int(settings.max_mib * 2**20)
        self._by_key: dict[bytes, Shared] = {}
        self._by_body: dict[bytes, list[Shared]] = {}
        self._over: OrderedDict[int, tuple[Shared, bytes]] = OrderedDict()  # with their names, oldest first
        self._held = 0  # bytes of them
        self._disk = disk
        self._thread = ThreadPoolExecutor(1, "samediff-answers") if disk else None

    async def claim(self, headers: Mapping[str, str], path: str, body: bytes) -> Claim | None:
        """Find what a request repeats, or note it for those who do; None where its client says nothing.

        Raises KeyReused, KeyBusy, or BadInput for a key that is none.
        """
        key, count = headers.get(KEY_HEADER), headers.get(COUNT_HEADER)
        if not self._settings.enabled or (key is None and count is None):
            return None
        self._forget(time.monotonic())
        who = "\0".join((path, *(headers.get(name, "") for name in _CREDENTIALS)))
        asked = xxhash.xxh3_128_digest(body)
        if key is None:
            return self._counted(_name(who, asked), asked, count or "")
        if not 0 < len(key) <= MAX_KEY:
            raise BadInput(f"{KEY_HEADER} must have 1 to {MAX_KEY} characters")
        return await self._keyed(_name(who, key.encode()), asked, key.encode() + b"\0" + body)

    async def _keyed(self, name: bytes, asked: bytes, secret: bytes) -> Claim:
        found = self._by_key.get(name)
        if found is not None:
            return Claim(self._joined(found, asked), joined=True)
        shared = self._by_key[name] = Shared(asked, 0, self._most, lambda s: self._ended(s, name, secret))
        if self._thread is None:
            return Claim(shared, joined=False)
        try:
            kept = await self._fetched(name)
            if kept is not None and kept[0] != asked:
                raise KeyReused(_REUSED)
            if kept is not None and not kept[1]:
                raise KeyBusy(_TOO_LONG)
            messages = [] if kept is None else _read(unseal(secret, kept[1]))
        except BaseException:  # nobody else may wait for it
            shared.close(came_through=False)
            raise
        if not messages:
            return Claim(shared, joined=False)
        shared.take(messages)
        self._hold(shared, name)
        self._aside(self._disk_free, name)
        return Claim(self._joined(shared, asked), joined=True)

    async def _fetched(self, name: bytes) -> tuple[bytes, bytes] | None:
        """What the disk has of a name, once no other process is about to write it; its name is held then."""
        loop, until = asyncio.get_running_loop(), time.monotonic() + self._settings.wait_s
        while True:
            held, kept = await loop.run_in_executor(self._thread, self._look, name)
            if held:
                return kept
            if time.monotonic() > until:
                raise KeyBusy(_ELSEWHERE)
            await asyncio.sleep(_POLL_S)

    def _look(self, name: bytes) -> tuple[bool, tuple[bytes, bytes] | None]:
        """Whether a name is ours to ask for, and what there is of it already."""
        assert self._disk is not None
        if not self._disk.take(name):
            return False, None
        try:
            return True, self._disk.get(name, time.time())
        except sqlite3.Error as error:
            _LOG.error("kept answers can't be read: %s", error)
            return True, None

    def _disk_free(self, name: bytes) -> None:
        assert self._disk is not None
        self._disk.free(name)

    @staticmethod
    def _joined(found: Shared, asked: bytes) -> Shared:
        if found.asked != asked:
            raise KeyReused(_REUSED)
        if found.too_long:
            raise KeyBusy(_TOO_LONG)
        return found

    def _counted(self, name: bytes, asked: bytes, count: str) -> Claim:
        """Match a try by its count with the one before it; every try can be repeated once."""
        tries = int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 0
        siblings = self._by_body.setdefault(name, [])
        before = [s for s in siblings if s.tries == tries - 1 and not s.claimed]
        failed = next((s for s in before if s.done is False or s.too_long), None)
        if failed is not None:
            failed.claimed = True
        elif len(before) == 1:
            before[0].claimed = True
            return Claim(before[0], joined=True)
        shared = Shared(asked, tries, self._most, lambda s: self._ended(s, name))
        siblings.append(shared)
        del siblings[:-_SIBLINGS]
        return Claim(shared, joined=False)

    @property
    def _most(self) -> int:
        return self._bytes // 16

    def _ended(self, shared: Shared, name: bytes, secret: bytes = b"") -> None:
        """Keep an answer that came through; a failure with a key leaves nothing, so it may be asked anew."""
        if secret and not shared.done:
            self._by_key.pop(name, None)
            self._aside(self._disk_free, name)
            return
        if not shared.done:
            shared.messages.clear()
        self._hold(shared, name)
        if secret and self._thread is not None:
            plain = b"" if shared.too_long else _written(shared.messages)
            self._aside(self._write, name, secret, shared.asked, plain)

    def _aside(self, what: Callable[..., None], *about: bytes) -> None:
        """Have something done by the thread that has the file; nothing any more once it is closed."""
        if self._thread is not None:
            with suppress(RuntimeError):
                self._thread.submit(what, *about)

    def _hold(self, shared: Shared, name: bytes) -> None:
        shared.until = time.monotonic() + self._settings.keep_s
        self._over[id(shared)] = (shared, name)
        self._held += shared.size

    def _write(self, name: bytes, secret: bytes, asked: bytes, plain: bytes) -> None:
        """Keep an answer, of one too long only that there was one; then others may have its name."""
        assert self._disk is not None
        try:
            self._disk.put(name, asked, seal(secret, plain) if plain else b"", time.time())
        except sqlite3.Error as error:
            _LOG.error("an answer can't be kept for retries: %s", error)
        finally:
            self._disk.free(name)

    def _forget(self, now: float) -> None:
        """Let go of what is too old, or too much."""
        while self._over:
            at, (shared, name) = next(iter(self._over.items()))
            if shared.until > now and self._held <= self._bytes and len(self._over) <= MAX_KEPT:
                return
            del self._over[at]
            self._held -= shared.size
            if self._by_key.get(name) is shared:
                del self._by_key[name]
            siblings = self._by_body.get(name, [])
            if shared in siblings:
                siblings.remove(shared)
            if not siblings:
                self._by_body.pop(name, None)

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._thread is not None and self._disk is not None:
            self._thread.shutdown(wait=True)
            self._disk.close()


def _name(who: str, said: bytes) -> bytes:
    """Name of a request in the tables: no key, no credential and no body can be read from it."""
    return hashlib.blake2b(said, key=hashlib.sha256(who.encode()).digest(), digest_size=24).digest()


def _written(messages: Sequence[Message]) -> bytes:
    """An answer's messages as bytes: status, headers and the whole body."""
    start, *rest = messages
    return msgspec.msgpack.encode((start["status"], start["headers"], b"".join(m["body"] for m in rest)))


def _read(plain: bytes | None) -> list[Message]:
    """Messages out of bytes; none where they can't be read."""
    try:
        status, headers, body = msgspec.msgpack.decode(plain or b"", type=_Kept)
    except msgspec.MsgspecError:
        return []
    return [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]
