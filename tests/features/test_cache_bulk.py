"""Bulk simulation: block caches equal a plain reference, turns equal `read` and `after` one by one."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.cache import (
    CacheRequest,
    CacheState,
    Turns,
    after,
    block_hits,
    read,
    read_rules,
    replay_turns,
    rules_for,
)
from features.cache.bulk import WHYS
from features.wire.types import Usage


@st.composite
def block_traces(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """Requests as (ms, chain of block hashes), of the shape of a serving trace: trees of common prefixes."""
    ids: dict[tuple[int, ...], int] = {}
    trace, now = [], 0
    for _ in range(draw(st.integers(0, 25))):
        path = draw(st.lists(st.integers(0, 2), max_size=7))
        chain = [ids.setdefault(tuple(path[: i + 1]), len(ids)) for i in range(len(path))]
        now += draw(st.integers(0, 40))
        trace.append((now, chain))
    return trace


def columns(trace: list[tuple[int, list[int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes end to end, where each request starts, and when it came."""
    starts = np.cumsum([0, *(len(chain) for _, chain in trace)])
    flat = np.array([block for _, chain in trace for block in chain], dtype=np.int64)
    return flat, starts, np.array([ts for ts, _ in trace], dtype=np.int64)


def plain(trace, *, ttl_ms: float | None = None, capacity: int | None = None) -> list[int]:
    """The reference: one dictionary, block by block, the last block of a request touched first."""
    cache: OrderedDict[int, int] = OrderedDict()
    hits = []
    for now, chain in trace:
        n = 0
        for block in chain:
            if block not in cache or (ttl_ms is not None and now - cache[block] > ttl_ms):
                break
            n += 1
        hits.append(n)
        for block in reversed(chain):
            cache[block] = now
            cache.move_to_end(block)
            if capacity is not None and len(cache) > capacity:
                cache.popitem(last=False)
    return hits


@settings(max_examples=150, deadline=None)
@given(block_traces(), st.integers(0, 120), st.integers(0, 30))
def test_block_hits_equal_the_plain_reference(trace, ttl_ms, capacity) -> None:
    flat, starts, ts_ms = columns(trace)
    assert block_hits(flat, starts).tolist() == plain(trace)
    assert block_hits(flat, starts, ts_ms, ttl_ms=ttl_ms).tolist() == plain(trace, ttl_ms=ttl_ms)
    assert block_hits(flat, starts, capacity=capacity).tolist() == plain(trace, capacity=capacity)


@settings(max_examples=60, deadline=None)
@given(block_traces(), st.integers(0, 120), st.integers(0, 30))
def test_more_time_and_more_room_never_mean_fewer_hits(trace, ttl_ms, capacity) -> None:
    flat, starts, ts_ms = columns(trace)
    short, long = (block_hits(flat, starts, ts_ms, ttl_ms=t) for t in (ttl_ms, ttl_ms + 17))
    small, large = (block_hits(flat, starts, capacity=c) for c in (capacity, capacity + 3))
    assert (short <= long).all()
    assert (small <= large).all()
    assert (long <= block_hits(flat, starts)).all()
    assert (long <= np.diff(starts)).all()


def test_a_cache_is_bounded_by_time_or_by_room() -> None:
    with pytest.raises(ValueError, match="not both"):
        block_hits(np.array([1]), np.array([0, 1]), np.array([0]), ttl_ms=1.0, capacity=1)


RULES = read_rules()
PICKED = [row for row in RULES if row.match != "named"]
turn_lists = st.lists(
    st.tuples(
        st.integers(0, 2),  # session
        st.integers(0, 1),  # key
        st.sampled_from(
            [0, 0, 1, 1_000, 200_000, 299_999, 300_001, 2_000_000, 4_000_000]
        ),  # ms since the last
        st.sampled_from([10, 900, 1_024, 5_000, 20_000, 20_128, 60_000]),
        st.sampled_from([0, 100, 3_000]),
        st.sampled_from([0, 0, 5_000]),  # ms until visible
        st.integers(0, 1),
    ),
    max_size=14,
)


def as_turns(rows, rules_of_key) -> Turns:
    """Rows as columns; a session and key with `None` for rules has none."""
    data = np.array(rows, dtype=np.int64).reshape(len(rows), 7)
    ts = np.cumsum(data[:, 2]).astype(float)
    return Turns(
        session=data[:, 0], key=data[:, 1], rules=np.array(rules_of_key)[data[:, 1]], ts_ms=ts,
        tokens=data[:, 3], answer_tokens=data[:, 4], visible_ms=ts + data[:, 5], lifetime=data[:, 6],
    )  # fmt: skip


def one_by_one(rules, turns: Turns):
    """The same through `read` and `after`."""
    states: dict[int, CacheState] = {}
    splits = []
    for i in range(len(turns.tokens)):
        own = rules[turns.rules[i]] if turns.rules[i] >= 0 else None
        names = [kept.name for kept in own.lifetimes] if own else [None]
        asked = names[min(turns.lifetime[i], len(names) - 1)]
        request = CacheRequest(str(turns.key[i]), int(turns.tokens[i]), lifetime=asked)
        state = states.get(turns.session[i], CacheState())
        now = float(turns.ts_ms[i])
        splits.append(read(own, state, request, now))
        usage = Usage(output_tokens=int(turns.answer_tokens[i]))
        visible = float(turns.visible_ms[i])
        states[turns.session[i]] = after(own, state, request, usage, now, visible_ms=visible)
    return splits


@settings(max_examples=150, deadline=None)
@given(turn_lists, st.integers(-1, len(PICKED) - 1), st.integers(0, len(PICKED) - 1))
def test_turns_in_bulk_equal_turns_one_by_one(rows, first, second) -> None:
    turns = as_turns(rows, [first, second])
    bulk = replay_turns(PICKED, turns)
    for i, split in enumerate(one_by_one(PICKED, turns)):
        got = tuple(column[i].item() for column in bulk)
        assert got[:4] == (split.read, split.write, split.write_1h, split.fresh)
        assert got[4:6] == pytest.approx((split.hit, split.sure))
        assert (got[6], WHYS[got[7]]) == (split.lost, split.why)


@settings(max_examples=40, deadline=None)
@given(turn_lists, st.randoms(use_true_random=False))
def test_the_order_of_independent_sessions_does_not_matter(rows, random) -> None:
    turns = as_turns(rows, [0, 1])
    bulk = replay_turns(PICKED, turns)
    # A stable shuffle of whole sessions: rows keep their order within each.
    names = [0, 1, 2]
    random.shuffle(names)
    order = np.argsort(np.array(names)[turns.session], kind="stable")
    moved = replay_turns(PICKED, Turns(*(column[order] for column in turns)))
    for before, now in zip(bulk, moved, strict=True):
        assert (before[order] == now).all()


def test_no_turns_are_no_splits() -> None:
    turns = as_turns([], [0, 0])
    assert all(len(column) == 0 for column in replay_turns([rules_for("openai", "gpt-5.4")], turns))
