"""What is written down of one request: its numbers, what the provider counted, what it cost."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from features.cache import PREFIXES_KEPT
from features.editfacts import kept_of_answer
from features.records import SCHEMA_VERSION, AttemptRecord, DecisionRecord, Prompts, RequestRecord, Status
from features.usagedoubts import contradictions
from features.value import Value
from features.wire import Usage, WireRequest, WireResponse
from router import prices
from router.catalogrows import Deployment
from router.drift import ALLOWED_FLAG, DRIFT_FLAG
from router.gateway.attempts import Target
from router.gateway.toolcheck import FAULT_FLAG, ToolFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from features.records import ArmRecord
    from features.wire import Part
    from router.drift import Drift
    from router.gateway.holding import Spare
    from router.gateway.sessions import Answer, Place
    from router.gateway.translate import Translation

# How clients introduce themselves, and what we call them in the log.
_HARNESSES = (
    ("claude-cli", "claude_code"),
    ("codex", "codex"),
    ("opencode", "opencode"),
    ("aider", "aider"),
    ("anthropic/python", "anthropic-python"),
    ("openai/python", "openai-python"),
)
# What a client may tell of a call in headers, which aren't sent on; its own tag wins over anything inferred.
TAGS = {
    "x-samediff-task-type": "task_type",
    "x-samediff-task-id": "task_id",
    "x-samediff-repo": "repo",
    "x-samediff-branch": "branch",
    "x-samediff-tenant": "tenant",
}
_MAX_TAG = 200
_VERSION = re.compile(r"/v?(\d[\w.\-]*)|\b(\d+\.\d+\.\d+)\b")
TRANSLATED_FLAG = "translated"  # into another dialect and back
PAID_FLAG = "paid_more_than_once"  # its cost is of several answers, its tokens are of the last
FALLBACK_FLAG = "another_candidate_answered"  # than the one decided on, which could not be reached
BYTES_PER_OUTPUT_TOKEN = 4.0  # of answer text; only where a cut answer brought no count


class Tags(Value, frozen=True):
    """What a client's headers tell of a call, by the fields of a record; None where they don't."""

    task_type: str | None = None
    task_id: str | None = None
    repo: str | None = None
    branch: str | None = None
    tenant: str | None = None


_UNTAGGED = Tags()
_JSON = msgspec.json.Encoder()


class Alike(Value, frozen=True):
    """What the lines of a decision and of its request both hold and is long, as JSON that is made once."""

    facts: msgspec.Raw | None = None
    embedding: msgspec.Raw | None = None


class Call(Value, frozen=True):
    """One request on its way: what was asked, what was decided, where it goes."""

    request: WireRequest
    body: bytes  # as it goes out
    receipt: DecisionRecord
    deployment: Deployment
    place: Place
    answer: Answer  # as sessions know it
    headers: Mapping[str, str]
    tags: Tags
    body_for: Callable[[Deployment], bytes] | None = None  # as it would go out to another deployment
    translation: Translation | None = None  # where its provider speaks another dialect
    translation_for: Callable[[Deployment], Translation | None] | None = None
    tools: msgspec.Raw | None = None  # as the client offers them
    control: str | None = None  # what of ours asks for caching in the body, see router.gateway.cachecontrol
    alike: Alike = Alike()  # as far as it may be kept


class Trace(msgspec.Struct):
    """What happened to a call so far; times are milliseconds since the request arrived."""

    status: Status = "unknown"
    http_status: int | None = None
    error_kind: str | None = None
    first_byte_ms: float | None = None
    first_tool_call_ms: float | None = None
    latency_ms: float | None = None
    attempts: int = 0
    answer: WireResponse | None = None
    spent: list[tuple[Deployment, WireResponse]] = []  # answers that were thrown away
    faults: list[ToolFault] = []  # in the tool calls of the one that wasn't
    target: Target | None = None  # asked last
    opened: int = 0  # breakers that opened over it
    tries: list[AttemptRecord] = []

    def begin(self, target: Target) -> None:
        """Another deployment is asked."""
        self.target = target
        self.attempts += 1
        self.http_status = self.error_kind = None

    def raced(self, mine: Trace, theirs: Trace) -> None:
        """Take in the attempts of two that raced, of which this is one: it answers."""
        self.tries = [*mine.tries, *theirs.tries]
        self.spent = [*mine.spent, *theirs.spent]
        self.attempts = mine.attempts + theirs.attempts
        self.opened = mine.opened + theirs.opened

    def take_back(self, spare: Spare) -> None:
        """An answer that was thrown away is given after all."""
        self.spent = [(deployment, told) for deployment, told in self.spent if told is not spare.told]
        self.target, self.answer = spare.target, spare.told
        self.status, self.http_status, self.error_kind = "ok", spare.status, None

    def end(self, took_ms: float) -> None:
        """Nothing more comes from it."""
        assert self.target is not None
        made = AttemptRecord(
            deployment=self.target.deployment.id,
            http_status=self.http_status,
            error_kind=self.error_kind,
            took_ms=took_ms,
        )
        self.tries.append(made)


def request_record(call: Call, trace: Trace, prompts: Prompts, drifted: Drift | None = None) -> RequestRecord:
    """Write one call down; `prompts` says how much of what was said may be kept."""
    request, receipt, deployment = call.request, call.receipt, call.deployment
    place, tags = call.place, call.tags
    answer = trace.answer or WireResponse(complete=False)
    usage, flags = counted(answer)
    flags += _flags(call, trace, usage, drifted)
    tier = answer.service_tier or deployment.tier or request.service_tier
    cost = prices.price_usd(
        deployment.model, deployment.provider, usage, receipt.ts_ms, tier, region=deployment.region
    )
    if trace.spent:
        cost = _with_spent(cost, call, trace)
    harness, version = harness_of(call.headers.get("user-agent", ""))
    kept, full = prompts != "none", prompts == "full"
    called, edits = _calls(answer.parts)
    digests, facts = kept_of_answer(answer.parts) if edits and kept and answer.complete else (None, None)
    return RequestRecord(  # in its own order: by keyword it takes five times as long
        receipt.request_id,
        receipt.session_id,
        receipt.ts_ms,
        "journal",  # source
        SCHEMA_VERSION,  # schema_version
        None,  # source_file
        None,  # source_row
        place.parent_session_id,
        turn_of(receipt),  # turn
        harness,
        version,  # harness_version
        request.user,
        tags.tenant,
        tags.repo,
        tags.branch,
        tags.task_id,
        tags.task_type,
        request.dialect,
        request.stream,
        request.model,  # model_requested
        answer.model,  # model_served
        deployment.candidate,
        deployment.id,  # deployment
        deployment.provider,
        request.effort,
        tier,  # service_tier
        answer.response_id,  # provider_response_id
        usage.input_tokens_uncached,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        None if usage.reasoning_tokens is None else True,  # reasoning_in_output
        cost,  # cost_usd
        "unknown" if cost is None else "priced",  # cost_source
        prices.PRICE_VERSION,  # price_version
        trace.status,
        trace.http_status,
        trace.error_kind,
        answer.finish_reason,
        trace.latency_ms,
        trace.first_byte_ms,
        trace.first_tool_call_ms,
        trace.attempts,
        trace.tries if len(trace.tries) > 1 else None,  # tries
        list(place.chain[0][-PREFIXES_KEPT:]) if kept else None,  # prefix_hashes
        list(place.chain[1][-PREFIXES_KEPT:]) if kept else None,  # prefix_bytes
        receipt.facts if kept else None,  # facts
        receipt.embedding if kept else None,  # embedding
        receipt.encoder_digest if kept else None,  # encoder_digest
        receipt.feature_hash if kept else None,  # feature_hash
        called if kept else None,  # tools_called
        digests,  # edit_digests
        facts,  # answer
        flags or None,  # flags
        call.body.decode("utf-8", "replace") if full else None,  # prompt_text
        "\n".join(part.text for part in answer.parts) if full else None,  # response_text
    )


def _flags(call: Call, trace: Trace, usage: Usage, drifted: Drift | None) -> list[str]:
    """What is to be known of a call by whoever reads its figures."""
    deployment, flags = call.deployment, contradictions(usage)
    if drifted is not None and drifted.kind != "moved":
        flags.append(ALLOWED_FLAG if deployment.versions.train else DRIFT_FLAG)
    if call.translation is not None:
        flags.append(TRANSLATED_FLAG)
    if deployment.candidate != call.receipt.chosen:
        flags.append(FALLBACK_FLAG)
    if trace.faults:
        flags.append(FAULT_FLAG)
    if trace.spent:
        flags.append(PAID_FLAG)
    return flags


def _with_spent(cost: Decimal | None, call: Call, trace: Trace) -> Decimal | None:
    """Cost of a request with that of the answers to it that were thrown away; None where one is unknown."""
    if trace.status == "error" and (trace.answer is None or trace.answer.usage is None):
        cost = Decimal(0)  # a refusal is no answer, and nobody charges for it
    for deployment, answer in trace.spent:
        tier = answer.service_tier or deployment.tier or call.request.service_tier
        where = (deployment.model, deployment.provider)
        more = prices.price_usd(
            *where, counted(answer)[0], call.receipt.ts_ms, tier, region=deployment.region
        )
        cost = None if cost is None or more is None else cost + more
    return cost


def counted(answer: WireResponse) -> tuple[Usage, list[str]]:
    """Take the provider's counts; of a cut answer that was counted on the way in, estimate what came out."""
    usage = answer.usage or Usage()
    if answer.complete or usage.input_tokens_uncached is None:
        return usage, []
    seen = sum(part.bytes for part in answer.parts)
    estimate = max(usage.output_tokens or 0, round(seen / BYTES_PER_OUTPUT_TOKEN))
    return replace(usage, output_tokens=estimate), ["output_tokens_estimated"]


