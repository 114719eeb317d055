"""Where a decided call may go: its deployment first, then its candidate's others, then fallbacks if allowed.

Another candidate answers only where its catalogue row names it, the decision left it eligible, and the client
asked to be routed. State that is bound to a provider stays with its seller and account.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from router.gateway.attempts import Attempts, Target
from router.gateway.call import chosen_arm
from router.gateway.hedge import Hedge
from router.given import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.catalogrows import Deployment
    from router.gateway.call import Call
    from router.gateway.service import Gateway


def attempts_of(gateway: Gateway, call: Call) -> Attempts:
    """The attempts of a call; everything but its own deployment is looked up once that doesn't do."""
    arm = chosen_arm(call.receipt)
    return Attempts(
        gateway.health,
        gateway.settings.retry,
        target_of(gateway, call.deployment, warm=bool(arm.cached_tokens_est)),
        partial(_others, gateway, call),
        request_id=call.receipt.request_id,
        tokens=arm.input_tokens_est or 0.0,
        bound=_bound(call),
    )


def hedge_of(gateway: Gateway, call: Call) -> Hedge | None:
    """When to ask another deployment too: for calls outside of tool loops, if there is money for it."""
    hedges, facts = gateway.hedges, call.receipt.facts
    if not hedges.on or facts is None or facts.in_tool_loop == 1:
        return None
    after_s = hedges.late_s(call.deployment.id)
    return None if after_s is None else Hedge(after_s, partial(_rival, gateway, call))


def _rival(gateway: Gateway, call: Call) -> tuple[Target, Attempts] | None:
    """Another deployment of the same candidate that works, and one attempt at it, from hedging's budget."""
    now = time.monotonic()
    others = (t for t in _others(gateway, call) if not t.fallback)
    target = next((t for t in others if gateway.health.state(t.deployment, now) == "ok"), None)
    usd = chosen_arm(call.receipt).cost_usd
    cost = None if usd is None else float(usd)
    if target is None or not gateway.hedges.spend(cost, now):
        return None
    gateway.metrics.add("samediff_hedged_total")
    once = replace(gateway.settings.retry, attempts=1)
    return target, Attempts(gateway.health, once, target, list, request_id=call.receipt.request_id)


def at_home(gateway: Gateway, call: Call) -> Call:
    """The call where its session's state is: who gave the answer it goes on from, or its peer.

    Raises Unavailable where an earlier answer is named and nothing can be called at the account that has it.
    """
    home = None if call.place.after is None else call.place.after.deployment
    if home is None or home.id == call.deployment.id or not _bound(call):
        return call
    if home.dialect != call.request.dialect:
        return call  # of what a translation answered, the provider keeps nothing for this client
    known = (call.deployment, *_of(gateway, call, call.deployment.candidate))
    there = [d for d in known if _keeper(d) == _keeper(home)]
    if not there:
        if call.request.previous_response_id is None:
            return call
        said = f"previous_response_id: {home.endpoint} gave that answer, and no deployment of its account"
        raise Unavailable(
            f"{said} can be called for {call.deployment.candidate}; send the whole conversation"
        )
    found = next((d for d in there if d.id == home.id), there[0])
    moved = towards(call, found)
    return replace(moved, receipt=replace(moved.receipt, deployment=found.id))


def _keeper(deployment: Deployment) -> tuple[str | None, ...]:
    """Who has what a deployment keeps: its seller, the account there, and the dialect that names it."""
    account = deployment.account or deployment.key_env  # without a name of its own, an account is its key
    return deployment.provider, account, deployment.dialect


def towards(call: Call, deployment: Deployment) -> Call:
    """The same call as another deployment gets it."""
    assert call.body_for is not None
    assert call.translation_for is not None
    made = call.translation_for(deployment)
    body = call.body_for(deployment) if made is None else (made.body,)
    return replace(answered_by(call, deployment), body=body, translation=made)


def answered_by(call: Call, deployment: Deployment) -> Call:
    """The same call with another deployment's name on it."""
    if deployment is call.deployment:
        return call
    answer = replace(call.answer, candidate=deployment.candidate, deployment=deployment)
    return replace(call, deployment=deployment, answer=answer)


def target_of(
    gateway: Gateway, deployment: Deployment, *, warm: bool = False, fallback: bool = False
) -> Target:
    """A deployment to be asked, and whether the account that it is asked on is ours."""
    keyed = deployment.key_env is not None and bool(gateway.environ.get(deployment.key_env))
    ours = keyed or not deployment.passthrough
    return Target(deployment, warm, fallback, ours)


def _others(gateway: Gateway, call: Call) -> list[Target]:
    """Every other deployment that may answer, best first."""
    found = [target_of(gateway, d) for d in _of(gateway, call, call.deployment.candidate)]
    if _bound(call):
        return [t for t in found if _keeper(t.deployment) == _keeper(call.deployment)]
    for name in _fallbacks(gateway, call):
        found += [target_of(gateway, d, fallback=True) for d in _of(gateway, call, name)]
    return found


def _bound(call: Call) -> bool:
    """Whether a request goes on from what a provider keeps or has signed."""
    return call.receipt.facts is not None and call.receipt.facts.provider_bound == 1


def _of(gateway: Gateway, call: Call, candidate: str) -> Iterator[Deployment]:
    """Deployments of a candidate that this client may use now, but for the one that was decided on."""
    request, catalog = call.request, gateway.decider.catalog
    asked = catalog.resolve(request.model, request.dialect)
    if asked is not None and asked.deployments:
        known = tuple(d for d in asked.deployments if d.candidate == candidate)
    else:
        known = catalog.deployments_of(candidate, request.dialect)
    for deployment in known:
        barred = deployment.barred(call.headers, call.receipt.ts_ms, gateway.environ)
        sayable = not deployment.asks or deployment.dialect == request.dialect  # a tier isn't translated
        if barred is None and sayable and deployment.id != call.deployment.id:
            yield deployment


def _fallbacks(gateway: Gateway, call: Call) -> Iterator[str]:
    """Candidates that may answer in place of the one decided on, in the order of its row."""
    catalog = gateway.decider.catalog
    row = catalog.candidates.get(call.deployment.candidate)
    if row is None or call.request.model not in catalog.aliases:
        return
    eligible = {arm.candidate for arm in call.receipt.arms if arm.eligible}
    yield from (name for name in row.fallbacks if name in eligible)
