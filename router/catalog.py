"""The catalogue: candidates, the deployments they run on, and the aliases that clients may ask for."""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import msgspec

from features.errors import BadInput
from features.names import EFFORTS
from router.catalogrows import SNAPSHOT, Alias, Candidate, Deployment, Endpoint
from router.meant import meant
from router.tomlfile import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from features.wire.types import Dialect

__all__ = ["Alias", "Candidate", "Catalog", "Deployment", "Dialects", "Endpoint", "Target"]

DEFAULT_CATALOG = Path(__file__).with_name("catalog.toml")
# A client's own words go into headers and the log as a model name, so they must look like one.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.:/@+-]{0,199}", re.ASCII)
_TABLES = ("endpoints", "candidates", "aliases")
Row = TypeVar("Row", bound=msgspec.Struct)


# Whether clients reach deployments of another dialect: never, or after those of their own, an endpoint in the
# nearest of its dialects only or in every one.
Dialects = Literal["same", "prefer_same", "any"]
# Of the two other dialects, the one that says more of what a client of this one says.
_NEAREST: dict[Dialect, Dialect] = {
    "openai_chat": "openai_responses",
    "anthropic_messages": "openai_responses",
    "openai_responses": "openai_chat",
}


class Target(NamedTuple):
    """What a requested model name means: an alias to be routed, or deployments to be called as asked."""

    alias: str | None
    deployments: tuple[Deployment, ...] = ()  # of one candidate, in the order of its endpoints


class Catalog(NamedTuple):
    """All rows, checked against each other; `digest` identifies them in receipts."""

    candidates: dict[str, Candidate]
    endpoints: dict[str, Endpoint]
    aliases: dict[str, Alias]
    deployments: dict[str, Deployment]
    digest: str
    reached: dict[tuple[str, str, str], tuple[Deployment, ...]]  # what `deployments_of` has found
    dialects: Dialects = "same"  # whether deployments of another dialect than the client's are found

    @classmethod
    def load(cls, path: Path | str | None = None) -> Catalog:
        """Read the catalogue that ships, with the user's file laid over it; BadInput names file and key."""
        tables = read_toml(DEFAULT_CATALOG, "catalogue")
        shown = DEFAULT_CATALOG.name
        if path is not None:
            own = read_toml(Path(path), "catalogue")
            shown = str(path)
            tables = own if own.get("replace") else _overlay(tables, own)
        return _build(shown, tables)

    def deployments_of(self, candidate: str, dialect: Dialect) -> tuple[Deployment, ...]:
        """Deployments of a candidate for clients of a dialect, in the order of its endpoints.

        Those that speak the dialect come first, or are the only ones, as `dialects` says; but for "any" an
        endpoint that speaks it is asked in no other.
        """
        key = (self.dialects, candidate, dialect)
        known = self.reached.get(key)
        if known is None:
            own = (d for d in self.deployments.values() if d.candidate == candidate)
            known = self.reached[key] = tuple(self._within_reach(own, dialect))
        return known

    def _within_reach(self, found: Iterable[Deployment], dialect: Dialect) -> list[Deployment]:
        if self.dialects == "same":
            return [d for d in found if d.dialect == dialect]
        reached = [d if d.dialect == dialect else d.abroad() for d in found]
        reached.sort(key=lambda d: (d.dialect != dialect, d.dialect != _NEAREST[dialect]))
        if self.dialects == "any":
            return reached
        nearest: dict[tuple[str, str], Deployment] = {}  # an endpoint is asked in one dialect only
        for deployment in reached:
            nearest.setdefault((deployment.endpoint, deployment.candidate), deployment)
        return list(nearest.values())

    def resolve(self, model: str, dialect: Dialect) -> Target | None:
        """Find what a client means by a model: an alias, a candidate, a seller's name for one, or nothing.

        A dated snapshot of a known model, or a name that an endpoint accepts, is called as it was asked for.
        """
        if model in self.aliases:
            return Target(model)
        everywhere = self.deployments.values()
        found = self._within_reach((d for d in everywhere if d.candidate == model), dialect)
        found = found or self._within_reach((d for d in everywhere if d.model == model), dialect)
        if not found and _PLAIN_NAME.fullmatch(model):
            row = Candidate(id=model, endpoints={})
            accepted = (
                _deployment(row, model, name, endpoint, spoken_there)
                for name, endpoint in self.endpoints.items()
                for spoken_there in endpoint.base_urls
                if any(fnmatchcase(model, p) for p in endpoint.accepts)
            )
            found = self._within_reach(accepted, dialect)
        return Target(None, tuple(d for d in found if d.candidate == found[0].candidate)) if found else None

    def why_unknown(self, model: str, dialect: Dialect) -> str:
        """What to tell a client whose model `resolve` doesn't find."""
        others = sorted({d.dialect for d in self.deployments.values() if model in (d.candidate, d.model)})
        if others:
            spoken = ", ".join(others)
            return f"model {_shown(model)} is not served in the dialect {dialect} here, only in {spoken}"
        return f"model {_shown(model)} is not known here; GET /v1/models lists what is"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:100]}…")


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one file's tables over another's: two levels merge (table, row), a row's keys replace."""
    merged = dict(below)
    for table, rows in above.items():
        base = merged.get(table)
        if not isinstance(rows, dict) or not isinstance(base, dict):
            merged[table] = rows
            continue
        merged[table] = {
            **base,
            **{
                name: {**base[name], **row}
                if isinstance(row, dict) and isinstance(base.get(name), dict)
                else row
                for name, row in rows.items()
            },
        }
    return merged


