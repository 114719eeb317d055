"""What the user asks of a replay."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec

from features.errors import BadInput


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `samediff what-if`; times are UTC epoch milliseconds, `until` exclusive."""

    policies: tuple[str, ...] = ()
    prices: str | None = None  # a date, or a file of the user's own
    without: tuple[str, ...] = ()
    having: tuple[str, ...] = ()  # candidates beside those of the log
    cache: str = "on"  # on, off or ttl=300s
    budget: str | None = None  # USD, or USD/day, USD/user/day …
    since_ms: int | None = None
    until_ms: int | None = None
    group_by: str | None = None
    cluster_by: str = "session"  # what is independent: session, repo, user, client or task
    reference: str | None = None  # whose diff to equal; None: the receipts' own, or of most money
    check_noise: float = 0.1  # how often a cascade's check is wrong
    router_usd: float | None = None  # of one decision; None: its CPU time at CORE_HOUR_USD
    frontier: bool = True  # sweep the learned policy's knob
    as_auto: bool = False  # calls whose client named a model are routed, too
    estimates: bool = False  # tell what every estimator says
    draws: int = 1_000
    seed: int = 0


def check(options: Options) -> None:
    """Refuse what no replay could be asked; BadInput names the option and what may stand there."""
    if not 0 <= options.check_noise <= 1:
        raise BadInput(f"--check-noise {options.check_noise:g}: a share from 0 to 1 is needed")
    usd = options.router_usd
    if usd is not None and not (math.isfinite(usd) and usd >= 0):
        raise BadInput(f"--router-usd {usd:g}: USD, 0 or more, are needed")
    since, until = options.since_ms, options.until_ms
    if since is not None and until is not None and since >= until:
        raise BadInput(f"--since {_day(since)} isn't before --until {_day(until)}: nothing lies between them")


def _day(ms: int) -> str:
    """A time as --since and --until take it."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M")
