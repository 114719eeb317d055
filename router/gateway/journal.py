"""The durable request log: JSON lines written by a thread of its own, losing nothing unseen."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from features.records import RecordKind

_LOG = logging.getLogger(__name__)
_ROTATE_BYTES = 64 * 2**20
_STOP = None


class Journal:
    """A bounded queue in front of `DIR/YYYY-MM-DD/<pid>-<n>.jsonl`; `dropped` counts what was lost."""

    def __init__(self, folder: Path, queue_size: int, flush_s: float) -> None:
        self.folder = folder
        self.written = 0
        self.dropped = 0
        self._flush_s = flush_s
        self._queue: queue.Queue[tuple[RecordKind, msgspec.Struct] | None] = queue.Queue(queue_size)
        self._thread = threading.Thread(target=self._run, name="samediff-journal", daemon=True)
        self._file: IO[bytes] | None = None
        self._day = ""
        self._failed = False

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def add(self, kind: RecordKind, record: msgspec.Struct) -> None:
        """Hand over one record; never waits."""
        try:
            self._queue.put_nowait((kind, record))
        except queue.Full:
            self.dropped += 1

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what is waiting, make it durable and stop; what isn't done in time counts as dropped."""
        if not self._thread.is_alive():
            return
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._queue.put(_STOP, timeout=max(0.0, deadline - time.monotonic()))
                break
            except queue.Full:
                if time.monotonic() >= deadline:
                    self.dropped += self._queue.qsize()
                    return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        encoder = msgspec.json.Encoder()
        synced = time.monotonic()
        while True:
            try:
                item = self._queue.get(timeout=self._flush_s)
            except queue.Empty:
                self._sync()
                synced = time.monotonic()
                continue
            if item is _STOP:
                break
            self._write(encoder.encode({"kind": item[0], "record": item[1]}) + b"\n")
            if time.monotonic() - synced >= self._flush_s:
                self._sync()
                synced = time.monotonic()
        self._sync()
        if self._file is not None:
            self._file.close()

    def _write(self, line: bytes) -> None:
        try:
            file = self._open()
            file.write(line)
        except OSError as error:
            self._fail(error)
            return
        self.written += 1
        self._failed = False

    def _sync(self) -> None:
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._fail(error, lost=0)

    def _open(self) -> IO[bytes]:
        """Return the file of today, a new one after midnight (UTC) or when the old one has grown large."""
        day = datetime.now(tz=UTC).strftime("%Y-%m-%d")
        if self._file is not None and day == self._day and self._file.tell() < _ROTATE_BYTES:
            return self._file
        if self._file is not None:
            self._sync()
            self._file.close()
            self._file = None
        folder = self.folder / day
        folder.mkdir(parents=True, exist_ok=True)
        n = 0
        while self._file is None:
            try:
                self._file = (folder / f"{os.getpid()}-{n}.jsonl").open("xb")
            except FileExistsError:  # an earlier process had our pid, as in a container
                n += 1
        self._day = day
        return self._file

    def _fail(self, error: OSError, lost: int = 1) -> None:
        """Count what was lost, and say so once until writing works again."""
        self.dropped += lost
        if not self._failed:
            _LOG.error("the journal in %s can't be written: %s", self.folder, error.strerror)
        self._failed = True
