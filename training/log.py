"""The canonical log on disk: a Parquet data set partitioned by day that never holds a record twice.

`LOG/requests/day=YYYY-MM-DD/*.parquet` (also `decisions`, `outcomes`) beside `LOG/samediff-log.json`, the
schema version and the state of ingested files. Files are written aside and renamed, so a kill at any moment
leaves a log that reads; one writer at a time holds a lock, readers need none.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from features.errors import BadInput
from features.files import replace_file
from features.records import RECORD_TYPES, SCHEMA_VERSION, RecordKind, RequestRecord
from training.frames import PolarsError, no_rows, read_column, scan_files, to_frame, without
from training.seen import JOURNAL, Answers, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl

FOLDERS: dict[RecordKind, str] = {"request": "requests", "decision": "decisions", "outcome": "outcomes"}
ID_FIELDS: dict[RecordKind, str] = {
    "request": "request_id",
    "decision": "request_id",
    "outcome": "outcome_id",
}
STATE_FILE = "samediff-log.json"
BATCH_ROWS = 4096  # records held in memory before they are written
MERGE_FROM = 16  # a day with this many little files is merged into one
LITTLE_BYTES = 32 << 20
_SUPERSEDED = "superseded.json"
_MERGING = "merging.json"


class AppendCount(NamedTuple):
    """How many records an append added, and how many were there already."""

    added: int
    duplicates: int


class FileState(msgspec.Struct, frozen=True):
    """What ingestion remembers of one file: enough to see that it hasn't changed."""

    size: int
    mtime_ns: int
    head: str  # digest of its first bytes and of the options it was read with
    rows: int  # records read from it


class LogState(msgspec.Struct):
    """Content of `samediff-log.json`; files are known by a digest of their path, which itself isn't kept."""

    schema_version: int = SCHEMA_VERSION
    files: dict[str, FileState] = {}


