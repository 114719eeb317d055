"""The gateway's parts held together: what is built of the settings, opened with the server, and swapped."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import BadInput
from features.reading import Reader
from features.wire import Message, Part, WireRequest
from router.gateway import answered, deciding
from router.gateway.counting import Counters
from router.gateway.health import Health
from router.gateway.hedge import Hedges
from router.gateway.idempotency import Repeats
from router.gateway.journal import Journal
from router.gateway.metrics import OTHER, Metrics
from router.gateway.offsets import LiveOffsets
from router.gateway.reading import read_request
from router.gateway.recording import as_written
from router.gateway.retries import Retries
from router.gateway.sealed import SealedAnswers
from router.gateway.served import Served
from router.gateway.sessions import Sessions
from router.gateway.toolcheck import ToolChecks
from router.given import CallContext
from router.offline import load_decider

if TYPE_CHECKING:
    from features.records import DecisionRecord, OutcomeRecord
    from features.wire import Dialect
    from router.decide import Decider
    from router.gateway.call import Call
    from router.gateway.reading import Reading
    from router.gateway.settings import Settings
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
        self.counters = Counters(self.metrics)
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

    decide = deciding.decide
    began = answered.began
    heard = answered.heard
    ended = answered.ended
    mending = answered.mending

    def swap(self, decider: Decider) -> None:
        """Go on with another decider; a request sees the old one or the new."""
        self.decider = decider
        self.retries.swapped()
        self.offsets.swapped(decider.bundle)

    def decided(self, call: Call) -> None:
        """Hand the decision to the journal before anything is spent on it; the system has it 0.2 s later."""
        self.journal.add("decision", as_written(call.receipt, call.alike))

    def label(self, candidate: str | None) -> str:
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


def _kept_answers(settings: Settings) -> SealedAnswers | None:
    """Where keyed answers outlive the process; nowhere if no word of a conversation may be kept."""
    wanted = settings.idempotency
    if not (wanted.enabled and wanted.disk) or settings.log.prompts == "none":
        return None
    journal = Path(settings.log.journal)
    file = journal.with_name(f"{journal.name}.answers.sqlite")
    return SealedAnswers(file, wanted.keep_s, int(wanted.disk_mib * 2**20))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
