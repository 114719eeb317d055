"""Ingest: logs of any known format into the canonical log, resumable, with every row accounted for.

read = kept + duplicates + refused, always. A file that hasn't changed since it was ingested is not read
again; one that has grown is, and only what is new is added.
"""

from __future__ import annotations

import csv
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import xxhash

from features.errors import BadInput
from features.records import DecisionRecord, OutcomeRecord, RecordKind, RequestRecord
from models.prior import PRIOR_ENCODER
from training.account import EXAMPLES, FILES_NAMED, FormatCount, IngestResult, Reason
from training.finding import Found, find, size_of
from training.log import BATCH_ROWS, FileState, LogStore
from training.progress import Progress
from training.seen import Seen
from training.sources import FORMATS, Damaged, detect, reader_of
from training.sources.base import (
    GAVE_UP,
    UNREADABLE,
    Item,
    Labelled,
    ReadOptions,
    Record,
    Refusal,
    SourceFile,
)
from training.sources.checks import check, known_model, price

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from features.encoder import Encoder

WRONG_FILE = "the whole file is of another shape than its format"
HEAD_BYTES = 4096
# What parsers raise at bytes that nobody foresaw; a file that does so is refused, and counted.
PARSERS_RAISE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,  # also of text that isn't UTF-8
    csv.Error,
    msgspec.MsgspecError,
    pl.exceptions.PolarsError,
    zlib.error,
)

KINDS: dict[type[Any], RecordKind] = {
    RequestRecord: "request",
    DecisionRecord: "decision",
    OutcomeRecord: "outcome",
}


def run(
    sources: Sequence[str | Path],
    to: str | Path,
    *,
    form: str | None = None,
    maps: Sequence[str] = (),
    reasoning: str | None = None,
    prompts: str = "features",
    encoder: Path = PRIOR_ENCODER,
) -> IngestResult:
    """Ingest with the command line's options; raises BadInput for one that isn't."""
    if reasoning not in (None, "apart", "inside"):
        raise BadInput(f"--reasoning {reasoning}: say apart or inside")
    if prompts not in ("full", "features", "none"):
        raise BadInput(f"--prompts {prompts}: say full, features or none")
    pairs = [pair.partition("=") for pair in maps]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise BadInput(f"--map {ours}: say --map ours=theirs")
    options = ReadOptions(
        prompts=prompts,  # type: ignore[arg-type]  # checked above
        column_map={ours: theirs for ours, _, theirs in pairs},
        reasoning=reasoning,  # type: ignore[arg-type]
        encoder=None if prompts == "none" else _encoder(encoder),
    )
    return ingest(sources, to, form=form, options=options)


def _encoder(folder: Path) -> Encoder:
    """Load an encoder from its own folder, or from a bundle's."""
    from features.encoder import load_encoder

    return load_encoder(folder / "encoder" if (folder / "encoder").is_dir() else folder)


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
    files = find(sources, Path(to))
    store = LogStore(to)
    started = time.monotonic()
    with store.writing():
        run = _Run(store, options, form, int(time.time() * 1000) if now_ms is None else now_ms)
        with Progress("ingest", sum(size_of(file.path) for file in files), "bytes") as progress:
            for file in files:
                run.file(file, progress)
        run.flush()
        run.name_empty()
        store.merge_days()
    result = run.result
    if run.failure is not None and not (result.kept or result.duplicates or result.files_unchanged):
        raise run.failure
    if not (result.files_read or result.files_unchanged or result.refused):
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
        self._empty: list[str] = []
        self._done: dict[str, FileState] = {}  # files read to their end whose rows aren't all on disk yet

    def file(self, found: Found, progress: Progress) -> None:
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
            self._refuse(self._unknown(), Refusal(found.name, None, UNREADABLE))
            return
        except BadInput as error:
            if isinstance(error, Damaged):
                self.failure = self.failure or error
            else:
                self._wrong(error)
            reason = error.reason if isinstance(error, Damaged) else WRONG_FILE
            self._refuse(self._unknown(), Refusal(found.name, None, reason))
            return
        except PARSERS_RAISE:
            self._refuse(self._unknown(), Refusal(found.name, None, GAVE_UP))
            return
        if name is None:
            self.result.files_skipped += 1
            named = self.result.skipped_examples if state.size else self._empty
            if len(named) < FILES_NAMED:
                named.append(found.name)
            return
        count = self.result.formats.setdefault(name, FormatCount())
        count.files += 1
        self.result.files_read += 1
        before_it = self.result.read
        if self._read(name, SourceFile(found.path, found.name, progress.advance), count):
            self._done[key] = msgspec.structs.replace(state, rows=self.result.read - before_it)

    def _unknown(self) -> FormatCount:
        """Return the account of files whose format can't be told."""
        return self.result.formats.setdefault("unknown", FormatCount())

    def _read(self, name: str, file: SourceFile, count: FormatCount) -> bool:
        """Take all items of a file; False if the file as a whole couldn't be read."""
        whole = True
        for item in self._items(name, file):
            if isinstance(item, Refusal) and item.reason in (WRONG_FILE, UNREADABLE, GAVE_UP):
                whole = False
            self._take(count, file, item)
            if self.store.pending >= BATCH_ROWS:
                self.flush()
        return whole

    def _items(self, name: str, file: SourceFile) -> Iterator[Item]:
        """Read a file; whatever breaks its reader is a refusal, so that one bad file ends no others."""
        try:
            yield from reader_of(name)(file, self.options)
        except BadInput as error:  # said of the whole file, such as a table that lacks a column
            self._wrong(error)
            yield Refusal(file.name, None, WRONG_FILE)
        except OSError:
            yield Refusal(file.name, None, UNREADABLE)
        except PARSERS_RAISE:
            yield Refusal(file.name, None, GAVE_UP)

    def _wrong(self, error: BadInput) -> None:
        """Keep why a whole file is refused, in the words of its reader: file, column, way out."""
        self.failure = self.failure or error
        said, why = self.result.files_wrong, str(error)
        if why not in said and len(said) < FILES_NAMED:
            said.append(why)

    def name_empty(self) -> None:
        """Name empty files after the skipped ones that hold something."""
        skipped = self.result.skipped_examples
        skipped += self._empty[: FILES_NAMED - len(skipped)]

    def _take(self, count: FormatCount, file: SourceFile, item: Item) -> None:
        if isinstance(item, Refusal):
            self._refuse(count, item)
            return
        record, outcome = item if isinstance(item, Labelled) else (item, None)
        checked = check(record, self.now_ms, known_model)
        if isinstance(checked, str):
            row = record.source_row if isinstance(record, RequestRecord) else None
            self._refuse(count, Refusal(file.name, row, checked))
            return
        result, kind = self.result, KINDS[type(checked)]
        result.read += 1
        count.read += 1
        record = price(checked)
        if outcome is not None and self.store.admit("outcome", outcome):
            result.kinds["outcome"] = result.kinds.get("outcome", 0) + 1
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
