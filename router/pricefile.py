"""Dated overrides of the published price table: rows of TOML, ours and the user's over them.

A row says whose models it is about, when it holds (dates, hours, weekdays), for which region, service tier
and prompt length, and what a million tokens cost or by what the price in force is multiplied. Later rows win.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from features.errors import BadInput
from router.pricenames import seller_of
from router.tomlfile import read_toml

SHIPPED = Path(__file__).with_name("prices.toml")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PRICE_KEYS = ("input", "output", "cached", "write", "write_1h")
MOST = Decimal(1_000_000)  # USD per million tokens; more is a slip of the keys
MOST_TIMES = Decimal(1_000)
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):(?:00|30)|24:00")


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row; prices in USD per million tokens, times UTC, `until` and the ends of hours exclusive.

    Hours may go past midnight; weekdays and dates are then those of the call, before and after it.
    """

    models: tuple[str, ...]  # names as the seller writes them, * and ? allowed
    source: str  # where the figure can be looked up
    checked: date
    provider: str | None = None  # None: a name logged without its seller
    since: datetime | None = msgspec.field(default=None, name="from")
    until: datetime | None = None
    hours: tuple[tuple[str, str], ...] = ()  # [["01:00", "04:00"], …]
    weekdays: tuple[Weekday, ...] = ()
    dates: tuple[date, ...] = ()
    regions: tuple[str, ...] = ()
    service_tiers: tuple[str, ...] = ()
    above_tokens: int = -1  # for prompts longer than this, every token of them
    input: Decimal | None = None
    output: Decimal | None = None
    cached: Decimal | None = None
    write: Decimal | None = None
    write_1h: Decimal | None = None
    times: Decimal | None = None
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse rows that say nothing, or what can't be."""
        prices = [getattr(self, key) for key in PRICE_KEYS]
        given = [price for price in (*prices, self.times) if price is not None]
        if not all(price.is_finite() and price >= 0 for price in given):
            raise ValueError("a price or factor is negative or no number")
        if any(price > MOST for price in given):
            raise ValueError(f"a price is beyond {MOST:,}: prices are USD per million tokens")
        if self.times is not None and self.times > MOST_TIMES:
            raise ValueError(f"`times` is beyond {MOST_TIMES:,}")
        if not self.models or not all(self.models):
            raise ValueError("models: names no model")
        if self.above_tokens < -1 or (self.context_tokens is not None and self.context_tokens <= 0):
            raise ValueError("above_tokens and context_tokens are numbers of tokens")
        if not given and self.context_tokens is None:
            raise ValueError(f"says no price: give {', '.join(PRICE_KEYS)} or times")
        if self.times is not None and len(given) > 1:
            raise ValueError("give prices or `times`, not both")
        self._check_hours()
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("`from` isn't before `until`")

    def _check_hours(self) -> None:
        for start, end in self.hours:
            for clock in (start, end):
                if not _CLOCK.fullmatch(clock):
                    raise ValueError(f"hours: {clock!r} is no full or half hour such as 01:00")
            if start == end or start == "24:00":
                raise ValueError(f"hours: nothing is between {start} and {end}")

    def about(self, provider: str | None, name: str) -> bool:
        """Tell whether a row is about a model that this seller knows by this name (lower case)."""
        if self.provider is not None and seller_of(self.provider) != provider:
            return False
        return any(fnmatchcase(name, pattern.lower()) for pattern in self.models)

    def holds(self, at: datetime, service_tier: str | None, region: str | None) -> bool:
        """Tell whether a row holds for a call at a time (UTC), in a tier and region."""
        clock = at.strftime("%H:%M")
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (not self.hours or any(_within(clock, *window) for window in self.hours))
            and (not self.weekdays or WEEKDAYS[at.weekday()] in self.weekdays)
            and (not self.dates or at.date() in self.dates)
            and (not self.regions or region in self.regions)
            and (not self.service_tiers or service_tier in self.service_tiers)
        )


def _within(clock: str, start: str, end: str) -> bool:
    """Whether a time of the day is in a window, which may go past midnight."""
    return start <= clock < end if start < end else clock >= start or clock < end


class PriceFile(NamedTuple):
    """Rows in the order in which they are laid over the published table, and names of the user's own."""

    overrides: tuple[Override, ...]
    names: dict[str, str]  # a logged name in lower case -> SELLER/MODEL
    digest: str


def _moment(day: Any) -> Any:
    """Read a date or datetime of TOML as a moment in UTC; the conversion refuses anything else."""
    if isinstance(day, datetime):
        return day if day.tzinfo else day.replace(tzinfo=UTC)
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if isinstance(day, date) else day


def load_price_files(own: Path | str | None) -> PriceFile:
    """Read the overrides that ship and the user's file after them; BadInput names file, row and key."""
    overrides: list[Override] = []
    names: dict[str, str] = {}
    for file in (SHIPPED, *([Path(own)] if own else ())):
        tables = read_toml(file, "price file", parse_float=Decimal)
        unknown = set(tables) - {"price", "names"}
        if unknown:
            raise BadInput(f"price file {file}: unknown key {min(unknown)!r}; known: [[price]] and [names]")
        overrides += _rows(file, tables.get("price", []))
        names |= _names(file, tables.get("names", {}))
    encoded = msgspec.json.encode([overrides, names], order="deterministic")
    return PriceFile(tuple(overrides), names, hashlib.sha256(encoded).hexdigest()[:8])


def _rows(file: Path, rows: Any) -> list[Override]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"price file {file}: price: write rows as [[price]]")
    converted = []
    for number, row in enumerate(rows, 1):
        try:
            times = {key: _moment(row[key]) for key in ("from", "until") if key in row}
            converted.append(msgspec.convert({**row, **times}, Override))
        except msgspec.ValidationError as error:
            raise BadInput(f"price file {file}: [[price]] number {number}: {error}") from error
    return converted


def _names(file: Path, names: Any) -> dict[str, str]:
    for name, target in names.items() if isinstance(names, dict) else [("names", names)]:
        if not isinstance(target, str) or not all(target.partition("/")):
            raise BadInput(f'price file {file}: names.{name}: say "SELLER/MODEL", as in "anthropic/claude-x"')
    return {name.strip().lower(): target.strip().lower() for name, target in names.items()}
