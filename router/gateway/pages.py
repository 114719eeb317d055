"""The endpoints that only tell something: models, health, metrics, the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, PlainTextResponse, Response

from router.gateway.dashboard import page
from router.gateway.routes import json_response, refusal
from router.given import UnknownModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from features.wire import Dialect
    from router.gateway.service import Gateway

    Endpoint = Callable[[Request], Awaitable[Response]]


def models(gateway: Gateway) -> Endpoint:
    """Make GET /v1/models: aliases and candidates, in the shape that the caller's headers speak."""

    async def endpoint(request: Request) -> Response:
        catalog = gateway.decider.catalog
        names = [*catalog.aliases, *catalog.candidates]
        rows = [_row(request, name) for name in names]
        if "anthropic-version" in request.headers:
            listed = {"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]}
            return json_response(listed)
        return json_response({"object": "list", "data": rows})

    return endpoint


def model(gateway: Gateway) -> Endpoint:
    """Make GET /v1/models/{name}: one of those listed, in the shape that the caller's headers speak."""

    async def endpoint(request: Request) -> Response:
        catalog, name = gateway.decider.catalog, request.path_params["name"]
        if name in catalog.aliases or name in catalog.candidates:
            return json_response(_row(request, name))
        dialect: Dialect = "anthropic_messages" if "anthropic-version" in request.headers else "openai_chat"
        return refusal(gateway, dialect, UnknownModel(catalog.why_unknown(name, dialect)))

    return endpoint


def _row(request: Request, name: str) -> dict[str, Any]:
    if "anthropic-version" in request.headers:
        made = "1970-01-01T00:00:00Z"  # the dialect wants a date; the catalogue holds none for these
        return {"type": "model", "id": name, "display_name": name, "created_at": made}
    return {"id": name, "object": "model", "created": 0, "owned_by": "samediff"}


def healthz(_: Gateway) -> Endpoint:
    """Make GET /healthz: the process answers."""

    async def endpoint(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    return endpoint


def readyz(gateway: Gateway) -> Endpoint:
    """Make GET /readyz: all is loaded, connections can be made and the journal can be written."""

    async def endpoint(_: Request) -> Response:
        bundle = gateway.decider.bundle
        ready = gateway.ready and gateway.journal.writable
        state = {
            "ready": ready,
            "journal": gateway.journal.writable,
            "bundle": bundle.digest,
            "bundle_kind": bundle.kind,
            "bundle_refused": gateway.refused,
            "catalog": gateway.decider.catalog.digest,
            "policy": gateway.decider.policy.name,
        }
        return json_response(state, 200 if ready else 503)

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
