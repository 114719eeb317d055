"""Shadow pairs of a made-up log, by the writer of `samediff shadow`, and what tests of those answers say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from features.editfacts import facts_of_answer
from features.records import OutcomeRecord
from training.evaluate.consensus import MEASURED
from training.labels.detail import written
from training.shadow.bodies import Answer
from training.shadow.labels import Pair, outcome_of, pairs_of, parts_of, record_of
from training.shadow.ledger import Item, PlannedCall, Sent, Settled, call_name, xxh128
from training.shadow.sampling import uniform
from training.simulate.play import good_at
from training.simulate.providers import Provider, latency_ms, usd
from training.simulate.talk import DIALECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.records import RecordKind
    from training.simulate.play import Served, Team
    from training.simulate.traffic import Ask, Script

RUN = "simulated"
_LATER_MS = 1_500  # answers are judged, and tested, after they came,
_SHADOWED_MS = 3_600_000  # and asked for when it's quiet


class _Asked(NamedTuple):
    """One shadow call as its run writes it down, and which arm answers it."""

    arm: int
    planned: PlannedCall
    sent: Sent
    settled: Settled


def shadow_calls(
    team: Team, script: Script, ask: Ask, first: Served
) -> Iterator[tuple[RecordKind, msgspec.Struct]]:
    """An ask that all other arms are asked, too: calls, how like their diffs are, and what tests say."""
    if ask.asked_again >= team.traffic.pairs:
        return
    item = _item(team, script, ask, first)
    asked = [_asked(team, ask, first, item, planned) for planned in item.calls]
    texts = {one.planned.candidate: parts_of(one.settled) for one in asked if one.planned.role == "candidate"}
    for one in asked:
        others = [parts for name, parts in texts.items() if name != one.planned.candidate]
        facts = facts_of_answer(parts_of(one.settled), others)
        record = record_of(RUN, one.sent, one.settled, team.decider.catalog, script.session_id)
        yield "request", replace(record, answer=facts)
    kept = Answer(_edit(team.arms[0])) if item.logged else None
    answers = [(one.planned, one.settled) for one in asked]
    for one, pair in zip(asked, pairs_of(item, kept, answers, team.traffic.pairs, 0.0), strict=True):
        told = outcome_of(RUN, pair, one.sent, team.arms[0], one.sent.ts_ms + _LATER_MS)
        yield "outcome", told
        if uniform(0, one.sent.call, "tested") < team.traffic.pairs_tested:
            yield "outcome", _tests(team, ask, one, pair, told)


def _item(team: Team, script: Script, ask: Ask, first: Served) -> Item:
    """The plan's line of an ask: the reference is asked anew where another had answered."""
    chosen, places = first.call.receipt.chosen, team.deployments()
    names = [name for name in team.arms if name != chosen]
    return Item(
        request_id=first.call.receipt.request_id,
        session_id=script.session_id,
        dialect=DIALECT,
        rank=ask.asked_again,
        size=1.0,
        calls=[
            PlannedCall(
                role="reference" if name == team.arms[0] else "candidate",
                candidate=name,
                deployment=places[name].id,
            )
            for name in names
        ],
        logged=chosen == team.arms[0],
        answered_by=chosen,
    )


def _asked(team: Team, ask: Ask, first: Served, item: Item, planned: PlannedCall) -> _Asked:
    """A call: cold, answered, and paid for like any other."""
    deployment = team.decider.catalog.deployments[planned.deployment]
    turn = first.sent._replace(now_ms=first.sent.now_ms + _SHADOWED_MS)
    usage = Provider(team.tokens).answer(deployment, turn)
    cost = usd(deployment, usage, turn.now_ms)
    assert cost is not None, "arms without a price are refused before"
    name, arm = call_name(RUN, item, planned), team.arms.index(planned.candidate)
    alike = planned.candidate if not _same(ask, arm, name) else team.arms[0]
    settled = Settled(
        call=name,
        attempt=1,
        status="ok",
        usd=cost,
        counted="usage",
        http_status=200,
        latency_ms=latency_ms(usage),
        usage=usage,
        model_served=deployment.model,
        finish_reason="tool_use",
        calls=_edit(alike),
    )
    sent = Sent(
        call=name,
        attempt=1,
        request_id=item.request_id,
        role=planned.role,
        candidate=planned.candidate,
        deployment=planned.deployment,
        reserved_usd=cost,
        ts_ms=turn.now_ms,
    )
    return _Asked(arm, planned, sent, settled)


def _same(ask: Ask, arm: int, call: str) -> bool:
    """Whether an arm's diff is the reference's, as often as agents' are (docs/FINDINGS.md, "Same diff")."""
    right = good_at(ask, arm) + good_at(ask, 0)
    rate = (MEASURED.both_wrong, MEASURED.one_right, MEASURED.both_right)[right]
    return uniform(0, call, "same") < rate


def _edit(candidate: str) -> list[tuple[str, str]]:
    """An edit as this candidate writes it."""
    own = candidate.replace("-", "_").replace(".", "_")
    text = f"def total(rows):\n    return sum(row.{own} for row in rows)\n"
    edit = {"file_path": "/repo/src/part.py", "old_string": "    pass\n", "new_string": text}
    return [("Edit", msgspec.json.encode(edit).decode())]


def _tests(team: Team, ask: Ask, one: _Asked, pair: Pair, told: OutcomeRecord) -> OutcomeRecord:
    """What tests of an answer say, as somebody who runs them reports it; not always true."""
    good = good_at(ask, one.arm) != bool(ask.wrong[one.arm] < team.traffic.noise)
    ts_ms = one.sent.ts_ms + 2 * _LATER_MS
    return OutcomeRecord(
        outcome_id=xxh128(f"tests\0{pair.call}"),
        ts_ms=ts_ms,
        recorded_ms=ts_ms,
        source="shadow",
        request_id=told.request_id,
        candidate=told.candidate,
        reference=told.reference,
        level="tests",
        value=float(good),
        detail=written({"call": pair.call}),
    )
