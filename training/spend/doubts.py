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
    "no_such_time": "times from the year 2100 on: the table has no price of any model then",
    "model_changed": "sessions that go on with another model",
    "hit_on_new_model": "hits that can hardly be: a session's first call to a model reads more from cache "
    "than the session's first prompt held; the model may be named wrongly",
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
        if _lacks_price(one):
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


def _lacks_price(one: Priced) -> bool:
    """Whether a price in the user's file would help; a call of no possible time has none for its time."""
    call = one.call
    if one.rates is not None or call.model == NO_MODEL or "no_tokens" in (call.flags or ()):
        return False
    if call.source == "journal" and call.model_served is None and call.input_tokens_uncached is None:
        return False  # nobody answered; our catalogue's name for who was asked needn't be any seller's
    return call.ts_ms < prices.FAR_FUTURE_MS or not prices.is_known(call.model, call.provider)


def _of_call(call: Call, now_ms: int) -> list[str]:
    found = []
    if call.input_tokens_uncached is None or call.output_tokens is None:
        whole = call.whole_prompt is not None and call.output_tokens is not None
        kind = "no_cache_counts" if whole and call.cached_tokens is None else "missing_usage"
        found.append("failed" if call.status == "error" else kind)
    if (call.cache_write_1h_tokens or 0) > (call.cache_write_tokens or 0):
        found.append("hour_over_written")
    if call.ts_ms > now_ms:
        found.append("not_yet" if call.ts_ms < prices.FAR_FUTURE_MS else "no_such_time")
    return found


def _of_session(part: list[Call]) -> list[str]:
    """Doubts of a whole session."""
    found = []
    in_turn = sorted(part, key=lambda call: -1 if call.turn is None else call.turn)
    times = [call.ts_ms for call in in_turn]
    if times != sorted(times) and all(call.turn is not None for call in part):
        found.append("clock_backwards")
    names: defaultdict[str, set[str]] = defaultdict(set)
    for name in {call.model for call in part}:
        names[candidate_name(name)].add(name)
    if any(len(spelled) > 1 for spelled in names.values()):
        found.append("renamed")
    if len({_cached_as(call) for call in part if call.model != NO_MODEL}) > 1:
        found.append("model_changed")
    return found + ["hit_on_new_model"] * _hits_on_new_models(in_turn)


def _hits_on_new_models(in_turn: Sequence[Call]) -> int:
    """First calls to a model that read more than the first prompt: other sessions can't have sent it that."""
    first, hits = in_turn[0].prompt, 0
    seen: set[str] = set()
    for call in in_turn:
        new = call.model != NO_MODEL and _cached_as(call) not in seen
        hits += bool(seen) and new and first is not None and (call.cached_tokens or 0) > first
        seen.add(_cached_as(call))
    return hits


def _cached_as(call: Call) -> str:
    """The model whose cache a call uses, at whatever effort."""
    return candidate_name(call.model).partition("@")[0]
