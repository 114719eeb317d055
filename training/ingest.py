"""Ingest: logs of any known format into the canonical log, resumable, with every row accounted for.

read = kept + duplicates + refused, always. A file that hasn't changed since it was ingested is not read
again; one that has grown is, and only what is new is added.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import xxhash

from features.errors import BadInput
from features.records import DecisionRecord, OutcomeRecord, RecordKind, RequestRecord
from training.log import BATCH_ROWS, STATE_FILE, FileState, LogStore, Seen
from training.progress import Progress
from training.sources import FORMATS, detect, reader_of
from training.sources.base import UNREADABLE, Item, ReadOptions, Record, Refusal, SourceFile
from training.sources.checks import FLAGS, check, known_model, price

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

WRONG_FILE = "the whole file is of another shape than its format"
EXAMPLES = 3  # file:line shown for each reason
HEAD_BYTES = 4096

KINDS: dict[type[Any], RecordKind] = {
    RequestRecord: "request",
    DecisionRecord: "decision",
    OutcomeRecord: "outcome",
}


class Reason(msgspec.Struct):
    """Why rows were refused: how many, and where the first ones stand, as file:row."""

    count: int = 0
    examples: list[str] = []


class FormatCount(msgspec.Struct):
    """What came out of the files of one format."""

    files: int = 0
    read: int = 0
    kept: int = 0
    duplicates: int = 0
    refused: int = 0


class IngestResult(msgspec.Struct, kw_only=True):
    """The account of one ingestion; read = kept + duplicates + refused."""

    log: str
    read: int = 0
    kept: int = 0
    duplicates: int = 0
    refused: int = 0
    refused_by_reason: dict[str, Reason] = {}
    flagged: dict[str, int] = {}
    formats: dict[str, FormatCount] = {}
    kinds: dict[str, int] = {}
    sessions: int = 0
    first_ts_ms: int | None = None
    last_ts_ms: int | None = None
    cost_known_rows: int = 0
    cost_unknown_rows: int = 0
    cost_usd: float = 0.0
    files_read: int = 0
    files_unchanged: int = 0
    rows_unchanged: int = 0  # rows that came out of the unchanged files when they were read
    files_skipped: int = 0  # empty, or of no known format
    skipped_examples: list[str] = []
    seconds: float = 0.0


class _Found(NamedTuple):
    """A file to ingest: where it is, and its name under the source's root."""

    path: Path
    name: str


def ingest(
    sources: Sequence[str | Path],
    to: str | Path,
    *,
    form: str | None = None,
    options: ReadOptions | None = None,
    now_ms: int | None = None,
) -> IngestResult:
    """Read sources (files, folders) into the log `to`; raises BadInput when nothing at all can be read."""
    options = options or ReadOptions()
    if form is not None:
        reader_of(form)
    files = list(_walk(sources, Path(to)))
    store = LogStore(to)
    started = time.monotonic()
    with store.writing():
        run = _Run(store, options, form, int(time.time() * 1000) if now_ms is None else now_ms)
        with Progress("ingest", sum(_size(file.path) for file in files), "bytes") as progress:
            for file in files:
                run.file(file, progress)
        run.flush()
        store.merge_days()
    result = run.result
    if run.failure is not None and not (result.kept or result.duplicates or result.files_unchanged):
        raise run.failure
    if not result.files_read and not result.files_unchanged:
        places = ", ".join(str(source) for source in sources)
        raise BadInput(
            f"{places}: no file of a known format; the formats are {', '.join(FORMATS)} (see --format)"
        )
    result.sessions, result.seconds = len(run.sessions), round(time.monotonic() - started, 3)
    return result


