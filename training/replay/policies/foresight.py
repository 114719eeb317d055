"""What a decision expects each arm to cost, over many requests at once: `router.cost` and `router.outlook`.

Held to them by a property test; arrays are (m, k), USD and tokens, NaN unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from router.outlook import GROWTH_TOKENS, TURN_MS
from training.replay.cost.caches import HOUR_S, class_for_an_hour

if TYPE_CHECKING:
    from features.cache import CacheRules

INPUT, OUTPUT, CACHED, WRITE, WRITE_1H = range(5)  # of rates, in the order of `router.prices.Rates`


class Rulebook(NamedTuple):
    """Cache rules as columns (2 r + 1,): each by its default, then each as for who asks for an hour.

    The last row is of a cache that nobody knows.
    """

    floor: np.ndarray
    block: np.ndarray
    answers: np.ndarray
    billed: np.ndarray
    hit: np.ndarray
    ttl_ms: np.ndarray
    gone_ms: np.ndarray
    known: np.ndarray
    hourly: np.ndarray  # writes at the price of an hour

    @classmethod
    def of(cls, rules: list[CacheRules]) -> Rulebook:
        """Read the rules at both lifetimes."""
        rows = []
        for row, picked in [*((r, 0) for r in rules), *((r, class_for_an_hour(r)) for r in rules)]:
            life = row.lifetimes[picked]
            hits, calls = row.hits or (1.0, 1.0)
            ttl = np.inf if life.ttl_s is None else life.ttl_s * 1000
            gone = ttl if life.gone_s is None else life.gone_s * 1000
            rows.append(
                (
                    row.floor_tokens,
                    row.block_tokens,
                    row.answers,
                    life.write_x is not None,
                    hits / calls,
                    ttl,
                    gone,
                    True,
                    life.ttl_s == HOUR_S and picked > 0,
                )
            )
        rows.append((1, 1, False, False, 1.0, 0.0, 0.0, False, False))
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))

    def asked(self, at: np.ndarray, hourly: np.ndarray) -> np.ndarray:
        """Rows of the rulebook for the rules `at` (m, k), -1 unknown, and who asks for an hour (m,) bool."""
        found: np.ndarray = np.where(hourly[:, None] & (at >= 0), at + len(self.floor) // 2, at)
        return found

    def alive(self, at: np.ndarray, age_ms: np.ndarray) -> np.ndarray:
        """Probability that an entry of this age lives, linear between the two bounds; 0 without one (NaN)."""
        ttl, gone = self.ttl_ms[at], self.gone_ms[at]
        with np.errstate(invalid="ignore"):
            left = (gone - age_ms) / np.where(gone > ttl, gone - ttl, 1.0)
        found: np.ndarray = np.where(age_ms <= ttl, 1.0, np.where(age_ms < gone, left, 0.0))
        known: np.ndarray = np.where(np.isnan(age_ms), 0.0, found)
        return known


class Held(NamedTuple):
    """What each arm's cache was last sent in this session: (m, k), NaN nothing."""

    prompt: np.ndarray
    answer: np.ndarray
    ts_ms: np.ndarray


class Facing(NamedTuple):
    """m requests before k arms."""

    ts_ms: np.ndarray  # (m,)
    tokens: np.ndarray  # (m, k) whole prompts
    output: np.ndarray  # (m, k) expected
    p: np.ndarray  # (m, k)
    turns: np.ndarray  # (m, k) to come
    rates: np.ndarray  # (m, k, 5) USD a token
    ahead: np.ndarray  # (m, k, 5) for prompts as long as those to come
    retry: np.ndarray  # (m, k) share of answers that break off
    rules: np.ndarray  # (m, k) rows of the rulebook, as `Rulebook.asked` says, -1 unknown
    reference: np.ndarray  # (m,)
    last: np.ndarray  # (m,), -1 none


def readable(rulebook: Rulebook, facing: Facing, held: Held) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that a prompt could read, and with which probability they are there; both (m, k)."""
    at, tokens = facing.rules, facing.tokens
    whole = tokens >= held.prompt  # False where nothing was sent
    shared = np.minimum(held.prompt + rulebook.answers[at] * held.answer, tokens)
    reach = np.nan_to_num(np.where(whole, shared // rulebook.block[at] * rulebook.block[at], 0.0))
    age = facing.ts_ms[:, None] - held.ts_ms
    alive = rulebook.alive(at, np.where(np.isnan(age), np.nan, np.maximum(age, 0.0)))
    ok = (reach >= rulebook.floor[at]) & (tokens >= rulebook.floor[at]) & rulebook.known[at] & (alive > 0)
    return np.where(ok, reach, 0.0), np.where(ok, alive * rulebook.hit[at], 0.0)


def expected(rulebook: Rulebook, facing: Facing, held: Held) -> np.ndarray:
    """USD (m, k) by which a decision compares arms: this call's, and what is known to follow from it."""
    read, sure = readable(rulebook, facing, held)
    at = facing.rules
    rest = _rate_of_rest(rulebook, facing.rates, at, facing.tokens >= rulebook.floor[at])
    cost: np.ndarray = _call(facing.rates, facing.output, (facing.tokens - read, read), (sure, rest))
    found: np.ndarray = cost + _ahead(rulebook, facing, held)
    return found


