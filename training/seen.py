"""What the log holds already: ids of records, and providers' ids of answers, in a few bytes each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from training.ids import is_global

if TYPE_CHECKING:
    from features.records import RequestRecord

JOURNAL = "journal"  # the source of what our own gateway wrote down


class Seen:
    """A set of 64-bit hashes in 8 bytes each: a sorted array for the old ones, a Python set for the newest.

    At ten million ids the chance of one false match is 3e-6.
    """

    def __init__(self) -> None:
        self._old = np.empty(0, np.uint64)
        self._new: set[int] = set()

    def __len__(self) -> int:
        return len(self._old) + len(self._new)

    def __contains__(self, key: str) -> bool:
        return self._has(_hash(key))

    def add(self, key: str) -> bool:
        """Remember a key; True if it was new."""
        value = _hash(key)
        if self._has(value):
            return False
        self._new.add(value)
        if len(self._new) >= 1 << 18:
            self._fold()
        return True

    def _has(self, value: int) -> bool:
        at = int(np.searchsorted(self._old, np.uint64(value)))
        return value in self._new or (at < len(self._old) and int(self._old[at]) == value)

    def _fold(self) -> None:
        newest = np.fromiter(self._new, np.uint64, len(self._new))
        self._old = np.sort(np.concatenate([self._old, newest]))
        self._new.clear()


class Answers:
    """Providers' ids of the answers that the log holds, in 8 bytes each; those that only count are left out.

    Two lines of our own journal are two calls whatever ids their answers bear, and so are never one.
    """

    def __init__(self) -> None:
        self._journal = Seen()
        self._others = Seen()

    def note(self, answer: str | None, source: str) -> None:
        """Remember an answer that a log of this source tells of."""
        if answer is not None and is_global(answer):
            (self._journal if source == JOURNAL else self._others).add(answer)

    def told(self, record: RequestRecord) -> bool:
        """Whether another log has told of a request's answer."""
        answer = record.provider_response_id
        if answer is None or not is_global(answer):
            return False
        return answer in self._others or (record.source != JOURNAL and answer in self._journal)

    def add(self, record: RequestRecord) -> None:
        """Remember a request's answer."""
        self.note(record.provider_response_id, record.source)


def _hash(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))
