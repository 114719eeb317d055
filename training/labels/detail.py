"""What an outcome's `detail` tells beyond its columns: written as JSON, read back as expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

# Free text, broken JSON and a key that isn't there read as null.
_WEAK = pl.col("detail").str.json_path_match("$.weak")
_SIMILARITY = pl.col("detail").str.json_path_match("$.similarity")
RUN = pl.col("detail").str.json_path_match("$.run")  # of `samediff shadow`; it begins with its seed


def written(told: Mapping[str, object]) -> str:
    """The detail of an outcome; `weak` (a bool) and `similarity` (0..1 or None) are read back by name."""
    return msgspec.json.encode(told).decode()


def weak() -> pl.Expr:
    """Whether only changed lines were compared, the base not being known."""
    return (_WEAK == "true").fill_null(value=False)


def similarity() -> pl.Expr:
    """How alike two edits are, 0..1; null where it isn't told."""
    told = _SIMILARITY.cast(pl.Float64, strict=False)
    return pl.when(told.is_between(0.0, 1.0)).then(told)