def blind(facing: Facing) -> np.ndarray:
    """USD (m, k) of the call by list price, as if there were no caches."""
    rates = facing.rates
    found: np.ndarray = facing.tokens * rates[:, :, INPUT] + facing.output * rates[:, :, OUTPUT]
    return found


def _call(
    rates: np.ndarray,
    output: np.ndarray,
    prompt: tuple[np.ndarray, np.ndarray],
    billed: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """USD of one call: (rest, read) tokens, (chance of the read, USD a token of the rest).

    What should be read and isn't is billed as the rest of the prompt is.
    """
    rest, read = prompt
    hit, rate = billed
    again = (rest + read * (1 - hit)) * rate
    found: np.ndarray = read * hit * rates[:, :, CACHED] + again + output * rates[:, :, OUTPUT]
    return found


def _rate_of_rest(rulebook: Rulebook, rates: np.ndarray, at: np.ndarray, enough: np.ndarray) -> np.ndarray:
    """USD a token (m, k) of what isn't read: as written, where writing is billed, for as long as is asked."""
    writes = np.where(rulebook.hourly[at], rates[:, :, WRITE_1H], rates[:, :, WRITE])
    found: np.ndarray = np.where(rulebook.billed[at] & enough, writes, rates[:, :, INPUT])
    return found


def _turn(rulebook: Rulebook, facing: Facing, length: np.ndarray, held: np.ndarray) -> np.ndarray:
    """USD of a turn that adds its share to a prompt of which `held` tokens are in the cache."""
    at = facing.rules
    held = np.where(rulebook.known[at] & (held >= rulebook.floor[at]), held, 0.0)
    prompt = length - held + GROWTH_TOKENS, held
    rest = _rate_of_rest(rulebook, facing.ahead, at, np.ones_like(at, dtype=bool))
    return _call(facing.ahead, facing.output, prompt, (rulebook.hit[at], rest))


def _ahead(rulebook: Rulebook, facing: Facing, held: Held) -> np.ndarray:
    """USD of the turns to come, of the way back, and of what the reference has to do again; 0 unknown."""
    rows = np.arange(len(facing.ts_ms))
    turns = np.nan_to_num(facing.turns)
    length = facing.tokens + np.round(GROWTH_TOKENS * turns / 2)
    warm = _turn(rulebook, facing, length, length)
    cold = _turn(rulebook, facing, facing.tokens, np.zeros_like(facing.tokens))
    priced = ~np.isnan(warm)
    told = (priced & ~np.isnan(facing.turns)).sum(axis=1) == priced.sum(axis=1)
    told &= priced.any(axis=1)
    later = np.where(told[:, None], turns * warm, 0.0)

    left = np.maximum(facing.last, 0)
    has_left = (facing.last >= 0) & priced[rows, left]
    age = facing.ts_ms - held.ts_ms[rows, left]
    after = age[:, None] + (facing.turns + 1) * TURN_MS
    alive = rulebook.alive(np.repeat(facing.rules[rows, left][:, None], turns.shape[1], axis=1), after)
    back = np.where(np.isnan(facing.p), 1.0, 1.0 - facing.p) * (
        alive * warm[rows, left][:, None] + (1 - alive) * cold[rows, left][:, None]
    )
    back = np.where(has_left[:, None] & (np.arange(turns.shape[1])[None, :] != left[:, None]), back, 0.0)

    best = facing.reference
    risk = np.maximum(0.0, facing.p[rows, best][:, None] - facing.p)
    again = np.where(told, 1 + turns[rows, best], 1.0) * warm[rows, best]
    redo = np.where(priced[rows, best][:, None], np.nan_to_num(risk * again[:, None]), 0.0)
    retried = ~(priced & np.isnan(facing.retry)).any(axis=1)
    again = facing.retry / np.maximum(1.0 - facing.retry, 0.1)
    retry = np.where(retried[:, None], again * (1.0 + np.where(told[:, None], turns, 0.0)) * warm, 0.0)

    parts = [np.nan_to_num(part) for part in (later, back, redo, retry)]
    whole: np.ndarray = np.where(priced, sum(parts), 0.0)
    return whole
