"""How a client's bytes are taken in: into lent memory, and a body of known length past the parser."""

import asyncio
import hashlib
import itertools
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import psutil
import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from router.gateway import intake, protocol
from router.gateway.intake import BUFFER_BYTES, Intake
from router.gateway.protocol import BoundedProtocol

LARGE = bytes(itertools.islice(itertools.cycle(range(251)), 600_000))
CHUNKED = b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def head(length, more=b""):
    return b"POST /%d HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (length, more, length)


class App:
    """Answers with the digest of a body; `pieces` are those that it came in, but for empty ones."""

    def __init__(self):
        self.pieces, self.begun = [], asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.begun.set()
        more, pieces = True, []
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message["more_body"]
            pieces += [message["body"]] if message["body"] else []
        self.pieces.append(list(map(len, pieces)))
        assert all(type(piece) is bytes for piece in pieces)
        said = hashlib.sha256(b"".join(pieces)).hexdigest().encode()
        sized = [(b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 200, "headers": sized})
        await send({"type": "http.response.body", "body": said})


@asynccontextmanager
async def serving(app):
    config = uvicorn.Config(app, http=BoundedProtocol, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    made = []

    def accepted():
        made.append(BoundedProtocol(config=config, server_state=state, app_state={}))
        return made[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], made
    finally:
        server.close()
        for one in made:
            one.transport.abort()
        await asyncio.sleep(0)


def run(loop, test):
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(test(), 60))


async def ask(port, *pieces, answers):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.002 if len(pieces) > 1 else 0)
    said = []
    for _ in range(answers):
        await reader.readuntil(b"\r\n\r\n")
        said.append((await reader.readexactly(64)).decode())
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return said


def sha(body):
    return hashlib.sha256(body).hexdigest()


LOOPS = pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])


@LOOPS
def test_a_body_of_known_length_comes_whole_wherever_it_was_cut(loop) -> None:
    whole = head(len(LARGE)) + LARGE
    small = head(40) + LARGE[:40]

    async def test():
        app = App()
        async with serving(app) as (port, _):
            for at in [len(head(40)) + more for more in (-20, -3, -2, -1, 0, 1, 39)]:
                assert await ask(port, small[:at], small[at:], answers=1) == [sha(LARGE[:40])]
            assert app.pieces == [[40]] * 7
            app.pieces.clear()
            for cuts in ((), (200_000,), (30, 61, 62, 500, 300_000)):
                pieces = [whole[a:b] for a, b in itertools.pairwise((0, *cuts, len(whole)))]
                assert await ask(port, *pieces, answers=1) == [sha(LARGE)]
            assert app.pieces == [[len(LARGE)]] * 3

    run(loop, test)


@LOOPS
def test_what_comes_behind_a_body_is_the_next_request(loop) -> None:
    one, two, three = LARGE[:5], LARGE, LARGE[7:700]
    chunked = b"POST / HTTP/1.1\r\nhost: x\r\n" + CHUNKED
    asked = [head(5) + one, head(len(two)) + two, chunked, head(len(three)) + three, head(0)]
    expected = [sha(one), sha(two), sha(b"abcde"), sha(three), sha(b"")]

    async def test():
        async with serving(App()) as (port, _):
            assert await ask(port, b"".join(asked), answers=5) == expected
            assert await ask(port, *asked, answers=5) == expected
            assert await ask(port, b"\r\n" + asked[1] + b"\r\n", asked[0], answers=2) == [sha(two), sha(one)]

    run(loop, test)


def test_longer_bodies_than_a_buffer_come_in_pieces() -> None:
    body = LARGE * 3

    async def test():
        app = App()
        async with serving(app) as (port, _):
            assert await ask(port, head(len(body)) + body, answers=1) == [sha(body)]
            assert sum(app.pieces[0]) == len(body)

    run(uvloop.new_event_loop, test)


def test_bodies_that_come_at_once_are_kept_apart() -> None:
    bodies = [LARGE[n:] + bytes([n]) * n for n in range(12)]

    async def test():
        async with serving(App()) as (port, _), asyncio.TaskGroup() as group:
            asked = [
                group.create_task(ask(port, head(len(b)) + b[:99], b[99:300_000], b[300_000:], answers=1))
                for b in bodies
            ]
            assert [await one for one in asked] == [[sha(b)] for b in bodies]

    run(uvloop.new_event_loop, test)


