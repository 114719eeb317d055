"""The canonical log: request, decision and outcome records, their Polars schemas and schema version.

What cannot be repaired later is recorded from the first day: every eligible arm with its propensity, the
locks, the prices in force, cache reads and writes, the parent session, and the time and source of each label.
`None` always means unknown, never zero. Money is `Decimal` USD, times are UTC epoch milliseconds.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from features.answerfacts import AnswerFacts
from features.facts import Facts
from features.wire.types import Dialect

if TYPE_CHECKING:
    import polars as pl

SCHEMA_VERSION = 1

RecordKind = Literal["request", "decision", "outcome"]
Status = Literal["ok", "error", "cancelled", "truncated", "unknown"]
CostSource = Literal["provider", "log", "priced", "unknown"]
Prompts = Literal["full", "features", "none"]  # how much of what was said a log may keep
# "signal": what people and agents did next, read by `samediff label`.
LabelLevel = Literal[
    "L0", "L1", "L2", "L3", "L4", "different", "unknown", "tests", "feedback", "signal", "score"
]


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One upstream call of a request that took several: who was asked, and what came of it."""

    deployment: str
    http_status: int | None = None
    error_kind: str | None = None
    took_ms: float | None = None


class RequestRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One LLM call as it happened: who, what was asked (as numbers and hashes), what was used and paid."""

    request_id: str
    session_id: str
    ts_ms: int
    source: str  # the log format it came from: "journal", "claude_code", …
    schema_version: int = SCHEMA_VERSION
    source_file: str | None = None
    source_row: int | None = None  # 1-based line or row in source_file
    parent_session_id: str | None = None
    turn: int | None = None  # 0-based within the session
    harness: str | None = None
    harness_version: str | None = None
    user: str | None = None
    tenant: str | None = None
    repo: str | None = None
    branch: str | None = None
    task_id: str | None = None
    task_type: str | None = None
    dialect: Dialect | None = None
    stream: bool | None = None
    model_requested: str | None = None
    model_served: str | None = None
    candidate: str | None = None
    deployment: str | None = None
    provider: str | None = None
    effort: str | None = None
    service_tier: str | None = None  # that the provider says it served, or else the one asked for
    provider_response_id: str | None = None  # the provider's own id of its answer: one call, whoever logs it
    input_tokens_uncached: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    reasoning_in_output: bool | None = None  # are reasoning_tokens counted inside output_tokens?
    cost_usd: Decimal | None = None
    cost_source: CostSource = "unknown"
    price_version: str | None = None
    status: Status = "unknown"
    http_status: int | None = None
    error_kind: str | None = None
    finish_reason: str | None = None
    latency_ms: float | None = None
    first_byte_ms: float | None = None
    first_tool_call_ms: float | None = None
    attempts: int | None = None  # upstream calls made for this request
    tries: list[AttemptRecord] | None = None  # where they were several, in order; the last one answered
    prefix_hashes: list[int] | None = None  # after each message, newest last; equal hash = equal prefix
    prefix_bytes: list[int] | None = None  # bytes of prompt up to and including that message
    facts: Facts | None = None
    embedding: list[float] | None = None
    encoder_digest: str | None = None
    feature_hash: str | None = None
    tools_called: list[str] | None = None
    edit_digests: list[str] | None = None  # "level:digest", see features.diffs.answers
    answer: AnswerFacts | None = None  # of the edit it makes; no text
    flags: list[str] | None = None  # doubts about this row, such as "negative_tokens" or "future_timestamp"
    prompt_text: str | None = None  # only when log.prompts = "full"
    response_text: str | None = None  # only when log.prompts = "full"


class ArmRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One candidate as the policy saw it at the moment of the decision.

    Not by keyword alone: matching thirty keywords takes ten times as long as the rest of making one.
    """

    candidate: str
    deployment: str | None = None
    eligible: bool = True
    excluded_by: str | None = None  # the lock or constraint that took it out
    p_success: float | None = None
    p_success_low: float | None = None
    p_success_high: float | None = None
    output_tokens: float | None = None
    input_tokens_est: float | None = None
    cached_tokens_est: float | None = None
    cache_write_tokens_est: float | None = None
    cache_write_1h_tokens_est: float | None = None  # of those, the ones kept for an hour
    cache_hit: float | None = None  # share of cached_tokens_est that is read on average
    cache_sure: float | None = None  # certainty of the split, in [0, 1]
    cache_why: str | None = None  # why the rest isn't read, see features.cache
    cache_age_ms: float | None = None  # since this cache was last used by the conversation
    reasoning_tokens: float | None = None  # of output_tokens
    turns_left: float | None = None  # of the session after this one, if this candidate goes on
    cost_usd: Decimal | None = None  # of this call; its four parts
    cost_fresh_usd: Decimal | None = None
    cost_cached_usd: Decimal | None = None
    cost_write_usd: Decimal | None = None
    cost_output_usd: Decimal | None = None
    # Compared beside it, not billed now, as all below:
    cost_later_usd: Decimal | None = None  # of the turns to come, as many as the reference would take
    cost_extra_usd: Decimal | None = None  # of the turns that this one takes beyond those; below 0 if fewer
    cost_return_usd: Decimal | None = None  # of coming back to the candidate that is left
    return_p: float | None = None  # that the session comes back to it
    return_ms: float | None = None  # and when, from now
    cost_redo_usd: Decimal | None = None  # of what the reference has to do again
    cost_retry_usd: Decimal | None = None  # of answers that break off and are asked for again
    retry_rate: float | None = None  # share of this deployment's answers that break off
    broken_calls: float | None = None  # share of its answers in this session with a tool call of no use
    propensity: float = 0.0


