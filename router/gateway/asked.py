"""A request as the endpoints get it: its head, read once, and its body, read within bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from features.errors import BadInput
from router.gateway.errors import Packed, Stalled, TooLarge
from router.gateway.leaving import LEAVING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from router.gateway.leaving import Leaving
    from router.gateway.settings import Settings


class Asked:
    """One HTTP request. `headers` by lower-case name, of several the first; `raw` has them all."""

    __slots__ = ("_client", "_receive", "headers", "host", "path", "query", "raw")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._client: Leaving | None = scope.get("state", {}).get(LEAVING)
        self.raw: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self.raw)}
        self.path: str = scope["path"]
        self.query: str = scope["query_string"].decode("latin-1")
        self.host: str = scope["client"][0] if scope.get("client") else ""

    async def body(self, settings: Settings) -> bytes:
        """The body; TooLarge as soon as it is over the limit, Stalled if it stops coming, Packed."""
        if (encoding := self.headers.get("content-encoding", "identity")).lower() != "identity":
            raise Packed(f"the request body is packed ({encoding[:20]}); send it as it is")
        limit = int(settings.max_body_mib * 2**20)
        announced = self.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(settings)
        if self._client is not None and self._client.asked:  # all of it is here
            body, _ = await self._piece()
            if len(body) > limit:
                raise _too_large(settings)
            return body
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(settings.client_s) as patience:
                size, more = 0, True
                while more:
                    piece, more = await self._piece()
                    if piece:  # one that comes past the parser comes whole
                        chunks.append(piece)
                    size += len(piece)
                    if size > limit:
                        raise _too_large(settings)
                    if more:
                        patience.reschedule(asyncio.get_running_loop().time() + settings.client_s)
        except TimeoutError as error:
            raise Stalled(f"the request's body stopped coming for {settings.client_s:g} s") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _piece(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether more follows."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise BadInput("the client left before its request was complete")
        return message.get("body", b""), message.get("more_body", False)


def _too_large(settings: Settings) -> TooLarge:
    mib = settings.max_body_mib
    return TooLarge(f"the request body is over {mib:g} MiB; raise max_body_mib if it should be let in")
