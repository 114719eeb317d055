"""The rows of a catalogue, as its TOML has them, and the deployments that are made of them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from features.value import Value
from features.wire.types import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

Knob = Literal["service_tier", "speed"]  # each has prices of its own
Capability = Literal["tools", "parallel_tools", "json_schema", "images", "thinking"]
# Why a deployment can't be called at all, for this caller or now; nothing routes around it, a pin neither.
Barred = Literal["no_key", "tenant", "residency", "not_in_force"]
BARRED: frozenset[str] = frozenset({"no_key", "tenant", "residency", "not_in_force"})
TENANT_HEADER = "x-samediff-tenant"
RESIDENCY_HEADER = "x-samediff-residency"  # where a request's data may be, such as eu

# A date at the end of a seller's model name is a pinned checkpoint; without one the seller may move it.
SNAPSHOT = re.compile(r"[-@](20\d{2}-?\d{2}-?\d{2})(?:-v\d+(?::\d+)?)?$")


def _in_order(since: date | None, until: date | None) -> None:
    if since is not None and until is not None and since >= until:
        raise ValueError("`from` isn't before `until`")


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The checkpoint that an endpoint serves under a name which doesn't say it, and how that is known."""

    checkpoint: str
    evidence: str  # a contract, a page, a digest of weights
    checked: date


class Versions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which versions may be served under a candidate's name, and what is done about any other."""

    since: date | None = msgspec.field(default=None, name="from")  # by the date in a version's name
    until: date | None = None  # exclusive
    accept: tuple[str, ...] = ()  # patterns of names that are as good
    mismatch: Literal["record", "leave"] = "record"  # leave: that deployment is left alone for a while
    train: bool = False  # whether to learn from what another version answered

    def __post_init__(self) -> None:
        """Refuse dates that are the wrong way round."""
        _in_order(self.since, self.until)

    def covers(self, day: date) -> bool | None:
        """Whether a version of this day will do; None where no range says so."""
        if self.since is None and self.until is None:
            return None
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)

    def __str__(self) -> str:
        return f"from {self.since or 'ever'} until {self.until or 'ever'}"


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model with its reasoning effort; `endpoints` maps an endpoint to the seller's name for it."""

    endpoints: dict[str, str]
    id: str = ""
    effort: str | None = None
    context_tokens: int | None = None  # overrides the published window
    max_output_tokens: int | None = None
    capabilities: tuple[Capability, ...] | None = None  # None = unknown, held against nobody
    bytes_per_token: float | None = None  # of a request's JSON, overrides the ratio of the model's family
    pins: dict[str, Pin] = {}  # endpoint -> checkpoint
    asks: dict[Knob, str] = {}  # fields put into the body, such as service_tier = "flex"
    versions: Versions = Versions()
    fallbacks: tuple[str, ...] = ()  # candidates that may answer where none of its deployments does
    since: date | None = msgspec.field(default=None, name="from")
    until: date | None = None  # not called from this day on
    released: date | None = None
    probe: dict[str, tuple[float, float]] = {}  # task type -> (sum of success, rows) of its first outcomes

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        for task_type, (total, rows) in self.probe.items():
            if not 0 <= total <= rows < float("inf"):
                raise ValueError(f"probe.{task_type}: [{total:g}, {rows:g}] is no [sum of success, rows]")
        for name in ("context_tokens", "max_output_tokens", "bytes_per_token"):
            if (value := getattr(self, name)) is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name}: {value:g} must be a finite number over 0")
        if len(self.asks) > 1:
            raise ValueError("asks: prices are known by service_tier or by speed, not by both")
        _in_order(self.since, self.until)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the account of an endpoint is allowed; None = not known."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A seller's address: a base URL per dialect, its key's variable, its region, who may use it and when."""

    provider: str
    base_urls: dict[Dialect, str]
    key_env: str | None = None
    region: str | None = None  # that inference is held to, as the seller's prices name it
    account: str | None = None  # whose contract it is, where there are several
    residency: tuple[str, ...] | None = None  # where data stays; None = not known
    tenants: tuple[str, ...] | None = None  # who may use it; None = everybody
    limits: Limits = Limits()
    since: date | None = msgspec.field(default=None, name="from")
    until: date | None = None
    passthrough: bool = False  # a client's own credential may go here
    accepts: tuple[str, ...] = ()  # patterns of names forwarded as they are

    def __post_init__(self) -> None:
        """Refuse dates that are the wrong way round."""
        _in_order(self.since, self.until)


class Alias(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A name that is routed: the candidates it may become, and the reference of each dialect."""

    candidates: tuple[str, ...]
    reference: dict[Dialect, str]


class Deployment(Value, frozen=True):
    """A candidate at one endpoint in one dialect; `model` is the name the seller knows it by."""

    id: str
    candidate: str
    provider: str
    model: str
    dialect: Dialect
    base_url: str
    key_env: str | None
    region: str | None
    checkpoint: str | None
    floating: bool  # the seller may put another checkpoint under this name
    passthrough: bool
    evidence: str | None = None  # how the checkpoint is known
    account: str | None = None
    residency: tuple[str, ...] | None = None
    tenants: tuple[str, ...] | None = None
    limits: Limits = Limits()
    since: date | None = None
    until: date | None = None
    versions: Versions = Versions()
    asks: tuple[tuple[str, str], ...] = ()

    @property
    def tier(self) -> str | None:
        """The tier or speed that it asks for, as prices name it."""
        return self.asks[0][1] if self.asks else None

    @property
    def endpoint(self) -> str:
        """Name of its endpoint, whose account and limits it shares."""
        return self.id[: -len(self.candidate) - len(self.dialect) - 2]

    def abroad(self) -> Deployment:
        """The same for a client of another dialect, whose own credential means nothing there."""
        key_env = "" if self.passthrough and self.key_env is None else self.key_env  # "": never set
        return replace(self, passthrough=False, key_env=key_env)

    def reachable(self, environ: Mapping[str, str]) -> bool:
        """Whether a call could be authorised: a key is set, none is needed, or the client's own may pass."""
        return self.passthrough or self.key_env is None or bool(environ.get(self.key_env))

    def in_force(self, ts_ms: int) -> bool:
        """Whether a call at this time falls between its effective dates (UTC, `until` exclusive)."""
        if self.since is None and self.until is None:
            return True
        day = datetime.fromtimestamp(ts_ms / 1000, tz=UTC).date()
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)

    def barred(
        self, headers: Mapping[str, str], ts_ms: int, environ: Mapping[str, str] | None
    ) -> Barred | None:
        """Why it can't be called with these headers (lower-case names) at this time; None where it can.

        Where data is kept to a place, a deployment that doesn't say where it is can't be called.
        """
        if self.tenants is not None and headers.get(TENANT_HEADER) not in self.tenants:
            return "tenant"
        place = headers.get(RESIDENCY_HEADER)
        if place and place.strip().lower() not in (self.residency or ()):
            return "residency"
        if not self.in_force(ts_ms):
            return "not_in_force"
        return None if environ is None or self.reachable(environ) else "no_key"

    def why_barred(self, reason: str | None) -> str:
        """What to tell a client of a reason from `barred`, and the way out; empty for any other."""
        reasons = {
            "no_key": f"; set {self.key_env}"
            if self.key_env
            else "; its endpoint takes a client's own credential only: give it a `key_env`",
            "tenant": f"; the catalogue gives it to certain tenants only, named in {TENANT_HEADER}",
            "residency": f"; it isn't known to keep data where {RESIDENCY_HEADER} asks",
            "not_in_force": "; by the catalogue's dates it isn't in force now",
        }
        return reasons.get(reason or "", "")