class _Run:
    """One ingestion under way: the store it fills and the account it keeps."""

    def __init__(self, store: LogStore, options: ReadOptions, form: str | None, now_ms: int) -> None:
        self.store = store
        self.options = options
        self.form = form
        self.now_ms = now_ms
        self.result = IngestResult(log=str(store.path))
        self.sessions = Seen()
        self.failure: BadInput | None = None  # why a whole file was refused, in the words of its reader
        self._done: dict[str, FileState] = {}  # files read to their end whose rows aren't all on disk yet

    def file(self, found: _Found, progress: Progress) -> None:
        """Ingest one file, unless it is known and unchanged."""
        key = xxhash.xxh3_128_hexdigest(str(found.path.resolve()).encode("utf-8", "surrogateescape"))
        try:
            state = _state(found.path, self.options, self.form)
            before = self.store.state.files.get(key)
            if before is not None and msgspec.structs.replace(state, rows=before.rows) == before:
                self.result.files_unchanged += 1
                self.result.rows_unchanged += before.rows
                progress.advance(state.size)
                return
            name = (self.form or detect(found.path, self.options)) if state.size else None
        except OSError:
            self._refuse(FormatCount(), Refusal(found.name, None, UNREADABLE))
            return
        if name is None:
            self.result.files_skipped += 1
            if len(self.result.skipped_examples) < EXAMPLES:
                self.result.skipped_examples.append(found.name)
            return
        count = self.result.formats.setdefault(name, FormatCount())
        count.files += 1
        self.result.files_read += 1
        rows = self._read(name, SourceFile(found.path, found.name, progress.advance), count)
        self._done[key] = msgspec.structs.replace(state, rows=rows)

    def _read(self, name: str, file: SourceFile, count: FormatCount) -> int:
        """Take all items of a file; returns how many rows it had."""
        before = self.result.read
        try:
            for item in reader_of(name)(file, self.options):
                self._take(count, file, item)
                if self.store.pending >= BATCH_ROWS:
                    self.flush()
        except BadInput as error:  # said of the whole file, such as a table that lacks a column
            self.failure = self.failure or error
            self._refuse(count, Refusal(file.name, None, WRONG_FILE))
        except OSError:
            self._refuse(count, Refusal(file.name, None, UNREADABLE))
        return self.result.read - before

    def _take(self, count: FormatCount, file: SourceFile, item: Item) -> None:
        if isinstance(item, Refusal):
            self._refuse(count, item)
            return
        checked = check(item, self.now_ms, known_model)
        if isinstance(checked, str):
            row = item.source_row if isinstance(item, RequestRecord) else None
            self._refuse(count, Refusal(file.name, row, checked))
            return
        result, kind = self.result, KINDS[type(checked)]
        result.read += 1
        count.read += 1
        record = price(checked)
        if self.store.admit(kind, record):
            result.kept += 1
            count.kept += 1
            result.kinds[kind] = result.kinds.get(kind, 0) + 1
            self._account(record)
        else:
            result.duplicates += 1
            count.duplicates += 1

    def _refuse(self, count: FormatCount, refusal: Refusal) -> None:
        reason = self.result.refused_by_reason.setdefault(refusal.reason, Reason())
        reason.count += refusal.n
        if len(reason.examples) < EXAMPLES:
            reason.examples.append(refusal.file if refusal.row is None else f"{refusal.file}:{refusal.row}")
        for account in (self.result, count):
            account.read += refusal.n
            account.refused += refusal.n

    def _account(self, record: Record) -> None:
        """Note what the closing table says of the kept rows."""
        result = self.result
        result.first_ts_ms = min(result.first_ts_ms or record.ts_ms, record.ts_ms)
        result.last_ts_ms = max(result.last_ts_ms or record.ts_ms, record.ts_ms)
        if not isinstance(record, RequestRecord):
            return
        self.sessions.add(record.session_id)
        for flag in record.flags or ():
            result.flagged[flag] = result.flagged.get(flag, 0) + 1
        if record.cost_usd is None:
            result.cost_unknown_rows += 1
        else:
            result.cost_known_rows += 1
            result.cost_usd += float(record.cost_usd)

    def flush(self) -> None:
        """Put everything taken so far on disk, then what is known of the files it came from."""
        self.store.state.files.update(self._done)
        self._done.clear()
        self.store.flush()


