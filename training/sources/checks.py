"""Doubts about a record, the same for every format: what is refused, kept and flagged, or priced.

A row with one impossible number is kept without that number, because the rest of it is still true.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from features.records import RequestRecord
from features.usagedoubts import CONTRADICTIONS, contradictions
from features.wire.types import Usage
from training.sources.base import NO_TIME, Record
from training.sources.values import EARLIEST_MS, LATEST_MS, MOST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

AHEAD_MS = 24 * 3_600_000  # clocks and time zones differ; a day ahead is a fault

TOKEN_FIELDS = (
    "input_tokens_uncached",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)

PAID_FLAG = "paid_more_than_once"  # as the gateway says it
# What each flag means, for the closing table.
FLAGS = {
    **CONTRADICTIONS,
    "negative_tokens": "a negative token count, or more cached than input, taken as unknown (is the input "
    "without its cached part? then say --map input_tokens_uncached=COLUMN)",
    "absurd_tokens": "a token count over ten thousand million, taken as unknown",
    "no_tokens": "not one token in or out; perhaps no call at all, kept without a price",
    "negative_cost": "a negative cost, taken as unknown",
    "cost_no_number": "a cost that is no amount of money, such as inf or text, taken as unknown",
    "future_timestamp": "a time more than a day ahead, kept",
    "no_model": "no model named, kept",
    "unknown_model": "a model without a published price, kept",
    "reasoning_unknown": "reasoning tokens inside the output or apart? say --reasoning; kept without a price",
    "success_not_a_share": "a success that is no number from 0 to 1, taken as unknown",
    "run_totals": "figures of a whole run of calls; kept without what its context was",
    "over_window": "more input than the model takes: several calls in one row, priced as short prompts",
    "time_from_file": "no time in the row; the file's is used",
    "output_tokens_estimated": "an answer that broke off uncounted: its output tokens are estimated",
    "broken_tool_call": "a tool call of it is no JSON, breaks its schema or names no tool that was offered",
    PAID_FLAG: "an answer was thrown away for that: its cost is here, its tokens are not",
    "another_candidate_answered": "the one decided on could not be reached",
    "served_another_model_allowed": "the same, where the catalogue lets it be learned from",
    "served_another_model": "the provider reports another model, or another snapshot, than was asked for",
    "response_cache_hit": "answered from a gateway's own cache, no model called",
    "rewind_not_followed": "a session too long to hold; its features know turns that its user took back",
}


def check(record: Record, now_ms: int, known_model: Callable[[str, str | None], bool]) -> Record | str:
    """Return the record as it may be kept, flagged where it is in doubt, or the reason why it is refused."""
    if not EARLIEST_MS <= record.ts_ms <= LATEST_MS:
        return NO_TIME
    if not isinstance(record, RequestRecord):
        return record
    changes: dict[str, Any] = {}
    flags = list(record.flags or [])
    for name in TOKEN_FIELDS:
        value = getattr(record, name)
        if value is not None and not 0 <= value <= MOST_TOKENS:
            changes[name] = None
            flags.append("negative_tokens" if value < 0 else "absurd_tokens")
    known = [value for name in TOKEN_FIELDS if (value := getattr(record, name)) is not None]
    if known and not any(known):
        flags.append("no_tokens")
    if record.cost_usd is not None and record.cost_usd < 0:
        changes |= {"cost_usd": None, "cost_source": "unknown"}
        flags.append("negative_cost")
    if record.ts_ms > now_ms + AHEAD_MS:
        flags.append("future_timestamp")
    record = msgspec.structs.replace(record, **changes) if changes else record
    if record.reasoning_in_output:
        flags += contradictions(billed_usage(record))
    flags += _doubts_of_price(record, known_model)
    return (
        record if flags == (record.flags or []) else msgspec.structs.replace(record, flags=sorted(set(flags)))
    )


def _doubts_of_price(record: RequestRecord, known_model: Callable[[str, str | None], bool]) -> Iterator[str]:
    """What keeps a row from its price, or makes it doubtful."""
    model = _model(record)
    if model is None:
        yield "no_model"
    elif _unanswered(record) and not any(getattr(record, name) for name in TOKEN_FIELDS):
        return  # nothing was used
    elif not known_model(model, record.provider):
        yield "unknown_model"
    elif is_one_call(record.flags) and _over_window(record, model):
        yield "over_window"
    if record.reasoning_tokens and record.reasoning_in_output is None:
        yield "reasoning_unknown"


def _unanswered(record: RequestRecord) -> bool:
    """Whether a call failed, or no model of ours answered: then it is named as the catalogue names it."""
    return record.status == "error" or (record.source == "journal" and record.model_served is None)


def model_of(source: str, served: str | None, candidate: str | None, requested: str | None) -> str | None:
    """The model whose price a call has; where none answered us, the one we asked, which isn't its alias."""
    return served or (candidate if source == "journal" else None) or requested


def _model(record: RequestRecord) -> str | None:
    return model_of(record.source, record.model_served, record.candidate, record.model_requested)


def price(record: Record) -> Record:
    """Give a request without a cost the published price of its tokens; unknown stays unknown."""
    from router.prices import PRICE_VERSION, price_usd

    if not isinstance(record, RequestRecord) or record.cost_usd is not None:
        return record
    model = _model(record)
    if model is None or not {"response_cache_hit", "no_tokens", PAID_FLAG}.isdisjoint(record.flags or ()):
        return record  # or its tokens aren't those it was billed for
    if record.reasoning_tokens and record.reasoning_in_output is None:
        return record  # whether they are in the bill already isn't known
    cost = price_usd(
        model,
        record.provider,
        billed_usage(record),
        record.ts_ms,
        record.service_tier,
        one_call=is_one_call(record.flags),
    )
    if cost is None:
        return record
    return msgspec.structs.replace(record, cost_usd=cost, cost_source="priced", price_version=PRICE_VERSION)


def is_one_call(flags: Collection[str] | None) -> bool:
    """Whether a row tells of one call; the sum of several says nothing of how long their prompts were."""
    return {"run_totals", "over_window"}.isdisjoint(flags or ())


def _over_window(record: RequestRecord, model: str) -> bool:
    """Whether a prompt is longer than the model takes, which no single call's can be."""
    from router.prices import context_window, prompt_tokens

    prompt = prompt_tokens(billed_usage(record))
    window = context_window(model, record.provider) if prompt else None
    return prompt is not None and window is not None and prompt > window


def billed_usage(record: RequestRecord) -> Usage:
    """Token counts as the provider bills them: reasoning counted apart is output too."""
    output = record.output_tokens
    if output is not None and record.reasoning_in_output is False:
        output += record.reasoning_tokens or 0
    return Usage(
        input_tokens_uncached=record.input_tokens_uncached,
        cached_tokens=record.cached_tokens,
        cache_write_tokens=record.cache_write_tokens,
        cache_write_1h_tokens=record.cache_write_1h_tokens,
        output_tokens=output,
        reasoning_tokens=record.reasoning_tokens,
    )


@lru_cache(maxsize=4096)
def known_model(model: str, provider: str | None) -> bool:
    """Tell whether there is a price for this model."""
    from router.prices import is_known

    return is_known(model, provider)
