"""Connections that are kept: by whom they are found, how long, how many, and what becomes of who waits."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from router.gateway import pool
from router.gateway.connections import Headers
from router.gateway.errors import UpstreamError
from router.gateway.settings import UpstreamSettings
from router.gateway.upstream import Upstream

DONE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def provider(connections=512):
    """A provider that answers once it may, and calls to it; notes what it was asked and who is connected."""
    seen = SimpleNamespace(asked=0, connections=0, open=0, may=asyncio.Event())
    seen.may.set()

    async def serve(reader, writer):
        seen.connections += 1
        seen.open += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                seen.asked += 1
                await seen.may.wait()
                writer.write(DONE)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            seen.open -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = Upstream(UpstreamSettings(connect_s=2.0, read_s=5.0, connections=connections))
    seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def ask(path="", url=seen.url):
        async with upstream.send(url + path, Headers(), None, "GET") as answer:
            return await answer.read()

    seen.ask, seen.pool = ask, upstream.pool
    seen.kept = upstream.pool.place(seen.url).kept
    try:
        async with asyncio.timeout(10):
            yield seen
    finally:
        await upstream.close()
        server.close()
        await asyncio.sleep(0.01)
        assert seen.open == 0


async def until(true):
    while not true():
        await asyncio.sleep(0.005)


async def test_a_hosts_connections_are_for_all_its_paths_the_one_used_last_first() -> None:
    async with provider() as seen:
        seen.may.clear()
        both = [asyncio.create_task(seen.ask(f"/{n}")) for n in range(2)]
        await until(lambda: seen.asked == 2)
        seen.may.set()
        assert await asyncio.gather(*both) == [b"ok", b"ok"]
        first, last = seen.kept
        assert await seen.ask("/2") == b"ok"
        assert list(seen.kept) == [first, last]
        assert seen.connections == 2


async def test_what_waits_for_too_long_is_closed(monkeypatch) -> None:
    monkeypatch.setattr(pool, "KEPT_S", 0.1)
    async with provider() as seen:
        await seen.ask()
        assert len(seen.kept) == 1
        await until(lambda: not seen.open)
        assert not seen.kept
        assert await seen.ask() == b"ok"
        assert seen.connections == 2


async def test_a_call_on_it_is_the_end_of_a_connections_wait(monkeypatch) -> None:
    monkeypatch.setattr(pool, "KEPT_S", 1000.0)
    async with provider() as seen:
        await seen.ask()
        (line,) = seen.kept
        for _ in range(2):
            seen.kept[line] -= 600.0
            seen.pool._tidy()
            assert await seen.ask() == b"ok"
        assert list(seen.kept) == [line]
        seen.kept[line] -= 1000.0
        seen.pool._tidy()
        assert not seen.kept
        await until(lambda: not seen.open)


async def test_who_waits_longest_is_closed_first_whoever_its_host() -> None:
    async with provider() as seen:
        other = seen.url.replace("127.0.0.1", "localhost")
        await seen.ask()
        await seen.ask(url=other)
        theirs = seen.pool.place(other).kept
        (line,) = theirs
        theirs[line] -= pool.KEPT_S
        seen.pool._tidy()
        assert (len(seen.kept), len(theirs)) == (1, 0)


async def test_what_has_waited_for_too_long_is_not_used_though_nobody_had_time_to_close_it() -> None:
    async with provider() as seen:
        await seen.ask()
        (line,) = seen.kept
        seen.kept[line] -= pool.KEPT_S
        assert await seen.ask() == b"ok"
        assert line not in seen.kept
        assert seen.connections == 2
        await until(lambda: seen.open == 1)


async def test_more_calls_than_there_may_be_wait_their_turn(monkeypatch) -> None:
    """Also where one of those that wait leaves: before its turn, or as it comes."""
    async with provider(connections=2) as seen:
        seen.may.clear()
        calls = [asyncio.create_task(seen.ask()) for _ in range(7)]
        await until(lambda: seen.asked == 2)
        await asyncio.sleep(0.05)
        assert seen.asked == seen.connections == 2
        calls[2].cancel()
        await asyncio.sleep(0)
        turn, leave = seen.pool._waiting[1], seen.pool._leave

        def leave_and_cancel():
            leave()
            if turn.done():
                calls[3].cancel()

        monkeypatch.setattr(seen.pool, "_leave", leave_and_cancel)
        seen.may.set()
        said = await asyncio.gather(*calls, return_exceptions=True)
        assert [s if isinstance(s, bytes) else type(s) for s in said] == [
            *(b"ok", b"ok"),
            *(asyncio.CancelledError, asyncio.CancelledError),
            *(b"ok", b"ok", b"ok"),
        ]
        assert (seen.asked, seen.connections, seen.pool._room) == (5, 2, 2)


async def test_a_call_that_finds_nobody_or_leaves_gives_its_room_back() -> None:
    async with provider(connections=1) as seen:
        for _ in range(2):
            with pytest.raises(UpstreamError, match="can't be reached"):
                await seen.ask(url="http://127.0.0.1:1")
            seen.may.clear()
            left = asyncio.create_task(seen.ask())
            await until(lambda: seen.asked)
            left.cancel()
            await asyncio.wait([left])
            seen.may.set()
            assert await seen.ask() == b"ok"
        assert seen.pool._room == 1


async def test_a_kept_connection_that_is_lost_is_forgotten() -> None:
    async with provider() as seen:
        await seen.ask()
        (line,) = seen.kept
        line.transport.abort()
        assert await seen.ask() == b"ok"  # before it was told
        await asyncio.sleep(0.01)
        assert seen.connections == 2
        assert line not in seen.kept
        (line,) = seen.kept
        line.transport.abort()
        await asyncio.sleep(0.01)
        assert not seen.kept


async def test_addresses_are_forgotten_when_they_are_many_and_a_hosts_connections_are_not() -> None:
    async with provider() as seen:
        await seen.ask("/one")
        for n in range(3 * pool.PLACES):
            assert seen.pool.place(f"{seen.url}/batches/{n}").kept is seen.kept
        assert len(seen.pool._places) <= pool.PLACES
        assert len(seen.kept) == 1
