"""The gateway's parts held together, and what happens to a request: read, place, decide, write down."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter, deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from features.context import LastTurn
from features.errors import BadInput
from features.reading import Reader
from features.wire import Message, Part, WireRequest
from router.arms import split_of
from router.cost import asked_by, cache_rules, sending, split_prompt
from router.gateway.cachecontrol import Added, Prompt, added, bucket_of
from router.gateway.counting import count_attempts, count_request
from router.gateway.crossing import Crossing, cross
from router.gateway.failover import answered_by, at_home
from router.gateway.health import Health
from router.gateway.hedge import Hedges
from router.gateway.holding import Mending
from router.gateway.idempotency import Repeats
from router.gateway.journal import Journal
from router.gateway.knobs import asked_for
from router.gateway.metrics import OTHER, Metrics
from router.gateway.offsets import LiveOffsets
from router.gateway.reading import read_request
from router.gateway.recording import (
    Call,
    Trace,
    chosen_arm,
    counted,
    kept_receipt,
    request_record,
    tags_of,
    turn_of,
)
from router.gateway.retries import Retries
from router.gateway.sealed import SealedAnswers
from router.gateway.served import Served
from router.gateway.sessions import Sessions, Stored
from router.gateway.splice import with_model
from router.gateway.toolcheck import ToolChecks
from router.gateway.translate import Untranslatable
from router.given import CallContext
from router.offline import load_decider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.records import DecisionRecord, OutcomeRecord
    from features.wire import Dialect, WireResponse
    from router.catalog import Deployment
    from router.decide import Decider
    from router.gateway.reading import Reading
    from router.gateway.sessions import Place
    from router.gateway.settings import Settings
    from router.gateway.toolcheck import ToolFault
    from router.gateway.translate import Translation
    from router.gateway.upstream import Upstream

LARGE_BYTES = 2 * 2**20  # bodies from here on take tens of milliseconds to read
SHOWN = 50  # last decisions on the dashboard


class Gateway:
    """Everything the endpoints share; built by create_app, opened and closed with the server."""

    upstream: Upstream  # opened when the server starts: its connections belong to the running loop

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.environ = dict(os.environ)  # a look into os.environ decodes every time
        self.decider = load_decider(settings)
        self.reader = Reader()
        self.sessions = Sessions(settings.sessions)
        self.metrics = Metrics()
        self.journal = Journal(Path(settings.log.journal), settings.log.queue, settings.log.flush_s)
        self.offsets = LiveOffsets(_beside(Path(settings.log.journal)), self.decider.bundle)
        self.retries = Retries()
        self.health = Health(settings.breaker)
        self.counting = Health(settings.breaker)  # of tokens, which not everyone who answers does
        self.served = Served()
        self.checks = ToolChecks()
        self.hedges = Hedges(settings.hedge)
        self.repeats = Repeats(settings.idempotency, _kept_answers(settings))
        self.recent: deque[DecisionRecord] = deque(maxlen=SHOWN)
        self.ready = False
        self.refused: str | None = None  # what the store has in force and can't be taken, and why

    def warm_up(self, decider: Decider) -> None:
        """Decide once per alias and dialect, so that no client waits for tables to be looked up first."""
        words = Message(role="user", parts=(Part(kind="text", text="Fix the failing test in app.py"),))
        for name, alias in decider.catalog.aliases.items():
            for dialect in alias.reference:
                request = WireRequest(dialect=dialect, model=name, messages=(words,), body_bytes=2_000)
                with suppress(BadInput):  # nothing of this dialect can be called: its clients will be told
                    decider.decide(request, CallContext("warm-up", "warm-up", _now_ms()))

    async def read(self, dialect: Dialect, body: bytes) -> Reading:
        """Read a request, a large one aside so that others needn't wait; BadInput if it can't be read."""
        if len(body) <= LARGE_BYTES:
            return read_request(dialect, body, self.reader)
        return await asyncio.to_thread(read_request, dialect, body)

    def decide(
        self, reading: Reading, headers: Mapping[str, str], client: str, *, all_arms: bool = False
    ) -> Call:
        """Decide where a request goes; BadInput if it can go nowhere."""
        request = reading.request
        started = time.perf_counter()
        now_ms = _now_ms()
        client = f"{client}|{self.sessions.whose(headers)}"
        place = self.sessions.place(request, headers, client, reading.chain)
        tags = tags_of(headers)
        context = CallContext(
            f"req_{secrets.token_hex(16)}",
            place.session_id,
            now_ms,
            self.sessions.view(place, now_ms),
            task_type=tags.get("task_type"),
            trajectory=reading.trajectory or self.sessions.trajectory(place, request, reading.aside),
            dialect_guessed=reading.guessed,
            headers=headers,
            offset=self.offsets.of(tags),
            cache_control=self.settings.cache_control,
            retry_rates=self.retries.rates(self.decider.catalog.deployments),
            down=self.health.down(time.monotonic()),
            all_arms=all_arms,
        )
        crossing = self._crossing(reading, context)
        receipt, deployment, translation = self._sayable(crossing, context)
        decide_ms = reading.read_ms + (time.perf_counter() - started) * 1000
        receipt = replace(receipt, decide_ms=decide_ms)
        more = self._added(reading, receipt, deployment, tags)
        free = request.model in self.decider.catalog.aliases
        policy = receipt.policy if free else "pin"  # a client may pin to any name
        self.metrics.add("samediff_decisions_total", policy=policy, candidate=self._label(receipt.chosen))
        self.metrics.add("samediff_decide_milliseconds_sum", decide_ms)
        self.metrics.add("samediff_decide_milliseconds_count")
        call = Call(
            request=request,
            body=translation.body if translation else _spliced(reading, deployment, more),
            control=None if translation else more.kind,
            translation=translation,
            translation_for=partial(cross, crossing, self.decider.catalog),
            receipt=receipt,
            deployment=deployment,
            place=place,
            answer=place.answer(receipt.chosen, by_client=_by_client(receipt, place, free=free)),
            headers=headers,
            tools=reading.head.values.get("tools"),
            body_for=lambda other: _spliced(reading, other, self._added(reading, receipt, other, tags)),
        )
        call = at_home(self, call)
        self.recent.append(call.receipt)
        self.offsets.decided(call, tags)
        return call

    def swap(self, decider: Decider) -> None:
        """Go on with another decider; a request sees the old one or the new."""
        self.decider = decider
        self.retries.swapped()
        self.offsets.swapped(decider.bundle)

    def _deployment(self, request: WireRequest, receipt: DecisionRecord) -> Deployment:
        catalog = self.decider.catalog
        target = catalog.resolve(request.model, request.dialect)
        asked = {d.id: d for d in target.deployments} if target else {}
        found = (asked or catalog.deployments)[receipt.deployment or ""]
        return found if found.dialect == request.dialect else found.abroad()

    def _crossing(self, reading: Reading, context: CallContext) -> Crossing:
        cached = self.settings.cache_control
        return Crossing(reading.request, reading.body, context.request_id, context.now_ms, cached)

    def _sayable(
        self, asked: Crossing, context: CallContext
    ) -> tuple[DecisionRecord, Deployment, Translation | None]:
        """Decide; what can't be said in the dialect decided on is decided again among those of its own."""
        request, decider = asked.request, self.decider
        receipt = decider.decide(request, context)
        deployment = self._deployment(request, receipt)
        try:
            return receipt, deployment, cross(asked, decider.catalog, deployment)
        except Untranslatable:
            if request.model not in decider.catalog.aliases:
                raise
            self.metrics.add("samediff_untranslatable_total")
            receipt = decider.decide(request, replace(context, same_dialect=True))
            return receipt, self._deployment(request, receipt), None

    def _added(
        self, reading: Reading, receipt: DecisionRecord, deployment: Deployment, tags: Mapping[str, Any]
    ) -> Added:
        """What keeps a prompt in the cache of a deployment, for a client that doesn't ask for it."""
        if not self.settings.cache_control or deployment.dialect != reading.request.dialect:
            return Added()  # a translation asks for its own
        asked = asked_by(reading.request, control=True)
        rules = cache_rules(deployment, receipt.ts_ms, asked)
        if rules is None or asked.marked:
            return Added()
        tokens = split_of(chosen_arm(receipt)).tokens
        named = rules.bucket is not None
        bucket = bucket_of(tags.get("tenant"), reading.request.user, receipt.session_id) if named else ""
        return added(Prompt(reading.body, reading.head, tokens, bucket), deployment, rules, asked)

    def decided(self, call: Call) -> None:
        """Hand the decision to the journal before anything is spent on it; it is on disk some 20 ms later."""
        self.journal.add("decision", kept_receipt(call.receipt, self.settings.log.prompts))

    def _stored(self, call: Call) -> Stored:
        """The prompt as the cache that it went to sees it."""
        facts = call.receipt.facts
        asked = asked_by(call.request, control=self.settings.cache_control)
        sent = sending(call.request, call.place.chain, asked, None if facts is None else facts.n_images)
        rules = cache_rules(call.deployment, call.receipt.ts_ms, sent.asked)
        split = split_of(chosen_arm(call.receipt))
        if call.deployment.id != call.receipt.deployment:  # nothing was foretold of where it went instead
            state = self.sessions.view(call.place, call.receipt.ts_ms).cache
            split = split_prompt(call.deployment, split.tokens, sent, state, call.receipt.ts_ms)
        return Stored(rules, sent.to(call.deployment, split.tokens), split)

    def began(self, call: Call) -> Stored:
        """Note that a provider answers: its cache holds the prompt now and the session has a candidate."""
        stored = self._stored(call)
        self.sessions.began(call.place, call.answer, call.receipt.ts_ms, stored)
        if call.control:
            self.metrics.add("samediff_cache_control_total", kind=call.control)
        return stored

    def heard(self, call: Call, answer: WireResponse, stored: Stored | None = None) -> None:
        """Learn from an answer that is through: what a next request may build on, and its token counts.

        `stored` is what `began` said of it, if it was called.
        """
        usage, _ = counted(answer)
        parts = (usage.input_tokens_uncached, usage.cached_tokens, usage.cache_write_tokens)
        tokens = None if parts[0] is None else sum(part or 0 for part in parts)
        size = call.request.body_bytes
        last = LastTurn(turn_of(call.receipt), tokens, usage.output_tokens)
        self.sessions.heard(call.answer._replace(deployment=call.deployment), answer, size, last)
        self.sessions.counted(call.place, stored or self._stored(call), usage, _now_ms())
        self.decider.ratios.correct(call.deployment.model, size, tokens)

    def ended(self, call: Call, trace: Trace) -> None:
        """Write down what happened and what it cost, once the answer is through or has broken off."""
        if trace.target is not None:
            call = answered_by(call, trace.target.deployment)
            if call.deployment.candidate != call.receipt.chosen:
                self.offsets.decided(call, tags_of(call.headers))
        if self.settings.tools.check != "off":
            self._note_faults(call, trace)
        record = request_record(call, trace, self.settings.log.prompts)
        self.journal.add("request", record)
        if record.status in ("ok", "truncated") and record.deployment is not None:
            broken = record.status == "truncated" or bool(trace.faults)
            self.retries.note(record.deployment, broken=broken)
        count_request(self.metrics, record, self._label(record.candidate))
        count_attempts(self.metrics, trace, self.decider.catalog.deployments)
        if self.hedges.on and trace.attempts == 1 and trace.first_byte_ms is not None:
            self.hedges.note(call.deployment.id, trace.first_byte_ms / 1000)
        drifted = self.served.note(call.deployment, record.model_served)
        if drifted is not None:
            self.metrics.add(
                "samediff_drift_total", candidate=self._label(record.candidate), kind=drifted.kind
            )
            if drifted.kind != "moved" and call.deployment.versions.mismatch == "leave":
                self.health.leave(call.deployment, time.monotonic())

    def mending(self, call: Call) -> Mending | None:
        """How a request's answers are looked at before they go out; None where they aren't."""
        tools = self.settings.tools
        if tools.check != "retry" or not call.request.tools:
            return None
        return Mending(partial(self._faults, call), tools)

    def _faults(self, call: Call, answer: WireResponse) -> list[ToolFault]:
        """What is wrong with an answer's tool calls."""
        return self.checks.faults(call.request, call.tools, answer)

    def _note_faults(self, call: Call, trace: Trace) -> None:
        """Count what is wrong with the tool calls of the answer, and of those that were thrown away."""
        if trace.answer is not None and trace.answer.complete:
            trace.faults = self._faults(call, trace.answer)
        thrown = [(at, answer, self._faults(call, answer)) for at, answer in trace.spent]
        given = [] if trace.answer is None else [(call.deployment, trace.answer, trace.faults)]
        for deployment, answer, found in (*thrown, *given):
            candidate = self._label(deployment.candidate)
            for fault in found:
                self.metrics.add("samediff_broken_tool_calls_total", candidate=candidate, kind=fault.kind)
            if answer.complete and any(part.kind == "tool_call" for part in answer.parts):
                self.sessions.called(call.place, deployment.candidate, broken=bool(found))
        for deployment, _, _ in thrown:
            self.retries.note(deployment.id, broken=True)

    def _label(self, candidate: str | None) -> str:
        """Candidate as metrics name it: clients may invent names, and each would be a series of its own."""
        return candidate if candidate in self.decider.catalog.candidates else OTHER

    async def outcomes(self, records: list[OutcomeRecord]) -> bool:
        """Take outcomes that a client reports; False if they may not outlive this process."""
        if not await self.journal.hand_over("outcome", records):
            return False
        counted = self.offsets.learn(records)
        self.metrics.add("samediff_offset_outcomes_total", counted)
        self.metrics.add("samediff_offset_unmatched_total", len(records) - counted)
        return True

    def gauges(self) -> dict[str, float]:
        """Values that other parts count."""
        states = Counter(self.health.states(time.monotonic()).values())
        for state in ("open", "probe", "resting"):
            self.metrics.put("samediff_deployments_out", states[state], state=state)
        for endpoint, calls in self.health.in_flight().items():
            self.metrics.put("samediff_in_flight", calls, endpoint=endpoint)
        return {
            "samediff_sessions": len(self.sessions),
            "samediff_offsets": len(self.offsets),
            "samediff_journal_records_total": self.journal.written,
            "samediff_journal_dropped_total": self.journal.dropped,
        }


def _beside(journal: Path) -> Path:
    """Where offsets are kept: no file of the journal's own, which are all its readers'."""
    return journal.with_name(f"{journal.name}.offsets.json")


def _spliced(reading: Reading, deployment: Deployment, more: Added) -> bytes:
    """The body as it goes out to a deployment of its own dialect."""
    inserts = (*asked_for(reading.body, reading.head, deployment), *more.inserts)
    return with_model(reading.body, reading.head, deployment.model, inserts)


def _kept_answers(settings: Settings) -> SealedAnswers | None:
    """Where keyed answers outlive the process; nowhere if no word of a conversation may be kept."""
    wanted = settings.idempotency
    if not (wanted.enabled and wanted.disk) or settings.log.prompts == "none":
        return None
    journal = Path(settings.log.journal)
    file = journal.with_name(f"{journal.name}.answers.sqlite")
    return SealedAnswers(file, wanted.keep_s, int(wanted.disk_mib * 2**20))


def _by_client(receipt: DecisionRecord, place: Place, *, free: bool) -> bool:
    """Tell whether a choice goes back to a client: it asked now, or is locked to what it asked for before."""
    return not free or (bool(receipt.locks) and place.after is not None and place.after.by_client)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
