"""The tables of `samediff cost` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.log import day_of
from training.spend.agree import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from rich.console import RenderableType

    from training.spend.agree import Agreement
    from training.spend.report import CostReport

GROUPS_SHOWN = 30
OFF_SHOWN = 12
SMALL = 1  # USD: below, four decimals are shown


def render(result: CostReport) -> Iterator[RenderableType]:
    """Tables and lines, in the order in which they are asked for."""
    total = result.total
    span = f"{day_of(result.first_ts_ms)} to {day_of(result.last_ts_ms)}"
    yield _plain(f"{result.log}: {total.calls:,} calls of {total.sessions:,} sessions, {span}")
    yield _groups(result)
    yield from _money(result)
    yield from _losses(result)
    yield from _agreement(result.agreement)
    yield from _doubts(result)


def _groups(result: CostReport) -> RenderableType:
    from rich.table import Table

    table = Table(title=f"paid by {', '.join(result.group_by)}")
    for name in result.group_by:
        table.add_column(name, overflow="fold")
    for name in ("paid", "share", "calls", "cached", "saved", "lost", "unknown"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in result.groups[:GROUPS_SHOWN]:
        spend = group.spend
        whole = spend.told_tokens
        table.add_row(
            *map(_plain, group.key.values()),
            _usd(spend.paid_usd) if spend.calls > spend.unknown_calls else "unknown",
            "" if group.share is None else f"{group.share:.1%}",
            f"{spend.calls:,}",
            f"{spend.told_cached_tokens / whole:.0%}" if whole else "",
            _usd(spend.saved_usd) if spend.billed_calls else "",
            _usd(spend.lost_usd) if spend.billed_calls else "",
            f"{spend.unknown_calls:,}" if spend.unknown_calls else "",
        )
    if len(result.groups) > GROUPS_SHOWN:
        table.caption = f"and {len(result.groups) - GROUPS_SHOWN:,} more in --json"
    return table


def _money(result: CostReport) -> Iterator[RenderableType]:
    total, caching = result.total, result.caching
    recorded = f"{_usd(total.recorded_usd)} recorded in {total.recorded_calls:,} calls"
    priced = f"{_usd(total.priced_usd)} by {result.price_version} in {total.priced_calls:,}"
    yield f"paid {_usd(total.paid_usd)}: {recorded}, {priced}"
    if total.unknown_calls:
        yield f"! {total.unknown_calls:,} calls have no known cost and are in no sum"
    if caching.billed_calls and caching.cached_share is not None:
        share = f"{caching.cached_share:.0%} of all input was read from it"
        instead = f"{_usd(caching.with_usd)} instead of {_usd(caching.without_usd)} by the price table"
        yield f"caching saved {_usd(caching.saved_usd)}: {instead}; {share}"
    if caching.saving_unknown_calls:
        which = f"{caching.saving_unknown_calls:,} calls that used a cache"
        yield f"! what caching saved is unknown of {which}: their input, output or price isn't known"


def _losses(result: CostReport) -> Iterator[RenderableType]:
    from rich.table import Table

    if result.losses:
        table = Table(title=f"lost for want of a warm cache: {_usd(result.lost_usd)}")
        table.add_column("cause")
        table.add_column("USD", justify="right", no_wrap=True)
        table.add_column("calls", justify="right", no_wrap=True)
        table.add_column("sessions that lost most", overflow="fold")
        for loss in result.losses:
            named = "\n".join(f"{part.session} {_usd(part.usd)}" for part in loss.sessions)
            cause = f"{loss.cause.replace('_', ' ')}: {loss.means}"
            table.add_row(cause, _usd(loss.usd), f"{loss.calls:,}", _plain(named))
        yield table
    left_out = {
        "whose cache's rules aren't known": result.losses_no_rules,
        "that say too little of input, cache or price": result.losses_not_said,
    }
    said = [f"{n:,} {which}" for which, n in left_out.items() if n]
    if said:
        yield f"not judged for losses: calls {', and '.join(said)}"


def _agreement(found: Agreement) -> Iterator[RenderableType]:
    from rich.table import Table

    if not found.calls:
        yield "nothing to hold against the price table: no call has both a recorded cost and a known price"
        return
    both = f"recorded {_usd(found.recorded_usd)}, by the table {_usd(found.listed_usd)}"
    off = f"{found.sessions_off:,} of {found.sessions:,} sessions are off by more than 5 %"
    errors = f"({_share(found.relative_error)}; median session {_share(found.session_median_error)})"
    yield f"log against price table: {both} {errors}; {off}"
    if not found.off:
        return
    table = Table(title="where log and price table disagree")
    table.add_column("session", overflow="fold")
    for name in ("recorded", "by table", "off by"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("because")
    for check in found.off[:OFF_SHOWN]:
        money = _usd(check.recorded_usd), _usd(check.listed_usd), _share(check.error)
        because = _plain(f"{check.reason.replace('_', ' ')}: {check.detail}")
        table.add_row(_plain(check.session), *money, because)
    yield table
    for reason, count in found.reasons.items():
        yield _plain(f"  {count:,} × {reason.replace('_', ' ')}: {REASONS[reason]}")


def _doubts(result: CostReport) -> Iterator[RenderableType]:
    for name, count in result.doubts.counts.items():
        yield _plain(f"! {count:,} × {result.doubts.means[name]}")
    for lacking in result.doubts.unpriced:
        yield _plain(f"! {lacking.calls:,} calls: {lacking.why}")
    if result.doubts.unpriced_more:
        yield f"! and {result.doubts.unpriced_more:,} more models without a price, in --json"


def _usd(amount: Decimal) -> str:
    """Money as people read it."""
    places = 2 if abs(amount) >= SMALL or not amount else 4
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{places}f}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.1%}"


def _plain(line: str) -> RenderableType:
    """Show names of others' making as they are: the brackets in them are no markup."""
    from rich.text import Text

    return Text(line)
