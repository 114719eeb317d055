"""What caches would have held along a route: the simulator, and how the log's own caches fare against it.

The simulator says what a prompt could read. How much of that is read, what a session's first prompt finds of
other sessions', and how much of the rest is billed as written is learned from the log, arm by arm, and always
from other sessions than the one it is used on. Where the log knows nothing of an arm the rules alone speak.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.cache import Lifetime, Turns, replay_turns, rules_for
from features.cache.bulk import WHYS
from features.errors import BadInput

if TYPE_CHECKING:
    from features.cache import CacheRules
    from training.replay.arms import Arms
    from training.replay.book import Book

FOLDS = 64  # of sessions: each is told by all others where there are no more than these
PRIOR_CALLS = 20.0  # what is published of best effort weighs as much as this many calls
MIN_RUNS = 3  # of an arm, before it speaks for itself
HOUR_S = 3600
_DAY_MS = 86_400_000
_TTL = re.compile(r"ttl=(\d+(?:\.\d+)?)(s|m|h)?")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class Caches(NamedTuple):
    """Rules in force, and which of them hold for a call on an arm; -1 is none."""

    rules: list[CacheRules]
    at: np.ndarray  # (n, k) int
    silent: np.ndarray  # (n,) bool: of sessions whose log says nothing of a cache
    hourly: np.ndarray  # (n,) bool: of sessions that ask for an hour


class Fare(NamedTuple):
    """How an arm's caches fare in the log, told by the other folds; each (k, FOLDS)."""

    read: np.ndarray  # tokens read over tokens that could have been
    opening: np.ndarray  # tokens read where this session had sent nothing
    written: np.ndarray  # share of what isn't read that is billed as written
    hourly: np.ndarray  # share of that for an hour
    run: np.ndarray  # share of a whole run's prompts that is read
    known: np.ndarray  # (k,) bool: the log tells of this arm


class Split(NamedTuple):
    """Prompts by how they are billed, each (n,); `cold` could have been read, had this arm been there."""

    fresh: np.ndarray
    read: np.ndarray
    written: np.ndarray
    hourly: np.ndarray  # of those written
    cold: np.ndarray
    why: np.ndarray  # indexes features.cache.bulk.WHYS


