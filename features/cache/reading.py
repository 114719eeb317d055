"""How a prompt splits by what its cache holds now: read, written, fresh, how surely, and why."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

from features.cache.prefixes import shared_messages
from features.cache.types import Split
from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.cache.prefixes import Chain
    from features.cache.rules import CacheRules
    from features.cache.types import CacheRequest, CacheState, Sent, Why
    from features.wire.types import Usage

BY_COUNTS = 0.9  # certainty of what follows from token counts alone: that the next prompt extends the last
PRIOR_CALLS = 20.0  # what is published of best effort weighs as much as this many calls of one's own
MARKS_UNSEEN = 0.95  # certainty that a client whose markers we can't see marks the end of its prompt


class _Found(Value, frozen=True):
    reach: int  # tokens that could be read
    alive: float
    why: Why
    shared: int  # tokens in common, readable or not
    whole: bool  # all of what was sent is in this prompt
    had: int  # tokens of what was sent
    own: bool  # to this very cache


_NOTHING = _Found(0, 0.0, "cold_start", 0, True, 0, own=False)


class Common(Value, frozen=True):
    """What a prompt has in common with those sent before; the same for every cache it may go to."""

    shared: tuple[int, ...]  # leading hashes, with each prompt of the state
    used_ms: dict[str, float]  # cache -> its last use
    most: int  # longest prefix in common, in the unit of the chain's sizes
    whole: int  # the prompt itself in that unit


def in_common(state: CacheState, chain: Chain) -> Common | None:
    """Compare a prompt with all that were sent, once for all candidates; None where one is only counts."""
    hashes, sizes = chain
    if not hashes:
        return None
    shared, most = [], 0
    used_ms: dict[str, float] = {}
    for sent in state.sent:
        if not sent.hashes:
            return None
        n = shared_messages(hashes, sent.hashes)
        shared.append(n)
        if n > most:
            most = n
        used = used_ms.get(sent.key)
        if used is None or sent.used_ms > used:
            used_ms[sent.key] = sent.used_ms
    return Common(tuple(shared), used_ms, sizes[most - 1] if most else 0, sizes[-1])


def unread(
    rules: CacheRules | None, tokens: int, common: Common, marked: bool, lifetime: str | None = None
) -> Split:
    """Split a prompt of whose conversation this cache was sent nothing, as `read` does but without a request.

    `marked`: its client may have marked it, nobody knows where; marks that are known are for `read`.
    """
    if rules is None:
        return Split(0, 0, 0, max(0, tokens), 0.0, 0.0, 0, "no_rules")
    sure = rules.certainty()
    if tokens < rules.floor_tokens:
        return Split(0, 0, 0, max(0, tokens), 0.0, sure, 0, "below_floor")
    if not rules.automatic:
        if not marked:
            return Split(0, 0, 0, tokens, 0.0, sure, 0, "unmarked")
        sure *= MARKS_UNSEEN
    lost = tokens * common.most // common.whole if common.whole else 0
    why: Why = "switched" if lost else "cold_start"
    kept = rules.lifetimes[0] if lifetime is None else rules.lifetime(lifetime)
    if kept.write_x is None:
        return Split(0, 0, 0, tokens, 0.0, sure, lost or tokens, why)
    if lifetime is not None and rules.hourly(kept):
        return Split(0, 0, tokens, 0, 0.0, sure, lost or tokens, why)
    return Split(0, tokens, 0, 0, 0.0, sure, lost or tokens, why)


def read(
    rules: CacheRules | None,
    state: CacheState,
    request: CacheRequest,
    now_ms: float,
    common: Common | None = None,
) -> Split:
    """Split a prompt by what its cache holds now; `common` is `in_common` of the two, where it is at hand.

    Of several readable prompts the longest is read. The cause is that of the longest prompt in common,
    another model's only where that has more than twice as much as this cache was ever sent.
    """
    total = request.tokens
    if common is not None and not request.marks and request.key not in common.used_ms:
        return unread(rules, total, common, request.marks is None, request.lifetime)
    if rules is None:
        return Split(0, 0, 0, max(0, total), 0.0, 0.0, 0, "no_rules")
    if total < rules.floor_tokens:
        return Split(0, 0, 0, max(0, total), 0.0, rules.certainty(), 0, "below_floor")
    if request.marks == () and not rules.automatic:
        return Split(0, 0, 0, total, 0.0, rules.certainty(), 0, "unmarked")
    sure = rules.certainty()
    if not request.hashes:
        sure *= BY_COUNTS
    if request.marks is None and not rules.automatic:
        sure *= MARKS_UNSEEN
    found, longest = best_found(rules, state, request, now_ms, common)
    hit = found.alive and found.alive * hit_rate(rules, state, request.key)
    read_tokens = found.reach if hit > 0 else 0
    why, lost = _cause(found, longest, read_tokens, total)
    return _billed(rules, request, read_tokens, hit, sure * hit if read_tokens else sure, lost, why)


def hit_rate(rules: CacheRules, state: CacheState, key: str) -> float:
    """Share of a warm prefix that is read: what was published, moved by what this state has seen."""
    if rules.hits is None:
        return 1.0
    hits, calls = rules.hits
    weight = min(1.0, PRIOR_CALLS / calls)
    seen = next(((h, n) for k, h, n in state.trials if k == key), (0.0, 0.0))
    return (hits * weight + seen[0]) / (calls * weight + seen[1])


def missed(split: Split, usage: Usage) -> int:
    """Tokens that should have been read and weren't, by the usage block; 0 within the rules' coarseness."""
    if usage.cached_tokens is None or usage.cached_tokens * 2 >= split.read:
        return 0
    return split.read - usage.cached_tokens


def best_found(
    rules: CacheRules, state: CacheState, request: CacheRequest, now_ms: float, common: Common | None = None
) -> tuple[_Found, _Found]:
    """Look through what was sent: what can be read, and what is longest, readable or not."""
    best = longest = _NOTHING
    length = _length(longest)
    for at in range(len(state.sent) - 1, -1, -1):
        sent, n = state.sent[at], None
        if common is not None:
            n = common.shared[at]
            if not n:
                continue  # another conversation
        elif sent.key != request.key and not sent.hashes and sent is not state.sent[-1]:
            continue  # of counts the last prompt speaks
        found = _found(rules, sent, request, now_ms, n)
        if found.reach * found.alive > best.reach * best.alive:
            best = found
        if (now := _length(found)) > length:
            longest, length = found, now
    return best, longest


def _length(found: _Found) -> tuple[int, bool]:
    return found.shared * (2 if found.own else 1), found.own


def _found(
    rules: CacheRules, sent: Sent, request: CacheRequest, now_ms: float, n: int | None = None
) -> _Found:
    """What one prompt that was sent holds of this one; `n`: its leading hashes, where they were counted."""
    if n is None:
        shared, n, whole = shared_tokens(rules, sent, request)
    else:
        shared, whole = _tokens_at(request, n), n == len(sent.hashes)
    if sent.key != request.key:
        return _Found(0, 0.0, "switched", shared, whole, 0, own=False) if shared else _NOTHING
    reach, alive = 0, 0.0
    why: Why = "warm"
    if not shared:
        # Hashes that part at once are another conversation; counts that shrink are one cut short.
        if request.hashes:
            return _NOTHING
        why = "broken_prefix"
    elif sent.settings != request.settings and _invalid(rules, sent, request):
        why = "invalidated"
    elif now_ms < sent.visible_ms:
        why = "not_visible"
    else:
        reach, used_ms = _reach(rules, sent, request, shared if whole or rules.match != "marked" else 0, n)
        if reach < rules.floor_tokens:
            gap: Why = "below_floor" if reach else "lookback"
            reach, why = 0, gap if whole else "broken_prefix"
        else:
            lifetime = rules.lifetimes[0] if sent.lifetime is None else rules.lifetime(sent.lifetime)
            alive = lifetime.alive(now_ms - used_ms)
            if not alive:
                reach, why = 0, "ttl_expired"
    return _Found(reach, alive, why, shared, whole, sent.tokens, own=True)


def _invalid(rules: CacheRules, sent: Sent, request: CacheRequest) -> bool:
    return any(sent.settings.get(k) != request.settings.get(k) for k in rules.invalidators)


def _reach(rules: CacheRules, sent: Sent, request: CacheRequest, shared: int, n: int) -> tuple[int, float]:
    """Tokens that could be read if the entry lives, in whole blocks, and when it was last used."""
    reach, used_ms = shared, sent.used_ms
    if rules.match == "marked" and sent.hashes:
        reach, used_ms = _marked(rules, sent, request, n)
    if reach > request.tokens:
        reach = request.tokens
    return reach - reach % rules.block_tokens, used_ms


def shared_tokens(rules: CacheRules, sent: Sent, request: CacheRequest) -> tuple[int, int, bool]:
    """Tokens and hashes in common, and whether all that was sent is in this prompt."""
    if sent.key != request.key and not (request.hashes and sent.hashes):
        return min(sent.tokens, request.tokens), 0, True  # counted by another tokenizer: nobody can tell
    if request.hashes and sent.hashes:
        n = shared_messages(request.hashes, sent.hashes)
        return _tokens_at(request, n), n, n == len(sent.hashes)
    if request.shared is not None:
        return min(request.shared, request.tokens), 0, request.shared >= sent.tokens
    if request.tokens < sent.tokens:
        return 0, 0, False
    return min(sent.tokens + (sent.answer_tokens if rules.answers else 0), request.tokens), 0, True


def _marked(rules: CacheRules, sent: Sent, request: CacheRequest, shared: int) -> tuple[int, float]:
    """Tokens up to the last entry that a marker's look-back finds, and when that entry was last used."""
    asked = request.marks or (len(request.hashes),)
    blocks, near = request.blocks, rules.lookback_blocks
    for entry, used_ms in reversed(sent.marks[: up_to(sent.marks, shared)]):
        if not entry:
            break
        for mark in asked:
            if mark < entry:
                continue
            back = blocks[mark - 1] - blocks[entry - 1] if blocks else mark - entry
            if near is None or back < near:
                return _tokens_at(request, entry), used_ms
    return 0, 0.0


