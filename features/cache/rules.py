"""How each provider's prompt cache works, as data: rows of rules.toml, found by seller, model and time."""

from __future__ import annotations

import hashlib
import re
import tomllib
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

Match = Literal["prefix", "marked", "named"]
Mode = Literal["any", "implicit", "explicit"]

TABLE = Path(__file__).with_name("rules.toml")
DAY_MS = 86_400_000
# Certainty left for each doubt of a row; a guess: no source says how often rows are wrong.
DOUBT = 0.9
# Sellers that pass calls on: the maker's rules hold, but which upstream, and so which cache, is open.
AGGREGATORS = frozenset({"openrouter", "litellm", "github-copilot", "cursor", "huggingface", "cloudflare"})
_SELLERS = {
    "bedrock": "aws",
    "vertex": "google",
    "vertex_ai": "google",
    "gemini": "google",
    "moonshot": "moonshotai",
}
_ROUTE = re.compile(r"^(?:.*/)?(?:[a-z]{2,6}\.)?(?:anthropic\.)?")
_ENDINGS = re.compile(r"(?:[@:].*|-v\d+|-latest|[-@]20\d{2}-?[01]\d-?[0-3]\d)$")


_last_used = itemgetter(1)


class Lifetime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long a class of entries lives after its last use, and what writing it costs of the input price."""

    name: str
    ttl_s: float | None = None  # it surely lives this long; None: until it is evicted
    gone_s: float | None = None  # and is surely gone after this; None: at ttl_s
    write_x: float | None = None  # None: writes aren't billed apart

    def living(self, entries: Sequence[tuple[int, float]], now_ms: float) -> Sequence[tuple[int, float]]:
        """Those of many entries (what, last used ms) that may still be read."""
        if self.ttl_s is None or not entries:
            return entries
        surely, gone = now_ms - self.ttl_s * 1000, now_ms - (self.gone_s or self.ttl_s) * 1000
        if min(entries, key=_last_used)[1] >= surely:  # all of them, as mostly
            return entries
        return [entry for entry in entries if entry[1] >= surely or entry[1] > gone]

    def alive(self, age_ms: float) -> float:
        """Probability that an entry of this age can still be read, linear between the two bounds."""
        if self.ttl_s is None or age_ms <= self.ttl_s * 1000:
            return 1.0
        gone = (self.gone_s or self.ttl_s) * 1000
        return 0.0 if age_ms >= gone else (gone - age_ms) / (gone - self.ttl_s * 1000)


class CacheRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule set; every field is explained at the top of rules.toml."""

    id: str
    providers: tuple[str, ...]
    models: tuple[str, ...]
    source: str
    match: Match
    automatic: bool
    floor_tokens: int
    lifetimes: tuple[Lifetime, ...]
    visible: Literal["begun", "ended"]
    scope: str
    scope_at: dict[str, str] = {}
    mode: Mode = "any"
    since: date | None = msgspec.field(default=None, name="from")
    until: date | None = None
    block_tokens: int = 1
    marks_max: int | None = None
    lookback_blocks: int | None = None
    invalidators: tuple[str, ...] = ()
    sliding: bool = True
    read_x: float | None = None
    stored_by_the_hour: bool = False
    answers: bool = False
    bucket: str | None = None
    lru: bool = False
    hits: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()

    def certainty(self) -> float:
        """What is left of certainty after the row's doubts, in (0, 1]."""
        return float(DOUBT ** len(self.doubts)) if self.doubts else 1.0

    def lifetime(self, name: str | None = None) -> Lifetime:
        """Find a class by its name; the default where none is asked for or it isn't sold."""
        if name is None:
            return self.lifetimes[0]
        return next((found for found in self.lifetimes if found.name == name), self.lifetimes[0])

    def hourly(self, kept: Lifetime) -> bool:
        """Whether writing for this class of its own is billed at the price of an hour."""
        return kept.ttl_s == 3600 and kept is not self.lifetimes[0]

    def scope_of(self, provider: str | None) -> str:
        """Who shares this cache when it is bought from that seller."""
        return self.scope_at.get(_seller(provider) or "", self.scope)


