"""Logs of made-up calls whose bill is known by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from features.records import RequestRecord
from training.log import LogStore
from training.spend.calls import Call, Priced, priced

if TYPE_CHECKING:
    from pathlib import Path

START_MS = 1_779_868_800_000  # 2026-05-27 08:00 UTC
MINUTE = 60_000


def request(n: int = 0, **fields: Any) -> RequestRecord:
    """One call of claude-opus-4-6, of 1,000 fresh and 200 output tokens unless told otherwise."""
    given = {
        "request_id": f"r{n}",
        "session_id": "s",
        "ts_ms": START_MS + n * MINUTE,
        "source": "table",
        "turn": n,
        "model_served": "claude-opus-4-6",
        "input_tokens_uncached": 1_000,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 200,
    }
    given |= fields
    if given.get("cost_usd") is not None:
        given = {"cost_source": "log"} | given
        given["cost_usd"] = Decimal(str(given["cost_usd"]))
    return RequestRecord(**given)


def call(n: int = 0, **fields: Any) -> Priced:
    """The same, as it is read from a log."""
    record = request(n, **fields)
    return priced(Call(*(getattr(record, name) for name in Call._fields[:-1])))


def write(folder: Path, records: list[RequestRecord]) -> Path:
    """Make a log of these records."""
    LogStore(folder).append("request", records)
    return folder
