"""The durable request log: JSON lines written by a thread of its own, losing nothing unseen.

A batch of lines counts as written once it is durable. Where the disk refuses it, what it took is cut off
again, the batch is kept and tried anew, and the queue fills up behind it: only what finds no room is lost.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from features.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from features.records import RecordKind

_LOG = logging.getLogger(__name__)
_ROTATE_BYTES = 64 * 2**20
_BATCH_BYTES = 4 * 2**20  # written without waiting for more


class Journal:
    """A bounded queue in front of `DIR/YYYY-MM-DD/<pid>-<n>.jsonl`; `dropped` counts what was lost."""

    def __init__(self, folder: Path, queue_size: int, flush_s: float) -> None:
        self.folder = folder
        self.written = 0
        self._refused = 0  # counted by those who add,
        self._lost = 0  # and by the writer
        self._flush_s = flush_s
        self._queue: queue.Queue[tuple[RecordKind, msgspec.Struct] | None] = queue.Queue(queue_size)
        self._thread = threading.Thread(target=self._run, name="samediff-journal", daemon=True)
        self._stopping = threading.Event()
        self._lines: list[bytes] = []  # the batch
        self._encoder = msgspec.json.Encoder()
        self._file: BinaryIO | None = None
        self._day = ""
        self._failed = False

    @property
    def dropped(self) -> int:
        """Records lost so far: there was no room for them, or the journal was closed over a failing disk."""
        return self._refused + self._lost

    @property
    def writable(self) -> bool:
        """Whether the last batch could be written."""
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

    def add(self, kind: RecordKind, record: msgspec.Struct) -> None:
        """Hand over one record; never waits."""
        try:
            self._queue.put_nowait((kind, record))
        except queue.Full:
            self._refused += 1

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what is waiting, make it durable and stop; what can't be written or takes longer is lost."""
        if not self._thread.is_alive():
            return
        self._stopping.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)  # wakes a writer that waits for records
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._lost += self._queue.qsize() + len(self._lines)

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()  # before looking, so that nothing comes after the last look
            self._gather(0.0 if stopping else self._flush_s)
            written = self._write()
            if stopping and (not written or self._queue.empty()):
                break
            if not written:
                self._stopping.wait(self._flush_s)
        self._lose_the_rest()
        self._let_go()

    def _gather(self, seconds: float) -> None:
        """Take what comes in that time into the batch, unless it is full already."""
        deadline = time.monotonic() + seconds
        size = sum(map(len, self._lines))
        while size < _BATCH_BYTES:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if item is None:
                return
            try:
                line = self._encoder.encode({"kind": item[0], "record": item[1]}) + b"\n"
            except (TypeError, ValueError, OverflowError) as error:
                self._lost += 1
                _LOG.error("a %s can't be written as JSON: %s", item[0], type(error).__name__)
                continue
            self._lines.append(line)
            size += len(line)

    def _write(self) -> bool:
        """Make the batch durable and begin another; False if the disk refuses it."""
        if not self._lines:
            return True
        size: int | None = None
        try:
            file = self._open()
            size = file.tell()
            data = memoryview(b"".join(self._lines))
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError as error:
            self._fail(error, size)
            return False
        self.written += len(self._lines)
        self._lines.clear()
        self._failed = False
        return True

    def _open(self) -> BinaryIO:
        """Return the file of today, a new one after midnight (UTC) or when the old one has grown large."""
        day = datetime.now(tz=UTC).strftime("%Y-%m-%d")
        if self._file is not None and day == self._day and self._file.tell() < _ROTATE_BYTES:
            return self._file
        self._let_go()
        folder = self.folder / day
        folder.mkdir(parents=True, exist_ok=True)
        n = 0
        while self._file is None:
            try:
                self._file = (folder / f"{os.getpid()}-{n}.jsonl").open("xb", buffering=0)
            except FileExistsError:  # an earlier process had our pid, as in a container
                n += 1
        self._day = day
        return self._file

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _fail(self, error: OSError, size: int | None) -> None:
        """Go back to the size before the batch, and say so once until writing works again."""
        try:
            if self._file is not None and size is not None:
                self._file.truncate(size)
                self._file.seek(size)
        except OSError:
            self._let_go()  # its last line stays torn; another file goes on
        if not self._failed:
            _LOG.error("the journal in %s can't be written: %s", self.folder, error.strerror)
        self._failed = True

    def _lose_the_rest(self) -> None:
        """Count what the disk wouldn't take until the end."""
        self._lost += len(self._lines)
        while True:
            try:
                self._lost += self._queue.get_nowait() is not None
            except queue.Empty:
                return
