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
from features.records import SCHEMA_VERSION, RequestRecord
from features.usagedoubts import contradictions
from features.wire import Usage, WireResponse
from router import prices
from router.drift import ALLOWED_FLAG, DRIFT_FLAG
from router.gateway.call import Alike, turn_of
from router.gateway.toolcheck import FAULT_FLAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.records import DecisionRecord, Prompts
    from features.wire import Part
    from router.catalogrows import Deployment
    from router.drift import Drift
    from router.gateway.call import Call, Trace

# How clients introduce themselves, and what we call them in the log.
_HARNESSES = (
    ("claude-cli", "claude_code"),
    ("codex", "codex"),
    ("opencode", "opencode"),
    ("aider", "aider"),
    ("anthropic/python", "anthropic-python"),
    ("openai/python", "openai-python"),
)
_VERSION = re.compile(r"/v?(\d[\w.\-]*)|\b(\d+\.\d+\.\d+)\b")
TRANSLATED_FLAG = "translated"  # into another dialect and back
PAID_FLAG = "paid_more_than_once"  # its cost is of several answers, its tokens are of the last
FALLBACK_FLAG = "another_candidate_answered"  # than the one decided on, which could not be reached
BYTES_PER_OUTPUT_TOKEN = 4.0  # of answer text; only where a cut answer brought no count
_JSON = msgspec.json.Encoder()


def request_record(call: Call, trace: Trace, prompts: Prompts, drifted: Drift | None = None) -> RequestRecord:
    """Write one call down; `prompts` says how much of what was said may be kept.

    Facts and vector are the receipt's own, and JSON no sooner than `as_written`.
    """
    # A line a field, in the record's own order: by keyword it takes five times as long. Longer than a
    # function should be, and easier to keep complete.
    receipt, request, deployment, tags = call.receipt, call.request, call.deployment, call.tags
    answer = trace.answer or WireResponse(complete=False)
    usage, doubts = counted(answer)
    flags = doubts + _flags(call, trace, usage, drifted)
    harness, version = harness_of(call.headers.get("user-agent", ""))
    cost = _price(call, deployment, answer, usage)
    if trace.spent:
        cost = _with_spent(cost, call, trace)
    full, kept = prompts == "full", prompts != "none"
    hashes, sizes = call.place.chain
    called, edits = _calls(answer.parts)
    digests, told = kept_of_answer(answer.parts) if kept and edits and answer.complete else (None, None)
    return RequestRecord(
        receipt.request_id,
        receipt.session_id,
        receipt.ts_ms,
        "journal",  # source
        SCHEMA_VERSION,  # schema_version
        None,  # source_file
        None,  # source_row
        call.place.parent_session_id,
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
        _tier(call, deployment, answer),  # service_tier
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
        prices.version(),  # price_version
        trace.status,
        trace.http_status,
        trace.error_kind,
        answer.finish_reason,
        trace.latency_ms,
        trace.first_byte_ms,
        trace.first_tool_call_ms,
        trace.attempts,
        trace.tries if len(trace.tries) > 1 else None,  # tries
        list(hashes[-PREFIXES_KEPT:]) if kept else None,  # prefix_hashes
        list(sizes[-PREFIXES_KEPT:]) if kept else None,  # prefix_bytes
        receipt.facts if kept else None,
        receipt.embedding if kept else None,
        receipt.encoder_digest if kept else None,
        receipt.feature_hash if kept else None,
        called if kept else None,  # tools_called
        digests,  # edit_digests
        told,  # answer
        flags or None,
        b"".join(call.body).decode("utf-8", "replace") if full else None,  # prompt_text
        "\n".join([part.text for part in answer.parts]) if full else None,  # response_text
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
        more = _price(call, deployment, answer, counted(answer)[0])
        cost = None if cost is None or more is None else cost + more
    return cost


def _price(call: Call, deployment: Deployment, answer: WireResponse, usage: Usage) -> Decimal | None:
    """Cost of one answer, in the tier that it was given in; None where it is unknown."""
    model, provider, tier = deployment.model, deployment.provider, _tier(call, deployment, answer)
    return prices.price_usd(model, provider, usage, call.receipt.ts_ms, tier, region=deployment.region)


def _tier(call: Call, deployment: Deployment, answer: WireResponse) -> str | None:
    """The tier that an answer was given in, or else the one asked for."""
    return answer.service_tier or deployment.tier or call.request.service_tier


def counted(answer: WireResponse) -> tuple[Usage, list[str]]:
    """Take the provider's counts; of a cut answer that was counted on the way in, estimate what came out."""
    usage = answer.usage or Usage()
    if answer.complete or usage.input_tokens_uncached is None:
        return usage, []
    seen = sum(part.bytes for part in answer.parts)
    estimate = max(usage.output_tokens or 0, round(seen / BYTES_PER_OUTPUT_TOKEN))
    return replace(usage, output_tokens=estimate), ["output_tokens_estimated"]


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


def alike_of(receipt: DecisionRecord, prompts: Prompts) -> Alike:
    """Facts and vector as they are written down; None where nothing is to be kept."""
    if prompts == "none":
        return Alike(None, None)
    facts, embedding = receipt.facts, receipt.embedding
    return Alike(
        None if facts is None else msgspec.Raw(_JSON.encode(facts)),
        None if embedding is None else msgspec.Raw(_JSON.encode(embedding)),
    )


def as_written(record: DecisionRecord | RequestRecord, alike: Alike) -> msgspec.Struct:
    """A decision's record or a request's for the journal: its facts and vector are `alike`'s, and no other's.

    They are JSON, which an encoder takes as it is; so it can be encoded, and not be read.
    """
    return replace(record, facts=alike.facts, embedding=alike.embedding)


@lru_cache(maxsize=256)  # of a head's length at most
def harness_of(user_agent: str) -> tuple[str | None, str | None]:
    """Read a client's name and version out of its user agent."""
    lower = user_agent.lower()
    name = next((ours for mark, ours in _HARNESSES if mark in lower), None)
    if name is None:
        return (user_agent[:60].split(" ")[0].split("/")[0] or None), None
    found = _VERSION.search(user_agent)
    return name, (found[1] or found[2]) if found else None
