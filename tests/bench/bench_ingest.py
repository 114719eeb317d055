"""Throughput and peak memory of ingest on synthetic logs; not collected by pytest.

    python tests/bench/bench_ingest.py --megabytes 200 --format claude_code
prints MB/s, rows/s and peak RSS. Formats: claude_code, openai_jsonl, litellm, table.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parents[2]))

START = datetime(2026, 10, 1, tzinfo=UTC)
WORDS = [
    "return",
    "value",
    "error",
    "test",
    "function",
    "class",
    "import",
    "module",
    "path",
    "index",
    "route",
]


def main() -> None:
    """Write a log of the wished size, ingest it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--format", choices=sorted(MAKERS), default="claude_code")
    parser.add_argument("--turns", type=int, default=100, help="requests per session")
    chosen = parser.parse_args()
    from training.ingest import ingest

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.jsonl"
        size = write(file, MAKERS[chosen.format](chosen.turns), chosen.megabytes << 20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        result = ingest([file], Path(folder) / "log")
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stored = sum(f.stat().st_size for f in (Path(folder) / "log").rglob("*.parquet"))
        started = time.perf_counter()
        ingest([file], Path(folder) / "log")
        again = time.perf_counter() - started
    megabytes = size / 2**20
    print(f"{chosen.format}: {megabytes:.0f} MB in {seconds:.1f} s = {megabytes / seconds:.1f} MB/s")
    print(f"{result.kept:,} rows kept of {result.read:,}, {result.read / seconds:,.0f} rows/s")
    print(f"peak RSS {peak / 1024:.0f} MB (before: {before / 1024:.0f}), log of {stored / 2**20:.1f} MB")
    print(f"unchanged file again: {again * 1000:.0f} ms")


def write(file: Path, lines: Iterator[dict], size: int) -> int:
    """Write lines until the file has the size; returns its size."""
    with file.open("w") as out:
        while out.tell() < size:
            out.write(json.dumps(next(lines)) + "\n")
    return file.stat().st_size


def prose(size: int) -> str:
    """Text of about this many bytes that looks a little like code."""
    return " ".join(random.choices(WORDS, k=max(1, size // 7)))


def claude_code(turns: int) -> Iterator[dict]:
    """Sessions of tool turns: two lines of answer, one of result, each result some kilobytes."""
    n = 0
    while True:
        yield from claude_code_session(n, turns)
        n += 1


def claude_code_session(n: int, turns: int) -> Iterator[dict]:
    """One session's lines."""

    def line(kind: str, message: dict, index: int) -> dict:
        stamp = (START + timedelta(seconds=10 * n + index)).isoformat()
        common = {"sessionId": f"session-{n}", "version": "2.1.197", "cwd": "/home/dev/shop"}
        return {"type": kind, "uuid": f"{n}-{index}", "timestamp": stamp, "message": message, **common}

    yield line("user", {"role": "user", "content": "Fix the failing test. " + prose(400)}, 0)
    for turn in range(turns):
        usage = {
            "input_tokens": 100, "cache_creation_input_tokens": 900, "output_tokens": 300,
            "cache_read_input_tokens": 20_000 + 1_000 * turn,
        }  # fmt: skip
        answer = {"id": f"msg_{n}_{turn}", "role": "assistant", "model": "claude-sonnet-4-5", "usage": usage}
        command = {"command": f"pytest -k {turn}"}
        call = {"type": "tool_use", "id": f"t{n}_{turn}", "name": "Bash", "input": command}
        for part, block in enumerate(({"type": "text", "text": prose(300)}, call)):
            said = {**answer, "content": [block], "stop_reason": "tool_use"}
            yield line("assistant", said, 3 * turn + part + 1)
        output = prose(random.randint(200, 8000))
        result = {"type": "tool_result", "tool_use_id": f"t{n}_{turn}", "content": output}
        yield line("user", {"role": "user", "content": [result]}, 3 * turn + 3)


def openai_jsonl(turns: int) -> Iterator[dict]:
    """Whole request bodies that grow turn by turn, as a gateway logs them."""
    n = 0
    while True:
        messages = [{"role": "system", "content": prose(4000)}, {"role": "user", "content": prose(500)}]
        for turn in range(turns // 4):
            cached = {"cached_tokens": 1500 + 500 * turn}
            usage = {
                "prompt_tokens": 2000 + 500 * turn,
                "completion_tokens": 200,
                "prompt_tokens_details": cached,
            }
            answer = {"role": "assistant", "content": prose(200)}
            choices = [{"message": answer, "finish_reason": "stop"}]
            response = {"id": f"r-{n}-{turn}", "object": "chat.completion", "model": "gpt-5.2"}
            yield {
                "timestamp": (START + timedelta(seconds=10 * n + turn)).isoformat(),
                "session_id": f"session-{n}",
                "request": {"model": "gpt-5.2", "messages": messages},
                "response": {**response, "usage": usage, "choices": choices},
            }
            messages = [*messages, answer, {"role": "user", "content": prose(1500)}]
        n += 1


def litellm(turns: int) -> Iterator[dict]:
    """Spend logs without bodies."""
    n = 0
    while True:
        moment = START + timedelta(seconds=n)
        yield {
            "request_id": f"chatcmpl-{n}", "call_type": "acompletion", "spend": 0.0123, "total_tokens": 2200,
            "prompt_tokens": 2000, "completion_tokens": 200, "startTime": moment.isoformat(),
            "endTime": (moment + timedelta(seconds=3)).isoformat(), "model": "claude-sonnet-4-5",
            "custom_llm_provider": "anthropic", "session_id": f"session-{n // turns}",
            "metadata": {"usage_object": {"cache_read_input_tokens": 1500}},
        }  # fmt: skip
        n += 1


def table(turns: int) -> Iterator[dict]:
    """Rows of a usage table."""
    n = 0
    while True:
        yield {
            "session": f"s{n // turns}", "turn": n % turns, "ts_ms": 1_790_000_000_000 + 1000 * n,
            "model": "gpt-5.2", "input_tokens_uncached": 200, "cached_tokens": 9000, "output_tokens": 300,
            "cost_usd": 0.004,
        }  # fmt: skip
        n += 1


MAKERS = {"claude_code": claude_code, "openai_jsonl": openai_jsonl, "litellm": litellm, "table": table}

if __name__ == "__main__":
    main()