def _walk(sources: Sequence[str | Path], log: Path) -> Iterator[_Found]:
    """Files of the sources in sorted order, hidden ones and our own logs left out."""
    for source in map(Path, sources):
        if source.is_file():
            yield _Found(source, source.name)
        elif not source.is_dir():
            raise BadInput(f"{source}: no such file or folder")
        for folder, inner, names in os.walk(source):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            if STATE_FILE in names or Path(folder).resolve() == log.resolve():
                inner.clear()
                continue
            for name in sorted(names):
                path = Path(folder) / name
                if not name.startswith(".") and path.is_file():
                    yield _Found(path, str(path.relative_to(source)))


def _state(path: Path, options: ReadOptions, form: str | None) -> FileState:
    """Take what tells that a file, and the way it is read, hasn't changed."""
    stat = path.stat()
    with path.open("rb") as handle:
        digest = xxhash.xxh3_64(handle.read(HEAD_BYTES))
    encoder = options.encoder.digest if options.encoder else None
    read_as = [
        form,
        options.prompts,
        dict(options.column_map),
        options.reasoning,
        options.max_line_bytes,
        encoder,
    ]
    digest.update(msgspec.json.encode(read_as, order="sorted"))
    return FileState(stat.st_size, stat.st_mtime_ns, digest.hexdigest(), 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def nothing_kept(result: IngestResult) -> str | None:
    """Say in one line that there were rows and none of them could be used; None otherwise."""
    if result.kept or result.duplicates or result.files_unchanged or not result.refused:
        return None
    reason, why = max(result.refused_by_reason.items(), key=lambda pair: pair[1].count)
    return f"all {result.refused} rows were refused; mostly: {reason} ({', '.join(why.examples)})"


def render(result: IngestResult) -> Iterable[RenderableType]:
    """Tables for people: the account, why rows were refused, and the doubts about kept ones."""
    from rich.table import Table

    account = Table(title=f"ingested into {result.log}")
    for column in ("format", "files", "rows read", "kept", "duplicates", "refused"):
        account.add_column(column, justify="left" if column == "format" else "right")
    for name, count in sorted(result.formats.items()):
        numbers = (count.files, count.read, count.kept, count.duplicates, count.refused)
        account.add_row(name, *(f"{number:,}" for number in numbers))
    total = (result.files_read, result.read, result.kept, result.duplicates, result.refused)
    account.add_section()
    account.add_row("all", *(f"{number:,}" for number in total))
    yield account
    if result.refused_by_reason:
        refused = Table("refused because", "rows", "first ones (file:row)")
        for reason, why in sorted(result.refused_by_reason.items(), key=lambda pair: -pair[1].count):
            refused.add_row(reason, f"{why.count:,}", "\n".join(why.examples))
        yield refused
    if result.flagged:
        doubts = Table("kept with a doubt", "rows")
        for flag, n in sorted(result.flagged.items(), key=lambda pair: -pair[1]):
            doubts.add_row(FLAGS.get(flag, flag), f"{n:,}")
        yield doubts
    yield from _lines(result)


def _lines(result: IngestResult) -> Iterator[str]:
    from training.log import day_of

    if result.first_ts_ms is not None and result.last_ts_ms is not None:
        span = f"{day_of(result.first_ts_ms)} to {day_of(result.last_ts_ms)}"
        money = f"${result.cost_usd:,.2f} known for {result.cost_known_rows:,} calls"
        yield f"{result.sessions:,} sessions, {span}, {money}"
    if result.cost_unknown_rows:
        yield f"{result.cost_unknown_rows:,} calls have no known cost"
    if result.files_unchanged:
        yield f"{result.files_unchanged:,} files unchanged since last time ({result.rows_unchanged:,} rows)"
    if result.files_skipped:
        examples = ", ".join(result.skipped_examples)
        yield f"{result.files_skipped:,} files skipped, empty or of no known format: {examples}"
    yield f"{result.seconds:.1f} s"
