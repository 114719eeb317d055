"""The two ends of a gateway on loopback that cost little: an upstream that answers at once, a caller."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from typing import TYPE_CHECKING

import msgspec
from bench_features import claude_code_body

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from rivals import Player


EVENTS = 41
SAID, PIECE = "Done.", "some words"  # a whole answer's text, and that of each delta of a streamed one
USAGE = {"input_tokens": 900, "cache_read_input_tokens": 12_000, "output_tokens": 40}
LEAVE_S = 2.0


def answers() -> tuple[bytes, bytes]:
    """A whole answer and a streamed one of 41 events, with their HTTP heads."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
    body = msgspec.json.encode(
        {**message, "content": [{"type": "text", "text": SAID}], "stop_reason": "end_turn", "usage": USAGE}
    )
    start = {"type": "message_start", "message": {**message, "content": [], "usage": USAGE}}
    open_block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": PIECE}}
    close = {"type": "content_block_stop", "index": 0}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}
    events = [start, open_block, *[delta] * (EVENTS - 5), close, stop, {"type": "message_stop"}]
    chunks = [f"event: {e['type']}\ndata: ".encode() + msgspec.json.encode(e) + b"\n\n" for e in events]
    streamed = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: "
    return (
        head + b"application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body,
        head + b"text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + streamed,
    )


def turns(size: int, count: int, *, stream: bool, session: int = 0) -> list[bytes]:
    """The bodies of a session's turns, `size` bytes on average.

    Each has a question more than the one before and quotes the answer that `upstream` gave to that, as a
    client does: a gateway may know it again, and go on from there.
    """
    said = PIECE * (EVENTS - 5) if stream else SAID
    asked = msgspec.json.decode(claude_code_body(size - count * (235 + len(said)) // 2, seed=session))
    asked |= {"model": "auto", "stream": stream}
    bodies = []
    for n in range(count):
        answer = {"role": "assistant", "content": [{"type": "text", "text": said}]}
        block = {"type": "text", "text": f"{n}: and the next test of the same file, which fails alike?"}
        asked["messages"] += [answer, {"role": "user", "content": [block]}]
        bodies.append(msgspec.json.encode(asked))
    return bodies


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

    def __init__(self, player: Player, bodies: Sequence[bytes], *, stream: bool) -> None:
        self._player, self._stream = player, stream
        self._requests = itertools.cycle([request_of(player, body) for body in bodies])

    async def connect(self) -> Caller:
        """Open the connection."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._player.port)
        return self

    async def call(self) -> float:
        """Ask the next; milliseconds until the answer's last byte. The answer must be a whole one."""
        request = next(self._requests)
        start = time.perf_counter()
        self._writer.write(request)
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


def leave(player: Player, pipe: Connection, number: int, *, first: bool) -> float | None:
    """Leave before the first byte or after it; ms until the upstream call is closed, None: not within 2 s."""
    asked = msgspec.json.decode(claude_code_body(52_000)) | {"model": "auto", "stream": True}
    mark = f"stall-{'first' if first else 'head'}-{number} "
    asked["messages"][0]["content"][1]["text"] = mark + asked["messages"][0]["content"][1]["text"]
    with socket.create_connection(("127.0.0.1", player.port)) as connection:
        connection.sendall(request_of(player, msgspec.json.encode(asked)))
        if not pipe.poll(LEAVE_S):
            raise RuntimeError(f"{player.name} did not ask upstream")
        pipe.recv()
        if first:
            connection.recv(2**16)
        time.sleep(0.02)
        left = time.monotonic_ns()
    if pipe.poll(LEAVE_S):
        return float(pipe.recv() - left) / 1e6
    return None
