"""The server's HTTP connections, bounded: how long a request's head may be, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

HEAD_BYTES = 64 * 2**10
_REFUSED = {
    408: b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, which by itself waits for a head for ever and takes one of any length."""

    head_s = 30.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.head_s, self._refuse, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the head they belong to has grown too long."""
        if self._refused:
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A head begins; on a kept connection that is when its time begins too."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._patience is None:
            self._patience = self.loop.call_later(self.head_s, self._refuse, 408)

    def on_headers_complete(self) -> None:
        """The head is whole: answer it if it is of a reasonable length."""
        self._stop_waiting()
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse(431)
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if not self._refused:
            super().on_message_complete()

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: int) -> None:
        """Answer a head that can't be served and hang up; on_body and the rest hear nothing of it."""
        self._stop_waiting()
        self._refused = True
        if not self.transport.is_closing():
            self.transport.write(_REFUSED[status])
            self.transport.close()