class TypeShare(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task type that a request may be of, where its client told none."""

    task_type: str
    p: float


class OffsetRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a repository's own outcomes move every arm's success from what the bundle says."""

    log_odds: float
    outcomes: float  # that it stands on


class PlanStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a decision's plan: call a candidate, judge its answer, compare two, release or escalate."""

    action: Literal["call", "judge", "compare", "release", "escalate"]
    candidate: str | None = None
    threshold: float | None = None


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The receipt: everything a decision was made of, so that it can be recomputed byte for byte."""

    request_id: str
    session_id: str
    ts_ms: int
    policy: str
    chosen: str
    schema_version: int = SCHEMA_VERSION
    deployment: str | None = None
    provider: str | None = None
    region: str | None = None
    checkpoint: str | None = None
    reference: str | None = None
    task_type: str | None = None  # as the client named it
    inferred_types: list[TypeShare] = []  # the likeliest, where the client named none
    offset: OffsetRecord | None = None  # of the request's repository, and its tenant
    plan: list[PlanStep] = []
    arms: list[ArmRecord] = []
    locks: list[str] = []
    constraints: list[str] = []
    reasons: list[str] = []
    explored: bool = False
    seed: int | None = None
    facts: Facts | None = None
    embedding: list[float] | None = None
    feature_hash: str | None = None
    encoder_digest: str | None = None
    policy_digest: str | None = None
    bundle_digest: str | None = None
    bundle_kind: Literal["prior", "trained"] | None = None
    price_version: str | None = None
    cache_version: str | None = None  # digest of the cache rules
    catalog_digest: str | None = None
    decide_ms: float | None = None


class OutcomeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a request, a session or a task: one label from one source at one time."""

    outcome_id: str
    ts_ms: int  # when the outcome happened
    source: str  # "tests", "feedback", "diff", "shadow", "matrix", …
    schema_version: int = SCHEMA_VERSION
    recorded_ms: int | None = None  # when we learned of it
    request_id: str | None = None
    session_id: str | None = None
    task_id: str | None = None
    candidate: str | None = None
    reference: str | None = None
    level: LabelLevel = "unknown"
    value: float | None = None  # probability of success in [0, 1]; None = unknown
    weight: float | None = None
    sampling_probability: float | None = None
    detail: str | None = None


RECORD_TYPES: dict[RecordKind, type[msgspec.Struct]] = {
    "request": RequestRecord,
    "decision": DecisionRecord,
    "outcome": OutcomeRecord,
}

Migration = Callable[[dict[str, Any]], dict[str, Any]]

# MIGRATIONS[k] turns a plain record of schema version k + 1 into one of version k + 2.
MIGRATIONS: tuple[Migration, ...] = ()


def migrate(plain: dict[str, Any], migrations: tuple[Migration, ...] = MIGRATIONS) -> dict[str, Any]:
    """Bring one decoded record up to the current schema version, step by step.

    Raises ValueError for a record of a newer version than this program knows.
    """
    version = int(plain.get("schema_version", 1))
    newest = len(migrations) + 1
    if not 1 <= version <= newest:
        raise ValueError(f"record of schema version {version}, this samediff reads 1 to {newest}; upgrade it")
    for step in migrations[version - 1 :]:
        plain = step(plain)
    return {**plain, "schema_version": newest}


def polars_schema(record: type[msgspec.Struct]) -> dict[str, pl.DataType]:
    """The Polars schema of a record type, derived from its annotations so that the two cannot drift."""
    hints = typing.get_type_hints(record)
    return {name: _dtype(hints[name]) for name in record.__struct_fields__}


def _dtype(annotation: Any) -> pl.DataType:
    """Polars data type of one annotation; Optional is the type itself, every column being nullable."""
    import polars as pl  # an extra, and no business of the serving path

    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _dtype(next(a for a in args if a is not type(None)))
    if origin is Literal:
        return pl.String()
    if origin is list:
        narrow = {int: pl.UInt64(), float: pl.Float32()}  # hashes and embeddings
        return pl.List(narrow.get(args[0]) or _dtype(args[0]))
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return pl.Struct(dict(polars_schema(annotation)))
    simple: dict[Any, pl.DataType] = {
        str: pl.String(),
        int: pl.Int64(),
        float: pl.Float64(),
        bool: pl.Boolean(),
        Decimal: pl.Decimal(38, 12),
    }
    return simple[annotation]
