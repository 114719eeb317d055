"""What a decision and cache control cost in CPU: python tests/bench/bench_route.py [CALLS].

Two bodies of an agent without markers, 20 kB and 400 kB, on the shipped catalogue and prior, with a session
whose prompt before is warm on two candidates. Beside it what reading such a body takes.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from features.assemble import trajectory_of
from models.bundle import Bundle
from router.catalog import Catalog
from router.cost import NO_SPLIT, asked_by, cache_rules, sending
from router.decide import Decider
from router.gateway.breakpoints import breakpoints
from router.gateway.reading import read_request
from router.gateway.sessions import Sessions, Stored
from router.gateway.splice import with_model
from router.given import CallContext
from router.policy import parse_policy

NOW_MS = 1_795_000_000_000
PRIOR = Path(__file__).parents[2] / "models" / "prior"
WARM = ("claude-opus-5-5", "claude-haiku-5-5")


def body(messages: int, size: int) -> bytes:
    """A conversation of so many messages."""
    talk = [
        {
            "role": "assistant" if i % 2 else "user",
            "content": [{"type": "text", "text": f"{i} " + "word " * size}],
        }
        for i in range(messages)
    ]
    tools = [{"name": "sh", "input_schema": {"type": "object"}}]
    return json.dumps({"model": "auto", "max_tokens": 1000, "messages": talk, "tools": tools}).encode()


def context(catalog: Catalog, messages: int, size: int) -> CallContext:
    """What is known of the session: the prompt before was answered, and is warm on WARM."""
    sessions = Sessions(10)
    before, now = (read_request("anthropic_messages", body(n, size)) for n in (messages - 2, messages))
    place = sessions.place(before.request, {}, "host", before.chain)
    asked = asked_by(before.request, control=True)
    for name in WARM:
        deployment = catalog.deployments_of(name, "anthropic_messages")[0]
        sent = sending(before.request, place.chain, asked).to(deployment, 10_000)
        stored = Stored(cache_rules(deployment, NOW_MS, asked), sent, NO_SPLIT)
        sessions.began(place, place.answer(name, by_client=False), NOW_MS, stored)
    view = sessions.view(sessions.place(now.request, {}, "host", now.chain), NOW_MS + 9_000)
    trajectory = trajectory_of(now.request)
    return CallContext("r", "s", NOW_MS + 9_000, view, trajectory=trajectory, cache_control=True)


def microseconds(what: Callable[[], object], calls: int) -> float:
    """Median CPU of one call."""
    taken = []
    for _ in range(calls):
        start = time.process_time_ns()
        what()
        taken.append(time.process_time_ns() - start)
    return float(np.median(taken)) / 1000


def main() -> None:
    """Measure and print a line for each body."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    catalog = Catalog.load()
    decider = Decider(Bundle.load(PRIOR), catalog, parse_policy("learned:max_loss=0.05"))
    for messages, size in ((21, 190), (201, 400)):
        raw = body(messages, size)
        reading, about = read_request("anthropic_messages", raw), context(catalog, messages, size)
        markers = breakpoints(raw, reading.head, most=4, lookback=20)
        inserts = [part for marker in markers for part in marker]
        arms = len(decider.decide(reading.request, about).arms)
        find = partial(breakpoints, raw, reading.head, most=4, lookback=20)
        took = [
            microseconds(partial(read_request, "anthropic_messages", raw), calls // 5),
            microseconds(partial(decider.decide, reading.request, about), calls),
            microseconds(find, calls),
            microseconds(partial(with_model, raw, reading.head, "m", inserts), calls),
            microseconds(partial(with_model, raw, reading.head, "m"), calls),
        ]
        read, decide, found, spliced, plain = (f"{each:.0f} µs" for each in took)
        print(
            f"{len(raw) // 1000} kB, {messages} messages, {arms} arms: read {read}, decide {decide}; "
            f"{len(markers)} markers found in {found}, put in with the model in {spliced}, "
            f"the model alone {plain}"
        )


if __name__ == "__main__":
    main()
