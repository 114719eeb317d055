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
from features.errors import BadInput

if TYPE_CHECKING:
    from features.cache import CacheRules
    from training.replay.logged.arms import Arms
    from training.replay.logged.calls import Calls

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
    kinds: np.ndarray  # (g,) int: days of the whole log, twice, and 1 more where breakpoints are set


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


def kinds_of(calls: Calls) -> np.ndarray:
    """Which kinds of calls there are whose caches may differ, by the day and by set breakpoints (g,)."""
    return np.unique(_kind(calls))


def _kind(calls: Calls) -> np.ndarray:
    marked = (np.nan_to_num(calls.written) > 0) | (np.nan_to_num(calls.fact("cache_markers")) > 0)
    explicit = (calls.of_session(marked.astype(float)) > 0)[calls.session]
    found: np.ndarray = calls.ts_ms // _DAY_MS * 2 + explicit
    return found


def caches_of(calls: Calls, arms: Arms, kinds: np.ndarray, wanted: str = "on") -> Caches:
    """Rules of every arm's cache; `wanted` is on, off, or ttl=SECONDS (5m, 1h), `kinds` the whole log's."""
    lifetime_s = parse_cache(wanted)
    rules: dict[str, tuple[int, CacheRules]] = {}
    at = np.full((calls.n, len(arms.arms)), -1, dtype=np.int16)
    told = calls.of_session(np.isfinite(calls.cached).astype(float)) > 0
    silent = ~told[calls.session]
    hourly = (calls.of_session(np.nan_to_num(calls.written_1h)) > 0)[calls.session]
    if wanted == "off":
        return Caches([], at, silent, hourly, kinds)
    where = np.searchsorted(kinds, _kind(calls))
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
    return Caches([row for _, row in rules.values()], at, silent, hourly, kinds)


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


def reach(calls: Calls, caches: Caches, prompt: np.ndarray, answer: np.ndarray, route: np.ndarray) -> Split:
    """What could be read along a route (n,) of arms; prompts (n,) and answers (n,) on it in tokens."""
    tokens = np.round(prompt).astype(np.int64)
    at = np.where(calls.run, -1, caches.at[np.arange(calls.n), route])
    answers = np.round(answer).astype(np.int64)
    splits = replay_turns(
        caches.rules,
        Turns(
            calls.session,
            route,
            at,
            calls.ts_ms.astype(float),
            tokens,
            answers,
            lifetime=_classes(caches, at),
        ),
    )
    lost = np.where(calls.run, 0, splits.lost)
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
    hours = [class_for_an_hour(row) for row in caches.rules]
    found: np.ndarray = np.where(caches.hourly, np.array([*hours, 0])[at], 0)
    return found


def class_for_an_hour(row: CacheRules) -> int:
    """Which of its lifetimes is asked for by who asks for an hour: its default where none is sold."""
    return next((i for i, life in enumerate(row.lifetimes) if life.ttl_s == HOUR_S), 0)


class Tally(NamedTuple):
    """Sums over calls by arm and fold, each (k, FOLDS), and the rules that each arm (k,) was last under."""

    told: np.ndarray  # calls whose cache counts are logged
    rest: np.ndarray  # tokens not read, of those
    written: np.ndarray
    hourly: np.ndarray
    warm: np.ndarray  # calls that could read
    could: np.ndarray  # tokens that they could read
    did: np.ndarray  # and did
    cold: np.ndarray  # calls of an arm to which this session had sent nothing
    opening: np.ndarray  # tokens that they read
    runs: np.ndarray  # whole runs
    run_read: np.ndarray
    run_prompt: np.ndarray
    newest: np.ndarray  # (k,) int

    def plus(self, other: Tally) -> Tally:
        """The sums of both."""
        both = Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))
        return both._replace(newest=np.maximum(self.newest, other.newest))


