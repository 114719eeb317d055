"""What comes of an answer: a cache that holds its prompt, what later turns may know, faults, a record."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from features.context import LastTurn
from router.arms import split_of
from router.cost import asked_by, cache_rules, sending, split_prompt
from router.gateway.call import chosen_arm, turn_of
from router.gateway.failover import answered_by
from router.gateway.holding import Mending
from router.gateway.recording import as_written, counted, request_record
from router.gateway.sessions import Stored
from router.prices import prompt_tokens

if TYPE_CHECKING:
    from features.wire import WireResponse
    from router.gateway.call import Call, Trace
    from router.gateway.service import Gateway
    from router.gateway.toolcheck import ToolFault


def began(gateway: Gateway, call: Call) -> Stored:
    """Note that a provider answers: its cache holds the prompt now and the session has a candidate."""
    stored = _stored(gateway, call)
    gateway.sessions.began(call.place, call.answer, call.receipt.ts_ms, stored)
    if call.control:
        gateway.metrics.add("samediff_cache_control_total", kind=call.control)
    return stored


def heard(gateway: Gateway, call: Call, answer: WireResponse, stored: Stored | None = None) -> None:
    """Learn from an answer that is through: what a next request may build on, and its token counts.

    `stored` is what `began` said of it, if it was called.
    """
    usage, _ = counted(answer)
    tokens, size = prompt_tokens(usage), call.request.body_bytes
    last = LastTurn(turn_of(call.receipt), tokens, usage.output_tokens)
    gateway.sessions.heard(call.answer, answer, size, last)
    now_ms = time.time_ns() // 1_000_000
    gateway.sessions.counted(call.place, stored or _stored(gateway, call), usage, now_ms)
    gateway.decider.ratios.correct(call.deployment.model, size, tokens)


def ended(gateway: Gateway, call: Call, trace: Trace) -> None:
    """Write down what happened and what it cost, once the answer is through or has broken off."""
    if trace.target is not None:
        call = answered_by(call, trace.target.deployment)
        if call.deployment.candidate != call.receipt.chosen:
            gateway.offsets.decided(call)
    deployment = call.deployment
    if gateway.settings.tools.check != "off":
        _note_faults(gateway, call, trace)
    drifted = None if trace.answer is None else gateway.served.note(deployment, trace.answer.model)
    record = request_record(call, trace, gateway.settings.log.prompts, drifted)
    gateway.journal.add("request", as_written(record, call.alike))
    if record.status == "ok" or record.status == "truncated":
        gateway.retries.note(deployment.id, broken=record.status == "truncated" or bool(trace.faults))
    candidate = gateway.label(deployment.candidate)
    gateway.counters.request(record, candidate)
    gateway.counters.attempts(trace, gateway.decider.catalog.deployments)
    if gateway.hedges.on and trace.attempts == 1 and trace.first_byte_ms is not None:
        gateway.hedges.note(deployment.id, trace.first_byte_ms / 1000)
    if drifted is not None:
        gateway.metrics.add("samediff_drift_total", candidate=candidate, kind=drifted.kind)
        if drifted.kind != "moved" and deployment.versions.mismatch == "leave":
            gateway.health.leave(deployment, time.monotonic())


def mending(gateway: Gateway, call: Call) -> Mending | None:
    """How a request's answers are looked at before they go out; None where they aren't."""
    tools = gateway.settings.tools
    if tools.check != "retry" or not call.request.tools:
        return None
    return Mending(partial(_faults, gateway, call), tools)


def _stored(gateway: Gateway, call: Call) -> Stored:
    """The prompt as the cache that it went to sees it."""
    receipt, deployment, facts = call.receipt, call.deployment, call.receipt.facts
    asked = asked_by(call.request, control=gateway.settings.cache_control)
    sent = sending(call.request, call.place.chain, asked, None if facts is None else facts.n_images)
    rules = cache_rules(deployment, receipt.ts_ms, asked)
    split = split_of(chosen_arm(receipt))
    tokens = split.tokens
    if deployment.id != receipt.deployment:  # nothing was foretold of where it went instead
        state = gateway.sessions.view(call.place, receipt.ts_ms).cache
        split = split_prompt(deployment, tokens, sent, state, receipt.ts_ms)
    return Stored(rules, sent.to(deployment, tokens), split)


def _faults(gateway: Gateway, call: Call, answer: WireResponse) -> list[ToolFault]:
    """What is wrong with an answer's tool calls."""
    return gateway.checks.faults(call.request, call.tools, answer)


def _note_faults(gateway: Gateway, call: Call, trace: Trace) -> None:
    """Count what is wrong with the tool calls of the answer, and of those that were thrown away."""
    if not trace.spent and (trace.answer is None or not _calls_tools(trace.answer)):
        return
    answers = [(deployment, answer, _faults(gateway, call, answer)) for deployment, answer in trace.spent]
    for deployment, _, _ in answers:
        gateway.retries.note(deployment.id, broken=True)
    if trace.answer is not None:
        if trace.answer.complete:
            trace.faults = _faults(gateway, call, trace.answer)
        answers.append((call.deployment, trace.answer, trace.faults))
    for deployment, answer, found in answers:
        for fault in found:
            kind, candidate = fault.kind, gateway.label(deployment.candidate)
            gateway.metrics.add("samediff_broken_tool_calls_total", candidate=candidate, kind=kind)
        if answer.complete and _calls_tools(answer):
            gateway.sessions.called(call.place, deployment.candidate, broken=bool(found))


def _calls_tools(answer: WireResponse) -> bool:
    """Whether an answer calls a tool."""
    for part in answer.parts:  # noqa: SIM110 — any() of a generator takes three times as long
        if part.kind == "tool_call":
            return True
    return False
