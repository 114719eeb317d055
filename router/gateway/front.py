"""The app, with a short way to its endpoints: FastAPI's own layers take longer than a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from router.gateway.asked import Asked
from router.gateway.passing import Passing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    Endpoint = Callable[[Asked], Awaitable[Response]]


class Front(FastAPI):
    """A FastAPI app; what is POSTed to the paths of `posted` goes past its layers."""

    def __init__(self, our_fault: Callable[[str], Response], **more: Any) -> None:
        super().__init__(**more)
        self._our_fault = our_fault
        self._posted: dict[str, Endpoint] = {}

        async def failed(request: Request, _: Exception) -> Response:
            return our_fault(request.url.path)

        self.add_exception_handler(Exception, failed)

    def posted(self, path: str, endpoint: Endpoint) -> None:
        """Serve POST requests to a path."""

        async def long_way(request: Request) -> Response:  # where the app is mounted within another
            return await endpoint(Asked(request.scope, request.receive))

        self._posted[path] = endpoint
        self.add_route(path, long_way, methods=["POST"])  # not app.post: no body model, no injection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; where something of ours breaks its client is told, if nothing has gone out yet."""
        endpoint = None
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._posted.get(scope["path"])
        if endpoint is None:
            return await super().__call__(scope, receive, send)
        response: Response | None = None
        try:
            response = await endpoint(Asked(scope, receive))
            await response(scope, receive, send)
        except Exception:  # the server logs it
            if response is None or (isinstance(response, Passing) and not response.committed):
                await self._our_fault(scope["path"])(scope, receive, send)
            raise