def tally_of(calls: Calls, arms: Arms, caches: Caches) -> Tally:
    """Hold the simulator against what the log says was read, along the logged route of a part."""
    split = reach(calls, caches, calls.prompt, calls.output, arms.logged)
    k, told = len(arms.arms), np.isfinite(calls.cached)
    cell = arms.logged * FOLDS + (calls.before + calls.session) % FOLDS
    rules = caches.at[np.arange(calls.n), arms.logged]
    floor = np.array([*(float(r.floor_tokens) for r in caches.rules), np.inf])[rules]
    cached = np.nan_to_num(calls.cached)
    single = told & ~calls.run
    warm, cold = single & (split.read > 0), single & (split.read == 0) & (calls.prompt >= floor)

    def sums(which: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        weights = None if values is None else values[which]
        return np.bincount(cell[which], weights, k * FOLDS).astype(float).reshape(k, FOLDS)

    return Tally(
        told=sums(told),
        rest=sums(told, np.maximum(calls.prompt - cached, 0.0)),
        written=sums(told, np.nan_to_num(calls.written)),
        hourly=sums(told, np.nan_to_num(calls.written_1h)),
        warm=sums(warm),
        could=sums(warm, split.read),
        did=sums(warm, cached),
        cold=sums(cold),
        opening=sums(cold, cached),
        runs=sums(told & calls.run),
        run_read=sums(told & calls.run, cached),
        run_prompt=sums(told & calls.run, calls.prompt),
        newest=caches.at.max(axis=0, initial=-1),
    )


def fare_of(tally: Tally, rules: list[CacheRules]) -> Fare:
    """How each arm's caches fare, by the tally of a whole log.

    What a client asks to be written is its habit, no luck: that is told by all sessions.
    """

    def whole(sums: np.ndarray) -> np.ndarray:
        return np.repeat(sums.sum(axis=1, keepdims=True), FOLDS, axis=1)

    share = whole(tally.written) / np.maximum(whole(tally.rest), 1)
    for_hour = whole(tally.hourly) / np.maximum(whole(tally.written), 1)
    return Fare(
        read=_hits(tally, _published(tally.newest, rules)),
        opening=_others(tally.opening) / np.maximum(_others(tally.cold), 1),
        written=np.minimum(share, 1.0),
        hourly=np.minimum(for_hour, 1.0),
        run=_of_runs(tally),
        known=tally.told.sum(axis=1) > 0,
    )


def _others(sums: np.ndarray) -> np.ndarray:
    """Sums (k, FOLDS) over the other folds."""
    found: np.ndarray = sums.sum(axis=1, keepdims=True) - sums
    return found


def _hits(tally: Tally, published: np.ndarray) -> np.ndarray:
    """Tokens read over tokens that could have been (k, FOLDS), drawn towards what is published (k,)."""
    said = published[:, None]
    calls, readable = _others(tally.warm), _others(tally.could)
    prior = PRIOR_CALLS * readable / np.maximum(calls, 1)
    found = (_others(tally.did) + prior * said) / np.maximum(readable + prior, 1)
    rates: np.ndarray = np.where(calls > 0, found, said)
    return rates


def _of_runs(tally: Tally) -> np.ndarray:
    """Share of whole runs' prompts that is read; of arms with few runs, that of all runs."""
    count, read, whole = (_others(sums) for sums in (tally.runs, tally.run_read, tally.run_prompt))
    pooled = read.sum(axis=0) / np.maximum(whole.sum(axis=0), 1)
    found: np.ndarray = np.where(count >= MIN_RUNS, read / np.maximum(whole, 1), pooled)
    return found


def _published(newest: np.ndarray, rules: list[CacheRules]) -> np.ndarray:
    """Published hit rate (k,) of each arm's newest rules; 1 where a cache is no best effort."""
    hits = [rules[at].hits if at >= 0 else None for at in newest]
    return np.array([1.0 if pair is None else pair[0] / pair[1] for pair in hits])


def simulate(
    calls: Calls, kept: tuple[Caches, Fare], sizes: tuple[np.ndarray, np.ndarray], route: np.ndarray
) -> Split:
    """Prompts along a route (n,) of arms as they would be billed; sizes are of prompts and answers (n, k)."""
    (caches, fares), (tokens, output) = kept, sizes
    rows, fold = np.arange(calls.n), (calls.before + calls.session) % FOLDS
    prompt = tokens[rows, route]
    split = reach(calls, caches, prompt, output[rows, route], route)
    rules = caches.at[rows, route]
    floor = np.array([*(float(r.floor_tokens) for r in caches.rules), np.inf])[rules]
    opening = np.where(prompt >= floor, fares.opening[route, fold], 0.0)
    read = np.where(split.read > 0, split.read * fares.read[route, fold], opening)
    read = np.where(calls.run & (rules >= 0), prompt * fares.run[route, fold], read)
    read = np.where(caches.silent | (rules < 0), 0.0, np.minimum(read, prompt))
    rest = prompt - read
    known = fares.known[route]
    billed = split.written + split.hourly > 0
    written = np.where(known, rest * fares.written[route, fold], np.where(billed, rest, 0.0))
    written = np.where(caches.silent | (rules < 0), 0.0, written)
    hourly = np.where(known, written * fares.hourly[route, fold], np.where(split.hourly > 0, written, 0.0))
    return Split(rest - written, read, written, hourly, np.minimum(split.cold, rest), split.why)
