"""What of a log can't be believed or priced: kept, flagged by `ingest` or found here, counted and shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

from features.names import candidate_name
from router import prices
from training.sources.checks import FLAGS
from training.spend.calls import NO_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.spend.calls import Call, Priced

NAMED = 20  # models without a price that are named

FOUND_HERE = {
    "missing_usage": "no input or no output tokens: no price can be worked out",
    "no_cache_counts": "nothing said of the cache: what the call cost is known at most, and in no sum",
    "failed": "the call failed and brought no usage; taken as unpaid, in no sum",
    "clock_backwards": "sessions in which a later turn has an earlier time",
    "renamed": "sessions in which one model goes by several names; taken as one",
    "hour_over_written": "more was written for an hour than written at all; the lesser counts",
    "not_yet": "times after now: priced as of today's table",
}


class Unpriced(msgspec.Struct, kw_only=True):
    """A model whose price isn't known, how often it was called, and where to put its price."""

    model: str
    provider: str | None
    calls: int
    why: str


class Doubts(msgspec.Struct, kw_only=True):
    """Counts by kind of doubt, what each means, and models without a price."""

    counts: dict[str, int]
    means: dict[str, str]
    unpriced: list[Unpriced]
    unpriced_more: int = 0  # models beyond those named


def doubts(calls: Sequence[Priced], now_ms: int) -> Doubts:
    """Look for what is doubtful in a log's calls."""
    counts: Counter[str] = Counter()
    unpriced: Counter[tuple[str, str | None, str | None]] = Counter()
    sessions: defaultdict[str, list[Call]] = defaultdict(list)
    for one in calls:
        call = one.call
        counts.update(call.flags or ())
        counts.update(_of_call(call, now_ms))
        sessions[call.session_id].append(call)
        if one.rates is None and call.model != NO_MODEL and not {"no_tokens"} & set(call.flags or ()):
            unpriced[call.model, call.provider, call.service_tier] += 1
    for part in sessions.values():
        counts.update(_of_session(part))
    named = [
        Unpriced(model=model, provider=provider, calls=n, why=prices.why_unknown(model, provider, tier))
        for (model, provider, tier), n in unpriced.most_common(NAMED)
    ]
    means = {name: FLAGS.get(name, FOUND_HERE.get(name, name)) for name in counts}
    return Doubts(
        counts=dict(counts.most_common()),
        means=means,
        unpriced=named,
        unpriced_more=max(0, len(unpriced) - NAMED),
    )


def _of_call(call: Call, now_ms: int) -> list[str]:
    found = []
    if call.input_tokens_uncached is None or call.output_tokens is None:
        whole = call.whole_prompt is not None and call.output_tokens is not None
        kind = "no_cache_counts" if whole and call.cached_tokens is None else "missing_usage"
        found.append("failed" if call.status == "error" else kind)
    if (call.cache_write_1h_tokens or 0) > (call.cache_write_tokens or 0):
        found.append("hour_over_written")
    if call.ts_ms > now_ms:
        found.append("not_yet")
    return found


def _of_session(part: list[Call]) -> list[str]:
    """Doubts of a whole session."""
    found = []
    times = [call.ts_ms for call in sorted(part, key=lambda call: -1 if call.turn is None else call.turn)]
    if times != sorted(times) and all(call.turn is not None for call in part):
        found.append("clock_backwards")
    names: defaultdict[str, set[str]] = defaultdict(set)
    for name in {call.model for call in part}:
        names[candidate_name(name)].add(name)
    if any(len(spelled) > 1 for spelled in names.values()):
        found.append("renamed")
    return found