def _build(shown: str, tables: dict[str, Any]) -> Catalog:
    """Convert, cross-check and expand the tables of a catalogue."""
    unknown = set(tables) - {"replace", *_TABLES}
    if unknown:
        raise BadInput(f"catalogue {shown}: unknown key {min(unknown)!r}; known: {', '.join(_TABLES)}")
    endpoints = _rows(shown, tables, "endpoints", Endpoint)
    candidates = {
        name: msgspec.structs.replace(row, id=name, effort=row.effort or _effort_in(name))
        for name, row in _rows(shown, tables, "candidates", Candidate).items()
    }
    _check_efforts(shown, candidates)
    aliases = _rows(shown, tables, "aliases", Alias)
    deployments = {d.id: d for row in candidates.values() for d in _expand(shown, row, endpoints)}
    _check_names(shown, tables, endpoints)
    _check_fallbacks(shown, candidates)
    _check_aliases(shown, aliases, candidates)
    rows = [endpoints, candidates, aliases]
    digest = hashlib.sha256(msgspec.json.encode(rows, order="deterministic")).hexdigest()[:16]
    return Catalog(candidates, endpoints, aliases, deployments, digest, {})


def _rows(shown: str, tables: dict[str, Any], table: str, kind: type[Row]) -> dict[str, Row]:
    """Convert one table's rows, naming the row and key of the first that doesn't fit."""
    rows = tables.get(table, {})
    if not isinstance(rows, dict) or not rows:
        raise BadInput(f"catalogue {shown}: needs at least one [{table}.NAME]")
    converted = {}
    for name, row in rows.items():
        try:
            converted[name] = msgspec.convert(row, kind)
        except msgspec.ValidationError as error:
            raise BadInput(f"catalogue {shown}: {table}.{name}: {error}{meant(str(error), kind)}") from error
    return converted


def _effort_in(name: str) -> str | None:
    """The effort at the end of a candidate's name; some sellers write a snapshot's date in its place."""
    return None if SNAPSHOT.search(name) else name.partition("@")[2] or None


def _check_efforts(shown: str, candidates: dict[str, Candidate]) -> None:
    """Refuse an effort that no request can ask for: its candidate would silently never be chosen."""
    for name, row in candidates.items():
        if row.effort is not None and row.effort not in EFFORTS:
            raise BadInput(
                f"catalogue {shown}: candidates.{name}.effort: {row.effort[:40]!r} is no effort; "
                f"use {', '.join(EFFORTS)}"
            )


