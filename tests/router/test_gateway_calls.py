"""One call to a provider: what goes out, which answers count, and what becomes of its connection."""

import asyncio
import gc
import socket
import struct
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from router.gateway.connections import Headers
from router.gateway.errors import UpstreamError
from router.gateway.settings import UpstreamSettings
from router.gateway.upstream import Upstream

DONE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def provider(*answers, reads=True):
    """A provider that gives these bytes in turn; notes what it was asked and how many connections it had."""
    seen, left = SimpleNamespace(asked=[], connections=0, left=asyncio.Event()), list(answers)

    async def serve(reader, writer):
        seen.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0)) if reads else b""
                seen.asked.append(head + body)
                writer.write(left.pop(0))
                if not reads:
                    await asyncio.sleep(0.2)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            seen.left.set()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = Upstream(UpstreamSettings(connect_s=2.0, read_s=0.5))
    seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream, seen
    finally:
        await upstream.close()
        server.close()
        await asyncio.sleep(0.01)  # its connections are closed a little later


async def test_a_request_goes_out_as_it_is_said_and_connections_are_kept() -> None:
    async with provider(DONE, DONE, DONE) as (upstream, seen):
        headers = Headers("x-a: 1\r\nx-a: é\r\naccept-encoding: identity\r\n".encode(), 3)
        for body, method in ((b"{}", "POST"), (b"", "POST"), (None, "GET")):
            async with upstream.send(f"{seen.url}/v1/m?q=%41", headers, body, method) as answer:
                assert (answer.status, await answer.read()) == (200, b"ok")
        host = seen.url.removeprefix("http://").encode()
        said = b" /v1/m?q=%%41 HTTP/1.1\r\nHost: %b\r\nx-a: 1\r\nx-a: \xc3\xa9\r\n" % host
        said += b"accept-encoding: identity\r\n"
        assert seen.asked == [
            b"POST" + said + b"Content-Length: 2\r\n\r\n{}",
            b"POST" + said + b"Content-Length: 0\r\n\r\n",
            b"GET" + said + b"\r\n",
        ]
        assert seen.connections == 1


async def test_what_comes_before_an_answer_is_none() -> None:
    before = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    odd = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
    async with provider(before + DONE, odd) as (upstream, seen):
        async with upstream.send(seen.url, Headers(), b"") as answer:
            assert (answer.status, await answer.read()) == (200, b"ok")
        async with upstream.send(seen.url, Headers(), b"") as answer:
            assert answer.status == 101


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"what?\r\n\r\n", "dropped"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 9_000 + b"\r\n\r\n", "dropped"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "timeout"),
        (b"", "timeout"),
    ],
)
async def test_what_is_no_answer_is_an_error_of_one_kind(said, kind) -> None:
    async with provider(said) as (upstream, seen):
        with pytest.raises(UpstreamError) as raised:
            async with upstream.send(seen.url, Headers(), b"") as answer:
                await answer.read()
        assert raised.value.kind == kind
        await asyncio.wait_for(seen.left.wait(), 5)


async def test_a_header_that_would_be_two_is_not_sent() -> None:
    async with provider(DONE) as (upstream, seen):
        for name, value in (("x", "a\r\ny: b"), ("x\n", "a"), ("x", "a\0")):
            with pytest.raises(ValueError, match="holds what none can"):
                async with upstream.send(seen.url, Headers(f"{name}: {value}\r\n".encode(), 1), b""):
                    pass
        assert seen.asked == []


async def test_a_connection_with_more_on_it_is_closed() -> None:
    begun = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"
    async with provider(begun, DONE) as (upstream, seen):
        async with upstream.send(seen.url, Headers(), b"") as answer:
            assert await answer.readany() == b"ok"
        await asyncio.wait_for(seen.left.wait(), 5)
        async with upstream.send(seen.url, Headers(), b"") as answer:
            assert await answer.read() == b"ok"
        assert seen.connections == 2


