"""What was lost for want of a warm cache: by cause, in USD, with the sessions to look at.

The simulator says of each turn what a cache could have held and why it wouldn't; the usage block says what
was read. What was sent before and is billed again counts, at the difference between what it was billed at and
the price of reading it. By token counts alone a changed prefix looks like a warm one: where less than half of
what should have been warm was read, the prefix was broken (some of it was read) or missed (nothing was).
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.cache import Turns, replay_turns, rules_for
from features.cache.bulk import WHYS
from features.names import candidate_name
from training.sources.checks import is_one_call
from training.spend.groups import DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from features.cache import CacheRules
    from training.spend.calls import Call, Priced

SESSIONS_NAMED = 5
HOUR_S = 3600
_PLACE = Decimal("1e-12")  # so that sums of money stay exact

CAUSES = {
    "cold_start": "the first prompt of a session, or of a model in it; shared beginnings would warm it",
    "ttl_expired": "the session paused for longer than the cache lives",
    "switched": "another model had answered before, and the cache was there",
    "broken_prefix": "the beginning of the prompt changed: a compaction, other tools, a rewritten message",
    "missed": "it should have been warm and nothing was read: best effort, another upstream, other settings",
    "invalidated": "tools, thinking or another setting changed",
    "not_visible": "asked at the same time as the call that wrote it",
    "lookback": "the marker was too far back",
}


class LostIn(msgspec.Struct, kw_only=True):
    """One session's share of a loss."""

    session: str
    usd: Decimal
    calls: int


class Loss(msgspec.Struct, kw_only=True):
    """USD and tokens lost for one cause; `sessions` are those that lost most."""

    cause: str
    means: str
    usd: Decimal
    tokens: int
    calls: int
    sessions: list[LostIn]


class Losses(NamedTuple):
    """Losses by cause, USD by request id, and what of the log could not be judged."""

    by_cause: list[Loss]
    by_call: dict[str, Decimal]
    no_rules: int  # calls whose cache's rules aren't known
    not_said: int  # calls that say nothing of the cache, of their input or their price


class _One(NamedTuple):
    session: str
    cause: str
    usd: Decimal
    tokens: int


def losses(calls: Sequence[Priced]) -> Losses:
    """Judge every call of a log that says what was read from the cache."""
    judged = [one for one in calls if _says_enough(one)]
    not_said = len(calls) - len(judged)
    if not judged:
        return Losses([], {}, 0, not_said)
    turns, rules = _turns(judged)
    splits = replay_turns(rules, turns)
    found: dict[str, _One] = {}
    unknown = 0
    for one, should, lost, code in zip(judged, splits.read, splits.lost, splits.why, strict=True):
        why = WHYS[code]
        unknown += why == "no_rules"
        cause, tokens = _cause(one.call, why, int(should), int(lost))
        usd = _usd(one, tokens) if cause in CAUSES else Decimal(0)
        if usd > 0:
            found[one.call.request_id] = _One(one.call.session_id, cause, usd, tokens)
    return Losses(_by_cause(found.values()), {r: lost.usd for r, lost in found.items()}, unknown, not_said)


def _says_enough(one: Priced) -> bool:
    call = one.call
    return one.bill is not None and call.cached_tokens is not None and is_one_call(call.flags)


def _turns(judged: Sequence[Priced]) -> tuple[Turns, list[CacheRules]]:
    """The calls as the simulator's columns; a model written in two ways is one cache."""
    codes: defaultdict[str, dict[object, int]] = defaultdict(dict)
    rules: dict[str, tuple[int, CacheRules]] = {}
    hourly = {one.call.session_id for one in judged if one.call.cache_write_1h_tokens}
    columns: list[tuple[int, int, int, float, int, int, int]] = []
    for one in judged:
        call = one.call
        key = (candidate_name(call.model), call.provider)
        own = rules_for(call.provider, call.model, call.ts_ms, explicit=bool(call.cache_write_tokens))
        at, classes = -1, 0
        if own is not None:
            at = rules.setdefault(f"{own.id}/{own.doubts}", (len(rules), own))[0]
            hour = [i for i, kept in enumerate(own.lifetimes) if kept.ttl_s == HOUR_S]
            classes = hour[0] if hour and call.session_id in hourly else 0
        columns.append(
            (
                codes["session"].setdefault(call.session_id, len(codes["session"])),
                codes["key"].setdefault(key, len(codes["key"])),
                at,
                float(call.ts_ms),
                call.prompt or 0,
                call.usage().output_tokens or 0,
                classes,
            )
        )
    session, cache, row, ts_ms, tokens, answer, lifetime = map(np.asarray, zip(*columns, strict=True))
    return Turns(session, cache, row, ts_ms, tokens, answer, lifetime=lifetime), [
        r for _, r in rules.values()
    ]


def _cause(call: Call, why: str, should: int, lost: int) -> tuple[str, int]:
    """Why tokens were billed again, and how many, by what the simulator expects and what was read."""
    read = call.cached_tokens or 0
    if why != "warm":
        return why, max(0, lost - read)
    if 2 * read >= should:
        return why, 0
    return "broken_prefix" if read else "missed", should - read


def _usd(one: Priced, tokens: int) -> Decimal:
    """What lost tokens were billed at, less the price of reading them."""
    if one.bill is None or one.rates is None:
        return Decimal(0)
    billed = (one.call.prompt or 0) - (one.call.cached_tokens or 0)
    if billed <= 0:
        return Decimal(0)
    tokens = min(tokens, billed)
    again = one.bill.fresh + one.bill.written + one.bill.written_1h
    lost = again * tokens / billed - (tokens * one.rates.cached).scaleb(-6)
    return lost.quantize(_PLACE)


def _by_cause(found: Iterable[_One]) -> list[Loss]:
    """Add up by cause and session, the dearest first."""
    with localcontext() as exact:
        exact.prec = DIGITS
        totals: dict[str, Loss] = {}
        sessions: defaultdict[tuple[str, str], LostIn] = defaultdict(
            lambda: LostIn(session="", usd=Decimal(0), calls=0)
        )
        for one in found:
            loss = totals.setdefault(
                one.cause,
                Loss(
                    cause=one.cause, means=CAUSES[one.cause], usd=Decimal(0), tokens=0, calls=0, sessions=[]
                ),
            )
            loss.usd += one.usd
            loss.tokens += one.tokens
            loss.calls += 1
            part = sessions[one.cause, one.session]
            part.session, part.usd, part.calls = one.session, part.usd + one.usd, part.calls + 1
    for (cause, _), part in sessions.items():
        totals[cause].sessions.append(part)
    for loss in totals.values():
        loss.sessions = sorted(loss.sessions, key=lambda part: (-part.usd, part.session))[:SESSIONS_NAMED]
    return sorted(totals.values(), key=lambda loss: -loss.usd)


def _nothing(cause: str) -> Loss:
    return Loss(cause=cause, means=CAUSES[cause], usd=Decimal(0), tokens=0, calls=0, sessions=[])
