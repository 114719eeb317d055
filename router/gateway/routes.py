"""The endpoints that take something, each a few lines: read, decide, forward, say."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response

from features.errors import BadInput
from router.dialects import detect_dialect, parse_dialect
from router.gateway.attempts import Attempts
from router.gateway.crossing import LOST_HEADER
from router.gateway.errors import dialect_at, error_response, status_of
from router.gateway.exchange import Exchange, Outgoing
from router.gateway.failover import attempts_of, hedge_of, target_of, towards
from router.gateway.forward import Forwarded
from router.gateway.outcomes import read_outcomes
from router.gateway.shared import Repeated
from router.gateway.splice import with_model
from router.gateway.upstream import address, request_headers
from router.given import UnknownModel

if TYPE_CHECKING:
    from features.wire import Dialect, WireResponse
    from router.catalog import Deployment
    from router.gateway.asked import Asked
    from router.gateway.attempts import Target
    from router.gateway.call import Call
    from router.gateway.front import Endpoint
    from router.gateway.idempotency import Claim
    from router.gateway.reading import Reading
    from router.gateway.service import Gateway
    from router.gateway.sessions import Stored
    from router.gateway.shared import Shared


def answering(gateway: Gateway, dialect: Dialect) -> Endpoint:
    """Make the endpoint that decides and forwards requests of one dialect."""

    async def endpoint(asked: Asked) -> Response:
        arrived = time.perf_counter()
        claim = exchange = None
        try:
            body = await asked.body(gateway.settings)
            claim = await gateway.repeats.claim(asked.headers, asked.path, body)
            if claim is not None and claim.joined:
                return _repeated(gateway, dialect, claim)
            call = gateway.decide(await gateway.read(dialect, body), asked.headers, asked.host)
            exchange = _answering(gateway, call, asked, arrived, claim and claim.shared)
        except BadInput as error:
            return refusal(gateway, dialect, error)
        finally:
            if claim is not None and not claim.joined and exchange is None:
                claim.shared.close(came_through=False)
        gateway.decided(call)
        return Forwarded(gateway.upstream, exchange)

    return endpoint


def _repeated(gateway: Gateway, dialect: Dialect, claim: Claim) -> Response:
    """Answer a request with what is said, or was, to the one that it repeats."""
    gateway.metrics.add("samediff_repeated_total", how="over" if claim.shared.done else "joined")
    said = "the request that this one repeats came to nothing; ask again"
    return Repeated(claim.shared, error_response(dialect, 409, said, f"req_{uuid.uuid4().hex}"))


def _answering(
    gateway: Gateway, call: Call, asked: Asked, arrived: float, shared: Shared | None = None
) -> Exchange:
    def prepare(target: Target) -> Outgoing:
        return _outgoing(gateway, towards(call, target.deployment), asked)

    return Exchange(
        dialect=call.request.dialect,
        request_id=call.receipt.request_id,
        stream=call.request.stream,
        arrived=arrived,
        first=_outgoing(gateway, call, asked),
        attempts=attempts_of(gateway, call),
        prepare=prepare,
        ended=partial(gateway.ended, call),
        hedge=hedge_of(gateway, call),
        mending=gateway.mending(call),
        shared=shared,
    )


def _outgoing(gateway: Gateway, call: Call, asked: Asked) -> Outgoing:
    translated, told = call.translation is not None, _Told(gateway, call)
    return Outgoing(
        url=address(call.deployment, "" if translated else asked.query),
        headers=request_headers(call.deployment, asked.raw, gateway.environ, crossing=translated),
        body=call.body,
        own=own_headers(call),
        began=told.began,
        heard=told.heard,
        translation=call.translation,
    )


class _Told:
    """Who is told what becomes of a call: what was noted as it began is corrected by its answer."""

    __slots__ = ("_call", "_gateway", "_stored")

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway, self._call = gateway, call
        self._stored: Stored | None = None

    def began(self) -> None:
        self._stored = self._gateway.began(self._call)

    def heard(self, answer: WireResponse) -> None:
        self._gateway.heard(self._call, answer, self._stored)


def count_tokens(gateway: Gateway) -> Endpoint:
    """Make POST /v1/messages/count_tokens: counted by the model that a routed request would fall back on."""
    dialect: Dialect = "anthropic_messages"

    async def endpoint(asked: Asked) -> Response:
        arrived = time.perf_counter()
        try:
            body = await asked.body(gateway.settings)
            reading = await gateway.read(dialect, body)
            deployment = _counter(gateway, reading.request.model, dialect)
            if deployment.dialect != dialect:
                return _estimated(gateway, reading, deployment)
            exchange = _counting(gateway, reading, deployment, asked, arrived)
        except BadInput as error:
            return refusal(gateway, dialect, error)
        return Forwarded(gateway.upstream, exchange)

    return endpoint


def _estimated(gateway: Gateway, reading: Reading, deployment: Deployment) -> Response:
    """Answer a count that nobody makes in the dialect: as decisions estimate it, and said to be so."""
    tokens = gateway.decider.ratios.estimate(deployment.model, reading.request.body_bytes)
    own = {**_counting_headers(deployment), "x-samediff-policy": "count_tokens_estimate"}
    return json_response({"input_tokens": round(tokens)}, headers=own)


def _counting(
    gateway: Gateway, reading: Reading, deployment: Deployment, asked: Asked, arrived: float
) -> Exchange:
    """Make the exchange of a count: nothing is spent on it, and nothing written down."""
    dialect = reading.request.dialect
    own = _counting_headers(deployment)
    first = Outgoing(
        url=address(deployment, asked.query, "/count_tokens"),
        headers=request_headers(deployment, asked.raw, gateway.environ),
        body=with_model(reading.body, reading.head, deployment.model),
        own=own,
        began=lambda: None,
        heard=lambda _: None,
    )
    return Exchange(
        dialect=dialect,
        request_id=own["x-samediff-request-id"],
        stream=False,
        arrived=arrived,
        first=first,
        attempts=Attempts(gateway.counting, gateway.settings.retry, target_of(gateway, deployment), list),
        prepare=lambda _: first,
        ended=lambda _: None,
    )


def _counting_headers(deployment: Deployment) -> dict[str, str]:
    return {
        "x-samediff-request-id": f"req_{uuid.uuid4().hex}",
        "x-samediff-candidate": deployment.candidate,
        "x-samediff-deployment": deployment.id,
        "x-samediff-policy": "count_tokens",
    }


def _counter(gateway: Gateway, model: str, dialect: Dialect) -> Deployment:
    """Find who counts for a model name: itself, or the reference of the alias."""
    catalog = gateway.decider.catalog
    alias = catalog.aliases.get(model)
    target = catalog.resolve(alias.reference.get(dialect, model) if alias else model, dialect)
    if target is None:
        raise UnknownModel(catalog.why_unknown(model, dialect))
    if not target.deployments:
        raise BadInput(f"model {model!r} can't count tokens in the dialect {dialect}")
    callable_ = (d for d in target.deployments if d.reachable(gateway.environ))
    return next(callable_, target.deployments[0])


def route(gateway: Gateway) -> Endpoint:
    """Make POST /v1/route: the decision only; the dialect is told by `?dialect=` or by the body."""

    async def endpoint(asked: Asked) -> Response:
        dialect: Dialect = "openai_chat"
        try:
            body = await asked.body(gateway.settings)
            named = QueryParams(asked.query).get("dialect")
            dialect = parse_dialect(named) if named else detect_dialect(body)
            reading = msgspec.structs.replace(await gateway.read(dialect, body), guessed=not named)
            call = gateway.decide(reading, asked.headers, asked.host, all_arms=True)
        except BadInput as error:
            return refusal(gateway, dialect, error)
        gateway.decided(call)
        return json_response(call.receipt, headers=own_headers(call))

    return endpoint


def outcomes(gateway: Gateway) -> Endpoint:
    """Make POST /v1/outcomes: one outcome or a list of them, written to the journal."""

    async def endpoint(asked: Asked) -> Response:
        try:
            body = await asked.body(gateway.settings)
            records = read_outcomes(body, time.time_ns() // 1_000_000)
        except BadInput as error:
            return refusal(gateway, "openai_chat", error)
        if not await gateway.outcomes(records):
            gateway.metrics.add("samediff_refused_total", status="503")
            said = "the journal can't be written; send the outcomes again"
            return error_response("openai_chat", 503, said, f"req_{uuid.uuid4().hex}")
        return json_response({"accepted": len(records)}, 202)

    return endpoint


def own_headers(call: Call) -> dict[str, str]:
    """Headers that every routed answer carries."""
    receipt = call.receipt
    headers = {
        "x-samediff-request-id": receipt.request_id,
        "x-samediff-candidate": call.deployment.candidate,
        "x-samediff-deployment": call.deployment.id,
        "x-samediff-policy": receipt.policy,
    }
    if call.translation is not None and call.translation.lost:
        headers[LOST_HEADER] = ", ".join(call.translation.lost)
    return headers


def refusal(gateway: Gateway, dialect: Dialect, error: BadInput) -> Response:
    """Answer a request that can't be served, in its dialect."""
    status = status_of(error)
    gateway.metrics.add("samediff_refused_total", status=str(status))
    none = {"x-samediff-candidate": "", "x-samediff-deployment": "", "x-samediff-policy": ""}
    return error_response(dialect, status, str(error), f"req_{uuid.uuid4().hex}", none)


def our_fault(path: str) -> Response:
    """Answer when something of ours broke: the server's log has the traceback, the client doesn't."""
    return error_response(dialect_at(path), 500, "samediff failed on this request", f"req_{uuid.uuid4().hex}")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