async def test_an_answer_to_half_a_request_closes_its_connection() -> None:
    refused = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    async with provider(refused, DONE, reads=False) as (upstream, seen):
        async with upstream.send(seen.url, Headers(), b"x" * 20_000_000) as answer:
            assert (answer.status, await answer.read()) == (413, b"no")
        async with upstream.send(seen.url, Headers(), b"") as answer:
            assert await answer.read() == b"ok"
        assert seen.connections == 2


async def test_nobody_there_is_an_error_of_its_own() -> None:
    async with provider() as (upstream, _):
        with pytest.raises(UpstreamError) as raised:
            async with upstream.send("http://127.0.0.1:1/", Headers(), b""):
                pass
        assert raised.value.kind == "connect"


@asynccontextmanager
async def speaking(serve, read_s):
    """A provider that does as `serve` says on each connection, and calls to it: (calls, its address)."""
    tasks = []

    async def served(reader, writer):
        tasks.append(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0, limit=2**16)
    upstream = Upstream(UpstreamSettings(connect_s=2.0, read_s=read_s))
    try:
        yield upstream, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await upstream.close()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_nobody_asked_for_is_nobodys_answer() -> None:
    """It comes while the connection is idle, or with the end of the answer before it."""
    wrong = DONE.replace(b"ok", b"no")
    idle, later = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if not idle.is_set():
            writer.write(DONE)
            idle.set()
            await asyncio.sleep(0.05)
            writer.write(wrong)
        elif not later.is_set():
            later.set()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\no")
            await asyncio.sleep(0.05)
            writer.write(b"k!!" + wrong)
        else:
            writer.write(DONE)
        await asyncio.sleep(5)

    said = []
    async with speaking(serve, 2.0) as (upstream, url):
        for _ in range(3):
            async with upstream.send(url, Headers(), b"") as answer:
                said.append(await answer.read())
            await asyncio.sleep(0.1)
    assert said == [b"ok", b"ok!!", b"ok"]


async def test_an_idle_connection_that_is_reset_is_no_error() -> None:
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")
        await asyncio.sleep(0.02)
        at_once = struct.pack("ii", 1, 0)  # by a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    logged = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["message"]))
    async with speaking(serve, 2.0) as (upstream, url):
        for _ in range(3):
            async with upstream.send(url, Headers(), b"") as answer:
                assert await answer.read() == b"ok"
            await asyncio.sleep(0.1)
            del answer
            gc.collect()
    assert logged == []


async def test_a_body_whose_framing_breaks_ends_at_once() -> None:
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"zz\r\nxx\r\n")
        await asyncio.sleep(5)

    async with speaking(serve, 60.0) as (upstream, url):
        with pytest.raises(UpstreamError) as raised:
            async with upstream.send(url, Headers(), b"") as answer, asyncio.timeout(3):
                await answer.read()
    assert raised.value.kind == "dropped"


@pytest.mark.parametrize(("takes", "kind"), [(True, None), (False, "timeout")])
async def test_only_silence_counts_against_a_slow_upload(takes, kind) -> None:
    size, buffered = 20 * 2**20, 8 * 2**20  # what the system holds of it on its way is taken at once

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        left = size
        while takes and left:
            left -= len(await reader.read(2**16))
            await asyncio.sleep(0.005 if left > buffered else 0)
        if takes:
            writer.write(DONE)
        await asyncio.sleep(5)

    seen = None
    async with speaking(serve, 0.4) as (upstream, url):
        try:
            async with upstream.send(url, Headers(), b"x" * size) as answer:
                assert await answer.read() == b"ok"
        except UpstreamError as error:
            seen = error.kind
    assert seen == kind


async def test_a_clients_query_is_sent_and_kept_nowhere() -> None:
    async with provider(DONE) as (upstream, seen):
        async with upstream.send(f"{seen.url}/v1/x?key=SECRET&b=%20", Headers(), b"") as answer:
            assert await answer.read() == b"ok"
        assert seen.asked[0].startswith(b"POST /v1/x?key=SECRET&b=%20 HTTP/1.1\r\n")
        assert "SECRET" not in repr(upstream.pool._places)
