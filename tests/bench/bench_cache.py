"""The cache simulator: how fast, and how well it foretells recorded cache reads from structure alone.

    python tests/bench/bench_cache.py DATA

DATA holds mooncake_synthetic_trace.parquet, agent_sessions_per_turn.parquet, vexp_claude_code_100.parquet
and rails_app_benchmark_runs.parquet; what isn't there is left out. Speed is requests per second of CPU on one
core, the bulk code beside a straightforward loop in the same run, whose hits are compared. "Structure alone"
means that no recorded read or write is looked at: of agent sessions only each call's prompt length, answer
length and time, of whole runs the sum of their prompts and, if told, the number of calls.
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from msgspec.structs import replace

from features.cache import (
    CacheRequest,
    CacheRules,
    CacheState,
    Turns,
    TurnSplits,
    after,
    block_hits,
    read,
    replay_turns,
    rules_for,
)
from features.cache.bulk import WHYS
from features.wire.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

TTL_MS = 300_000
CAPACITY = 20_000  # blocks of 512 tokens


def main() -> None:
    """Print every table there is data for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    for name, show in (
        ("mooncake_synthetic_trace.parquet", blocks),
        ("agent_sessions_per_turn.parquet", agent_sessions),
        ("vexp_claude_code_100.parquet", whole_runs),
        ("rails_app_benchmark_runs.parquet", whole_runs),
    ):
        if (data / name).exists():
            show(data / name)
        else:
            print(f"{name}: not there")
    turns_speed()


def cpu(work: Callable[[], object]) -> tuple[float, object]:
    """Best CPU seconds of seven, and what came out."""
    best, out = float("inf"), None
    for _ in range(7):
        start = time.process_time()
        out = work()
        best = min(best, time.process_time() - start)
    return best, out


def blocks(path: Path) -> None:
    """Block caches: hits of the bulk code and of a plain loop, and the speed of both."""
    frame = pl.read_parquet(path)
    chains = frame["hash_ids"].to_list()
    starts = np.cumsum([0, *map(len, chains)])
    flat, ts_ms = frame["hash_ids"].explode().to_numpy(), frame["timestamp"].to_numpy()
    stamps = ts_ms.tolist()
    print(f"{path.stem}: {len(chains):,} requests, {len(flat):,} blocks of 512 tokens")
    print("| cache | hit tokens, share | equal to the loop | bulk, requests/s | loop, requests/s |")
    print("|---|---|---|---|---|")
    for name, ttl, room in (
        ("infinite", None, None),
        ("5 minutes", TTL_MS, None),
        (f"LRU {CAPACITY:,}", None, CAPACITY),
    ):
        fast, bulk = cpu(
            lambda ttl=ttl, room=room: block_hits(flat, starts, ts_ms, ttl_ms=ttl, capacity=room)
        )
        slow, plain = cpu(lambda ttl=ttl, room=room: plain_blocks(chains, stamps, ttl, room))
        same = bulk.tolist() == plain
        tokens = np.minimum(bulk * 512, frame["input_length"].to_numpy())
        share = tokens.sum() / frame["input_length"].sum()
        print(f"| {name} | {share:.3f} | {same} | {len(chains) / fast:,.0f} | {len(chains) / slow:,.0f} |")


def plain_blocks(chains: list[list[int]], stamps: list[int], ttl: int | None, room: int | None) -> list[int]:
    """The straightforward loop."""
    cache: OrderedDict[int, int] = OrderedDict()
    hits = []
    for chain, now in zip(chains, stamps, strict=True):
        n = 0
        for block in chain:
            if block not in cache or (ttl is not None and now - cache[block] > ttl):
                break
            n += 1
        hits.append(n)
        for block in reversed(chain):
            cache[block] = now
            cache.move_to_end(block)
            if room is not None and len(cache) > room:
                cache.popitem(last=False)
    return hits


def turns_of(frame: pl.DataFrame) -> Turns:
    """One model's calls as columns, its sessions one cache each."""
    prompt = frame["input_tokens_uncached"] + frame["cached_tokens"] + frame["cache_write_tokens"]
    zero = np.zeros(len(frame), np.int64)
    return Turns(
        session=frame["session"].rank("dense").cast(pl.Int64).to_numpy(), key=zero, rules=zero,
        ts_ms=frame["ts_ms"].cast(pl.Float64).to_numpy(), tokens=prompt.to_numpy(),
        answer_tokens=frame["output_tokens"].cast(pl.Int64).to_numpy(),
    )  # fmt: skip


