"""CPU of the request path on made-up Claude Code bodies of 52 kB and 406 kB: parse, chain, facts, vector.

Run: python tests/bench/bench_features.py
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from features import cache, wire
from features.assemble import facts_of, trajectory_of
from features.textfacts import text_facts
from features.trajectory import SessionTrajectories
from features.vector import featurize

WORDS = (
    "def",
    "return",
    "self",
    "import",
    "the",
    "value",
    "error",
    "test",
    "assert",
    "a_b",
    "foo.bar",
    "None",
)
SUMMARY = "\n=================== 1 failed, 31 passed in 0.42s ==================="


def prose(rng: random.Random, size: int) -> str:
    """About `size` bytes of something between code and prose."""
    words = rng.choices(WORDS, k=size // 5)
    return " ".join(w + ("\n    " if i % 9 == 8 else "") for i, w in enumerate(words))[:size]


def claude_code_body(size: int, seed: int = 1) -> bytes:
    """A body as Claude Code builds it: 24 tools, a long system prompt, a tool loop up to `size` bytes."""
    rng, client = random.Random(seed), random.Random(0)  # its tools are the same in every session
    fixed = min(size // 2, 40_000)
    names = (
        "Read",
        "Edit",
        "Write",
        "Bash",
        "Grep",
        "Glob",
        "Task",
        "TodoWrite",
        "WebFetch",
        "mcp__db__query",
    )
    tools = [
        {
            "name": f"{names[i % 10]}{i // 10 or ''}",
            "description": prose(client, fixed // 48),
            "input_schema": {},
        }
        for i in range(24)
    ]
    reminder = "<system-reminder>\n" + prose(rng, 2_000) + "\n</system-reminder>"
    ask = "Fix the failing test in src/app/session.py: test_expiry raises KeyError. " + prose(rng, 600)
    first = [{"type": "text", "text": reminder}, {"type": "text", "text": ask}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": first}]
    body = {
        "model": "claude-sonnet-5",
        "max_tokens": 32_000,
        "stream": True,
        "system": [{"type": "text", "text": prose(rng, fixed // 2), "cache_control": {"type": "ephemeral"}}],
        "tools": tools,
        "messages": messages,
        "metadata": {"user_id": '{"device_id":"d","session_id":"5b1c2f2e-0000-4000-8000-000000000000"}'},
    }
    total = len(msgspec.json.encode(body))
    turn = 0
    while total < size:
        added = tool_turn(rng, turn)
        messages.extend(added)
        total += len(msgspec.json.encode(added))
        turn += 1
    return msgspec.json.encode(body)


def tool_turn(rng: random.Random, turn: int, shrink: int = 1) -> list[dict[str, Any]]:
    """One call and its result, cut down by `shrink`: reads, edits, greps and test runs in turn."""
    path = f"src/app/m{rng.randrange(40)}.py"
    name, given, result = (
        ("Read", {"file_path": path}, prose(rng, rng.randrange(1_000, 7_000) // shrink)),
        ("Edit", {"file_path": path, "old_string": prose(rng, 300), "new_string": prose(rng, 400)}, "done"),
        ("Bash", {"command": "cd src && python -m pytest -q 2>&1"}, prose(rng, 3_000 // shrink) + SUMMARY),
        ("Grep", {"pattern": "expiry", "path": "src"}, prose(rng, 900 // shrink)),
        ("Bash", {"command": f"git diff {path} | head -50"}, prose(rng, 1_500 // shrink)),
    )[turn % 5]
    call = {"type": "tool_use", "id": f"toolu_{turn:06d}", "name": name, "input": given}
    done = {"type": "tool_result", "tool_use_id": f"toolu_{turn:06d}", "content": result}
    return [
        {"role": "assistant", "content": [{"type": "text", "text": prose(rng, 120)}, call]},
        {"role": "user", "content": [done]},
    ]


def cpu_us(work, seconds: float = 0.6) -> float:
    """Median CPU time of one run of `work` in microseconds."""
    work()
    took = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(took) < 20:
        start = time.process_time_ns()
        work()
        took.append(time.process_time_ns() - start)
    return sorted(took)[len(took) // 2] / 1e3


def main() -> None:
    """Print one line of figures per body size."""
    for size in (52_000, 406_000):
        body = claude_code_body(size)
        request = wire.parse_request("anthropic_messages", body)
        trajectory = trajectory_of(request)
        facts = facts_of(request)

        def whole(body: bytes = body) -> None:
            parsed = wire.parse_request("anthropic_messages", body)
            cache.prefix_chain(parsed.messages, cache.tools_seed(parsed.model, parsed.tools))
            featurize(facts_of(parsed))

        known = SessionTrajectories()
        known.follow("s", request.messages[:-2], cache.prefix_chain(request.messages[:-2])[0])

        def in_session(body: bytes = body, known: SessionTrajectories = known) -> None:
            parsed = wire.parse_request("anthropic_messages", body)
            chain = cache.prefix_chain(parsed.messages)
            featurize(facts_of(parsed, trajectory=known.follow("s", parsed.messages, chain[0])))

        turns = itertools.count()  # a text that is the same again isn't read again
        parts = {
            "parse": cpu_us(lambda b=body: wire.parse_request("anthropic_messages", b)),
            "chain": cpu_us(lambda r=request: cache.prefix_chain(r.messages)),
            "trajectory": cpu_us(lambda r=request: trajectory_of(r)),
            "text": cpu_us(lambda t=trajectory, n=turns: text_facts(f"{t.salient_text()} {next(n)}")),
            "vector": cpu_us(lambda f=facts: featurize(f)),
            "whole": cpu_us(whole),
            "whole, session known": cpu_us(in_session),
        }
        figures = "  ".join(f"{name} {us:7.0f} µs" for name, us in parts.items())
        print(f"{len(body):7d} bytes  {len(request.messages):3d} messages  {figures}")


if __name__ == "__main__":
    main()
