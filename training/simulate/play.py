"""A made-up session served: the router's own decisions and records, made-up providers and outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import xxhash

from features.context import LastTurn
from features.wire import WireResponse
from router.arms import split_of
from router.cost import asked_by, cache_rules, sending
from router.gateway.call import Call, Trace, chosen_arm, tags_of, turn_of
from router.gateway.recording import alike_of, request_record
from router.gateway.sessions import Stored
from router.given import CallContext
from training.simulate.providers import FIRST_BYTE_MS, Provider, latency_ms, sent
from training.simulate.talk import DIALECT, Conversation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.records import RequestRecord
    from features.wire import Usage
    from router.catalog import Deployment
    from router.decide import Decider
    from router.gateway.sessions import Sessions
    from training.simulate.providers import Sent, Tokens
    from training.simulate.talk import Said
    from training.simulate.traffic import Ask, Script, Traffic

_AGENT = "claude-cli/2.1.197 (external, cli)"


class Served(NamedTuple):
    """One turn as it was served."""

    ask: int  # its place in the script
    call: Call
    said: Said
    usage: Usage
    sent: Sent

    @property
    def end_ms(self) -> int:
        """When the answer was through."""
        return self.said.now_ms + round(latency_ms(self.usage))


class Team(NamedTuple):
    """Who plays: the decider behind an alias, the arms with a truth, and how providers count."""

    decider: Decider
    alias: str
    arms: tuple[str, ...]
    tokens: Tokens
    traffic: Traffic
    sessions: Sessions  # what its gateway has seen

    def deployments(self) -> dict[str, Deployment]:
        """Where each arm runs."""
        catalog = self.decider.catalog
        return {name: catalog.deployments_of(name, DIALECT)[0] for name in self.arms}


def play(team: Team, script: Script) -> Iterator[Served]:
    """Serve a session turn by turn, as the gateway would."""
    talk, provider = Conversation(script, team.alias), Provider(team.tokens)
    for number, ask in enumerate(script.asks):
        talk.asks(ask)
        verdict: bool | None = None
        for at in range(len(ask.steps)):
            said = talk.next(ask, at)
            call = _decided(team, talk, said, f"{script.session_id}/{number}")
            if said.first:
                verdict = told(ask, team.arms.index(call.receipt.chosen), team.traffic)
            turn = sent(said)
            usage = provider.answer(call.deployment, turn)
            served = Served(number, call, said, usage, turn)
            _learn(team, served)
            yield served
            talk.hears(said, verdict)


def good_at(ask: Ask, arm: int) -> bool:
    """Whether an arm truly succeeds."""
    return bool(ask.luck[arm] < ask.p[arm])


def told(ask: Ask, arm: int, traffic: Traffic) -> bool | None:
    """What is heard of an ask that an arm answers: success or not, not always true; None: nothing."""
    good = good_at(ask, arm)
    if ask.told >= traffic.labelled or (not good and ask.hushed < traffic.silent_failures):
        return None
    return good != bool(ask.wrong[arm] < traffic.noise)


def recorded(served: Served) -> RequestRecord:
    """The record that the gateway writes of a turn."""
    trace = Trace()
    trace.status, trace.http_status, trace.attempts = "ok", 200, 1
    trace.latency_ms, trace.first_byte_ms = latency_ms(served.usage), FIRST_BYTE_MS
    trace.answer = WireResponse(
        response_id=f"msg_{served.call.receipt.request_id[4:]}",
        model=served.call.deployment.model,
        parts=served.said.answer,
        finish_reason="end_turn" if served.said.last else "tool_use",
        usage=served.usage,
    )
    return request_record(served.call, trace, "features")


def _decided(team: Team, talk: Conversation, said: Said, task: str) -> Call:
    script = talk.script
    headers = {
        "user-agent": _AGENT,
        "x-samediff-task-type": script.asks[int(task.rpartition("/")[2])].kind,
        "x-samediff-task-id": task,
        "x-samediff-repo": script.repo,
    }
    request_id = f"req_{xxhash.xxh3_128_hexdigest(f'{script.session_id}/{talk.turn}'.encode())}"
    place = team.sessions.place(said.request, headers, script.user, said.chain)
    context = CallContext(
        request_id,
        place.session_id,
        said.now_ms,
        team.sessions.view(place, said.now_ms),
        task_type=headers["x-samediff-task-type"],
        trajectory=talk.trajectory,
        headers=headers,
    )
    receipt = team.decider.decide(said.request, context)
    return Call(
        request=said.request,
        body=(b"",),
        receipt=receipt,
        deployment=team.decider.catalog.deployments[receipt.deployment or ""],
        place=place,
        answer=place.answer(receipt.chosen, by_client=False),
        headers=headers,
        tags=tags_of(headers),
        alike=alike_of(receipt, "features"),
    )


def _learn(team: Team, served: Served) -> None:
    """What serving learns of an answer that is through: the steps of Gateway.began and Gateway.heard."""
    call, usage, held = served.call, served.usage, _stored(served.call)
    size = call.request.body_bytes
    parts = (usage.input_tokens_uncached, usage.cached_tokens, usage.cache_write_tokens)
    tokens = sum(part or 0 for part in parts)
    team.sessions.began(call.place, call.answer, call.receipt.ts_ms, held)
    last = LastTurn(turn_of(call.receipt), tokens, usage.output_tokens)
    answer = WireResponse(parts=served.said.answer, usage=usage)
    team.sessions.heard(call.answer, answer, size, last)
    team.sessions.counted(call.place, held, usage, served.end_ms)
    team.decider.ratios.correct(call.deployment.model, size, tokens)


def _stored(call: Call) -> Stored:
    """The prompt as the cache that it went to sees it, as Gateway has it."""
    sending_it = sending(call.request, call.place.chain, asked_by(call.request), 0.0)
    rules = cache_rules(call.deployment, call.receipt.ts_ms, sending_it.asked)
    split = split_of(chosen_arm(call.receipt))
    return Stored(rules, sending_it.to(call.deployment, split.tokens), split)
