"""One call: sent, read, and priced; what the provider doesn't tell counts at the reservation."""

from __future__ import annotations

import asyncio
import contextlib
import time
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from features.wire import Usage, WireResponse, parse_response
from router import prices
from router.gateway.errors import UpstreamError
from router.gateway.upstream import Upstream, address, request_headers
from training.shadow.bodies import CUT, answer_of
from training.shadow.ledger import CallStatus, PlannedCall, Settled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.catalog import Deployment
    from router.gateway.connections import Headers


class Ready(NamedTuple):
    """One call ready to leave, with the most that it can cost."""

    name: str
    attempt: int
    planned: PlannedCall
    deployment: Deployment
    body: bytes
    worst_usd: Decimal


async def exchange(
    upstream: Upstream, call: Ready, attempt: int, timeout_s: float, environ: Mapping[str, str]
) -> tuple[Settled, float]:
    """Send a call; what came of it, and the seconds after which a refused one may go again.

    Never raises but for being cancelled. Unknown costs count at the reservation.
    """
    started = time.perf_counter()
    lost = lost_call(call.name, attempt, "failed", call.worst_usd)
    wait_s = 2.0 ** (attempt - call.attempt)
    try:
        async with asyncio.timeout(timeout_s):
            url, headers = address(call.deployment, ""), _headers(call, environ)
            async with upstream.send(url, headers, call.body) as answer:
                body = await answer.read()
        settled = read_answer(call.deployment, lost, answer.status, body)
        with contextlib.suppress(ValueError):
            wait_s = float(answer.headers.get("retry-after", wait_s))
    except UpstreamError as error:
        status: CallStatus = "timeout" if error.kind == "timeout" else "failed"
        settled = replace(lost, status=status, error_kind=error.kind)
        if error.kind == "connect":  # nothing has left
            settled = replace(settled, usd=Decimal(0), counted="nothing")
    except TimeoutError:
        settled = lost_call(call.name, attempt, "timeout", call.worst_usd)
    return replace(settled, latency_ms=(time.perf_counter() - started) * 1000), max(wait_s, 0.0)


def lost_call(name: str, attempt: int, status: CallStatus, reserved_usd: Decimal) -> Settled:
    """A call of which nothing is known: it counts at its reservation."""
    kind = "timeout" if status == "timeout" else None
    return Settled(
        call=name,
        attempt=attempt,
        status=status,
        usd=reserved_usd,
        counted="reservation",
        error_kind=kind,
    )


def read_answer(
    deployment: Deployment, lost: Settled, status: int, body: bytes, service_tier: str | None = None
) -> Settled:
    """What an answer says and costs; counted at the reservation of `lost` where the provider didn't say."""
    response = parse_response(deployment.dialect, body)
    kind = response.error or (f"http_{status}" if status >= 400 else None)
    base = replace(lost, http_status=status, error_kind=kind)
    if 400 <= status < 500 and status not in (408, 409, 499):  # refused before any work
        return replace(base, status="refused", usd=Decimal(0), counted="nothing")
    if status >= 300 or kind is not None or not response.complete:
        return base
    usd = _price(deployment, response, service_tier)
    answer = answer_of(response)
    return replace(
        base,
        status="truncated" if response.finish_reason in CUT else "ok",
        usd=lost.usd if usd is None else usd,
        counted="reservation" if usd is None else "usage",
        usage=response.usage,
        model_served=response.model,
        finish_reason=response.finish_reason,
        calls=list(answer.calls),
        text=answer.text,
    )


def _price(deployment: Deployment, response: WireResponse, service_tier: str | None) -> Decimal | None:
    """USD by the provider's count; None if it didn't count, or counted an empty prompt."""
    usage = response.usage or Usage()
    prompt = sum(
        count or 0 for count in (usage.input_tokens_uncached, usage.cached_tokens, usage.cache_write_tokens)
    )
    if prompt <= 0:
        return None
    return prices.price_usd(deployment.model, deployment.provider, usage, now_ms(), service_tier)


def _headers(call: Ready, environ: Mapping[str, str]) -> Headers:
    """Headers of a call with our own key. No dialect documents an idempotency key; what honours one may."""
    own = {
        "content-type": "application/json",
        "user-agent": "samediff-shadow",
        "idempotency-key": call.name,
    }
    if call.deployment.dialect == "anthropic_messages":
        own["anthropic-version"] = "2023-06-01"
    sent = [(name.encode(), value.encode()) for name, value in own.items()]
    return request_headers(call.deployment, sent, environ)


def now_ms() -> int:
    """Now, in UTC epoch milliseconds."""
    return time.time_ns() // 1_000_000
