"""Settings of the gateway: one samediff.toml, overridden by SAMEDIFF_* variables, read once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from features.errors import BadInput
from features.records import Prompts
from router.catalog import Dialects
from router.gateway.attempts import RetrySettings
from router.gateway.health import BreakerSettings
from router.gateway.hedge import HedgeSettings
from router.gateway.idempotency import IdempotencySettings
from router.gateway.toolcheck import ToolSettings
from router.meant import meant
from router.tomlfile import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_CONFIG = Path("samediff.toml")
PREFIX = "SAMEDIFF_"


def _over_0(table: msgspec.Struct, *names: str) -> None:
    for name in names:
        if not 0 < (value := getattr(table, name)) < float("inf"):
            raise ValueError(f"{name}: {value:g} must be a finite number over 0")


def _at_least_1(table: msgspec.Struct, *names: str) -> None:
    for name in names:
        if (value := getattr(table, name)) < 1:
            raise ValueError(f"{name}: {value} must be 1 or more")


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the journal goes and how much of a prompt it may keep."""

    journal: str = "samediff-journal"
    prompts: Prompts = "features"
    queue: int = 20_000  # records waiting for the disk, of 256 MB at most; more are dropped and counted
    flush_s: float = 1.0  # how long what is handed to the system may wait until it is durable

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        _at_least_1(self, "queue")
        _over_0(self, "flush_s")


class UpstreamSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long to wait for a provider, in seconds, and how many connections to hold."""

    connect_s: float = 10.0
    read_s: float = 600.0  # silence before the head or between two chunks
    connections: int = 512

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        _over_0(self, "connect_s", "read_s")
        _at_least_1(self, "connections")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set; paths are taken from the working directory."""

    host: str = "127.0.0.1"
    port: int = 8484
    bundle: str | None = None  # a bundle, or a store whose pointer is followed; None: the prior that ships
    store: str | None = None  # where `promote` publishes to; followed where no bundle is named
    follow_s: float = 5.0  # between two looks at the store's pointer
    mlflow: str | None = None  # where training is recorded; None: MLFLOW_TRACKING_URI, else ./mlflow.db
    catalog: str | None = None  # None: the catalogue that ships
    prices: str | None = None  # a file of your own over the published prices; what a row leaves out stays
    policy: str = "learned:max_loss=0.02"
    dialects: Dialects = "prefer_same"  # whether deployments of other dialects are reached
    cache_control: bool = True  # ask for caching where a client doesn't; false: bodies go out as they came
    max_body_mib: float = 32.0
    client_s: float = 30.0  # that a client may take for a request's head, and between two pieces of its body
    sessions: int = 10_000  # remembered at a time, the least recently used goes first
    grace_s: int = 10  # that open answers get to end once the server is asked to stop
    log: LogSettings = LogSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    retry: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    tools: ToolSettings = ToolSettings()
    hedge: HedgeSettings = HedgeSettings()

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port: {self.port} must be from 0 (any that is free) to 65535")
        _over_0(self, "follow_s", "max_body_mib", "client_s")
        _at_least_1(self, "sessions")
        if self.grace_s < 0:
            raise ValueError(f"grace_s: {self.grace_s} must be 0 or more")

    @classmethod
    def load(cls, path: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """Read a file (default samediff.toml, if it is there) and the environment over it.

        Raises BadInput naming the file or variable and the key.
        """
        environ = os.environ if environ is None else environ
        file = Path(path or environ.get(f"{PREFIX}CONFIG") or DEFAULT_CONFIG)
        wanted = path is not None or f"{PREFIX}CONFIG" in environ
        plain = read_toml(file) if wanted or file.is_file() else {}
        try:
            settings = msgspec.convert(plain, cls)
        except msgspec.ValidationError as error:
            raise BadInput(f"{file}: {error}{meant(str(error), cls)}") from error
        return _with_environment(settings, environ)

    @property
    def followed(self) -> str | None:
        """The store whose pointer is followed; None where one bundle is served, whatever is published."""
        from models.store import is_store

        if self.bundle is None:
            return self.store
        return self.bundle if is_store(self.bundle) else None

    def having(self, *, journal: str | None = None, **given: Any) -> Settings:
        """These settings with those given (not None) on a command line over them."""
        changes = {name: value for name, value in given.items() if value is not None}
        if journal is not None:
            changes["log"] = msgspec.structs.replace(self.log, journal=journal)
        try:
            return msgspec.structs.replace(self, **changes)
        except ValueError as error:
            raise BadInput(f"--{error}") from error


def _with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Lay SAMEDIFF_PORT, SAMEDIFF_LOG_PROMPTS and the like over the settings."""
    plain = msgspec.to_builtins(settings)
    for variable, path in _variables(plain, PREFIX, ()):
        if variable not in environ:
            continue
        table = plain
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = environ[variable]
        try:
            settings = msgspec.convert(plain, Settings, strict=False)
        except msgspec.ValidationError as error:
            said = f"{error}{meant(str(error), Settings)}"
            raise BadInput(f"{variable}={environ[variable]!r}: {said}") from error
    return settings


def _variables(
    plain: dict[str, Any], prefix: str, path: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the variable of every setting with its place."""
    for key, value in plain.items():
        name = f"{prefix}{key.upper()}"
        if isinstance(value, dict):
            yield from _variables(value, f"{name}_", (*path, key))
        else:
            yield name, (*path, key)
