"""What is heard of made-up answers: test runs that a client reports, and shadow pairs with their calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import xxhash

from features.records import OutcomeRecord, RequestRecord
from router import prices
from training.simulate.play import good_at, told
from training.simulate.providers import Provider, latency_ms, usd
from training.simulate.talk import DIALECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from features.records import RecordKind
    from training.simulate.play import Served, Team
    from training.simulate.traffic import Ask, Script

_LATER_MS = 1_500  # a client reports after the answer,
_SHADOWED_MS = 3_600_000  # and shadow calls are made when it's quiet


def outcome(team: Team, script: Script, ask: Ask, served: Sequence[Served]) -> OutcomeRecord | None:
    """What a client reports of an ask, on the call that its arm was chosen for; None: nothing."""
    if len(served) < len(ask.steps):
        return None  # the log ends before the ask does
    first = served[0].call.receipt
    heard = told(ask, team.arms.index(first.chosen), team.traffic)
    if heard is None:
        return None
    ts_ms = served[-1].end_ms + _LATER_MS
    return OutcomeRecord(
        outcome_id=f"out_{_digest('outcome', first.request_id)}",
        ts_ms=ts_ms,
        recorded_ms=ts_ms,
        source="tests",
        request_id=first.request_id,
        session_id=script.session_id,
        candidate=first.chosen,
        level="tests",
        value=float(heard),
    )


def shadow_calls(
    team: Team, script: Script, ask: Ask, first: Served
) -> Iterator[tuple[RecordKind, msgspec.Struct]]:
    """An ask that all other arms are asked, too: a call and an outcome each.

    A pair names the reference; where that is the arm asked, it names whoever had answered.
    """
    if ask.asked_again >= team.traffic.pairs:
        return
    receipt = first.call.receipt
    for arm, name in enumerate(team.arms):
        if name == receipt.chosen:
            continue
        call = _call(team, script, first, name)
        yield "request", call
        good = good_at(ask, arm) != bool(ask.wrong[arm] < team.traffic.noise)
        detail = {"role": "candidate", "call": call.request_id, "cost_usd": str(call.cost_usd)}
        yield (
            "outcome",
            OutcomeRecord(
                outcome_id=f"out_{_digest('shadow', call.request_id)}",
                ts_ms=call.ts_ms + _LATER_MS,
                recorded_ms=call.ts_ms + _LATER_MS,
                source="shadow",
                request_id=receipt.request_id,
                session_id=script.session_id,
                candidate=name,
                reference=receipt.chosen if name == receipt.reference else receipt.reference,
                level="tests",
                value=float(good),
                sampling_probability=team.traffic.pairs,
                detail=msgspec.json.encode(detail).decode(),
            ),
        )


def _call(team: Team, script: Script, first: Served, name: str) -> RequestRecord:
    """One shadow call as the log keeps it: cold, and paid for like any other."""
    deployment, receipt = team.deployments()[name], first.call.receipt
    turn = first.sent._replace(now_ms=first.sent.now_ms + _SHADOWED_MS)
    usage = Provider(team.tokens).answer(deployment, turn)
    cost = usd(deployment, usage, turn.now_ms)
    return RequestRecord(
        request_id=f"shadow_{_digest(name, receipt.request_id)}_0",
        session_id=f"shadow/simulated/{receipt.request_id}",
        parent_session_id=script.session_id,
        ts_ms=turn.now_ms,
        source="shadow",
        harness="samediff-shadow",
        dialect=DIALECT,
        stream=False,
        model_requested=deployment.model,
        model_served=deployment.model,
        candidate=name,
        deployment=deployment.id,
        provider=deployment.provider,
        input_tokens_uncached=usage.input_tokens_uncached,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        reasoning_in_output=True,
        cost_usd=cost,
        cost_source="unknown" if cost is None else "priced",
        price_version=prices.PRICE_VERSION,
        status="ok",
        http_status=200,
        latency_ms=latency_ms(usage),
        attempts=1,
    )


def _digest(*words: str) -> str:
    return xxhash.xxh3_128_hexdigest("/".join(words).encode())