def rules_for(
    provider: str | None,
    model: str,
    at_ms: float | None = None,
    *,
    explicit: bool = False,
    table: tuple[CacheRules, ...] | None = None,
) -> CacheRules | None:
    """Find the rules in force for a model at a time (ms since 1970; None = now known of, the newest).

    `explicit`: the client placed markers or named a cache. Sold by an aggregator, or by a seller unknown, the
    maker's rules are taken with a doubt. None where no row fits: unknown, see `why_no_rules`.
    """
    since_1970 = None if at_ms is None else int(at_ms // DAY_MS)
    if table is None:
        return _find_shipped(provider, model, since_1970, explicit)
    return _find(_seller(provider), model, _date(since_1970), explicit, table)


@lru_cache(maxsize=1)
def rules_digest() -> str:
    """Digest of the table that ships, for the receipt."""
    return hashlib.sha256(msgspec.json.encode(read_rules(), order="deterministic")).hexdigest()[:16]


def why_no_rules(provider: str | None, model: str) -> str:
    """Say in one line that no cache rules are known, and which file to put them in."""
    sold = f" sold by {provider}" if provider else ""
    where = f"features/cache/{TABLE.name}"
    return f"no cache rules are known of {model}{sold}: put a [[rules]] row for it into {where}"


def plain_name(model: str) -> str:
    """Name rows are matched with: no seller, no date, no version ending, dots as hyphens, lower case."""
    name = _ROUTE.sub("", model.strip().lower())
    while (shorter := _ENDINGS.sub("", name)) != name and shorter:
        name = shorter
    return name.replace(".", "-")


@lru_cache(maxsize=4)
def read_rules(path: Path | None = None) -> tuple[CacheRules, ...]:
    """Read a table of rules (default: the one that ships); BadInput names the row and key that is wrong."""
    path = path or TABLE
    try:
        rows: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8")).get("rules", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"cache rules {path.name}: {error}") from error
    whole: dict[str, dict[str, Any]] = {}
    found = []
    for number, row in enumerate(rows, 1):
        name, like = row.get("id", f"row {number}"), row.get("like")
        if like is not None and like not in whole:
            raise BadInput(f"cache rules {path.name}: {name}.like: no row {like!r} above it")
        # Dates and doubts belong to their own row.
        above = {} if like is None else whole[like]
        base = {k: v for k, v in above.items() if k not in ("from", "until", "doubts")}
        whole[name] = {**base, **{k: v for k, v in row.items() if k != "like"}}
        try:
            found.append(_checked(msgspec.convert(whole[name], CacheRules)))
        except (msgspec.ValidationError, ValueError) as error:
            raise BadInput(f"cache rules {path.name}: {name}: {error}") from error
    return tuple(found)


def _checked(row: CacheRules) -> CacheRules:
    """Refuse what can't be; ValueError."""
    if not row.lifetimes or row.floor_tokens < 1 or row.block_tokens < 1:
        raise ValueError("needs a lifetime, and floor_tokens and block_tokens of at least 1")
    for kept in row.lifetimes:
        if kept.gone_s is not None and (kept.ttl_s is None or kept.gone_s <= kept.ttl_s):
            raise ValueError(f"lifetimes.{kept.name}: gone_s is not after ttl_s")
    if row.hits is not None and not 0 <= row.hits[0] <= row.hits[1]:
        raise ValueError("hits: is no (hits, warm calls)")
    return row


def _seller(provider: str | None) -> str | None:
    name = provider.strip().lower() if provider else None
    return _SELLERS.get(name, name) if name else None


@lru_cache(maxsize=4096)
def _find_shipped(provider: str | None, model: str, day: int | None, explicit: bool) -> CacheRules | None:
    return _find(_seller(provider), model, _date(day), explicit, read_rules())


def _date(day: int | None) -> date | None:
    """The date of a number of days since 1970, UTC."""
    return None if day is None else datetime.fromtimestamp(day * DAY_MS / 1000, tz=UTC).date()


def _find(
    seller: str | None, model: str, day: date | None, explicit: bool, table: tuple[CacheRules, ...]
) -> CacheRules | None:
    asked: Mode = "explicit" if explicit else "implicit"
    name = plain_name(model)
    unsure = seller is None or seller in AGGREGATORS
    for row in table:
        sold = seller in row.providers or (unsure and row.models != ("*",))
        if not sold or row.mode not in ("any", asked):
            continue
        if day is not None and ((row.since and day < row.since) or (row.until and day >= row.until)):
            continue
        if any(fnmatchcase(name, pattern) for pattern in row.models):
            doubt = f"sold by {seller}: it chooses the upstream" if seller else "seller not known"
            return msgspec.structs.replace(row, doubts=(*row.doubts, doubt)) if unsure else row
    return None
