"""A soak: minutes of clients of every kind in front of deployments that fail in every way.

Run: python tests/bench/soak.py [MINUTES=10] [BUNDLE=models/prior]. Three deployments answer with 429, 500,
resets, stalls, half bodies, cut streams and late first bytes by turns; clients read slowly, vanish before or
in the middle of an answer, send a keyed request twice. What is counted is printed, and it is asserted that
every request that was waited for ended in an answer or in an error that said so; that no request was answered
twice upstream (an answer that came too late was given up, which the journal says); that the journal has a
decision and a record of every request and lost none; that no call, task, handle or connection is left over;
that memory is flat. Exit 1 if any of it fails. Loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from router_failing import rows
from router_servers import Server, free_port, journal_of, start_upstream

CLIENTS = 8
FILLED_MIN = 8.0  # a shorter run says nothing of memory
WORDS = "an answer of some length that is streamed in many pieces " * 40
SETTINGS = """
[retry]
backoff_s = 0.05
wait_s = 1.0
first_byte_s = 1.0
[breaker]
open_s = 0.5
open_max_s = 2.0
rest_max_s = 1.0
[upstream]
read_s = 2.0
[idempotency]
max_mib = 2.0
"""
# What is remembered is bounded; bounds that are reached in a minute show that it is.
ENVIRON = {"SAMEDIFF_SESSIONS": "200", **{f"{at}_KEY": "made-up" for at in ("EAST", "WEST", "SOUTH")}}
FAULTS: tuple[dict[str, Any], ...] = (
    {},
    {"status": 429, "retry_after_s": 0.2},
    {"status": 500},
    {"status": 529},
    {"then": "drop"},
    {"then": "drop", "after_events": 0},
    {"then": "drop", "after_events": 5},
    {"then": "end", "after_events": 5},
    {"then": "error", "after_events": 5},
    {"then": "garbage", "after_events": 3},
    {"then": "stall", "after_events": 4},
    {"delay_ms": 3_000},
    {"event_delay_ms": 3},
)
PATHS = ("/v1/chat/completions", "/v1/messages")
GIVEN_UP = ("timeout", "connect", "dropped")
COUNTERS = ("samediff_attempts", "samediff_failovers", "samediff_breakers", "samediff_repeated")
ENDS = (b"[DONE]", b"message_stop", b"event: error", b'"error"')


class Heard(NamedTuple):
    """What one request came to, as its client saw it."""

    kind: str  # how the client behaved
    outcome: str
    request_id: str
    replayed: bool = False


async def faults(session: aiohttp.ClientSession, upstream: str, luck: random.Random) -> None:
    """Change what goes wrong, several times a second; now and then all is well."""
    while True:
        for at in ("east", "west", "south"):
            wrong = luck.choice(FAULTS) if luck.random() < 0.6 else {}
            listed = [{**wrong, "times": luck.randint(1, 6)}] if wrong else []
            async with session.put(f"{upstream}/_faults/{at}", json=listed) as answer:
                await answer.read()
        await asyncio.sleep(0.25)


async def one(session: aiohttp.ClientSession, url: str, number: int, luck: random.Random) -> Heard:
    """Make one request in one client's way, and say what came of it."""
    kind = luck.choices(("plain", "slow", "leaves at once", "leaves midway", "keyed"), (6, 1, 1, 1, 1))[0]
    path, stream = luck.choice(PATHS), luck.random() < 0.7
    body = {
        "model": luck.choice(("auto", "big")),
        "stream": stream,
        "messages": [{"role": "user", "content": f"Question {number}: {'why? ' * luck.randint(1, 4_000)}"}],
    }
    if path == "/v1/messages":
        body["max_tokens"] = 4_000
    # The upstream notes the user agent, the journal the task: what was asked where can be told of each.
    headers = {"user-agent": f"soak/{number}", "x-samediff-task-id": f"soak/{number}"}
    if kind == "keyed":
        headers["idempotency-key"] = f"soak-{number}"
    ask = session.post(f"{url}{path}", json=body, headers=headers)
    try:
        if kind == "leaves at once":
            async with asyncio.timeout(luck.uniform(0.001, 0.05)):
                return await read(kind, ask, luck)
        if kind == "keyed":
            first, second = await asyncio.gather(
                read(kind, ask, luck),
                read(kind, session.post(f"{url}{path}", json=body, headers=headers), luck),
            )
            if {first.outcome, second.outcome} != {"answered"} or first.replayed or second.replayed:
                return first if second.replayed else second  # what failed may be asked anew
            return first._replace(outcome="TWICE")
        return await read(kind, ask, luck)
    except TimeoutError:
        return Heard(kind, "left", "")