def caches_of(book: Book, arms: Arms, wanted: str = "on") -> Caches:
    """Rules of every arm's cache; `wanted` is on, off, or ttl=SECONDS (or 5m, 1h)."""
    lifetime_s = parse_cache(wanted)
    rules: dict[str, tuple[int, CacheRules]] = {}
    at = np.full((book.n, len(arms.arms)), -1, dtype=np.int16)
    told = book.of_session(np.isfinite(book.cached).astype(float)) > 0
    silent = ~told[book.session]
    hourly = (book.of_session(np.nan_to_num(book.written_1h)) > 0)[book.session]
    if wanted == "off":
        return Caches([], at, silent, hourly)
    marked = (np.nan_to_num(book.written) > 0) | (np.nan_to_num(book.fact("cache_markers")) > 0)
    explicit = (book.of_session(marked.astype(float)) > 0)[book.session]
    groups = book.ts_ms // _DAY_MS * 2 + explicit
    kinds, where = np.unique(groups, return_inverse=True)
    for i, arm in enumerate(arms.arms):
        found = [
            rules_for(arm.provider, arm.model, int(g // 2) * _DAY_MS, explicit=bool(g % 2)) for g in kinds
        ]
        places = np.full(len(kinds), -1)
        for j, row in enumerate(found):
            if row is not None:
                own = row if lifetime_s is None else _living(row, lifetime_s)
                places[j] = rules.setdefault(f"{own.id}/{own.doubts}", (len(rules), own))[0]
        at[:, i] = places[where]
    return Caches([row for _, row in rules.values()], at, silent, hourly)


def parse_cache(wanted: str) -> float | None:
    """Seconds of `ttl=…`, None of on and off; BadInput for anything else."""
    if wanted in ("on", "off"):
        return None
    found = _TTL.fullmatch(wanted.strip())
    if found is None:
        raise BadInput(f"--cache {wanted}: say on, off, or ttl=300s (also ttl=5m, ttl=1h)")
    return float(found[1]) * _UNITS[found[2]]


def _living(row: CacheRules, ttl_s: float) -> CacheRules:
    """The same rules with entries that live so long after their last use."""
    lifetimes = tuple(Lifetime(name=life.name, ttl_s=ttl_s, write_x=life.write_x) for life in row.lifetimes)
    return msgspec.structs.replace(row, lifetimes=lifetimes)


def reach(book: Book, caches: Caches, tokens: np.ndarray, output: np.ndarray, route: np.ndarray) -> Split:
    """What could be read along a route (n,) of arms; prompts (n, k) and answers (n, k) in tokens."""
    rows = np.arange(book.n)
    prompt = np.round(tokens[rows, route]).astype(np.int64)
    at = np.where(book.run, -1, caches.at[rows, route])
    answers = np.round(output[rows, route]).astype(np.int64)
    splits = replay_turns(
        caches.rules,
        Turns(
            book.session, route, at, book.ts_ms.astype(float), prompt, answers, lifetime=_classes(caches, at)
        ),
    )
    lost = np.where(book.run, 0, splits.lost)
    return Split(
        splits.fresh,
        splits.read.astype(float),
        splits.write + splits.write_1h,
        splits.write_1h,
        lost,
        splits.why,
    )


def _classes(caches: Caches, at: np.ndarray) -> np.ndarray:
    """Which lifetime (n,) of its rules each call asks for: an hour, where its session does and it is sold."""
    hours = [
        next((i for i, life in enumerate(row.lifetimes) if life.ttl_s == HOUR_S), 0) for row in caches.rules
    ]
    found: np.ndarray = np.where(caches.hourly, np.array([*hours, 0])[at], 0)
    return found


class _Tally(NamedTuple):
    """Who answered each call (n,), in which fold its session is, and how many arms there are."""

    arm: np.ndarray
    fold: np.ndarray
    k: int

    def others(self, which: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sums (k, FOLDS) over the other folds."""
        sums = np.zeros((self.k, FOLDS))
        np.add.at(sums, (self.arm[which], self.fold[which]), values[which])
        left: np.ndarray = sums.sum(axis=1, keepdims=True) - sums
        return left

    def whole(self, which: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sums (k, FOLDS) over all sessions: what a client asks to be written is its habit, no luck."""
        sums: np.ndarray = np.bincount(self.arm[which], weights=values[which], minlength=self.k)[:, None]
        return np.repeat(sums, FOLDS, axis=1)


def fare(book: Book, arms: Arms, caches: Caches, tokens: np.ndarray, output: np.ndarray) -> Fare:
    """Hold the simulator against what the log says was read, along the logged route."""
    split = reach(book, caches, tokens, output, arms.logged)
    told = np.isfinite(book.cached)
    tally = _Tally(arms.logged, book.session % FOLDS, len(arms.arms))
    rules = caches.at[np.arange(book.n), arms.logged]
    floor = np.array([*(float(r.floor_tokens) for r in caches.rules), np.inf])[rules]
    cached = np.nan_to_num(book.cached)
    single = told & ~book.run
    cold = single & (split.read == 0) & (book.prompt >= floor)
    rest = np.maximum(book.prompt - cached, 0.0)
    written, hourly = np.nan_to_num(book.written), np.nan_to_num(book.written_1h)
    share = tally.whole(told, written) / np.maximum(tally.whole(told, rest), 1)
    for_hour = tally.whole(told, hourly) / np.maximum(tally.whole(told, written), 1)
    return Fare(
        read=_hits(tally, single & (split.read > 0), (cached, split.read), _published(caches, tally.k)),
        opening=tally.others(cold, cached) / np.maximum(tally.others(cold, np.ones(book.n)), 1),
        written=np.minimum(share, 1.0),
        hourly=np.minimum(for_hour, 1.0),
        run=_of_runs(book, tally, told & book.run),
        known=np.bincount(arms.logged[told], minlength=tally.k) > 0,
    )


def _hits(
    tally: _Tally, warm: np.ndarray, tokens: tuple[np.ndarray, np.ndarray], published: np.ndarray
) -> np.ndarray:
    """Tokens read over tokens that could have been (k, FOLDS), drawn towards what is published (k,)."""
    cached, could = tokens
    said = published[:, None]
    calls, readable = tally.others(warm, np.ones(len(warm))), tally.others(warm, could)
    prior = PRIOR_CALLS * readable / np.maximum(calls, 1)
    found = (tally.others(warm, cached) + prior * said) / np.maximum(readable + prior, 1)
    rates: np.ndarray = np.where(calls > 0, found, said)
    return rates


def _of_runs(book: Book, tally: _Tally, runs: np.ndarray) -> np.ndarray:
    """Share of whole runs' prompts that is read; of arms with few runs, that of all runs."""
    cached, of = np.nan_to_num(book.cached), tally.others
    count, read, whole = of(runs, np.ones(book.n)), of(runs, cached), of(runs, book.prompt)
    pooled = read.sum(axis=0) / np.maximum(whole.sum(axis=0), 1)
    found: np.ndarray = np.where(count >= MIN_RUNS, read / np.maximum(whole, 1), pooled)
    return found


def _published(caches: Caches, k: int) -> np.ndarray:
    """Published hit rate (k,) of each arm's newest rules; 1 where a cache is no best effort."""
    rates = np.ones(k)
    for i in range(k):
        at = caches.at[:, i].max(initial=-1)
        hits = caches.rules[at].hits if at >= 0 else None
        if hits is not None:
            rates[i] = hits[0] / hits[1]
    return rates


def simulate(
    book: Book, caches: Caches, fares: Fare, tokens: np.ndarray, output: np.ndarray, route: np.ndarray
) -> Split:
    """Prompts along a route (n,) of arms as they would be billed."""
    split = reach(book, caches, tokens, output, route)
    rows, fold = np.arange(book.n), book.session % FOLDS
    prompt = tokens[rows, route]
    rules = caches.at[rows, route]
    floor = np.array([*(float(r.floor_tokens) for r in caches.rules), np.inf])[rules]
    opening = np.where(prompt >= floor, fares.opening[route, fold], 0.0)
    read = np.where(split.read > 0, split.read * fares.read[route, fold], opening)
    read = np.where(book.run & (rules >= 0), prompt * fares.run[route, fold], read)
    read = np.where(caches.silent | (rules < 0), 0.0, np.minimum(read, prompt))
    rest = prompt - read
    known = fares.known[route]
    billed = split.written + split.hourly > 0
    written = np.where(known, rest * fares.written[route, fold], np.where(billed, rest, 0.0))
    written = np.where(caches.silent | (rules < 0), 0.0, written)
    hourly = np.where(known, written * fares.hourly[route, fold], np.where(split.hourly > 0, written, 0.0))
    return Split(rest - written, read, written, hourly, np.minimum(split.cold, rest), split.why)


def cold_causes(split: Split) -> dict[str, int]:
    """Tokens that could have been read, by why they weren't."""
    return {
        why: int(split.cold[split.why == code].sum())
        for code, why in enumerate(WHYS)
        if split.cold[split.why == code].any()
    }