def test_a_buffer_is_lent_only_while_a_body_comes() -> None:
    intake._SPARE.clear()

    async def test():
        app = App()
        async with serving(app) as (port, made):
            await ask(port, head(5) + LARGE[:5], b"GET / HTT", answers=1)
            await asyncio.sleep(0.05)
            assert len(intake._SPARE) == 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for gone in (False, True):
                app.begun.clear()
                writer.write(head(len(LARGE)) + LARGE[:9])
                await app.begun.wait()
                assert len(intake._SPARE) == 0
                assert made[-1]._buffer is not None
                if gone:
                    writer.close()
                    await asyncio.sleep(0.05)
                else:
                    writer.write(LARGE[9:])
                    await reader.readuntil(sha(LARGE).encode())
                assert len(intake._SPARE) == 1
                assert made[-1]._buffer is None

    run(uvloop.new_event_loop, test)


def test_spare_buffers_are_bounded_and_only_what_is_filled_takes_memory() -> None:
    def resident():
        return psutil.Process().memory_info().rss

    intake._SPARE.clear()
    before = resident()
    buffers = [intake.lent() for _ in range(100)]
    assert resident() - before < 10 * BUFFER_BYTES
    intake._SPARE.extend(buffers)
    assert len(intake._SPARE) == 8
    assert len(intake.lent()) == BUFFER_BYTES


def test_a_body_that_comes_slowly_is_heard_to_come() -> None:
    """Else it would count as one that stopped."""
    heard = []

    async def app(scope, receive, send):
        more = True
        while more:
            message = await receive()
            heard.append(message.get("body"))
            more = message.get("more_body")

    async def test():
        async with serving(app) as (port, _):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head(3))
            for n, piece in enumerate((b"a", b"b", b"c")):
                writer.write(piece)
                while len(heard) <= n:
                    await asyncio.sleep(0.005)
            writer.close()
        assert heard == [b"", b"", b"abc"]

    run(uvloop.new_event_loop, test)


def test_a_transport_says_to_the_protocol_all_that_it_says() -> None:
    said = {name for kind in (asyncio.BufferedProtocol, asyncio.BaseProtocol) for name in vars(kind)}
    passed_on = {name for name in said if not name.startswith("_")} - {"connection_made"}
    assert vars(Intake(SimpleNamespace(**dict.fromkeys(passed_on)))).keys() == passed_on


def test_targets_are_read_once_but_none_with_a_query_is_kept() -> None:
    """It may hold a client's own key."""
    heard = []

    async def app(scope, receive, send):
        heard.append((scope["path"], scope["raw_path"], scope["query_string"]))
        await App()(scope, receive, send)

    async def test():
        async with serving(app) as (port, _):
            for target in (b"/a%20b", b"/a%20b", b"/a?key=%20", b"http://h/c?d#e", b"/f#g"):
                asked = head(0).replace(b"/0", target)
                await ask(port, asked, answers=1)

    protocol._known_target.cache_clear()
    run(uvloop.new_event_loop, test)
    assert heard[:2] == [("/a b", b"/a%20b", b"")] * 2
    assert heard[2:] == [("/a", b"/a", b"key=%20"), ("/c", b"/c", b"d"), ("/f", b"/f", b"")]
    kept = protocol._known_target.cache_info()
    assert (kept.currsize, kept.hits) == (2, 1)


def test_a_client_that_asks_for_much_in_little_is_read_in_small_parts(monkeypatch) -> None:
    parsed = []
    parse = BoundedProtocol._parse
    monkeypatch.setattr(BoundedProtocol, "_parse", lambda self, data: (parsed.append(1), parse(self, data)))
    small = b"GET / HTTP/1.1\r\n\r\n"

    async def test():
        app = App()
        async with serving(app) as (port, made):
            answers = await ask(port, small * 10_000, answers=10_000)
            assert answers == [sha(b"")] * 10_000
            assert len(made[0].get_buffer(-1)) == intake.SMALL_BYTES
            made[0]._give_back()
            parsed.clear()
            assert await ask(port, b"\r\n" * 20_000 + small, answers=1) == [sha(b"")]
            assert len(parsed) < 10  # one for each read, not for each blank line

    run(uvloop.new_event_loop, test)


@LOOPS
def test_a_body_comes_whole_where_there_is_no_memory_for_a_buffer(loop, monkeypatch) -> None:
    def full(*_):
        raise OSError(12, "Cannot allocate memory")

    intake._SPARE.clear()
    monkeypatch.setattr(intake.mmap, "mmap", full)

    async def test():
        app = App()
        async with serving(app) as (port, made):
            for size in (40, 60_000, intake.SMALL_BYTES, len(LARGE)):
                assert await ask(port, head(size) + LARGE[:size], answers=1) == [sha(LARGE[:size])]
            assert len(made[-1].get_buffer(-1)) == intake.SMALL_BYTES
            made[-1]._give_back()
            assert not intake._SPARE

    run(loop, test)
