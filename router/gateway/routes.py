"""The endpoints, each a few lines: read, decide, forward, say."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from features.errors import BadInput
from features.records import OutcomeRecord
from router.dialects import detect_dialect, parse_dialect
from router.gateway.dashboard import page
from router.gateway.errors import TooLarge, UpstreamError, error_response, status_of
from router.gateway.forward import Forwarded
from router.gateway.recording import kept_receipt
from router.gateway.splice import read_head, with_model
from router.gateway.upstream import address, request_headers, response_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from features.wire import Dialect
    from router.catalog import Deployment
    from router.gateway.recording import Call
    from router.gateway.service import Gateway

    Endpoint = Callable[[Request], Awaitable[Response]]


def answering(gateway: Gateway, dialect: Dialect) -> Endpoint:
    """Make the endpoint that decides and forwards requests of one dialect."""

    async def endpoint(request: Request) -> Response:
        arrived = time.perf_counter()
        try:
            body = await read_body(request, gateway.settings.max_body_mib)
            call = gateway.decide(dialect, body, request.headers, _host(request))
        except BadInput as error:
            return refusal(gateway, dialect, error)
        return Forwarded(
            gateway.upstream,
            call,
            own_headers(call),
            arrived=arrived,
            url=(request.url.query, ""),
            environ=gateway.environ,
            began=gateway.began,
            heard=gateway.heard,
            ended=gateway.ended,
        )

    return endpoint


def count_tokens(gateway: Gateway) -> Endpoint:
    """Make POST /v1/messages/count_tokens: counted by the model that a routed request would fall back on."""
    dialect: Dialect = "anthropic_messages"

    async def endpoint(request: Request) -> Response:
        own = {"x-samediff-request-id": f"req_{uuid.uuid4().hex}", "x-samediff-policy": "count_tokens"}
        try:
            body = await read_body(request, gateway.settings.max_body_mib)
            head = read_head(body)
            deployment = _counting(gateway, head.model, dialect)
            own |= {"x-samediff-candidate": deployment.candidate, "x-samediff-deployment": deployment.id}
            return await _counted(gateway, deployment, request, with_model(body, head, deployment.model), own)
        except BadInput as error:
            return refusal(gateway, dialect, error)
        except UpstreamError as error:
            return error_response(dialect, error.status, str(error), own["x-samediff-request-id"], own)

    return endpoint


async def _counted(
    gateway: Gateway, deployment: Deployment, request: Request, body: bytes, own: dict[str, str]
) -> Response:
    """Ask a deployment to count a body and pass on what it says."""
    url = address(deployment, request.url.query, "/count_tokens")
    headers = request_headers(deployment, request.headers.items(), gateway.environ)
    async with gateway.upstream.post(url, headers, body) as answer:
        response = Response(await answer.read(), answer.status)
        kept = [header for header in response_headers(answer) if header[0] != b"content-length"]
        response.raw_headers += kept + [(name.encode(), value.encode()) for name, value in own.items()]
        return response


def _counting(gateway: Gateway, model: str, dialect: Dialect) -> Deployment:
    """Find who counts for a model name: itself, or the reference of the alias."""
    catalog = gateway.decider.catalog
    alias = catalog.aliases.get(model)
    target = catalog.resolve(alias.reference.get(dialect, model) if alias else model, dialect)
    if target is None or not target.deployments:
        raise BadInput(f"model {model!r} can't count tokens in the dialect {dialect}")
    callable_ = (d for d in target.deployments if d.reachable(gateway.environ))
    return next(callable_, target.deployments[0])


def route(gateway: Gateway) -> Endpoint:
    """Make POST /v1/route: the decision only; the dialect is told by `?dialect=` or by the body."""

    async def endpoint(request: Request) -> Response:
        dialect: Dialect = "openai_chat"
        try:
            body = await read_body(request, gateway.settings.max_body_mib)
            named = request.query_params.get("dialect")
            dialect = parse_dialect(named) if named else detect_dialect(body)
            call = gateway.decide(dialect, body, request.headers, _host(request))
        except BadInput as error:
            return refusal(gateway, dialect, error)
        gateway.journal.add("decision", kept_receipt(call.receipt, gateway.settings.log.prompts))
        return _json(call.receipt, headers=own_headers(call))

    return endpoint


def models(gateway: Gateway) -> Endpoint:
    """Make GET /v1/models: aliases and candidates, in the shape that the caller's headers speak."""

    async def endpoint(request: Request) -> Response:
        catalog = gateway.decider.catalog
        names = [*catalog.aliases, *catalog.candidates]
        if "anthropic-version" in request.headers:
            made = "1970-01-01T00:00:00Z"  # the dialect wants a date; the catalogue holds none for these
            rows: list[dict[str, Any]] = [
                {"type": "model", "id": name, "display_name": name, "created_at": made} for name in names
            ]
            listed = {"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]}
            return _json(listed)
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "samediff"} for name in names]
        return _json({"object": "list", "data": rows})

    return endpoint