class LogStore:
    """The log of one folder; raises BadInput for a folder written by a newer samediff."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.state = self._read_state()
        self._seen: dict[RecordKind, Seen] = {}
        self._answers = Answers()
        self._superseded: set[str] = set()
        self._pending: dict[RecordKind, list[msgspec.Struct]] = {kind: [] for kind in FOLDERS}
        self._locked = False

    def _read_state(self) -> LogState:
        file = self.path / STATE_FILE
        if self.path.exists() and not self.path.is_dir():
            raise BadInput(f"{self.path}: the log must be a folder; name another one")
        try:
            raw = file.read_bytes()
        except FileNotFoundError:
            return LogState()
        except OSError as error:
            raise BadInput(f"{self.path}: can't be read ({error.strerror}); name another folder") from None
        try:
            version = int(msgspec.json.decode(raw)["schema_version"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise BadInput(f"{file}: not readable; delete it, and ingesting again loses nothing") from None
        if version > SCHEMA_VERSION:
            known = f"this samediff reads up to {SCHEMA_VERSION}; upgrade it"
            raise BadInput(f"{self.path}: log of schema version {version}, {known}")
        return msgspec.json.decode(raw, type=LogState)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the log for writing; raises BadInput if another process holds it. A kill releases it."""
        import fcntl  # POSIX only; reading a log works anywhere

        if self._locked:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise BadInput(
                f"{self.path}: can't be written ({error.strerror}); name another folder with --to"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise BadInput(
                f"{self.path}: another samediff is writing to this log; wait for it to end"
            ) from None
        self._locked = True
        try:
            with self._disk():
                self._recover()
            # Others may have written.
            self.state, self._seen, self._answers = self._read_state(), {}, Answers()
            self._superseded = self._read_superseded()
            yield
        finally:
            self._locked = False
            os.close(handle)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Say in one line what the disk has against being written to; what it holds stays a valid log."""
        try:
            yield
        except (OSError, PolarsError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
            raise BadInput(
                f"{self.path}: can't be written ({why}); make space or name another folder with --to"
            ) from None

    def append(self, kind: RecordKind, records: Iterable[msgspec.Struct]) -> AppendCount:
        """Add the records that aren't there yet, in batches of bounded memory."""
        added = duplicates = 0
        with self.writing():
            for record in records:
                new = self.admit(kind, record)
                added, duplicates = added + new, duplicates + (not new)
            self.flush()
        return AppendCount(added, duplicates)

    def admit(self, kind: RecordKind, record: msgspec.Struct) -> bool:
        """Take one record unless its id is in the log already; it is on disk after the next `flush`.

        A request is there already, too, when another log of the same call has told the provider's id of its
        answer. Whichever came first is kept, but our journal's takes its place: labels hang on it.
        """
        if kind not in self._seen:
            self._seen[kind] = self._load_ids(kind)
        key: str = getattr(record, ID_FIELDS[kind])
        if key in self._seen[kind]:
            return False
        if isinstance(record, RequestRecord):
            if self._answers.told(record):
                if record.source != JOURNAL:
                    return False
                self._superseded.add(record.provider_response_id or "")
            self._answers.add(record)
        self._seen[kind].add(key)
        self._pending[kind].append(record)
        return True

    @property
    def pending(self) -> int:
        """Records admitted and not yet on disk."""
        return sum(map(len, self._pending.values()))

    def flush(self) -> None:
        """Write what was admitted, one file per kind and day, then the state of the files it came from."""
        with self._disk():
            if self._superseded:  # before what takes their place: a kill in between is mended by the next run
                replace_file(self.path / _SUPERSEDED, msgspec.json.encode(sorted(self._superseded)))
            for kind, records in self._pending.items():
                days: dict[str, list[msgspec.Struct]] = {}
                for record in records:
                    days.setdefault(day_of(getattr(record, "ts_ms")), []).append(record)  # noqa: B009
                for day, rows in sorted(days.items()):
                    self._write_day(kind, day, rows)
                records.clear()
            replace_file(self.path / STATE_FILE, msgspec.json.encode(self.state))

    def _write_day(self, kind: RecordKind, day: str, rows: list[msgspec.Struct]) -> None:
        folder = self.path / FOLDERS[kind] / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        ids = "\n".join(getattr(row, ID_FIELDS[kind]) for row in rows)
        file = folder / f"{xxhash.xxh3_128_hexdigest(ids.encode('utf-8', 'surrogatepass'))}.parquet"
        beside = file.with_suffix(".tmp")
        to_frame(RECORD_TYPES[kind], rows).sort("ts_ms", maintain_order=True).write_parquet(beside)
        _publish(beside, file)

    def files(self, kind: RecordKind) -> list[Path]:
        """The files of a kind, in the order in which `scan` reads them."""
        return [file for folder in self._days(kind) for file in _live_files(folder)]

    def scan(self, kind: RecordKind, files: list[Path] | None = None) -> pl.LazyFrame:
        """All records of a kind, lazily, with the partition's `day`; an empty frame of the schema if none.

        `files` are some of the kind's, where not all are wanted.
        """
        files = self.files(kind) if files is None else files
        if not files:
            return no_rows(RECORD_TYPES[kind])
        rows = scan_files(files, RECORD_TYPES[kind], by_day=True)
        gone = sorted(self._read_superseded()) if kind == "request" else []
        return rows.filter(without(gone, JOURNAL)) if gone else rows

    def _read_superseded(self) -> set[str]:
        """Providers' ids of the answers that our journal tells of in another log's place."""
        try:
            return msgspec.json.decode((self.path / _SUPERSEDED).read_bytes(), type=set[str])
        except FileNotFoundError:
            return set()

    def merge_days(self) -> int:
        """Merge days of many little files into one file each; returns how many days. Safe to be killed."""
        merged = 0
        with self.writing(), self._disk():
            for kind in FOLDERS:
                for folder in self._days(kind):
                    little = [f for f in _live_files(folder) if f.stat().st_size < LITTLE_BYTES]
                    if len(little) >= MERGE_FROM:
                        self._merge(kind, folder, little)
                        merged += 1
        return merged

    def _merge(self, kind: RecordKind, folder: Path, little: list[Path]) -> None:
        name = xxhash.xxh3_128_hexdigest("".join(f.name for f in little).encode()) + ".parquet"
        beside = folder / f"{name}.tmp"
        scan_files(little, RECORD_TYPES[kind], by_day=False).sink_parquet(beside)
        # Readers and recovery leave the old files out as soon as the new one stands.
        replace_file(folder / _MERGING, msgspec.json.encode({"new": name, "old": [f.name for f in little]}))
        _publish(beside, folder / name)
        _finish_merge(folder)

    def _recover(self) -> None:
        """Clear away what a killed writer left; its lock is gone, so nobody else is at it."""
        for kind in FOLDERS:
            for folder in self._days(kind):
                _finish_merge(folder)
                for leftover in folder.glob("*.tmp"):
                    leftover.unlink()

    def _days(self, kind: RecordKind) -> list[Path]:
        return sorted((self.path / FOLDERS[kind]).glob("day=*"))

    def _load_ids(self, kind: RecordKind) -> Seen:
        seen = Seen()
        for folder in self._days(kind):
            for file in _live_files(folder):
                for key in read_column(file, ID_FIELDS[kind]):
                    seen.add(key)
                if kind == "request":
                    told = scan_files([file], RequestRecord, by_day=False)
                    for row in told.select("provider_response_id", "source").collect().iter_rows():
                        self._answers.note(*row)
        return seen


def day_of(ts_ms: int) -> str:
    """UTC day of an epoch time in milliseconds, as YYYY-MM-DD."""
    return datetime.fromtimestamp(ts_ms / 1000, tz=UTC).strftime("%Y-%m-%d")


def _publish(beside: Path, file: Path) -> None:
    with beside.open("rb") as handle:
        os.fsync(handle.fileno())
    beside.replace(file)


def _live_files(folder: Path) -> list[Path]:
    files = set(folder.glob("*.parquet"))
    try:
        merging = msgspec.json.decode((folder / _MERGING).read_bytes())
    except FileNotFoundError:
        return sorted(files)
    if (folder / merging["new"]) in files:
        files -= {folder / name for name in merging["old"]}
    return sorted(files)


def _finish_merge(folder: Path) -> None:
    note = folder / _MERGING
    if not note.exists():
        return
    merging = msgspec.json.decode(note.read_bytes())
    if (folder / merging["new"]).exists():
        for name in merging["old"]:
            (folder / name).unlink(missing_ok=True)
    note.unlink()
