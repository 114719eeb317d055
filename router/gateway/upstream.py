"""The one seam to providers: a request out, an answer in; which errors are theirs, and their kinds."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp

from features.errors import BadInput
from features.value import Value
from router.gateway.connections import Calls, Headers
from router.gateway.errors import UpstreamError
from router.gateway.pool import Pool
from router.gateway.ratelimits import MOST_S, retry_after_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

    from features.wire.types import Dialect
    from router.catalog import Deployment
    from router.gateway.connections import Answer
    from router.gateway.settings import UpstreamSettings
    from router.gateway.splice import Pieces

PATHS: dict[Dialect, str] = {
    "openai_chat": "/chat/completions",
    "anthropic_messages": "/v1/messages",
    "openai_responses": "/responses",
}
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What says who the client is to its own seller; with a key of ours in its place none of it holds.
_IDENTITY = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"x-goog-user-project",
        b"x-portkey-api-key",
        b"x-auth-token",
        b"openai-organization",
        b"openai-project",
        b"chatgpt-account-id",
    }
)
# All that another seller gets to see of a client's headers: what the dialects themselves are made of.
_PROTOCOL = frozenset(
    {
        b"accept",
        b"accept-language",
        b"content-type",
        b"user-agent",
        b"anthropic-version",
        b"anthropic-beta",
        b"openai-beta",
        b"idempotency-key",
    }
)
_PROTOCOL_PREFIX = b"x-stainless-"
_OF_A_DIALECT = (b"anthropic-", b"openai-", b"x-stainless-")
_VERSION = b"anthropic-version: 2023-06-01\r\n"
_PROTOCOL_QUERY = frozenset({"beta", "api-version"})
_NOT_SENT = _HOP_BY_HOP | {b"host", b"content-length", b"accept-encoding", b"expect", b"cookie"}
_NOT_RETURNED = _HOP_BY_HOP | {b"content-length", b"set-cookie", b"date", b"server"}
_HEADS = 64  # of clients known, by the names of their headers; none is over 64 kB
_WAITS = (b"retry-after", b"retry-after-ms")
THEIRS = (TimeoutError, aiohttp.ClientError)


class Upstream:
    """A pool of connections to all providers."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        timeout = aiohttp.ClientTimeout(sock_connect=settings.connect_s)
        self.pool = Pool(connector, timeout, settings.connections)
        self._calls = Calls(self.pool, settings.read_s)

    async def close(self) -> None:
        """Close all connections."""
        await self.pool.close()

    def ask(self, url: str, headers: Headers, body: Pieces) -> Coroutine[Any, Any, Answer]:
        """Send a POST request and wait for the head of its answer, which is to be released.

        What is raised, then or as the body is read, `as_ours` knows.
        """
        return self._calls.ask("POST", url, headers, body)

    @asynccontextmanager
    async def send(
        self, url: str, headers: Headers, body: bytes | None, method: str = "POST"
    ) -> AsyncIterator[Answer]:
        """Send a request; gives the answer once its head is there, and hangs up if there is more of it then.

        Raises UpstreamError when there is no connection, no head, or the body breaks off.
        """
        try:
            answer = await self._calls.ask(method, url, headers, None if body is None else (body,))
            try:
                yield answer
            finally:
                answer.release()
        except THEIRS as error:
            raise as_ours(error) from error


def as_ours(error: BaseException) -> UpstreamError:
    """What has become of a request that something was raised over."""
    if isinstance(error, TimeoutError):
        return UpstreamError(504, "timeout", "the provider did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError(502, "connect", "the provider can't be reached")
    return UpstreamError(502, "dropped", "the provider broke the connection")


def address(deployment: Deployment, query: str, suffix: str = "") -> str:
    """URL of a deployment's endpoint with the client's own query."""
    url = deployment.base_url + PATHS[deployment.dialect] + suffix
    if not deployment.passthrough:  # some clients carry their key in the query
        query = "&".join(pair for pair in query.split("&") if pair.partition("=")[0] in _PROTOCOL_QUERY)
    return f"{url}?{query}" if query else url


def request_headers(
    deployment: Deployment,
    client: Sequence[tuple[bytes, bytes]],
    environ: Mapping[str, str],
    *,
    crossing: bool = False,
) -> Headers:
    """Headers for the provider: the client's own, with our key in place of its credential where we have one.

    What tells who the client is goes only where the catalogue lets it pass; another seller gets the dialect's
    own headers and nothing else, and of a client of another dialect (`crossing`) none of that's own go along.
    BadInput for a value that can't be sent as it came.
    """
    key = environ.get(deployment.key_env) if deployment.key_env else None
    names, how = tuple([name for name, _ in client]), (deployment.passthrough, bool(key), crossing)
    passed = _passed(names, b"", *how)
    if passed.options:
        named = b",".join([client[at][1] for at in passed.options])
        passed = _passed(names, named.lower(), *how)
    values = tuple([client[at][1] for at in passed.places])
    lines, count = passed.form % values, len(values) + 1
    if not lines.isascii():
        _refuse_odd(passed, values)
    claude = deployment.dialect == "anthropic_messages"
    if key:
        lines += f"{'x-api-key: ' if claude else 'authorization: Bearer '}{key}\r\n".encode()
        count += 1
    if crossing and claude:
        lines += _VERSION
        count += 1
    return Headers(lines, count, key)


class _Passed(Value, frozen=True):
    """Which of a client's headers go on, in a form for values, and which name options of its connection."""

    form: bytes
    places: list[int]
    options: list[int]


@lru_cache(_HEADS)
def _passed(
    names: tuple[bytes, ...], options: bytes, passthrough: bool, keyed: bool, crossing: bool
) -> _Passed:
    lower = [name.lower() for name in names]
    kept_back = _NOT_SENT | {option.strip() for option in options.split(b",")}
    if keyed:
        kept_back |= _IDENTITY
    places = [
        at
        for at, name in enumerate(lower)
        if name not in kept_back
        and not name.startswith(b"x-samediff-")
        and (passthrough or name in _PROTOCOL or name.startswith(_PROTOCOL_PREFIX))
        and not (crossing and name.startswith(_OF_A_DIALECT))
    ]
    lines = [lower[at].replace(b"%", b"%%") + b": %b\r\n" for at in places]
    form = b"".join([*lines, b"accept-encoding: identity\r\n"])
    return _Passed(form, places, [at for at, name in enumerate(lower) if name == b"connection"])


def _refuse_odd(passed: _Passed, values: tuple[bytes, ...]) -> None:
    """Refuse a value that isn't UTF-8, as all others are sent."""
    for line, value in zip(passed.form.split(b"\r\n"), values, strict=False):
        try:
            value.decode()
        except UnicodeDecodeError as error:
            name = line.partition(b":")[0].replace(b"%%", b"%").decode("latin-1")
            said = f"header {name!r} is not UTF-8, so it can't be passed on as it came"
            raise BadInput(said) from error


def response_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Headers for the client: the provider's, without those of its connection and waits that are none."""
    return [
        (name, value)
        for name, value in answer.raw_headers
        if name not in _NOT_RETURNED and not (name in _WAITS and _absurd(name, value))
    ]


def _absurd(name: bytes, value: bytes) -> bool:
    """Whether a header that asks to wait asks for no time at all, or for more than a year."""
    wait_s = retry_after_s({name.decode(): value.decode("latin-1")}, time.time())
    return wait_s is None or wait_s >= MOST_S