def agent_sessions(path: Path) -> None:
    """Cached tokens foretold for every call, beside what was recorded, and why they differ."""
    frame = pl.read_parquet(path).filter(pl.col("harness") == "opencode")
    print(f"\n{path.stem}: cached tokens, predicted over recorded − 1")
    columns = (
        "model", "calls", "recorded", "every hit", "mean: hits of other models' sessions",
        "mean: 9 of 14 hit", "every hit, answers not cached", "all cached",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    parts = {str(name): part for (name,), part in frame.group_by("model", maintain_order=True)}
    replayed = {name: replay(name, part) for name, part in parts.items()}
    sums, kept = np.zeros(6), []
    for name, part in parts.items():
        rules, split = replayed[name]
        cached = part["cached_tokens"].to_numpy()
        others = [(replayed[o][1], parts[o]) for o in parts if o != name and replayed[o][0].id == rules.id]
        rate = fared(others)
        bare, plain = replay(name, part, answers=False)[1], rules.hits is None
        said = [
            split.read.sum(),
            split.read.sum() * (1.0 if plain else rate),
            split.read.sum() * (1.0 if plain else 9 / 14),
        ]
        row = np.array(
            [cached.sum(), *said, bare.read.sum(), split.read.sum() + split.fresh.sum() + split.write.sum()]
        )
        sums += row
        mean = split.read * (1.0 if plain else rate)
        kept.append(part.select("session", recorded="cached_tokens", mean=pl.Series(mean)))
        show_row(name, len(part), row)
        print(f"    of what should have been read, call by call, was read {fared([(split, part)]):.1%}")
        causes(cached, split)
        if rules.answers:
            print("   had answers not been cached:")
            causes(cached, bare)
    show_row("all", len(frame), sums)
    sessions = pl.concat(kept).group_by("session", maintain_order=True).sum()
    low, high = interval(sessions["mean"].to_numpy(), sessions["recorded"].to_numpy())
    print(f"    {turn_shape(frame)}")
    print(f"    mean, 95 % over {len(sessions)} sessions: {low:+.1%} to {high:+.1%}")


def turn_shape(frame: pl.DataFrame) -> str:
    """What a turn adds to the prompt, over all sessions, and how long it takes where nobody is away."""
    prompt = pl.col("input_tokens_uncached") + pl.col("cached_tokens")
    sessions = frame.group_by("session").agg(grown=prompt.max() - prompt.first(), turns=pl.len() - 1)
    pause = frame.select((pl.col("ts_ms") - pl.col("ts_ms").shift(1)).over("session"))["ts_ms"]
    growth = sessions["grown"].sum() / sessions["turns"].sum()
    return f"a turn adds {growth:,.0f} tokens and takes {pause.filter(pause < TTL_MS).mean() / 1000:.1f} s"


def replay(name: str, part: pl.DataFrame, *, answers: bool | None = None) -> tuple[CacheRules, TurnSplits]:
    """Simulate one model's sessions; `answers` overrides whether they are cached."""
    rules = rules_for("openrouter", name, float(part["ts_ms"][0]))
    assert rules is not None
    if answers is not None:
        rules = replace(rules, answers=answers)
    return rules, replay_turns([rules], turns_of(part))


def fared(others: list[tuple[TurnSplits, pl.DataFrame]]) -> float:
    """Share of what should have been read that was, over other models' sessions; 1 without any."""
    shares = [
        np.minimum(1.0, part["cached_tokens"].to_numpy()[split.read > 0] / split.read[split.read > 0])
        for split, part in others
    ]
    return float(np.concatenate(shares).mean()) if shares else 1.0


def show_row(name: str, calls: int, row: np.ndarray) -> None:
    """Print one line of errors against the first of the row."""
    errors = " | ".join(f"{value / row[0] - 1:+.1%}" for value in row[1:])
    print(f"| {name} | {calls} | {row[0]:,.0f} | {errors} |")


def causes(cached: np.ndarray, split: TurnSplits) -> None:
    """Print, cause by cause, calls, predicted and recorded reads."""
    for code, why in enumerate(WHYS):
        at = split.why == code
        if not at.any():
            continue
        gone = at & (cached * 2 < split.read)
        exact = (np.abs(cached[at] - split.read[at]) <= 128).mean()
        beyond = (cached[at] - split.read[at] > 128).mean()
        print(
            f"    {why}: {at.sum()} calls, predicted {split.read[at].sum():,}, "
            f"recorded {cached[at].sum():,}; "
            f"within a block {exact:.0%}, beyond {beyond:.1%}; "
            f"missed {gone.sum()} calls of {split.read[gone].sum() - cached[gone].sum():,}"
        )


def whole_runs(path: Path) -> None:
    """Reads of runs of which only sums are known: all but the growth of the prompt, if it grows steadily.

    Calls of k prompts that grow from p to q sum to k(p + q)/2. What isn't read is the growth q − p; p is the
    smallest mean prompt of the set, warm from the run before. Without k a run is taken to grow by 1,150
    tokens a call from 8,761 (as agent sessions do), in every phase anew.
    """
    frame = pl.read_parquet(path).filter(pl.col("cached_tokens") > 0)
    cached = frame["cached_tokens"].to_numpy().astype(float)
    name = "input_tokens" if "input_tokens" in frame.columns else "input_tokens_uncached"
    total = cached + frame[name].to_numpy() + frame["cache_write_tokens"].to_numpy()
    if "n_turns" in frame.columns:
        calls = frame["n_turns"].to_numpy()
        unread = 2 * (total / calls - (total / calls).min())
    else:
        phases = np.maximum(1, frame["n_phases"].to_numpy())
        opening, growth = 8_761.0, 1_150.0
        slope = opening - growth / 2
        calls = (np.sqrt(slope**2 + 2 * growth * total / phases) - slope) / growth
        unread = phases * (opening + growth * np.maximum(0.0, calls - 1))
    said = np.maximum(0.0, total - unread)
    low, high = interval(said, cached)
    print(
        f"\n{path.stem}: {len(frame)} runs, cached {cached.sum():,.0f}; "
        f"predicted {said.sum() / cached.sum() - 1:+.1%} "
        f"({low:+.1%} to {high:+.1%}), median run {np.median(np.abs(said / cached - 1)):.1%}; "
        f"control (all cached) {total.sum() / cached.sum() - 1:+.1%}; "
        f"not read: predicted {np.minimum(unread, total).sum() / (total - cached).sum():.2f} of recorded"
    )


def interval(said: np.ndarray, recorded: np.ndarray) -> tuple[float, float]:
    """95 % interval of predicted over recorded − 1, by resampling sessions or runs."""
    draws = np.random.default_rng(0).integers(0, len(said), (2_000, len(said)))
    low, high = np.quantile(said[draws].sum(1) / recorded[draws].sum(1) - 1, [0.025, 0.975])
    return float(low), float(high)


def turns_speed() -> None:
    """Sessions by token counts: the bulk code, `read` and `after` one by one, and a bare dictionary."""
    rng = np.random.default_rng(0)
    n = 200_000
    rows = [r for name in ("claude-opus-4-6", "gpt-5.4", "gpt-5.6") if (r := rules_for(None, name))]
    turns = Turns(
        session=rng.integers(0, 5_000, n), key=(key := rng.integers(0, 3, n)), rules=key,
        ts_ms=np.sort(rng.integers(0, 10**8, n)).astype(float), tokens=rng.integers(500, 90_000, n),
        answer_tokens=rng.integers(0, 3_000, n),
    )  # fmt: skip
    fast, split = cpu(lambda: replay_turns(rows, turns))
    start = time.process_time()
    one = one_by_one(rows, turns)
    slow = time.process_time() - start
    start = time.process_time()
    plain = dictionary(rows, turns)
    naive = time.process_time() - start
    assert isinstance(split, TurnSplits)
    print(
        f"\n{n:,} turns of 5,000 sessions on 3 models, turns/s of CPU; "
        f"reads equal: {one == split.read.tolist() == plain}"
    )
    print(f"    bulk {n / fast:,.0f} · read and after {n / slow:,.0f} · a bare dictionary {n / naive:,.0f}")


def one_by_one(rows: list[CacheRules], turns: Turns) -> list[int]:
    """The serving code, turn by turn."""
    states: dict[int, CacheState] = {}
    reads = []
    empty = CacheState()
    columns = (turns.session, turns.key, turns.ts_ms, turns.tokens, turns.answer_tokens)
    for session, key, ts, tokens, answer in zip(*(c.tolist() for c in columns), strict=True):
        state, request = states.get(session, empty), CacheRequest(str(key), tokens)
        reads.append(read(rows[key], state, request, ts).read)
        states[session] = after(rows[key], state, request, Usage(output_tokens=answer), ts)
    return reads


def dictionary(rows: list[CacheRules], turns: Turns) -> list[int]:
    """The straightforward loop: reads only, no causes, no writes, no certainty."""
    last: dict[tuple[int, int], tuple[int, float, int]] = {}
    reads = []
    columns = (turns.session, turns.key, turns.ts_ms, turns.tokens, turns.answer_tokens)
    for session, key, ts, tokens, answer in zip(*(c.tolist() for c in columns), strict=True):
        rules = rows[key]
        found = last.get((session, key))
        got = 0
        if found is not None and tokens >= rules.floor_tokens and tokens >= found[0]:
            held = (
                min(tokens, found[0] + (found[2] if rules.answers else 0))
                // rules.block_tokens
                * rules.block_tokens
            )
            if held >= rules.floor_tokens and rules.lifetimes[0].alive(ts - found[1]) > 0:
                got = held
        reads.append(got)
        if tokens >= rules.floor_tokens:
            last[session, key] = (tokens, ts, answer)
    return reads


if __name__ == "__main__":
    main()