def outcomes(gateway: Gateway) -> Endpoint:
    """Make POST /v1/outcomes: one outcome or a list of them, written to the journal."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await read_body(request, gateway.settings.max_body_mib)
            records = read_outcomes(body, time.time_ns() // 1_000_000)
        except BadInput as error:
            return refusal(gateway, "openai_chat", error)
        for record in records:
            gateway.outcome(record)
        return _json({"accepted": len(records)}, 202)

    return endpoint


def read_outcomes(body: bytes, now_ms: int) -> list[OutcomeRecord]:
    """Read outcomes; id, time and source are filled in where the caller leaves them out."""
    try:
        plain = msgspec.json.decode(body)
        rows = plain if isinstance(plain, list) else [plain]
        records = []
        for row in rows:
            filled = {"outcome_id": f"out_{uuid.uuid4().hex}", "ts_ms": now_ms, "source": "api", **row}
            records.append(msgspec.convert({**filled, "recorded_ms": now_ms}, OutcomeRecord))
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise BadInput(f"outcome: {error}") from error
    for n, record in enumerate(records):
        if record.value is not None and not 0.0 <= record.value <= 1.0:
            raise BadInput(
                f"outcome {n}: value {record.value:g} is no probability; use 0 to 1, or leave it out"
            )
        if not (record.request_id or record.session_id or record.task_id):
            raise BadInput(f"outcome {n}: names none of request_id, session_id, task_id")
    return records


def healthz(_: Gateway) -> Endpoint:
    """Make GET /healthz: the process answers."""

    async def endpoint(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    return endpoint


def readyz(gateway: Gateway) -> Endpoint:
    """Make GET /readyz: bundle and catalogue are loaded and connections can be made."""

    async def endpoint(_: Request) -> Response:
        bundle = gateway.decider.bundle
        state = {
            "ready": gateway.ready,
            "bundle": bundle.digest,
            "bundle_kind": bundle.kind,
            "catalog": gateway.decider.catalog.digest,
            "policy": gateway.decider.policy.name,
        }
        return _json(state, 200 if gateway.ready else 503)

    return endpoint


def metrics(gateway: Gateway) -> Endpoint:
    """Make GET /metrics, in Prometheus' text format."""

    async def endpoint(_: Request) -> Response:
        text = gateway.metrics.render(gateway.gauges())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return endpoint


def dashboard(gateway: Gateway) -> Endpoint:
    """Make GET /: the page for people."""

    async def endpoint(_: Request) -> Response:
        return HTMLResponse(page(gateway))

    return endpoint


async def read_body(request: Request, max_mib: float) -> bytes:
    """Read a request's body; TooLarge as soon as it is seen to be over the limit."""
    limit = int(max_mib * 2**20)
    announced = request.headers.get("content-length", "0")
    chunks: list[bytes] = []
    size = int(announced) if announced.isdigit() else 0
    if size <= limit:
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    break
                chunks.append(chunk)
        except ClientDisconnect as error:
            raise BadInput("the client left before its request was complete") from error
    if size > limit:
        raise TooLarge(f"the request body is over {max_mib:g} MiB; raise max_body_mib if it should be let in")
    return b"".join(chunks)


def own_headers(call: Call) -> dict[str, str]:
    """Headers that every routed answer carries."""
    receipt = call.receipt
    return {
        "x-samediff-request-id": receipt.request_id,
        "x-samediff-candidate": receipt.chosen,
        "x-samediff-deployment": call.deployment.id,
        "x-samediff-policy": receipt.policy,
    }


def refusal(gateway: Gateway, dialect: Dialect, error: BadInput) -> Response:
    """Answer a request that can't be served, in its dialect."""
    status = status_of(error)
    gateway.metrics.add("samediff_refused_total", status=str(status))
    none = {"x-samediff-candidate": "", "x-samediff-deployment": "", "x-samediff-policy": ""}
    return error_response(dialect, status, str(error), f"req_{uuid.uuid4().hex}", none)


async def our_fault(request: Request, _: Exception) -> Response:
    """Answer when something of ours broke: the server's log has the traceback, the client doesn't."""
    dialect: Dialect = "anthropic_messages" if request.url.path.startswith("/v1/messages") else "openai_chat"
    return error_response(dialect, 500, "samediff failed on this request", f"req_{uuid.uuid4().hex}")


def _host(request: Request) -> str:
    return request.client.host if request.client else ""


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
