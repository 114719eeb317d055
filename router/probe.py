"""Do the catalogue's addresses answer, and which models do they list? One GET per address, for the doctor."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.wire.types import Dialect
    from router.catalogrows import Endpoint

TIMEOUT_S = 8.0
MAX_BYTES = 8 << 20
PATHS: dict[Dialect, str] = {
    "openai_chat": "/models",
    "openai_responses": "/models",
    "anthropic_messages": "/v1/models?limit=1000",
}
AUTH_REFUSED = (401, 403)


class Answer(NamedTuple):
    """What an address said; `models` is None where it lists none."""

    endpoint: str
    dialect: Dialect
    url: str
    status: int | None  # None: no answer at all
    problem: str | None
    models: frozenset[str] | None


class _Listed(msgspec.Struct):
    id: str = ""


class _Listing(msgspec.Struct):
    data: list[_Listed]


def probe(endpoints: Mapping[str, Endpoint], environ: Mapping[str, str]) -> list[Answer]:
    """Ask every address of these endpoints once, all at the same time; never raises for what it finds."""
    return asyncio.run(_probe(endpoints, environ))


async def _probe(endpoints: Mapping[str, Endpoint], environ: Mapping[str, str]) -> list[Answer]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        asked = [
            _ask(session, name, dialect, url, _headers(endpoint, dialect, environ))
            for name, endpoint in endpoints.items()
            for url, dialect in _addresses(endpoint).items()
        ]
        return list(await asyncio.gather(*asked))


def _addresses(endpoint: Endpoint) -> dict[str, Dialect]:
    """The addresses of an endpoint that list models, each with the first dialect that is spoken there."""
    found: dict[str, Dialect] = {}
    for dialect, url in endpoint.base_urls.items():
        found.setdefault(url.rstrip("/") + PATHS[dialect], dialect)
    return found


def _headers(endpoint: Endpoint, dialect: Dialect, environ: Mapping[str, str]) -> dict[str, str]:
    key = environ.get(endpoint.key_env) if endpoint.key_env else None
    if dialect == "anthropic_messages":
        return {"anthropic-version": "2023-06-01", **({"x-api-key": key} if key else {})}
    return {"authorization": f"Bearer {key}"} if key else {}


async def _ask(
    session: aiohttp.ClientSession, name: str, dialect: Dialect, url: str, headers: dict[str, str]
) -> Answer:
    """Make one request; what goes wrong is the answer's problem, in words without the key."""
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as answer:
            body = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > MAX_BYTES:
                    return Answer(name, dialect, url, answer.status, None, None)
            return Answer(name, dialect, url, answer.status, None, _models(bytes(body)))
    except TimeoutError:
        problem = f"no answer within {TIMEOUT_S:g} s"
    except aiohttp.ClientConnectorDNSError:
        problem = "its name is not known to DNS"
    except aiohttp.ClientConnectorCertificateError:
        problem = "its certificate isn't trusted"
    except aiohttp.ClientConnectorError as error:
        problem = f"can't be reached ({error.os_error.strerror or 'no connection'})"
    except (aiohttp.ClientError, ValueError):  # ValueError: a key that can't stand in a header
        problem = "broke the connection, or the request couldn't be made"
    return Answer(name, dialect, url, None, problem, None)


def _models(body: bytes) -> frozenset[str] | None:
    try:
        return frozenset(row.id for row in msgspec.json.decode(body, type=_Listing).data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
