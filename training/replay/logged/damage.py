"""Damage inside a log's files, behind a footer that is sound: said in one line that names the file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import polars as pl

from training.frames import PolarsError, damaged
from training.log import FOLDERS, LogStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Polars panics where a page holds other lengths than its header says; that is no Exception.
_SPOILT = (PolarsError, pl.exceptions.PanicException, OSError)


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
