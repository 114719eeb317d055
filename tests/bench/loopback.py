"""The two ends of a gateway on loopback that cost little: an upstream that answers at once, a caller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from bench_gateway import answers

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from rivals import Player


def upstream(pipe: Connection) -> None:
    """Answer at once; to a request that says `stall-`, never, and tell when it came and when it was left."""
    whole, streamed = answers()
    chunks = [part + b"}\n\n\r\n" for part in streamed.split(b"}\n\n\r\n")[:-1]]
    last = b"0\r\n\r\n"

    async def stall(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"stall-first" in body:
            writer.write(chunks[0])
        pipe.send(time.monotonic_ns())
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
        pipe.send(time.monotonic_ns())
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                if b"stall-" in body:
                    return await stall(body, reader, writer)
                for part in (*chunks, last) if b'"stream":true' in body.replace(b": ", b":") else (whole,):
                    writer.write(part)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**21)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def request_of(player: Player, body: bytes) -> bytes:
    """The bytes of one request over HTTP/1.1."""
    return (
        f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:{player.port}\r\nx-api-key: {player.key}\r\n"
        "anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


class Caller:
    """One kept connection to one player."""

    def __init__(self, player: Player, body: bytes, *, stream: bool) -> None:
        self._player, self._request, self._stream = player, request_of(player, body), stream

    async def connect(self) -> Caller:
        """Open the connection."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._player.port)
        return self

    async def call(self) -> float:
        """Ask once; milliseconds until the answer's last byte. The answer must be a whole one."""
        start = time.perf_counter()
        self._writer.write(self._request)
        try:
            head, got = (await self._reader.readuntil(b"\r\n\r\n")).lower(), b""
        except asyncio.IncompleteReadError as error:
            raise RuntimeError(f"{self._player.name} closed the connection") from error
        if b"transfer-encoding: chunked" in head:
            while not got.endswith(b"0\r\n\r\n"):
                got += await self._more()
        else:
            size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            got = await self._reader.readexactly(size)
        took = (time.perf_counter() - start) * 1000
        whole = got.count(b"data:") == 41 if self._stream else b'"end_turn"' in got
        if b" 200 " not in head[:16] or not whole:
            raise RuntimeError(f"{self._player.name} answered {head[:60]!r} {got[-300:]!r}")
        return took

    async def _more(self) -> bytes:
        more = await self._reader.read(2**16)
        if not more:
            raise RuntimeError(f"{self._player.name} broke its answer off")
        return more

    def close(self) -> None:
        """Leave."""
        self._writer.close()
