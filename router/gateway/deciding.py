"""From a request to a call: placed in its session, decided, and said as its provider is to hear it."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from router.arms import split_of
from router.cost import asked_by, cache_rules
from router.gateway.cachecontrol import Added, Prompt, added, bucket_of
from router.gateway.call import Call, chosen_arm, tags_of
from router.gateway.crossing import Crossing, cross
from router.gateway.failover import at_home
from router.gateway.knobs import asked_for
from router.gateway.recording import alike_of
from router.gateway.splice import with_model
from router.gateway.translate import Untranslatable
from router.given import CallContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.records import DecisionRecord
    from features.wire import WireRequest
    from router.catalog import Deployment
    from router.gateway.call import Tags
    from router.gateway.reading import Reading
    from router.gateway.service import Gateway
    from router.gateway.sessions import Place
    from router.gateway.splice import Pieces
    from router.gateway.translate import Translation

_UNCHANGED = Added()


def decide(
    gateway: Gateway, reading: Reading, headers: Mapping[str, str], client: str, *, all_arms: bool = False
) -> Call:
    """Decide where a request goes; BadInput if it can go nowhere."""
    started, request = time.perf_counter(), reading.request
    place = gateway.sessions.place(request, headers, client, reading.chain, reading.spoken)
    tags = tags_of(headers)
    context = _context(gateway, reading, headers, place, tags, all_arms=all_arms)
    crossing = Crossing(request, reading.body, context.request_id, context.now_ms, context.cache_control)
    receipt, deployment, translation = _sayable(gateway, crossing, context)
    decide_ms = reading.read_ms + (time.perf_counter() - started) * 1000
    receipt = replace(receipt, decide_ms=decide_ms)
    more = _added(gateway, reading, receipt, deployment, tags)
    free = request.model in gateway.decider.catalog.aliases
    policy = receipt.policy if free else "pin"  # a client may pin to any name
    gateway.counters.decision(policy, gateway.label(receipt.chosen), decide_ms)
    # A choice goes back to a client that asks now, or is locked to what it asked for before.
    by_client = not free or (bool(receipt.locks) and place.after is not None and place.after.by_client)
    call = Call(
        request=request,
        body=(translation.body,) if translation else _spliced(reading, deployment, more),
        control=None if translation else more.kind,
        translation=translation,
        translation_for=partial(cross, crossing, gateway.decider.catalog),
        receipt=receipt,
        deployment=deployment,
        place=place,
        answer=place.answer(receipt.chosen, by_client=by_client, deployment=deployment),
        headers=headers,
        tags=tags,
        tools=reading.head.values.get("tools"),
        alike=alike_of(receipt, gateway.settings.log.prompts),
        body_for=lambda other: _spliced(reading, other, _added(gateway, reading, receipt, other, tags)),
    )
    call = at_home(gateway, call)
    gateway.recent.append(call.receipt)
    gateway.offsets.decided(call)
    return call


def _context(
    gateway: Gateway,
    reading: Reading,
    headers: Mapping[str, str],
    place: Place,
    tags: Tags,
    *,
    all_arms: bool,
) -> CallContext:
    """What the decision depends on beside the request, as it is now."""
    now_ms, sessions = time.time_ns() // 1_000_000, gateway.sessions
    return CallContext(
        f"req_{os.urandom(16).hex()}",
        place.session_id,
        now_ms,
        sessions.view(place, now_ms),
        task_type=tags.task_type,
        trajectory=reading.trajectory or sessions.trajectory(place, reading.request, reading.aside),
        dialect_guessed=reading.guessed,
        headers=headers,
        offset=gateway.offsets.of(tags),
        cache_control=gateway.settings.cache_control,
        retry_rates=gateway.retries.rates(gateway.decider.catalog.deployments),
        down=gateway.health.down(time.monotonic()),
        all_arms=all_arms,
    )


def _sayable(
    gateway: Gateway, asked: Crossing, context: CallContext
) -> tuple[DecisionRecord, Deployment, Translation | None]:
    """Decide; what can't be said in the dialect decided on is decided again among those of its own."""
    request, decider = asked.request, gateway.decider
    receipt = decider.decide(request, context)
    deployment = _deployment(gateway, request, receipt)
    try:
        return receipt, deployment, cross(asked, decider.catalog, deployment)
    except Untranslatable:
        if request.model not in decider.catalog.aliases:
            raise
        gateway.metrics.add("samediff_untranslatable_total")
        receipt = decider.decide(request, replace(context, same_dialect=True))
        return receipt, _deployment(gateway, request, receipt), None


def _deployment(gateway: Gateway, request: WireRequest, receipt: DecisionRecord) -> Deployment:
    """The deployment that a receipt names, as a client of the request's dialect reaches it."""
    catalog = gateway.decider.catalog
    known = catalog.deployments
    if request.model not in catalog.aliases:
        target = catalog.resolve(request.model, request.dialect)
        known = {d.id: d for d in target.deployments} if target else known
    found = known[receipt.deployment or ""]
    return found if found.dialect == request.dialect else found.abroad()


def _added(
    gateway: Gateway, reading: Reading, receipt: DecisionRecord, deployment: Deployment, tags: Tags
) -> Added:
    """What keeps a prompt in the cache of a deployment, for a client that doesn't ask for it."""
    request = reading.request
    if not gateway.settings.cache_control or request.cache_markers or deployment.dialect != request.dialect:
        return _UNCHANGED  # a translation asks for its own
    asked = asked_by(request, control=True)
    rules = cache_rules(deployment, receipt.ts_ms, asked)
    if rules is None:
        return _UNCHANGED
    tokens = split_of(chosen_arm(receipt)).tokens
    named = rules.bucket is not None
    bucket = bucket_of(tags.tenant, request.user, receipt.session_id) if named else ""
    return added(Prompt(reading.body, reading.head, tokens, bucket), deployment, rules, asked)


def _spliced(reading: Reading, deployment: Deployment, more: Added) -> Pieces:
    """The body as it goes out to a deployment of its own dialect."""
    inserts = more.inserts
    if deployment.asks:
        inserts = (*asked_for(reading.body, reading.head, deployment), *inserts)
    return with_model(reading.body, reading.head, deployment.model, inserts)
