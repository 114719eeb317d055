"""One call for a request that is sent twice: the second joins the first, or is given its answer again.

A client says so by an `Idempotency-Key`, or by the count of tries that the SDKs send. Such a count alone is
matched with care: a retry goes on from the one request whose try it repeats, and where that can't be told, or
what it repeats failed, it is a call of its own. Only answers that came through are given again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from features.errors import BadInput
from router.gateway.errors import Refused
from router.gateway.sealed import seal, unseal
from router.gateway.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Message

    from router.gateway.sealed import SealedAnswers

_LOG = logging.getLogger("samediff")
KEY_HEADER = "idempotency-key"
COUNT_HEADER = "x-stainless-retry-count"
_CREDENTIALS = ("authorization", "x-api-key", "api-key")
MAX_KEY = 255
MAX_KEPT = 10_000  # answers, however small
_SIBLINGS = 64  # requests with the same body that are told apart


class IdempotencySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long answers are kept for retries, and where."""

    enabled: bool = True
    keep_s: float = 600.0
    max_mib: float = 32.0  # in memory, of all answers; one may be a sixteenth of it
    disk: bool = True  # keyed answers outlive the process, sealed, beside the journal

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        for name in ("keep_s", "max_mib"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name}: {value:g} must be over 0")


class KeyReused(Refused):
    """An idempotency key comes with another request than before."""

    status = 422


class KeyBusy(Refused):
    """What was asked with this key can't be given again."""

    status = 409


_REUSED = f"this {KEY_HEADER} came with another request before; give every request a key of its own"
_Kept = tuple[int, list[tuple[bytes, bytes]], bytes]


class Claim(NamedTuple):
    """What a request is to others: `joined` says that it is given another's answer."""

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
        if self._disk is not None and self._thread is not None:
            loop = asyncio.get_running_loop()
            kept = await loop.run_in_executor(self._thread, self._disk.get, name, time.time())
            if kept is not None and kept[0] != asked:
                shared.close(came_through=False)
                raise KeyReused(_REUSED)
            shared.messages = [] if kept is None else _read(unseal(secret, kept[1]))
            if shared.messages:
                shared.done = True
                self._hold(shared, name)
                return Claim(self._joined(shared, asked), joined=True)
        return Claim(shared, joined=False)

    @staticmethod
    def _joined(found: Shared, asked: bytes) -> Shared:
        if found.asked != asked:
            raise KeyReused(_REUSED)
        if found.too_long:
            raise KeyBusy(
                f"what was asked with this {KEY_HEADER} was answered at too great a length to be kept"
            )
        found.join()
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
            before[0].join()
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
            return
        if not shared.done:
            shared.messages.clear()
        self._hold(shared, name)
        if secret and self._disk is not None and self._thread is not None and shared.messages:
            self._thread.submit(self._write, name, secret, shared.asked, _written(shared.messages))

    def _hold(self, shared: Shared, name: bytes) -> None:
        shared.until = time.monotonic() + self._settings.keep_s
        if not shared.messages:
            shared.size = 0
        self._over[id(shared)] = (shared, name)
        self._held += shared.size

    def _write(self, name: bytes, secret: bytes, asked: bytes, plain: bytes) -> None:
        assert self._disk is not None
        try:
            self._disk.put(name, asked, seal(secret, plain), time.time())
        except sqlite3.Error as error:
            _LOG.error("an answer can't be kept for retries: %s", error)

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
