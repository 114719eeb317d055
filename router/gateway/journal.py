"""The durable request log: JSON lines written by a thread of its own, losing nothing unseen.

A record becomes a line where it is added, while the processor's caches hold it. The line is handed to the
operating system 0.2 s later, or at once where somebody waits for that, so it outlives the process, and is
made durable at most `flush_s` after that; it counts as written once it is durable. Where the disk refuses
lines, what it took of them is cut off again, they are kept and tried anew, and the queue fills up behind
them: only what finds no room is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from features.records import RecordKind

_LOG = logging.getLogger(__name__)
_ROTATE_BYTES = 64 * 2**20
_BATCH_BYTES = 4 * 2**20  # handed over at a time, and made durable without waiting for more
_ROOM_BYTES = 256 * 2**20  # of lines that wait, however few they are
# For lines to gather. Each time the thread wakes it takes the interpreter's lock from the event loop's, which
# costs that some ms of CPU under load: at 20 ms it was 12 to 20 % of all, but for long prompts.
_LINGER_S = 0.2
_DAY_S = 86_400
_HANDED_S = 10.0  # a disk that takes longer is taken for a failing one


class Journal:
    """A bounded queue in front of `DIR/YYYY-MM-DD/<pid>-<n>.jsonl`; `dropped` counts what was lost."""

    def __init__(self, folder: Path, queue_size: int, flush_s: float) -> None:
        self.folder = folder
        self.written = 0
        self._refused = 0  # counted by those who add,
        self._lost = 0  # and by the writer
        self._flush_s = flush_s
        self._queue: deque[tuple[bytes, Future[bool] | None]] = deque()  # lines, and who waits for them
        self._room = queue_size
        self._half = (queue_size + 1) // 2  # of it: lines gather no longer then
        self._added = self._taken = 0  # bytes, by those who add and by the writer
        self._bell = threading.Event()  # rung when something is queued
        self._lull = threading.Lock()  # held while lines may gather; waiting for an Event takes longer
        self._lull.acquire()
        self._thread = threading.Thread(target=self._run, name="samediff-journal", daemon=True)
        self._stopping = threading.Event()
        self._lines: list[bytes] = []  # to be handed over next,
        self._handed: list[bytes] = []  # and those that the file holds but that aren't durable yet,
        self._durable = 0  # which begin here in it
        self._due = 0.0  # when they are to be made durable
        self._waiting: list[Future[bool]] = []  # told when the lines are handed over
        self._encoder = msgspec.json.Encoder()
        self._file: BinaryIO | None = None
        self._size = 0  # of the file,
        self._day = 0  # and the one that it is of, since 1970
        self._failed = False

    @property
    def dropped(self) -> int:
        """Records lost so far: there was no room for them, or the journal was closed over a failing disk."""
        return self._refused + self._lost

    @property
    def writable(self) -> bool:
        """Whether the last lines could be written."""
        return not self._failed

    def check(self) -> None:
        """Make the folder and a file in it; BadInput when the disk doesn't let us."""
        probe = self.folder / f".{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"\n")
            probe.unlink()
        except OSError as error:
            why = error.strerror
            raise BadInput(f"journal {self.folder}: {why}; choose another folder with --journal") from error

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def add(self, kind: RecordKind, record: msgspec.Struct, told: Future[bool] | None = None) -> bool:
        """Queue one record, or return False; never waits. `told` hears whether it is handed over."""
        if len(self._queue) >= self._room or self._added - self._taken >= _ROOM_BYTES:
            self._refused += 1
            return False
        try:
            line = self._encoder.encode_lines([{"kind": kind, "record": record}])
        except (TypeError, ValueError, OverflowError) as error:
            self._refused += 1
            _LOG.error("a %s can't be written as JSON: %s", kind, type(error).__name__)
            return False
        self._added += len(line)
        self._queue.append((line, told))
        if told is not None or len(self._queue) == self._half:
            self._hurry()
        if not self._bell.is_set():
            self._bell.set()
        return True

    async def hand_over(self, kind: RecordKind, records: Sequence[msgspec.Struct]) -> bool:
        """Queue records and wait until the operating system has them; False if that can't be said of all."""
        told: Future[bool] = Future()
        last = len(records) - 1
        queued = [self.add(kind, r, told if n == last else None) for n, r in enumerate(records)]
        if not all(queued):
            return False
        try:
            return not records or await asyncio.wait_for(asyncio.wrap_future(told), _HANDED_S)
        except TimeoutError:
            return False

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what is waiting, make it durable and stop; what can't be written or takes longer is lost."""
        if not self._thread.is_alive():
            return
        self._stopping.set()
        self._hurry()
        self._bell.set()  # wakes a writer that waits for lines
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._lost += len(self._queue) + len(self._lines) + len(self._handed)

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()  # before looking, so that nothing comes after the last look
            if not (stopping or self._lines or self._added - self._taken >= _BATCH_BYTES):
                self._listen()
            self._gather()
            written = self._write()
            written = self._sync(now=stopping) and written
            if stopping and (not written or not self._queue):
                break
            if not written:
                self._stopping.wait(self._flush_s)
        self._lose_the_rest()
        self._let_go()

    def _listen(self) -> None:
        """Let lines gather; where none come, wait for a first one and its followers, or for a sync."""
        if not self._lull.acquire(timeout=_LINGER_S) and not self._queue:
            self._bell.clear()  # before looking, so that nobody is overheard
            due_s = max(0.0, self._due - time.monotonic()) if self._handed else None
            if self._queue or self._bell.wait(due_s):
                self._lull.acquire(timeout=_LINGER_S)

    def _hurry(self) -> None:
        """Let no more lines gather: somebody waits, or there is little room for more."""
        with suppress(RuntimeError):  # said before
            self._lull.release()

    def _gather(self) -> None:
        """Take what is queued, up to a batch."""
        size = sum(map(len, self._lines))
        while self._queue and size < _BATCH_BYTES:
            line, told = self._queue.popleft()
            self._lines.append(line)
            if told is not None:
                self._waiting.append(told)
            size += len(line)
            self._taken += len(line)

    def _write(self) -> bool:
        """Hand the batch to the operating system and begin another; False if the disk refuses it."""
        if not self._lines:
            return True
        if self._rotates() and not self._sync(now=True):
            return False
        size: int | None = None
        try:
            file = self._open()
            size = self._size
            data = memoryview(b"".join(self._lines))
            while data:
                done = file.write(data)
                self._size += done
                data = data[done:]
        except OSError as error:
            self._fail(error, size)
            return False
        if not self._handed:
            self._durable = size
            self._due = time.monotonic() + self._flush_s
        self._handed += self._lines
        self._lines.clear()
        self._tell_all(handed=True)
        return True

    def _sync(self, *, now: bool) -> bool:
        """Make durable what was handed over, when due or after a failure; False if it can't be."""
        if self._file is None or not self._handed:
            return True
        large = self._size - self._durable >= _BATCH_BYTES
        if not (now or large or self._failed or time.monotonic() >= self._due):
            return True
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._take_back()
            self._fail(error, self._durable)
            return False
        self.written += len(self._handed)
        self._handed.clear()
        if not self._lines:
            self._failed = False
        return True

    def _take_back(self) -> None:
        """Have what isn't durable written anew."""
        self._lines[:0] = self._handed
        self._handed.clear()

    def _tell_all(self, *, handed: bool) -> None:
        for told in self._waiting:
            _tell(told, handed=handed)
        self._waiting.clear()

    def _rotates(self) -> bool:
        return self._file is not None and (self._day != _today() or self._size >= _ROTATE_BYTES)

    def _open(self) -> BinaryIO:
        """Return the file of today, a new one after midnight (UTC) or when the old one has grown large."""
        if self._file is not None and (self._handed or not self._rotates()):
            return self._file
        self._let_go()
        self._day, self._size = _today(), 0
        folder = self.folder / datetime.fromtimestamp(self._day * _DAY_S, tz=UTC).strftime("%Y-%m-%d")
        folder.mkdir(parents=True, exist_ok=True)
        n = 0
        while self._file is None:
            try:
                self._file = (folder / f"{os.getpid()}-{n}.jsonl").open("xb", buffering=0)
            except FileExistsError:  # an earlier process had our pid, as in a container
                n += 1
        return self._file

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _fail(self, error: OSError, size: int | None) -> None:
        """Go back to the size before the lines, and say so once until writing works again."""
        try:
            if self._file is not None and size is not None:
                self._file.truncate(size)
                self._file.seek(size)
                self._size = size
        except OSError:
            self._take_back()
            self._let_go()  # its last line stays torn; another file goes on
        self._tell_all(handed=False)
        if not self._failed:
            _LOG.error("the journal in %s can't be written: %s", self.folder, error.strerror)
        self._failed = True

    def _lose_the_rest(self) -> None:
        """Count what the disk wouldn't take until the end."""
        self._lost += len(self._lines)
        while self._queue:
            self._lost += 1
            if (told := self._queue.popleft()[1]) is not None:
                _tell(told, handed=False)


def _today() -> int:
    return int(time.time()) // _DAY_S


def _tell(told: Future[bool], *, handed: bool) -> None:
    """Answer one who waits, unless it has gone."""
    if told.set_running_or_notify_cancel():
        told.set_result(handed)