def up_to(marks: Sequence[tuple[int, float]], n: int) -> int:
    """How many entries, the first ones first, lie within the first n hashes."""
    return bisect_right(marks, (n, math.inf)) if marks and marks[-1][0] > n else len(marks)


def _cause(found: _Found, longest: _Found, read_tokens: int, total: int) -> tuple[Why, int]:
    """Why tokens sent before aren't read, and how many."""
    if longest.why == "cold_start":
        return "cold_start", total
    if read_tokens and (longest is found or _length(longest) <= _length(found)):
        return ("warm", 0) if found.whole else ("broken_prefix", max(0, min(found.had, total) - read_tokens))
    had = longest.had if longest.why == "broken_prefix" else longest.shared
    return longest.why, max(0, min(had, total) - read_tokens)


def _billed(
    rules: CacheRules, request: CacheRequest, read_tokens: int, hit: float, sure: float, lost: int, why: Why
) -> Split:
    """Divide what isn't read into written and fresh."""
    total = request.tokens
    lifetime = rules.lifetimes[0] if request.lifetime is None else rules.lifetime(request.lifetime)
    if lifetime.write_x is None:
        return Split(read_tokens, 0, 0, total - read_tokens, hit, sure, lost, why)
    end = total
    if rules.match == "marked" and request.marks and request.hashes:
        end = max(_tokens_at(request, max(request.marks)), read_tokens)
    write = end - read_tokens if end >= rules.floor_tokens else 0
    hourly = request.lifetime is not None and rules.hourly(lifetime)
    short, long = (0, write) if hourly else (write, 0)
    return Split(read_tokens, short, long, total - read_tokens - write, hit, sure, lost, why)


def _tokens_at(request: CacheRequest, n: int) -> int:
    """Tokens up to and including the n-th hash, by its share of the whole."""
    sizes = request.sizes
    if not n or not sizes[-1]:
        return 0
    return int(request.tokens * sizes[n - 1] // sizes[-1])
