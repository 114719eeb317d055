"""How a log is read: in parts of whole sessions, each with its own receipts and outcomes; and its damage.

Which sessions there are, when they began, and how far their outcomes can be trusted is read beforehand, batch
by batch, from the few columns that tell it.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.errors import BadInput
from training.dataset import candidates_of
from training.frames import PolarsError, check_file, damaged
from training.labels.reliability import MIN_OVERLAP, NAMES, Reliability, estimate, overlap_of
from training.labels.resolve import gather
from training.log import FOLDERS, STATE_FILE, LogStore
from training.replay.logged import parts
from training.replay.logged.calls import REPEATED, nothing_left, playable, played_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from training.replay.options import Options

_KEYS = {"requests": "request_id", "outcomes": "outcome_id", "decisions": "request_id"}  # of the files read
_SPARE = timedelta(days=1)  # between a call and its receipt, which one process writes within milliseconds
# Polars panics where a page holds other lengths than its header says; that is no Exception.
_SPOILT = (PolarsError, pl.exceptions.PanicException, OSError)


class Slice(NamedTuple):
    """Some sessions of a log, or all of it."""

    log: Path
    requests: pl.LazyFrame
    sessions: pl.Series | None = None  # None: all
    days: tuple[date, date] | None = None  # that they lie in
    reliability: Reliability | None = None  # of the log's outcomes; None: what these say of themselves

    @property
    def whole(self) -> bool:
        """Whether it is the whole log."""
        return self.sessions is None

    def outcomes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The outcomes that may be about these rows."""
        scan = LogStore(self.log).scan("outcome")
        if self.sessions is None:
            return scan.collect()
        return scan.filter(_about(frame)).collect()

    def receipts(self, requests: pl.Series) -> pl.LazyFrame:
        """The receipts of these requests."""
        scan = LogStore(self.log).scan("decision")
        if self.days is None:
            return scan
        near = pl.col("day").is_between(self.days[0] - _SPARE, self.days[1] + _SPARE)
        return scan.filter(near & pl.col("request_id").is_in(requests.implode()))


class Plan(NamedTuple):
    """The parts of a log, and the rows that none of them will play."""

    slices: list[Slice]
    left_out: dict[str, int]


def plan(log: Path, options: Options) -> Plan:
    """Cut a log into parts of about `parts.CALLS` calls; BadInput where there is none, or nothing to play."""
    if not (log / STATE_FILE).is_file():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    for kind, column in _KEYS.items():
        for file in sorted((log / kind).glob("day=*/*.parquet")):
            check_file(file, column)
    store = LogStore(log)
    scan = _within(store.scan("request"), options)
    calls = int(scan.select(pl.len()).collect().item())
    if not calls:
        raise BadInput(f"{log}: no requests in it (of that time); `samediff ingest SOURCE --to {log}` first")
    if calls <= parts.CALLS:
        return Plan([Slice(log, scan)], {})
    found = _Survey(log)
    for files in _together(store.files("request")):
        rows = played_rows(_within(store.scan("request", files), options), counted=False)
        for batch in rows.collect_batches(chunk_size=parts.CALLS, maintain_order=True):
            found.note(batch)
    if not found.sessions:
        raise BadInput(nothing_left(log, found.left_out))
    slices = [_slice(log, scan, some) for some in _cut(found.every())]
    trust = found.trust()
    return Plan([part._replace(reliability=trust) for part in slices], found.left_out)


def _within(requests: pl.LazyFrame, options: Options) -> pl.LazyFrame:
    """The requests of the time that is asked for."""
    if options.since_ms is not None:
        requests = requests.filter(pl.col("ts_ms") >= options.since_ms)
    if options.until_ms is not None:
        requests = requests.filter(pl.col("ts_ms") < options.until_ms)
    return requests


def _together(files: list[Path]) -> Iterator[list[Path]]:
    """Neighbouring files of about `parts.CALLS` rows: of all at once, Polars reads far ahead."""
    some: list[Path] = []
    rows = 0
    for file in files:
        some.append(file)
        rows += int(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item())
        if rows >= parts.CALLS:
            yield some
            some, rows = [], 0
    if some:
        yield some


