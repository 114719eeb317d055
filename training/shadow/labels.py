"""A run's answers as labels: pairs judged, each with its chance of having been asked, and the money spent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from features.diffs.judge import judge
from features.diffs.verdicts import Verdict
from features.editfacts import facts_of_answer
from features.records import OutcomeRecord, RequestRecord, Status
from features.wire import Part, Usage
from router import prices
from training.labels.detail import written
from training.shadow.bodies import Answer, logged_answer
from training.shadow.frame import bodies
from training.shadow.ledger import call_name, xxh128
from training.shadow.sampling import chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from router.catalog import Catalog
    from training.log import LogStore
    from training.shadow.ledger import Item, Ledger, PlannedCall, Sent, Settled

CHUNK = 64  # logged answers read at a time
_ANEW = Verdict(level="unknown", reason="the reference's own answer, which others are held against")
_STATUS: dict[str, Status] = {
    "ok": "ok",
    "truncated": "truncated",
    "refused": "error",
    "failed": "error",
    "timeout": "error",
    "cancelled": "cancelled",
}


class Pair(NamedTuple):
    """One comparison with a reference answer; `chance` is None where it isn't known."""

    item: Item
    planned: PlannedCall
    call: str
    verdict: Verdict
    chance: float | None
    against: str  # "logged" or "fresh": the reference's answer; "nothing" where it is that one itself
    settled: Settled


class Judged(NamedTuple):
    """All pairs of a run, and where the asking stopped (infinity: every request was asked)."""

    pairs: list[Pair]
    threshold: float
    anew: list[Pair]  # the reference's answers where another had answered: held against nothing, but asked


def stopping_rank(ledger: Ledger) -> float:
    """Rank of the last request before the first unfinished one: it sets the chances and has none itself."""
    assert ledger.plan is not None
    last = 0.0
    for item in ledger.items:
        if not all(call_name(ledger.plan.run, item, planned) in ledger.attempts for planned in item.calls):
            return last
        last = item.rank
    return math.inf if ledger.plan.beyond is None else ledger.plan.beyond


def judge_pairs(ledger: Ledger, log: LogStore) -> Judged:
    """Judge every pair of answers that came back whole."""
    threshold = stopping_rank(ledger)
    pairs: list[Pair] = []
    anew: list[Pair] = []
    asked = [item for item in ledger.items if item.rank <= threshold or ledger.began(item)]
    for start in range(0, len(asked), CHUNK):
        chunk = asked[start : start + CHUNK]
        rows = bodies(log, [item.request_id for item in chunk if item.logged])
        for item in chunk:
            row = rows.get(item.request_id)
            kept = None if row is None else logged_answer(row["response_text"], row["tools_called"])
            for pair in _pairs(ledger, item, kept, threshold):
                (anew if pair.planned.role == "reference" else pairs).append(pair)
    return Judged(pairs, threshold, anew)


def _pairs(ledger: Ledger, item: Item, kept: Answer | None, threshold: float) -> Iterator[Pair]:
    assert ledger.plan is not None
    known = chance(item.size, threshold) if item.rank < threshold else None
    results = [(planned, ledger.result(call_name(ledger.plan.run, item, planned))) for planned in item.calls]
    whole = [(p, s) for p, s in results if s is not None and s.status in ("ok", "truncated")]
    return pairs_of(item, kept, whole, known, ledger.plan.self_share)


def pairs_of(
    item: Item,
    kept: Answer | None,
    answers: Iterable[tuple[PlannedCall, Settled]],
    known: float | None,
    self_share: float,
) -> Iterator[Pair]:
    """Answers to one request, in the order of its calls, held against the reference's.

    `kept` is that as the log has it, `known` the chance that the request was asked again.
    """
    reference = kept
    for planned, settled in answers:
        fresh = Answer(settled.calls, settled.text) if settled.status == "ok" else None
        if planned.role == "reference":
            reference = fresh
            if item.answered_by not in (None, planned.candidate):
                yield Pair(item, planned, settled.call, _ANEW, known, "nothing", settled)
        elif reference is not None:
            asked = known if known is None or planned.role != "self" else known * self_share
            against = "logged" if kept is not None else "fresh"
            verdict = compare(reference, fresh)
            yield Pair(item, planned, settled.call, verdict, asked, against, settled)


def compare(reference: Answer, other: Answer | None) -> Verdict:
    """The verdict on another answer to the same request; None is one that was cut at its limit."""
    if other is None:
        return Verdict(level="unknown", reason="the answer was cut at its limit")
    mine, theirs = reference.edit, other.edit
    if not (mine.files or mine.problem):
        return Verdict(level="unknown", reason="the reference's answer edits nothing this time")
    if not (theirs.files or theirs.problem):
        return Verdict(level="different", similarity=0.0, reason="the answer edits nothing at this turn")
    return judge(mine, theirs)


