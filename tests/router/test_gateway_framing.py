"""Where an answer ends, what it may begin with, and what of it is held: HTTP/1.1 as providers speak it."""

import asyncio
import contextlib
import datetime
import inspect
import ipaddress
import socket
import ssl
import struct
import tempfile
from contextlib import asynccontextmanager
from types import SimpleNamespace
from unittest.mock import Mock

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from router.gateway import pool
from router.gateway.answering import Answering
from router.gateway.connections import Answer, Calls, Headers
from router.gateway.errors import UpstreamError
from router.gateway.lines import Line, Silence
from router.gateway.pool import Pool
from router.gateway.settings import UpstreamSettings
from router.gateway.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\n"
TWO = OK + b"content-length: 2\r\n\r\nok"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
CODED = OK + b"transfer-encoding: %b\r\n\r\n"
LOST, RESET = "lost", "reset"


@asynccontextmanager
async def provider(*pieces, tls=None, gap_s=0.01):
    """A provider that answers every request with these pieces, or hangs up where it says so."""
    seen = SimpleNamespace(connections=0, sent=0)

    async def serve(reader, writer):
        seen.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                for piece in pieces:
                    if piece == LOST:
                        return
                    if piece == RESET:
                        at_once = struct.pack("ii", 1, 0)
                        peer = writer.get_extra_info("socket")
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                        writer.transport.abort()
                        return
                    writer.write(piece)
                    await writer.drain()
                    seen.sent += len(piece)
                    await asyncio.sleep(gap_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    seen.url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def calling(read_s=2.0):
    """Ask providers, with an end to it."""
    upstream = Upstream(UpstreamSettings(connect_s=2.0, read_s=read_s))
    try:
        yield upstream
    finally:
        await upstream.close()
        await asyncio.sleep(0.01)


async def twice(*pieces, read_s=2.0):
    """Ask a provider twice: status and body of each answer or the kind of its error, and connections."""
    said = []
    async with provider(*pieces) as seen, calling(read_s) as upstream, asyncio.timeout(10):
        for _ in range(2):
            try:
                async with upstream.send(f"http://{seen.url}", Headers(), None, "GET") as answer:
                    said.append((answer.status, await answer.read()))
            except UpstreamError as error:
                said.append(error.kind)
            await asyncio.sleep(0.02)
    assert said[0] == said[1]
    return said[0], seen.connections


@pytest.mark.parametrize(
    ("pieces", "said", "connections"),
    [
        ((TWO,), (200, b"ok"), 1),
        ((TWO[:-1], b"k"), (200, b"ok"), 1),
        ((OK + b"content-length: 0\r\n\r\n",), (200, b""), 1),
        ((b"HTTP/1.1 204 No\r\n\r\n",), (204, b""), 1),
        ((b"HTTP/1.1 304 Same\r\ncontent-length: 5\r\n\r\n",), (304, b""), 1),
        ((b"HTTP/1.1 100 Go\r\nx: y\r\n\r\n" * 3 + TWO,), (200, b"ok"), 1),
        ((CHUNKED, b"2\r\nok\r\n", b"0\r\n\r\n"), (200, b"ok"), 1),
        ((CHUNKED, b"2  \r\nok\r\n", b"0\r\nx-t: 1\r\n\r\n"), (200, b"ok"), 1),
        ((CHUNKED, b"2\r\nok\r\n", b"0\r\nx-t: a\0b\r\n\r\n"), (200, b"ok"), 1),
        ((TWO.replace(b"OK\r\n", b"OK\r\nx: %b\r\n" % (b"y" * 8190)),), (200, b"ok"), 1),
        ((OK + b"x: %b\r\n" % (b"y" * 1000) * 70, TWO[len(OK) :]), (200, b"ok"), 1),
        ((OK + b"x: %b\r\n" % (b"y" * 1000) * 70 + TWO[len(OK) :],), (200, b"ok"), 1),
        ((TWO.replace(b"\r\n", b"\n"),), (200, b"ok"), 1),
        ((OK + b"\r\no", b"k", LOST), (200, b"ok"), 2),
        ((OK + b"\r\no", b"k", RESET), (200, b"ok"), 2),
        ((b"HTTP/1.0 200 OK\r\n\r\nok", LOST), (200, b"ok"), 2),
        ((CODED % b" xchunked", b"ok", LOST), (200, b"ok"), 2),
        ((CODED % b"gzip\r\ntransfer-encoding: Chunked", b"2\r\nok\r\n", LOST), "dropped", 2),
        ((TWO.replace(b"1.1", b"1.0"),), (200, b"ok"), 2),
        ((TWO.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"),), (200, b"ok"), 2),
        ((TWO + b"HTTP/1.1",), (200, b"ok"), 2),
        ((TWO + TWO,), (200, b"ok"), 2),
        ((TWO + b"junk",), (200, b"ok"), 2),
        ((CHUNKED, b"2\r\nok\r\n", LOST), "dropped", 2),
        ((CHUNKED, b"2\r\nok\r\n", b"zz\r\n"), "dropped", 2),
        ((OK + b"content-length: 9\r\n\r\nok", LOST), "dropped", 2),
        ((OK + b"content-length: 9\r\n\r\nok", RESET), "dropped", 2),
        ((OK + b"content-length: 2x\r\n\r\nok",), "dropped", 2),
        ((CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\n") + b"2\r\nok\r\n",), "dropped", 2),
        ((OK + b"x: a\0b\r\n\r\n",), "dropped", 2),
        ((OK + b"x: ",), "timeout", 2),
        ((OK + b"x", LOST), "dropped", 2),
        ((LOST,), "dropped", 2),
        ((b"HTTP/3.0 200 OK\r\n\r\n",), "dropped", 2),
        ((OK + b"x: " + b"y" * 8191 + b"\r\n\r\n",), "dropped", 2),
        ((OK, *[b"x: y\r\n" * 9_000] * 24), "dropped", 2),
        ((b"HTTP/1.1 100 Go\r\n\r\n" * 4_000,) * 16, "dropped", 2),
        ((CHUNKED + b"2\r\nok\r\n0\r\n", *[b"x: y\r\n" * 9_000] * 24), "dropped", 2),
    ],
)
async def test_where_an_answer_ends(pieces, said, connections) -> None:
    assert await twice(*pieces, read_s=0.3) == (said, connections)


@given(st.lists(st.binary(max_size=40), max_size=5), st.data())
def test_an_answer_is_the_same_wherever_it_is_cut(chunks, data) -> None:
    """With its head, what comes before that, and trailers."""
    said = (
        b"HTTP/1.1 103 Hints\r\na: 1\r\n\r\n"
        + OK
        + b"A:\r\nb: 2 \t\r\na: 3\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    said += (
        b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\nc: 4\r\n\r\n"
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(said) - 1), max_size=6)))
    pieces = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    answer, body, ends = asyncio.run(cut(pieces))
    assert answer.raw_headers == [(b"a", b""), (b"b", b"2"), (b"a", b"3"), (b"transfer-encoding", b"chunked")]
    assert dict(answer.headers) == {"a": "", "b": "2", "transfer-encoding": "chunked"}
    assert (answer.status, body, ends) == (200, b"".join(chunks), ["keep"])


async def cut(pieces):
    """An answer that comes in these pieces, its body, and how its connection ended."""
    ends = []
    transport = SimpleNamespace(set_protocol=lambda _: None, get_write_buffer_size=lambda: 0)
    connection = SimpleNamespace(transport=transport, protocol=asyncio.Protocol())
    keeper = SimpleNamespace(back=lambda _, keep: ends.append("keep" if keep else "close"))
    answer = Answer(Line(connection, keeper, {}), Headers(), Silence(1.0))
    for piece in pieces:
        assert ends == []
        answer.data_received(piece)
    return answer, await answer.read(), ends


async def test_a_body_that_nobody_reads_is_not_taken_in() -> None:
    piece, count = b"%x\r\n%b\r\n" % (2**16, b"x" * 2**16), 800
    async with (
        provider(CHUNKED, *[piece] * count, b"0\r\n\r\n", gap_s=0) as seen,
        calling(0.3) as upstream,
        upstream.send(f"http://{seen.url}", Headers(), None, "GET") as answer,
    ):
        size = len(await answer.readany())
        await asyncio.sleep(0.8)  # of which none is the provider's silence
        stuck = seen.sent
        await asyncio.sleep(0.1)
        assert stuck == seen.sent < count * len(piece)
        assert 2**18 < len(held := await answer.readany()) < 2**20
        assert size + len(held) + len(await answer.read()) == count * 2**16


async def test_silence_ends_an_answer_and_what_trickles_does_not() -> None:
    slow = [b"1\r\nx\r\n"] * 60
    assert await twice(CHUNKED, *slow, b"0\r\n\r\n", read_s=0.3) == ((200, b"x" * 60), 1)
    async with provider(CHUNKED, *slow[:3]) as seen, calling(0.1) as upstream, asyncio.timeout(5):
        with pytest.raises(UpstreamError, match="in time"):
            async with upstream.send(f"http://{seen.url}", Headers(), None, "GET") as answer:
                await answer.read()


async def test_a_body_that_breaks_before_any_of_it_was_asked_for_is_none() -> None:
    """Then another deployment can still be asked; what was given out can't be taken back."""
    whole, bad = CHUNKED + b"2\r\nok\r\n", b"zz\r\n"
    for pieces, looks, count in (
        ((whole + bad,), 0, 0),
        ((whole, LOST), 0, 0),
        ((whole, whole[-7:] + bad), 1, 2),
    ):
        async with provider(*pieces, gap_s=0.05) as seen, calling() as upstream:
            answer = await upstream.ask(f"http://{seen.url}", Headers(), ())
            got = [await answer.readany() for _ in range(looks)]
            await asyncio.sleep(0.2)
            with contextlib.suppress(aiohttp.ClientError):
                while not answer.at_eof():
                    got.append(await answer.readany())
            assert got == [b"ok"] * count
            assert not answer.at_eof()


async def idle_server(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_connection_whose_request_is_not_taken_is_closed_at_once() -> None:
    """It isn't flushed first: that would wait for a provider who takes nothing."""
    taken = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        await asyncio.sleep(1.5)
        taken.set_result(len(await reader.read()))
        writer.close()

    server, url = await idle_server(serve)
    async with server, calling(0.2) as upstream, asyncio.timeout(10):
        with pytest.raises(UpstreamError, match="in time"):
            async with upstream.send(url, Headers(), b"x" * 2**24, "POST"):
                pass
        assert await taken < 2**24


def certified():
    """TLS for 127.0.0.1, as its server and its client have it."""
    x509 = pytest.importorskip("cryptography.x509", reason="nothing here makes certificates")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    number = x509.random_serial_number()
    made = x509.CertificateBuilder(name, name, key.public_key(), number, now - day, now + day)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(here, critical=False).sign(key, hashes.SHA256())
    return (
        made.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


@asynccontextmanager
async def calling_over_tls(*pieces):
    """Calls to a provider over TLS."""
    certificate, key = certified()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(certificate + key)
        pem.flush()
        theirs.load_cert_chain(pem.name)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=certificate.decode()))
    async with provider(*pieces, tls=theirs) as seen, asyncio.timeout(10):
        seen.pool = Pool(connector, aiohttp.ClientTimeout(sock_connect=2.0), 9)
        try:
            yield Calls(seen.pool, 2.0), seen
        finally:
            await seen.pool.close()


@pytest.mark.parametrize(
    ("pieces", "said", "connections"),
    [
        ((TWO,), b"ok", 1),
        ((CHUNKED, b"2\r\nok\r\n", b"0\r\n\r\n"), b"ok", 1),
        ((OK + b"\r\no", b"k", LOST), b"ok", 2),
        ((CHUNKED, b"2\r\nok\r\n", LOST), None, 2),
        ((CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (2**23, b"x" * 2**23),), b"x" * 2**23, 1),
    ],
)
async def test_over_tls_it_is_the_same(pieces, said, connections) -> None:
    async with calling_over_tls(*pieces) as (calls, seen):
        for _ in range(2):
            answer = await calls.ask("GET", f"https://{seen.url}", Headers(), None)
            if said is None:
                with pytest.raises(aiohttp.ServerDisconnectedError):
                    await answer.read()
            else:
                assert await answer.read() == said
            await asyncio.sleep(0.02)
    assert seen.connections == connections


async def test_an_end_waits_for_connections_that_are_kept(monkeypatch) -> None:
    lost = []

    class Noted(Line):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            lost.append(self)

    monkeypatch.setattr(pool, "Line", Noted)
    async with calling_over_tls(TWO) as (calls, seen):
        answer = await calls.ask("GET", f"https://{seen.url}", Headers(), None)
        assert await answer.read() == b"ok"
        kept = seen.pool.place(f"https://{seen.url}").kept
        lines = list(kept)
        await seen.pool.close()
        assert len(lines) == 1
        assert lost == lines
        assert not kept


async def test_a_kept_connection_is_given_one_protocol_for_all_its_calls(monkeypatch) -> None:
    given = []

    class Counted(Line):
        def __init__(self, connection, *where):
            given.append(connection.transport)
            super().__init__(connection, *where)

    monkeypatch.setattr(pool, "Line", Counted)
    assert await twice(TWO) == ((200, b"ok"), 1)
    assert len(given) == 1


async def test_what_comes_between_calls_closes_the_connection() -> None:
    """It would be taken for the answer to the next of them."""
    said = []

    async def serve(reader, writer):
        said.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(TWO)
                await asyncio.sleep(0.1)
                writer.write(TWO.replace(b"ok", b"no"))
        writer.close()

    server, url = await idle_server(serve)
    async with server, calling() as upstream, asyncio.timeout(10):
        for count in (1, 2):
            async with upstream.send(url, Headers(), None, "GET") as answer:
                assert await answer.read() == b"ok"
            assert len(said) == count
            await asyncio.sleep(0.3)


async def test_one_timer_looks_at_many_answers() -> None:
    silence, answers = Silence(5.0), [Mock() for _ in range(3)]
    silence.loop = Mock()
    timers = silence.loop.call_later
    for answer in answers:
        silence.watch(answer)
    timers.assert_called_once_with(0.5, silence._look)
    silence._look()
    assert timers.call_count == 2
    for answer in answers:
        answer.look.assert_called_once()
        silence.leave(answer)
    silence.watch(answers[0])
    silence.leave(answers[0])
    silence._look()
    assert timers.call_count == 2


async def test_a_refusal_of_a_long_body_leaves_the_connection_for_the_next() -> None:
    seen = []

    async def serve(reader, writer):
        seen.append(0)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                seen[-1] += 1
                writer.write(TWO if seen[-1] > 1 else TWO.replace(b"200 OK", b"429 No").replace(b"ok", b"no"))
        writer.close()

    server, url = await idle_server(serve)
    async with server, calling() as upstream, asyncio.timeout(10):
        for status, body in ((429, b"no"), (200, b"ok")):
            async with upstream.send(url, Headers(), b"x" * 200_000) as answer:
                assert (answer.status, await answer.read()) == (status, body)
    assert seen == [2]


def test_a_request_has_what_uvicorn_gives_one() -> None:
    """Whose methods are made for it; ours are made without its `__init__`."""
    theirs = RequestResponseCycle(**dict.fromkeys(inspect.signature(RequestResponseCycle).parameters))
    protocol = SimpleNamespace(
        transport=None,
        flow=None,
        logger=None,
        server_state=SimpleNamespace(default_headers=[]),
        on_response_complete=None,
        expect_100_continue=False,
    )
    ours = Answering({}, protocol, keep_alive=True)
    assert vars(theirs).keys() - {"body", "access_log", "access_logger"} <= vars(ours).keys()
