"""Cache simulation in bulk, for replay offline: a million turns or block accesses a second, the same answers.

`replay_turns` is `state.read` and `state.after` over token counts, for every session of a log at once.
`block_hits` replays block hashes against an infinite, a time-limited or an LRU cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from features.cache.reading import BY_COUNTS, MARKS_UNSEEN
from features.cache.types import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.cache.rules import CacheRules

    Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
    Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

WHYS: tuple[Why, ...] = get_args(Why)
_CODE = {why: code for code, why in enumerate(WHYS)}


class Turns(NamedTuple):
    """A log's calls as columns of n rows, in any order; rows of one session and millisecond keep theirs."""

    session: Ints  # codes; sub-agents and side calls are sessions of their own
    key: Ints  # codes of caches (model and scope)
    rules: Ints  # index into the rules given beside; -1 = none known
    ts_ms: Floats
    tokens: Ints  # the whole prompt
    answer_tokens: Ints
    visible_ms: Floats | None = None  # when the answer began or ended; None = at once
    lifetime: Ints | None = None  # class asked for, by its place in the rules; None = the default


class TurnSplits(NamedTuple):
    """`Split` as columns, in the order of the turns; `why` indexes WHYS."""

    read: Ints
    write: Ints
    write_1h: Ints
    fresh: Ints
    hit: Floats
    sure: Floats
    lost: Ints
    why: Ints


def replay_turns(rules: Sequence[CacheRules], turns: Turns) -> TurnSplits:
    """Simulate every session along its own route, by token counts alone: `read` and `after` for each turn.

    Best effort counts at its published rate: no usage block corrects it here.
    """
    table = _Columns.of(rules, turns)
    order = np.lexsort((turns.ts_ms, turns.session))
    before, other = _before(turns, table, order)
    tokens, at, own = turns.tokens, turns.ts_ms, before >= 0
    last = np.where(own, before, 0)
    whole = own & (tokens >= tokens[last])
    shared = np.where(
        whole, np.minimum(tokens[last] + table.answers[last] * turns.answer_tokens[last], tokens), 0
    )
    reach = shared // table.block * table.block
    visible = at if turns.visible_ms is None else turns.visible_ms
    seen = own & ~(at < visible[last])
    alive = table.alive(last, np.maximum(0.0, at - at[last]))
    long_enough = tokens >= table.floor
    ok = whole & seen & (reach >= table.floor) & (alive > 0) & long_enough & table.known
    hit = np.where(ok, alive * table.hit_rate, 0.0)
    read = np.where(hit > 0, reach, 0)
    billed = table.billed & long_enough
    rest = tokens - read
    write_1h = np.where(billed & table.hourly, rest, 0)
    write = np.where(billed & ~table.hourly, rest, 0)
    why, lost = _causes(turns, table, before, other, (shared, seen, reach, alive, read))
    sure = table.certainty * np.where(read > 0, hit, 1.0)
    sure = np.where(long_enough, sure * table.described, sure)
    return TurnSplits(
        read,
        write,
        write_1h,
        tokens - read - write - write_1h,
        hit,
        np.where(table.known, sure, 0.0),
        lost,
        why,
    )


def block_hits(
    hashes: Ints,
    starts: Ints,
    ts_ms: Ints | None = None,
    *,
    ttl_ms: float | None = None,
    capacity: int | None = None,
) -> Ints:
    """Leading blocks of each request that its cache holds, (n,) for n requests in the order they came.

    Request i sends the chain hashes `hashes[starts[i]:starts[i + 1]]`, no block twice. Without a bound
    everything stays; with `ttl_ms` a block lives that long after its last use (both ends included); with
    `capacity` the least recently used blocks go, of one request the last ones first (as vLLM frees them). A
    request looks before it writes.
    """
    if ttl_ms is not None and capacity is not None:
        raise ValueError("a time limit or a capacity, not both")
    lengths = np.diff(starts)
    request = np.repeat(np.arange(len(lengths)), lengths)
    if capacity is not None:
        held = _held_by_lru(hashes, starts, request, capacity)
    else:
        order = np.argsort(hashes, kind="stable")
        same = hashes[order[1:]] == hashes[order[:-1]]
        held = np.zeros(len(hashes), bool)
        now, then = order[1:], order[:-1]
        again = same & (request[now] > request[then])
        if ttl_ms is not None:
            assert ts_ms is not None
            again &= ts_ms[request[now]] - ts_ms[request[then]] <= ttl_ms
        held[now] = again
    return _leading(held, starts, lengths)


def _leading(held: np.ndarray, starts: Ints, lengths: Ints) -> Ints:
    """Count the leading true values of each request."""
    misses = np.flatnonzero(~held)
    first = np.append(misses, len(held))[np.searchsorted(misses, starts[:-1])]
    return np.minimum(first - starts[:-1], lengths)


def _held_by_lru(hashes: Ints, starts: Ints, request: Ints, capacity: int) -> np.ndarray:
    """Which accesses find their block, by runs: blocks that the same requests send live and die together."""
    _, ids, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    seen = counts[ids]
    # Chain hashes: who sends a block sends its parent, so equal counts along a request mean equal requests.
    new_run = np.ones(len(hashes), bool)
    new_run[1:] = (seen[1:] != seen[:-1]) | (request[1:] != request[:-1])
    heads = np.flatnonzero(new_run)
    sizes = np.diff(np.append(heads, len(hashes)))
    bounds = np.searchsorted(heads, starts).tolist()
    runs, weights = ids[heads].tolist(), sizes.tolist()
    found = [0] * len(runs)
    cache: dict[int, int] = {}  # run -> its leading blocks that are held; least recently used first
    free = capacity
    for i in range(len(bounds) - 1):
        first, last = bounds[i], bounds[i + 1]
        for j in range(last - 1, first - 1, -1):
            held = cache.pop(runs[j], 0)
            found[j] = held
            cache[runs[j]] = weights[j]
            free -= weights[j] - held
        while free < 0:
            oldest = next(iter(cache))
            if cache[oldest] > -free:
                cache[oldest] += free  # its last blocks go, it keeps its place
                free = 0
            else:
                free += cache.pop(oldest)
    place = np.arange(len(hashes)) - np.repeat(heads, sizes)
    return place < np.repeat(np.asarray(found, np.int64), sizes)