def _check_names(shown: str, tables: dict[str, Any], endpoints: dict[str, Endpoint]) -> None:
    """Refuse names that can't stand in a header, and addresses that are none."""
    for table in _TABLES:
        for name in tables[table]:
            if not _PLAIN_NAME.fullmatch(name):
                raise BadInput(f"catalogue {shown}: {table}.{name!r}: use letters, digits and . _ : / @ + -")
    for name, endpoint in endpoints.items():
        for dialect, url in endpoint.base_urls.items():
            where = f"catalogue {shown}: endpoints.{name}.base_urls.{dialect}"
            if not url.startswith(("http://", "https://")):
                raise BadInput(f"{where}: {url!r} is no URL")
            if "@" in url.split("/")[2]:  # not shown: it may be a key
                raise BadInput(f"{where}: holds a name or password; put a key into `key_env` instead")


def _expand(shown: str, row: Candidate, endpoints: dict[str, Endpoint]) -> list[Deployment]:
    """Deployments of one candidate: every endpoint it names, in every dialect spoken there."""
    for table, names in (("endpoints", row.endpoints), ("pins", row.pins)):
        missing = next((n for n in names if n not in endpoints or n not in row.endpoints), None)
        if missing is not None:
            known = f"[endpoints.{missing}]" if missing not in endpoints else f"{missing} in its endpoints"
            raise BadInput(f"catalogue {shown}: candidates.{row.id}.{table}: no {known}")
    return [
        _deployment(row, model, name, endpoints[name], dialect)
        for name, model in row.endpoints.items()
        for dialect in endpoints[name].base_urls
    ]


def _deployment(row: Candidate, model: str, name: str, endpoint: Endpoint, dialect: Dialect) -> Deployment:
    snapshot, pin = SNAPSHOT.search(model), row.pins.get(name)
    checkpoint = pin.checkpoint if pin else snapshot[1] if snapshot else None
    return Deployment(
        id=f"{name}/{row.id}/{dialect}",
        candidate=row.id,
        provider=endpoint.provider,
        model=model,
        dialect=dialect,
        base_url=endpoint.base_urls[dialect].rstrip("/"),
        key_env=endpoint.key_env,
        region=endpoint.region,
        checkpoint=checkpoint,
        floating=checkpoint is None,
        passthrough=endpoint.passthrough,
        evidence=pin.evidence if pin else "the date in its name" if snapshot else None,
        account=endpoint.account,
        residency=endpoint.residency,
        tenants=endpoint.tenants,
        limits=endpoint.limits,
        since=max((d for d in (row.since, endpoint.since) if d), default=None),
        until=min((d for d in (row.until, endpoint.until) if d), default=None),
        versions=row.versions,
        asks=tuple(row.asks.items()),
    )


def _check_fallbacks(shown: str, candidates: dict[str, Candidate]) -> None:
    """Refuse a fallback that doesn't exist or is the candidate itself."""
    for name, row in candidates.items():
        wrong = next((f for f in row.fallbacks if f not in candidates or f == name), None)
        if wrong is not None:
            said = "is the candidate itself" if wrong == name else f"has no [candidates.{wrong!r}]"
            raise BadInput(f"catalogue {shown}: candidates.{name}.fallbacks: {wrong!r} {said}")


def _check_aliases(shown: str, aliases: dict[str, Alias], candidates: dict[str, Candidate]) -> None:
    """Refuse an alias that clashes with a candidate or names one that doesn't exist."""
    for name, alias in aliases.items():
        if name in candidates:
            raise BadInput(f"catalogue {shown}: aliases.{name}: a candidate has the same name")
        for candidate in (*alias.candidates, *alias.reference.values()):
            if candidate not in candidates:
                raise BadInput(f"catalogue {shown}: aliases.{name}: no [candidates.{candidate!r}]")
        outside = set(alias.reference.values()) - set(alias.candidates)
        if outside:
            raise BadInput(
                f"catalogue {shown}: aliases.{name}.reference: {min(outside)!r} is no candidate of it"
            )
