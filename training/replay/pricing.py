"""--prices: a date as of which everything is priced, or a file of prices laid over the published ones."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.errors import BadInput
from router import prices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DAY_MS = 86_400_000


def as_of(said: str) -> int | None:
    """Midnight UTC of a date in ms; None where a file is meant."""
    try:
        day = datetime.fromisoformat(said)
    except ValueError:
        return None
    return int((day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp() * 1000)


def clock_of(said: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """Times (n,) at which to price: the date's, at each call's own hour, as some prices go by the hour."""
    day = as_of(said)
    if day is None:
        return None
    return lambda ts_ms: day // _DAY_MS * _DAY_MS + np.asarray(ts_ms) % _DAY_MS


@contextlib.contextmanager
def priced_at(said: str | None) -> Iterator[None]:
    """Lay a price file over the published table; BadInput where it is neither a date nor a file."""
    if said is None or as_of(said) is not None:
        yield
        return
    if not Path(said).is_file():
        raise BadInput(f"--prices {said}: neither a date such as 2026-09-01 nor a file")
    before = prices._own
    prices.use(said)
    try:
        yield
    finally:
        prices.use(before)