async def read(kind: str, ask: Any, luck: random.Random) -> Heard:
    """Read an answer to its end, slowly or not at all; an end that says nothing is a loss."""
    try:
        async with ask as answer:
            name = answer.headers.get("x-samediff-request-id", "")
            replayed = "x-samediff-replayed" in answer.headers
            said = b""
            async for chunk in answer.content.iter_chunked(512 if kind == "slow" else 65536):
                said += chunk
                if kind == "slow":
                    await asyncio.sleep(0.004)
                if kind == "leaves midway" and luck.random() < 0.3:
                    answer.close()
                    return Heard(kind, "left", name, replayed)
            if answer.status >= 400:
                known = b'"error"' in said and b"message" in said
                return Heard(kind, f"error {answer.status}" if known else "LOST: no error", name, replayed)
            if answer.content_type == "text/event-stream" and not any(end in said for end in ENDS):
                return Heard(kind, "LOST: no end", name, replayed)
            broken = b"broke off" in said or b"event: error" in said or b'"type":"server_error"' in said
            return Heard(kind, "told it broke off" if broken else "answered", name, replayed)
    except aiohttp.ClientError as error:
        return Heard(kind, f"connection: {type(error).__name__}", "")


async def client(
    session: aiohttp.ClientSession, url: str, until: float, seed: int, heard: list[Heard]
) -> None:
    """One client, one request after another."""
    luck = random.Random(seed)
    number = seed * 10_000_000
    while time.monotonic() < until:
        number += 1
        heard.append(await one(session, url, number, luck))


async def drive(minutes: float, url: str, upstream: str) -> list[Heard]:
    """Run all clients for so long; what they heard."""
    heard: list[Heard] = []
    until = time.monotonic() + minutes * 60
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
        failing = asyncio.create_task(faults(session, upstream, random.Random(0)))
        clients = [asyncio.create_task(client(session, url, until, n + 1, heard)) for n in range(CLIENTS)]
        await asyncio.gather(*clients)
        failing.cancel()
        for at in ("east", "west", "south"):
            async with session.put(f"{upstream}/_faults/{at}", json=[]) as answer:
                await answer.read()
    return heard


def started(folder: Path, bundle: Path, upstream: str) -> Server:
    """The gateway in front of the upstream, watched; what it holds is written to `folder/probe.jsonl`."""
    (folder / "catalog.toml").write_text(rows(upstream))
    (folder / "samediff.toml").write_text(
        f'catalog = "{folder / "catalog.toml"}"\nbundle = "{bundle}"\npolicy = "pin:big"\nmax_body_mib = 1\n'
        f'[log]\njournal = "{folder / "journal"}"\nflush_s = 0.1\n{SETTINGS}'
    )
    port = free_port()
    probe = str(Path(__file__).with_name("soakprobe.py"))
    config = ["serve", "--config", str(folder / "samediff.toml"), "--port", str(port)]
    server = Server([sys.executable, probe, *config], {**ENVIRON, "SOAK_PROBE": str(folder / "probe.jsonl")})
    return server.wait(f"http://127.0.0.1:{port}")


