"""What a translation between dialects costs: CPU of a request of 52 kB, and of each event of a stream.

Run: python tests/bench/bench_translate.py. Control: reading the same bytes as the gateway does in any case.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_features import claude_code_body

from features.wire import StreamReader, parse_request
from router.gateway.translate import Target, translate
from router.scripted import chat, messages, responses
from router.scripted.reply import Reply, sse
from router.scripted.usage import Tokens

SCRIPTED = {"openai_chat": chat, "anthropic_messages": messages, "openai_responses": responses}
EVENTS = 2_000
RUNS = 15


def cpu_us(work) -> float:
    """Median CPU of one run, in microseconds."""
    spent = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        spent.append((time.process_time() - began) * 1e6)
    return statistics.median(spent)


def main() -> None:
    """Print a line per pair of dialects."""
    body = claude_code_body(52_000)
    read = cpu_us(lambda: parse_request("anthropic_messages", body))
    print(f"request of {len(body)} bytes: read {read:.0f} us (control)")
    hi = {"model": "auto", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    asked = {
        "anthropic_messages": body,
        "openai_chat": json.dumps(hi).encode(),
        "openai_responses": json.dumps(
            {"model": "auto", "stream": True, "input": "Hi", "store": False}
        ).encode(),
    }
    talk = SimpleNamespace(body={})
    said = Reply("b", "m", "word " * (EVENTS - 5), "", (), "end", Tokens(9, 0, 0, 9, 0), 0, 5, True, talk)
    for client, upstream in itertools.permutations(SCRIPTED, 2):
        target = Target(upstream, "zai", "glm-5")
        events = [sse(event) for event in SCRIPTED[upstream].events(said)]

        def passed(upstream=upstream, events=events) -> None:
            reader = StreamReader(upstream)
            for event in events:
                reader.feed(event)

        def translated(client=client, target=target, events=events) -> None:
            stream = translate(client, asked[client], target, "req", 0).stream()
            for event in events:
                stream.feed(event)
            stream.end()

        line = f"{client} -> {upstream}:"
        if client == "anthropic_messages":
            spent = cpu_us(lambda target=target: translate("anthropic_messages", body, target, "req", 0))
            line += f" request {spent:.0f} us,"
        n = len(events)
        print(
            f"{line} event {cpu_us(translated) / n:.1f} us, read alone {cpu_us(passed) / n:.1f} us (control)"
        )


if __name__ == "__main__":
    main()
