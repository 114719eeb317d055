"""The two ends of a gateway on loopback that cost little: an upstream that answers at once, a caller."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
from bench_features import claude_code_body, tool_turn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from rivals import Player


EVENTS = 41
SAID, PIECE = "Done.", "some words"  # a whole answer's text, and that of each delta of a streamed one
USAGE = {"input_tokens": 900, "cache_read_input_tokens": 12_000, "output_tokens": 40}
LEAVE_S = 2.0
CALLED = 900_000  # tool calls of `tool_turns` are numbered from here, 100 to a session
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
TEXT_DELTAS, CALL_DELTAS = 4, EVENTS - 11  # in which a streamed tool call comes


@functools.cache
def answers() -> tuple[bytes, bytes]:
    """A whole answer and a streamed one of 41 events, with their HTTP heads."""
    said = [{"type": "text", "text": SAID}]
    return _answer(said, block(0, {"type": "text", "text": ""}, [PIECE] * (EVENTS - 5)), "end_turn")


@functools.cache
def tool_answers(number: int) -> tuple[bytes, bytes]:
    """A whole answer and a streamed one of 41 events that say something and call a tool."""
    text, call = tool_turn(random.Random(number), number, shrink=3)[0]["content"]
    given = msgspec.json.encode(call["input"]).decode()
    events = [
        *block(0, {**text, "text": ""}, pieces(text["text"], TEXT_DELTAS)),
        *block(1, {**call, "input": {}}, pieces(given, CALL_DELTAS)),
    ]
    return _answer([text, call], events, "tool_use")


def pieces(text: str, count: int) -> list[str]:
    """The text in so many pieces."""
    return [text[n * len(text) // count : (n + 1) * len(text) // count] for n in range(count)]


def block(index: int, empty: dict[str, Any], deltas: list[str]) -> list[dict[str, Any]]:
    """The events of one block of a streamed answer."""
    name, field = ("text_delta", "text") if empty["type"] == "text" else ("input_json_delta", "partial_json")
    return [
        {"type": "content_block_start", "index": index, "content_block": empty},
        *(
            {"type": "content_block_delta", "index": index, "delta": {"type": name, field: piece}}
            for piece in deltas
        ),
        {"type": "content_block_stop", "index": index},
    ]


def _answer(content: list[dict[str, Any]], blocks: list[dict[str, Any]], why: str) -> tuple[bytes, bytes]:
    body = msgspec.json.encode({**MESSAGE, "content": content, "stop_reason": why, "usage": USAGE})
    start = {"type": "message_start", "message": {**MESSAGE, "content": [], "usage": USAGE}}
    stop = {"type": "message_delta", "delta": {"stop_reason": why}, "usage": USAGE}
    events = [start, *blocks, stop, {"type": "message_stop"}]
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


def tool_turns(size: int, count: int, *, stream: bool, session: int = 0) -> list[bytes]:
    """The bodies of a session's turns, `size` bytes on average, each of which brings a tool's result.

    It is that of the call which `upstream` answered to the turn before, as most calls of an agent are.
    """
    first = CALLED + session * 100
    more = [tool_turn(random.Random(n), n, shrink=3) for n in range(first, first + count)]
    asked = msgspec.json.decode(claude_code_body(size - len(msgspec.json.encode(more)) // 2, seed=session))
    asked |= {"model": "auto", "stream": stream}
    bodies = []
    for messages in more:
        asked["messages"] += messages
        bodies.append(msgspec.json.encode(asked))
    return bodies


def answer_to(body: bytes) -> tuple[bytes, bytes]:
    """What `upstream` answers, whole and streamed: to a result of `tool_turns`, its next call."""
    mark = b'"toolu_9'
    at = body.rfind(mark, len(body) - 10_000)
    return answers() if at < 0 else tool_answers(int(body[at + 7 : at + 13]) + 1)


@functools.cache
def chunks_of(streamed: bytes) -> tuple[bytes, ...]:
    """A streamed answer, event by event."""
    end = b"}\n\n\r\n"
    return (*(part + end for part in streamed.split(end)[:-1]), b"0\r\n\r\n")


def upstream(pipe: Connection) -> None:
    """Answer at once; to a request that says `stall-`, never, and tell when it came and when it was left."""

    async def stall(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"stall-first" in body:
            writer.write(chunks_of(answers()[1])[0])
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
                whole, streamed = answer_to(body)
                asked = b'"stream":true' in body.replace(b": ", b":")
                for part in chunks_of(streamed) if asked else (whole,):
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
        ended = b'"end_turn"' in got or b'"tool_use"' in got
        whole = got.count(b"data:") == EVENTS if self._stream else ended
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