def outcomes(ledger: Ledger, judged: Judged, now_ms: int) -> Iterator[OutcomeRecord]:
    """Labels: about the logged request and the candidate named. What isn't the same has no value."""
    plan = ledger.plan
    assert plan is not None
    for pair in (*judged.pairs, *judged.anew):
        sent = ledger.sent[pair.call, pair.settled.attempt]
        yield outcome_of(plan.run, pair, sent, plan.reference, now_ms)


def outcome_of(run: str, pair: Pair, sent: Sent, reference: str, now_ms: int) -> OutcomeRecord:
    """What the log keeps of a pair.

    The reference's own answer names whoever had answered, so that what its tests say later finds its chance.
    """
    itself = pair.planned.role == "reference"
    return OutcomeRecord(
        outcome_id=xxh128(f"outcome\0{pair.call}"),
        ts_ms=sent.ts_ms,
        recorded_ms=now_ms,
        source="shadow",
        request_id=pair.item.request_id,
        session_id=pair.item.session_id,
        candidate=pair.planned.candidate,
        reference=pair.item.answered_by if itself else reference,
        level=pair.verdict.level,
        value=1.0 if pair.verdict.same else None,
        sampling_probability=pair.chance,
        detail=written(_detail(run, pair)),
    )


def _detail(run: str, pair: Pair) -> dict[str, object]:
    """What the columns of an outcome have no room for; no text of any answer."""
    return {
        "run": run,
        "call": pair.call,
        "role": pair.planned.role,
        "against": pair.against,
        "similarity": pair.verdict.similarity,
        "weak": pair.verdict.weak,
        "traffic": pair.item.traffic,
        "files": len(pair.verdict.files),
        "cost_usd": str(pair.settled.usd),
        "counted": pair.settled.counted,
    }


def request_records(ledger: Ledger, catalog: Catalog) -> Iterator[RequestRecord]:
    """Every call that was sent, as the log keeps calls: its money is accounted for like any other."""
    assert ledger.plan is not None
    sessions = {item.request_id: item.session_id for item in ledger.items}
    answers = _answers(ledger)
    for key, sent in ledger.sent.items():
        settled = ledger.settled.get(key)
        made = record_of(ledger.plan.run, sent, settled, catalog, sessions[sent.request_id])
        if settled is not None and settled.status == "ok":
            by_candidate = answers.get(sent.request_id, {})
            others = [parts for name, parts in by_candidate.items() if name != sent.candidate]
            made = replace(made, answer=facts_of_answer(parts_of(settled), others))
        yield made


def _answers(ledger: Ledger) -> dict[str, dict[str, list[Part]]]:
    """Whole answers by request and candidate; the reference's, which others are held to, is no witness."""
    assert ledger.plan is not None
    found: dict[str, dict[str, list[Part]]] = {}
    for key, settled in ledger.settled.items():
        sent = ledger.sent.get(key)
        if sent is not None and settled.status == "ok" and sent.candidate != ledger.plan.reference:
            found.setdefault(sent.request_id, {})[sent.candidate] = parts_of(settled)
    return found


def parts_of(settled: Settled) -> list[Part]:
    """A whole answer as parts: its calls, or its text where it calls nothing."""
    calls = [Part(kind="tool_call", name=name, text=arguments) for name, arguments in settled.calls]
    return calls or [Part(kind="text", text=settled.text)]


def record_of(
    run: str, sent: Sent, settled: Settled | None, catalog: Catalog, session_id: str
) -> RequestRecord:
    """A call that was sent about a session's request, as the log keeps calls."""
    deployment = catalog.deployments.get(sent.deployment)
    usage = (settled.usage if settled else None) or Usage()
    counted = settled.counted if settled else "reservation"
    return RequestRecord(
        request_id=f"{sent.call}_{sent.attempt}",
        session_id=f"shadow/{run}/{sent.request_id}",
        parent_session_id=session_id,
        ts_ms=sent.ts_ms,
        source="shadow",
        harness="samediff-shadow",
        dialect=deployment.dialect if deployment else None,
        stream=False,
        model_requested=deployment.model if deployment else None,
        model_served=settled.model_served if settled else None,
        candidate=sent.candidate,
        deployment=sent.deployment,
        service_tier="batch" if sent.batch else None,
        provider=deployment.provider if deployment else None,
        input_tokens_uncached=usage.input_tokens_uncached,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=settled.usd if settled else sent.reserved_usd,
        cost_source="priced",
        price_version=prices.PRICE_VERSION,
        status=_STATUS[settled.status] if settled else "unknown",
        http_status=settled.http_status if settled else None,
        error_kind=settled.error_kind if settled else None,
        finish_reason=settled.finish_reason if settled else None,
        latency_ms=settled.latency_ms if settled else None,
        attempts=1,
        tools_called=[name for name, _ in settled.calls] if settled and settled.calls else None,
        flags=["cost_is_reservation"] if counted == "reservation" else None,
    )
