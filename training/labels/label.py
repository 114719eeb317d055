"""`samediff label`: evidence out of a log into its outcomes, and what all of it covers and supports."""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from features.errors import BadInput
from features.names import candidate_name
from training.dataset import candidates_of
from training.frames import check_file
from training.labels.coverage import LabelReport, report_on
from training.labels.pairs import read_pairs
from training.labels.signals import Turn, read_signals, turn_of
from training.log import LogStore
from training.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from features.records import OutcomeRecord

_HASHES = 24  # the newest of a chain: a turn adds two or three messages to its predecessor's
_COLUMNS = (
    *("request_id", "session_id", "task_id", "ts_ms", "turn", "status", "source"),
    *("candidate", "model_served", "model_requested", "tools_called", "edit_digests", "flags"),
)


def run(log: Path, *, now_ms: int | None = None) -> LabelReport:
    """Label a log; twice adds nothing. Raises BadInput where there is no log, or no request in it."""
    if not log.is_dir():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    store = LogStore(log)
    for kind, column in (("requests", "request_id"), ("outcomes", "outcome_id"), ("decisions", "request_id")):
        for file in sorted((log / kind).glob("day=*/*.parquet")):
            check_file(file, column)
    requests = read_requests(store)
    if requests.is_empty():
        raise BadInput(f"{log}: no requests in it; `samediff ingest SOURCE --to {log}` first")
    rows = track(requests.iter_rows(named=True), "read", len(requests))
    turns = [turn_of(row) for row in rows]
    count = store.append(
        "outcome", _evidence(turns, store, int(time.time() * 1000) if now_ms is None else now_ms)
    )
    return report_on(log, requests, store.scan("outcome").collect(), count)


def read_requests(store: LogStore) -> pl.DataFrame:
    """The calls of a log, as far as labels need them; a shadow's own calls are no requests of anybody's."""
    frame = (
        store.scan("request")
        .filter(pl.col("source") != "shadow")
        .select(*_COLUMNS, "effort", "facts", prefix_hashes=pl.col("prefix_hashes").list.tail(_HASHES))
        .collect()
    )
    return frame.with_columns(candidate=candidates_of(frame))


def _evidence(turns: list[Turn], store: LogStore, now_ms: int) -> Iterator[OutcomeRecord]:
    decisions = store.scan("decision").select("request_id", "reference").drop_nulls().collect()
    references = {request_id: candidate_name(reference) for request_id, reference in decisions.iter_rows()}
    found = chain(read_signals(turns), read_pairs(turns, references))
    for record in track(found, "label"):
        yield msgspec.structs.replace(record, recorded_ms=now_ms)
