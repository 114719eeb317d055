"""Values as foreign logs write them -> ours: counts, times, money and text; None where they say nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

EARLIEST_MS = 1_262_304_000_000  # 2010: before it a time is a zero or a wrong unit
LATEST_MS = 253_370_764_800_000  # 9999
MOST_TOKENS = 10_000_000_000


def count(value: Any) -> int | None:
    """Read a whole number, also from "12" or 12.0; negative ones pass, the checks deal with them."""
    found = _numeric(value)
    if isinstance(found, float):
        return int(found) if math.isfinite(found) and found == int(found) else None
    return found


def number(value: Any) -> float | None:
    """Read a finite number."""
    found = _numeric(value)
    return float(found) if found is not None and abs(found) < 1e300 else None  # False for NaN and infinity


def _numeric(value: Any) -> int | float | None:
    """Take a number as it is, or from text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def usd(value: Any) -> Decimal | None:
    """Read an amount of money; None for what isn't a finite number."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount) < 10**9 else None


def ms(value: Any) -> int | None:
    """UTC epoch milliseconds from ISO text, a datetime, or a number in s, ms, µs or ns (told by its size)."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return _within(moment.timestamp() * 1000)
    amount = number(value)
    if amount is not None:
        for unit, largest in ((1000.0, 1e11), (1.0, 1e14), (1e-3, 1e17), (1e-6, 1e20)):
            if abs(amount) < largest:
                return _within(amount * unit)
        return None
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip().removesuffix(" UTC"))
    except ValueError:
        return None
    return ms(moment)


def _within(amount: float) -> int | None:
    return round(amount) if EARLIEST_MS <= amount <= LATEST_MS else None


def text(value: Any) -> str | None:
    """Non-empty text of at most 512 characters: an id or a name, never a prompt."""
    return value[:512] if isinstance(value, str) and value.strip() else None


def identity(value: Any) -> str | None:
    """Read an id, which may be written as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def mapping(value: Any) -> dict[str, Any]:
    """Read a JSON object, also when it is written as text inside another; {} for anything else."""
    if isinstance(value, str | bytes) and value[:1] in ("{", b"{"):
        value = parsed(value)
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """Read a JSON array, also when it is written as text; [] for anything else."""
    if isinstance(value, str | bytes) and value[:1] in ("[", b"["):
        value = parsed(value)
    return value if isinstance(value, list) else []


def parsed(value: str | bytes) -> Any:
    """Decode JSON text, None when it isn't JSON."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def minus(whole: int | None, *parts: int | None) -> int | None:
    """Take its known parts from a whole; None when the whole is unknown."""
    return None if whole is None else whole - sum(part or 0 for part in parts)


def basename(path: Any) -> str | None:
    """Last part of a path of any system: the repository's name and not where it lies."""
    name = text(path)
    return (name.replace("\\", "/").rstrip("/").rpartition("/")[2] or None) if name else None
