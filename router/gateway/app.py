"""create_app(settings): puts the gateway together, defines nothing; nothing is built at import."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from models.store import Store
from router.gateway import pages, routes
from router.gateway.errors import not_served
from router.gateway.follow import Follower
from router.gateway.front import Front
from router.gateway.openapi import openapi
from router.gateway.service import Gateway
from router.gateway.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from router.gateway.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Build the gateway; BadInput, one line, when bundle, catalogue, policy or journal can't be used."""
    gateway = Gateway(settings)
    gateway.journal.check()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gateway.upstream = Upstream(settings.upstream)
        gateway.journal.start()
        gateway.warm_up(gateway.decider)
        gc.collect()
        gc.freeze()  # what lives as long as the process needs no looking through; helps the p99
        gc.set_threshold(50_000, 20, 20)
        gateway.offsets.start()
        gateway.ready = True
        follower = None
        if settings.followed is not None:
            follower = Follower(gateway, Store(settings.followed), settings.follow_s)
            follower.start()
        yield
        gateway.ready = False
        if follower is not None:
            await follower.stop()
        await gateway.upstream.close()
        await gateway.offsets.stop()
        gateway.repeats.close()
        gateway.journal.close()

    app = Front(
        routes.our_fault,
        title="samediff",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to wherever the request's Host says
    )
    app.state.gateway = gateway
    app.add_exception_handler(HTTPException, not_served)
    for path, endpoint in (
        ("/v1/chat/completions", routes.answering(gateway, "openai_chat")),
        ("/v1/messages", routes.answering(gateway, "anthropic_messages")),
        ("/v1/responses", routes.answering(gateway, "openai_responses")),
        ("/v1/messages/count_tokens", routes.count_tokens(gateway)),
        ("/v1/route", routes.route(gateway)),
        ("/v1/outcomes", routes.outcomes(gateway)),
    ):
        app.posted(path, endpoint)
    for path, told in (
        ("/v1/models", pages.models(gateway)),
        ("/v1/models/{name:path}", pages.model(gateway)),
        ("/healthz", pages.healthz(gateway)),
        ("/readyz", pages.readyz(gateway)),
        ("/metrics", pages.metrics(gateway)),
        ("/", pages.dashboard(gateway)),
        ("/openapi.json", openapi(gateway)),
    ):
        app.add_route(path, told, methods=["GET"])
    return app