def probed(folder: Path) -> list[dict[str, float]]:
    """What the gateway held over time, as far as it is written; SystemExit once nothing more will be."""
    lines = (folder / "probe.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    if rows and "died" in rows[-1]:
        raise SystemExit(f"soak: the probe of the gateway has died: {rows[-1]['died']}")
    return [row for row in rows if "tasks" in row]


def at_rest(folder: Path) -> dict[str, float]:
    """What the gateway holds once nothing is asked of it and connections kept for more have ended."""
    for _ in range(15):
        time.sleep(2.0)
        rows = probed(folder)
        if rows and not rows[-1]["upstream_idle"] and not rows[-1]["upstream_busy"]:
            break
    if not rows:
        raise SystemExit("soak: the probe of the gateway has written nothing")
    return rows[-1]


def main() -> int:
    """Run it and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/prior"))
    minutes, bundle = vars(parser.parse_args()).values()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = start_upstream({"steps": [{"text": WORDS}], "chunk_chars": 60}, folder)
        gateway = started(folder, bundle.resolve(), upstream.url)
        try:
            wrong = judged(minutes, folder, gateway, upstream)
        finally:
            gateway.stop()
            upstream.stop()
    for line in wrong:
        print("FAILED:", line)
    return 1 if wrong else 0


def judged(minutes: float, folder: Path, gateway: Any, upstream: Any) -> list[str]:
    """Drive, print what was counted, and return what should not have been."""
    quiet = at_rest(folder)
    heard = asyncio.run(drive(minutes, gateway.url, upstream.url))
    memory = [row["mib"] for row in probed(folder)][1:]
    after = at_rest(folder)
    counts = Counter((one.kind, one.outcome) for one in heard)
    for (kind, outcome), n in sorted(counts.items()):
        print(f"{kind:16s} {outcome:28s} {n:6d}")
    metrics = asyncio.run(fetched(f"{gateway.url}/metrics")).decode()
    for line in metrics.splitlines():
        if line.startswith(COUNTERS):
            print(line)
    entries = json.loads(asyncio.run(fetched(f"{upstream.url}/_requests")))
    kept = journal_of(folder)
    decisions = Counter(r["request_id"] for k, r in kept if k == "decision")
    requests = Counter(r["request_id"] for k, r in kept if k == "request")
    waited = {one.request_id for one in heard if one.request_id}
    third = max(1, len(memory) // 3)
    first, last = max(memory[third : 2 * third]), max(memory[-third:])
    print(f"{len(heard)} requests, {len(entries)} upstream calls, {len(requests)} records")
    print("memory in MiB at every tenth:", *(f"{m:.0f}" for m in memory[:: max(1, len(memory) // 10)]))
    print(f"at most {first:.0f} in the middle third, {last:.0f} in the last")
    for name in quiet:
        print(f"{name:20s} {quiet[name]:12g} before {after[name]:12g} after")
    left = [x for x in metrics.splitlines() if x.startswith("samediff_in_flight{") and not x.endswith(" 0")]
    checks = {
        "requests lost without an error": sum(n for (_, o), n in counts.items() if o.startswith("LOST")),
        "connections that broke": sum(n for (_, o), n in counts.items() if o.startswith("connection")),
        "keyed requests answered twice": sum(n for (_, o), n in counts.items() if o == "TWICE"),
        "requests answered twice upstream": answered_twice(entries, [r for k, r in kept if k == "request"]),
        "requests without a record": len(waited - set(requests)),
        "decisions without a record": len(set(decisions) ^ set(requests)),
        "requests with two records": sum(n > 1 for n in (*requests.values(), *decisions.values())),
        "records dropped": int("samediff_journal_dropped_total 0" not in metrics),
        "calls left under way": len(left) + int(after["in_flight"]),
        "connections to providers left open": int(after["upstream_busy"] + after["upstream_idle"]),
        "tasks left": max(0, int(after["tasks"] - quiet["tasks"])),
        # the answers' file and its log are opened by the first keyed request
        "handles left open": max(0, int(after["fds"] - quiet["fds"] - 3)),
        # what is remembered fills up first
        "memory that grew, over 4 %": int(minutes >= FILLED_MIN and last > 1.04 * first),
    }
    return [f"{what}: {n}" for what, n in checks.items() if n]


def answered_twice(entries: list[dict[str, Any]], records: list[dict[str, Any]]) -> int:
    """Requests with more whole answers upstream than the gateway gave up waiting for, and one."""
    whole = Counter(e["headers"]["user-agent"] for e in entries if e.get("status") == 200 and not e["fault"])
    given_up: Counter[str] = Counter()
    for record in records:
        tries = record.get("tries") or [record]
        given_up[record["task_id"]] += sum(tried.get("error_kind") in GIVEN_UP for tried in tries)
    many = {name: n for name, n in whole.items() if n > 1}
    print(f"{len(many)} requests were answered again, after an answer that came too late")
    return sum(n > 1 + given_up[name] for name, n in many.items())


async def fetched(url: str) -> bytes:
    """GET a page."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


if __name__ == "__main__":
    sys.exit(main())
