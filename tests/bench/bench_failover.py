"""What failover, repeats, tool checks and sealing cost a request that meets no failure, in CPU time.

Run: python tests/bench/bench_failover.py. Each part is called alone, on a body like Claude Code's; the median
and the 90th percentile of the thread's own CPU time, which the noise of other processes mostly leaves alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from bench_features import claude_code_body
from test_gateway_health import deployment

from features.wire import Part, WireResponse, parse_request
from features.wire.head import read_head
from router.gateway.attempts import Attempts, RetrySettings, Target, failure_of
from router.gateway.health import BreakerSettings, Health
from router.gateway.idempotency import IdempotencySettings, Repeats
from router.gateway.ratelimits import allowance
from router.gateway.sealed import seal
from router.gateway.toolcheck import ToolChecks

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 2_000
HEADERS = {"content-type": "application/json", "request-id": "req_1"}


def attempt() -> Callable[[], None]:
    """All that is asked of health for one request that the first deployment answers."""
    health, knobs = Health(BreakerSettings()), RetrySettings()
    first = Target(deployment("east"))

    def life() -> None:
        health.down(1.0)
        attempts = Attempts(health, knobs, first, list, request_id="req_1", tokens=10_000.0)
        step = attempts.next(1.0)
        assert step is not None
        ticket = attempts.begin(step.target, 1.0)
        assert allowance(HEADERS, 1.0) is None
        assert failure_of(200, HEADERS, 1.0, ours=True) is None
        health.answered(ticket, 1.0)
        health.end(ticket)

    return life


def claim(body: bytes) -> Callable[[], None]:
    """A first try of an SDK is noted."""
    repeats = Repeats(IdempotencySettings(keep_s=0.001))
    headers = {"x-stainless-retry-count": "0", "x-api-key": "made-up"}
    coroutine = repeats.claim

    def once() -> None:
        try:
            coroutine(headers, "/v1/messages", body).send(None)
        except StopIteration as done:
            done.value.shared.close(came_through=False)

    return once


def tools(body: bytes) -> Callable[[], None]:
    """A tool call is held against its schema, which is known already."""
    checks, request = ToolChecks(), parse_request("anthropic_messages", body)
    offered = read_head(body).values["tools"]
    called = Part(kind="tool_call", name=request.tools[0].name, text='{"command":"ls","description":"look"}')
    answer = WireResponse(parts=(called,))
    return lambda: checks.faults(request, offered, answer) and None


def cpu_us(call: Callable[[], object]) -> tuple[float, float]:
    """Median and 90th percentile of one call's CPU time, in microseconds."""
    took = []
    for _ in range(CALLS):
        began = time.thread_time_ns()
        call()
        took.append((time.thread_time_ns() - began) / 1000)
    took.sort()
    return took[CALLS // 2], took[int(CALLS * 0.9)]


async def main() -> None:
    """Print one line per part; in a loop, since answers under way belong to one."""
    small, large = (
        msgspec.json.encode(msgspec.json.decode(claude_code_body(size)) | {"model": "auto"})
        for size in (52_000, 406_000)
    )
    answer = os.urandom(20_000)
    for name, call in {
        "one attempt, healthy": attempt(),
        "a repeat noted, 52 kB": claim(small),
        "a repeat noted, 406 kB": claim(large),
        "a tool call checked": tools(small),
        "an answer of 20 kB sealed": lambda: seal(b"secret", answer),
    }.items():
        median, high = cpu_us(call)
        print(f"{name:28s} {median:8.1f} µs   p90 {high:8.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