class _Columns(NamedTuple):
    """What the rules say of each turn."""

    floor: Ints
    block: Ints
    answers: Ints  # 1: the answer is cached behind the prompt
    billed: np.ndarray  # writes are billed apart
    hourly: np.ndarray  # at the price of an hour
    hit_rate: Floats
    certainty: Floats
    described: Floats
    ttl_ms: Floats
    gone_ms: Floats
    known: np.ndarray

    @classmethod
    def of(cls, rules: Sequence[CacheRules], turns: Turns) -> _Columns:
        """Spread the rules over the turns."""
        n_classes = max((len(row.lifetimes) for row in rules), default=1)
        rows = [_row(row, k) for row in rules for k in range(n_classes)]
        rows.append(_NO_RULES)
        picked = np.zeros(len(turns.tokens), np.int64) if turns.lifetime is None else turns.lifetime
        at = np.where(turns.rules < 0, len(rows) - 1, turns.rules * n_classes + picked)
        return cls(*(np.array(column)[at] for column in zip(*rows, strict=True)))

    def alive(self, last: Ints, age_ms: Floats) -> Floats:
        """Probability that what was sent at `last` lives at that age."""
        ttl, gone = self.ttl_ms[last], self.gone_ms[last]
        with np.errstate(invalid="ignore"):  # inf - inf, where nothing expires
            left = (gone - age_ms) / np.where(gone > ttl, gone - ttl, 1.0)
        return np.where(age_ms <= ttl, 1.0, np.where(age_ms >= gone, 0.0, left))


_NO_RULES = (1, 1, 0, False, False, 0.0, 0.0, 1.0, 0.0, 0.0, False)


def _row(rules: CacheRules, k: int) -> tuple[float, ...]:
    lifetime = rules.lifetimes[min(k, len(rules.lifetimes) - 1)]
    hits, calls = rules.hits or (1.0, 1.0)
    ttl = np.inf if lifetime.ttl_s is None else lifetime.ttl_s * 1000
    gone = ttl if lifetime.gone_s is None else lifetime.gone_s * 1000
    described = BY_COUNTS * (1.0 if rules.automatic else MARKS_UNSEEN)
    return (
        rules.floor_tokens, rules.block_tokens, int(rules.answers), lifetime.write_x is not None,
        lifetime.ttl_s == 3600 and min(k, len(rules.lifetimes) - 1) > 0, hits / calls, rules.certainty(),
        described, ttl, gone, True,
    )  # fmt: skip


def _before(turns: Turns, table: _Columns, order: Ints) -> tuple[Ints, Ints]:
    """For each turn the one before it in its session and cache, and in its session at all; -1: none.

    Prompts that no cache keeps (below its floor, rules unknown) are nobody's turn before.
    """
    kept = (turns.tokens >= table.floor) & table.known
    session, key = turns.session[order], turns.key[order]
    by_key = np.lexsort((key, session))  # stable: in time within each
    parted = (session[by_key][1:] != session[by_key][:-1]) | (key[by_key][1:] != key[by_key][:-1])
    own = _last_kept(order[by_key], parted, kept)
    return own, _last_kept(order, session[1:] != session[:-1], kept)


def _last_kept(rows: Ints, parted: np.ndarray, kept: np.ndarray) -> Ints:
    """For each row the last kept one before it in its group; `rows` go group by group, parted where said."""
    rank = np.arange(len(rows))
    start = np.maximum.accumulate(np.where(np.append(True, parted)[: len(rows)], rank, 0))
    latest = np.maximum.accumulate(np.where(kept[rows], rank, -1))
    previous = np.append(-1, latest[:-1])[: len(rows)]
    found = np.full(len(rows), -1, np.int64)
    found[rows] = np.where(previous >= start, rows[previous], -1)
    return found


def _causes(
    turns: Turns, table: _Columns, before: Ints, other: Ints, found: tuple[np.ndarray, ...]
) -> tuple[Ints, Ints]:
    """Why each turn reads what it does, and what it lost: the order of `state._found`."""
    shared, seen, reach, alive, read = found
    own, tokens = before >= 0, turns.tokens
    whole = shared > 0
    # Another model was sent more than twice of what this cache ever was, and last.
    sent_elsewhere = np.where((other >= 0) & (other != before), np.minimum(tokens[other], tokens), 0)
    elsewhere = sent_elsewhere > 2 * shared
    cases: list[tuple[np.ndarray, Why, Ints]] = [
        (~table.known, "no_rules", np.zeros_like(tokens)),
        (tokens < table.floor, "below_floor", np.zeros_like(tokens)),
        (elsewhere, "switched", np.maximum(0, sent_elsewhere - read)),
        (read > 0, "warm", np.zeros_like(tokens)),
        (own & ~whole, "broken_prefix", np.minimum(tokens[before], tokens)),
        (whole & ~seen, "not_visible", shared),
        (whole & (reach < table.floor), "below_floor", shared),
        (whole & (alive <= 0), "ttl_expired", shared),
    ]
    why, lost = np.full(len(tokens), _CODE["cold_start"]), tokens.copy()
    for mask, name, value in reversed(cases):
        why, lost = np.where(mask, _CODE[name], why), np.where(mask, value, lost)
    return why, lost
