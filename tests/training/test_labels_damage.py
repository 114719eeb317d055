"""A log with a damaged file is one line that names the file, not a traceback."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from features.errors import BadInput
from training.ingest import ingest
from training.labels.label import run

SAMPLE = Path(__file__).parents[2] / "sample/logs"


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


def _drop_ids(file: Path) -> None:
    pl.read_parquet(file).drop("request_id").write_parquet(file)


@pytest.mark.parametrize(
    ("kind", "damage", "words"),
    [
        ("requests", _truncate, "damaged"),
        ("requests", _drop_ids, "no column request_id"),
        ("outcomes", lambda file: file.write_bytes(b""), "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, kind, damage, words):
    log = tmp_path / "log"
    ingest([SAMPLE / "claude_code"], log)
    run(log, now_ms=7)
    file = next((log / kind).glob("day=*/*.parquet"))
    damage(file)
    with pytest.raises(BadInput, match=words) as told:
        run(log, now_ms=8)
    assert str(file) in str(told.value)
    assert "\n" not in str(told.value)
