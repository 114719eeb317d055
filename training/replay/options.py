"""What the user asks of a replay."""

from __future__ import annotations

import msgspec


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
    reference: str | None = None  # whose diff to equal; None: the log's own, or what served most of it
    check_noise: float = 0.1  # how often a cascade's check is wrong
    router_usd: float | None = None  # of one decision; None: its CPU time at CORE_HOUR_USD
    frontier: bool = True  # sweep the learned policy's knob
    draws: int = 1_000
    seed: int = 0