def turn_of(receipt: DecisionRecord) -> int | None:
    """The turn within the conversation, 0-based; None where it can't be seen."""
    return None if receipt.facts is None or receipt.facts.turn is None else int(receipt.facts.turn)


def _calls(parts: Sequence[Part]) -> tuple[list[str], bool]:
    """The tools that an answer calls, and whether it may edit: one that only talks is seen at a glance."""
    called, edits = [], False
    for part in parts:
        if part.kind == "tool_call":
            edits = True
            if part.name:
                called.append(part.name)
        elif "<<<<<<< SEARCH" in part.text:
            edits = True
    return called, edits


def chosen_arm(receipt: DecisionRecord) -> ArmRecord:
    """The arm of the candidate that was decided on."""
    return next(arm for arm in receipt.arms if arm.candidate == receipt.chosen)


def alike_of(receipt: DecisionRecord, prompts: Prompts) -> Alike:
    """Facts and vector as they are written down; None where nothing is to be kept."""
    if prompts == "none":
        return Alike()
    facts, embedding = receipt.facts, receipt.embedding
    return Alike(
        None if facts is None else msgspec.Raw(_JSON.encode(facts)),
        None if embedding is None else msgspec.Raw(_JSON.encode(embedding)),
    )


def as_written(record: DecisionRecord | RequestRecord, alike: Alike) -> msgspec.Struct:
    """The record for the journal, whose encoder takes JSON as it is: with what may be kept of the prompt."""
    return replace(record, facts=alike.facts, embedding=alike.embedding)


def tags_of(headers: Mapping[str, str]) -> Tags:
    """What the client named in headers."""
    if headers.keys().isdisjoint(TAGS):
        return _UNTAGGED
    return Tags(**{field: headers[name][:_MAX_TAG] for name, field in TAGS.items() if headers.get(name)})


@lru_cache(maxsize=256)  # of a head's length at most
def harness_of(user_agent: str) -> tuple[str | None, str | None]:
    """Read a client's name and version out of its user agent."""
    lower = user_agent.lower()
    name = next((ours for mark, ours in _HARNESSES if mark in lower), None)
    if name is None:
        return (user_agent[:60].split(" ")[0].split("/")[0] or None), None
    found = _VERSION.search(user_agent)
    return name, (found[1] or found[2]) if found else None
