"""--prices: a date as of which everything is priced, or a file of prices laid over the published ones."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.errors import BadInput
from router import prices
from router.pricefile import PRICE_KEYS, load_price_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from training.replay.logged.arms import Arms

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


def check_prices(said: str | None) -> None:
    """Refuse what nothing can be priced at or by; BadInput names it and what may stand there."""
    if said is None:
        return
    day, first = as_of(said), prices.known_since()
    if day is None:
        if not Path(said).is_file():
            raise BadInput(f"--prices {said}: neither a date such as 2026-09-01 nor a file")
        load_price_files(said)
    elif day < first.timestamp() * 1000:
        raise BadInput(f"--prices {said}: prices are known since {first:%Y-%m-%d} only; say a later date")
    elif day >= prices.FAR_FUTURE_MS:
        raise BadInput(f"--prices {said}: no price is known so late; say a date before 2100")


def version_at(said: str | None) -> str:
    """The price table that a question is answered by, the file or date of `--prices` named."""
    if said is None:
        return prices.PRICE_VERSION
    with priced_at(said):
        return f"{prices.PRICE_VERSION}, {'with' if as_of(said) is None else 'as of'} {said}"


def left_alone(said: str | None, arms: Arms) -> Iterator[str]:
    """Which prices the rows of a file leave as published, and which rows are about nobody who is played."""
    if said is None or as_of(said) is not None:
        return
    shipped = len(load_price_files(None).overrides)
    found: dict[str, list[str]] = {}
    nobody: list[str] = []
    for row in load_price_files(said).overrides[shipped:]:
        if not any(prices.has_row(arm.model, arm.provider, row) for arm in arms.arms):
            nobody += row.models
        silent = [key for key in PRICE_KEYS if getattr(row, key) is None]
        if row.times is None and 0 < len(silent) < len(PRICE_KEYS):
            found.setdefault(", ".join(silent), []).extend(row.models)
    if nobody:
        names = ", ".join(dict.fromkeys(nobody))
        yield f"rows of {said} change nothing: nobody who is played is sold as {names}"
    for keys, models in found.items():
        names = ", ".join(dict.fromkeys(models))
        yield (
            f"rows of {said} leave prices as published of {names}: {keys}; most tokens of an agent's prompts "
            "are cached ones, so give all keys, or `times` that multiplies them all"
        )


@contextlib.contextmanager
def priced_at(said: str | None) -> Iterator[None]:
    """Lay a price file over the published table; BadInput names file, row and key."""
    if said is None or as_of(said) is not None:
        yield
        return
    before = prices._own
    prices.use(said)
    try:
        yield
    finally:
        prices.use(before)