class _Survey:
    """What is noted of a log, batch by batch: its sessions, its evidence, and what can't be played."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.sessions: list[pl.DataFrame] = []
        self.evidence: list[pl.DataFrame] = []
        self.left_out: dict[str, int] = {}
        self.rows = self.overlap = 0
        self.seen = np.zeros(0, dtype=np.uint64)  # hashes of request ids, sorted

    def note(self, batch: pl.DataFrame) -> None:
        batch = self._once(batch)
        frame = batch.with_columns(candidate=candidates_of(batch))
        outcomes = LogStore(self.log).scan("outcome").filter(_about(frame)).collect()
        keyed = frame.select("request_id", "session_id", "task_id", "candidate").with_row_index("row")
        told = gather(keyed, outcomes).select(pl.col("row").cast(pl.Int64) + self.rows, "kind", "v")
        self.evidence.append(told.with_columns(pl.col("kind").cast(pl.Enum(NAMES))))
        self.overlap += overlap_of(told)
        self.rows += len(frame)
        frame, left_out = playable(frame)
        for why, count in left_out.items():
            self.left_out[why] = self.left_out.get(why, 0) + count
        times = pl.col("ts_ms").min().alias("begun"), pl.col("ts_ms").max().alias("ended")
        if len(frame):
            self.sessions.append(frame.group_by("session_id").agg(*times, pl.len().alias("calls")))

    def _once(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The rows whose request id wasn't read before; 8 bytes a request are kept of it."""
        some = batch.unique("request_id", keep="first", maintain_order=True)
        hashes = some["request_id"].hash().to_numpy()
        new = ~np.isin(hashes, self.seen)
        self.seen = np.sort(np.concatenate([self.seen, hashes[new]]), kind="stable")
        if repeated := len(batch) - int(new.sum()):
            self.left_out[REPEATED] = self.left_out.get(REPEATED, 0) + repeated
        return some.filter(pl.Series(new))

    def trust(self) -> Reliability:
        """How far the log's outcomes can be trusted."""
        return estimate(pl.concat(self.evidence)) if self.overlap >= MIN_OVERLAP else Reliability()

    def every(self) -> pl.DataFrame:
        """Sessions in the order in which they are played."""
        sums = pl.col("begun").min(), pl.col("ended").max(), pl.col("calls").sum()
        return pl.concat(self.sessions).group_by("session_id").agg(*sums).sort("begun", "session_id")


def _about(frame: pl.DataFrame) -> pl.Expr:
    """Which outcomes may be about these rows, by the request, session or task that they name."""
    named = (
        pl.col(key).is_in(frame[key].drop_nulls().unique().implode())
        for key in ("request_id", "session_id", "task_id")
    )
    return pl.any_horizontal(named).fill_null(value=False)


def _cut(sessions: pl.DataFrame) -> list[pl.DataFrame]:
    """Neighbouring sessions of about `parts.CALLS` calls together."""
    part = (np.cumsum(sessions["calls"].to_numpy()) - 1) // parts.CALLS
    starts = np.flatnonzero(np.append(True, part[1:] != part[:-1]))
    ends = np.append(starts[1:], len(part))
    return [sessions[int(a) : int(b)] for a, b in zip(starts, ends, strict=True)]


def _slice(log: Path, scan: pl.LazyFrame, some: pl.DataFrame) -> Slice:
    begun, ended = int(some["begun"].min()), int(some["ended"].max())  # type: ignore[arg-type]  # int columns
    first, last = (datetime.fromtimestamp(at / 1000, UTC).date() for at in (begun, ended))
    own = pl.col("session_id").is_in(some["session_id"].implode())
    near = pl.col("day").is_between(first, last) & pl.col("ts_ms").is_between(begun, ended)
    return Slice(log, scan.filter(near & own), some["session_id"], (first, last))


@contextlib.contextmanager
def naming_damage(log: Path) -> Iterator[None]:
    """Turn what Polars says of a damaged page into BadInput; an error of another cause stays what it is."""
    try:
        yield
    except _SPOILT:
        for kind in FOLDERS:
            for file in LogStore(log).files(kind):
                _read(file)
        raise


def _read(file: Path) -> None:
    """Read a whole file; BadInput where it can't be."""
    try:
        pl.scan_parquet(file, glob=False).select(pl.all().null_count()).collect()
    except _SPOILT as error:
        raise damaged(file, Exception(str(error).splitlines()[0] or "unreadable")) from None
