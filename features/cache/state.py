"""Which prompts are warm where: what caches hold after each answer, corrected by its usage block.

Pure: a state is a value, `after` gives the next one, the caller tells the time. A state covers one
conversation (or one scope) on all its candidates; a `key` names a cache: whoever shares it, and the model.
Requests come as hashes (blocks of tokens, or whole messages), or as token counts alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.cache.prefixes import shared_messages
from features.cache.reading import best_found, hit_rate, shared_tokens
from features.cache.types import Sent

if TYPE_CHECKING:
    from features.cache.rules import CacheRules
    from features.cache.types import CacheRequest, CacheState, Split
    from features.wire.types import Usage

KEPT = 4  # prompts remembered for each key: sub-agents and side calls interleave with the main thread
KEYS_KEPT = 64


def after(
    rules: CacheRules | None,
    state: CacheState,
    request: CacheRequest,
    usage: Usage | None,
    now_ms: float,
    *,
    visible_ms: float | None = None,
) -> CacheState:
    """Return the state once a prompt was answered; `usage`, where it came back, corrects what is believed.

    `now_ms` is when the prompt was sent, `visible_ms` when its answer began (or ended, if the rules say so).
    A cache that reports neither a read nor a write, where writes are billed, holds nothing.
    """
    if rules is None:
        return state
    state = _learned(rules, state, request, usage, now_ms)
    tokens = _counted(usage) or max(0, request.tokens)
    if tokens < rules.floor_tokens or _uncached(rules, request, usage):
        return state
    if not rules.sliding and best_found(rules, state, request, now_ms)[0].reach:
        return state  # the object lives on as it is
    answer = (usage.output_tokens or 0) if usage and rules.answers else 0
    marks = _marks_after(rules, state, request, now_ms)
    sent = Sent(
        request.key, tokens, answer, request.hashes, request.sizes, marks, request.settings,
        request.lifetime, now_ms, now_ms if visible_ms is None else visible_ms,
    )  # fmt: skip
    # What this prompt continues stands in for it until others can read it.
    waits = bool(request.hashes) and sent.visible_ms > now_ms
    own = [s for s in state.sent if s.key == request.key and (waits or not _continues(sent, s))]
    others = [s for s in state.sent if s.key != request.key]
    kept = own[-(KEPT - 1) :] if request.hashes else []  # of counts only the last prompt can be told
    return state._replace(sent=(*others, *kept, sent)[-KEPT * KEYS_KEPT :])


def corrected(
    rules: CacheRules | None,
    state: CacheState,
    request: CacheRequest,
    usage: Usage,
    *,
    said: Split,
    now_ms: float,
) -> CacheState:
    """Return the state once the usage block of a prompt already noted came back; `said` was foretold of it.

    Serving notes a prompt with `after` when its answer begins, so that parallel calls know, and corrects it
    here when it has ended; from now on others can read it in any case.
    """
    if rules is None:
        return state
    if said.hit >= hit_rate(rules, state, request.key) - 1e-9:  # and no lifetime is in doubt
        state = _tried(rules, state, request.key, said.read, usage)
    at = next((i for i in reversed(range(len(state.sent))) if _same(state.sent[i], request)), None)
    if at is None:
        return state
    sent = state.sent[at]
    before = tuple(s for s in state.sent[:at] if s.key != sent.key or not _continues(sent, s))
    later = state.sent[at + 1 :]
    tokens = _counted(usage) or sent.tokens
    if tokens < rules.floor_tokens or _uncached(rules, request, usage):
        return state._replace(sent=(*before, *later))
    answer = (usage.output_tokens or 0) if rules.answers else 0
    seen_ms = min(sent.visible_ms, now_ms)
    kept = sent._replace(tokens=tokens, answer_tokens=answer, visible_ms=seen_ms)
    return state._replace(sent=(*before, kept, *later))


def last_used(state: CacheState, key: str) -> float | None:
    """When a cache was last used (ms), by what the state remembers; None if it wasn't."""
    return max([sent.used_ms for sent in state.sent if sent.key == key], default=None)


def _same(sent: Sent, request: CacheRequest) -> bool:
    """Whether this is the very prompt: by its last hash, or by its length."""
    if sent.key != request.key or len(sent.hashes) != len(request.hashes):
        return False
    return sent.hashes[-1] == request.hashes[-1] if request.hashes else sent.tokens == request.tokens


def _marks_after(
    rules: CacheRules, state: CacheState, request: CacheRequest, now_ms: float
) -> tuple[tuple[int, float], ...]:
    """Entries behind this prompt: its own markers, and those of prompts it continues that still live."""
    if rules.match != "marked" or not request.hashes:
        return ()
    held: dict[int, float] = {}
    for sent in state.sent:
        if sent.key == request.key and sent.hashes:
            _, n, _ = shared_tokens(rules, sent, request)
            for entry, used_ms in rules.lifetime(sent.lifetime).living(sent.marks, now_ms):
                if entry <= n and used_ms >= held.get(entry, used_ms):
                    held[entry] = used_ms
    own = request.marks or (len(request.hashes),)
    held |= dict.fromkeys(own[-(rules.marks_max or len(own)) :], now_ms)
    return tuple(sorted(held.items()))


def _counted(usage: Usage | None) -> int | None:
    if usage is None or usage.input_tokens_uncached is None:
        return None
    return usage.input_tokens_uncached + (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)


def _uncached(rules: CacheRules, request: CacheRequest, usage: Usage | None) -> bool:
    """Whether nothing was stored: no marks where they are wanted, or no cache in the provider's report."""
    if rules.automatic or rules.match == "named":
        return False
    if request.marks == ():
        return True
    known = usage is not None and usage.cached_tokens is not None and usage.cache_write_tokens is not None
    return known and usage is not None and not usage.cached_tokens and not usage.cache_write_tokens


def _continues(now: Sent, earlier: Sent) -> bool:
    """Whether a prompt holds all of an earlier one, so that the earlier needn't be kept."""
    if not now.hashes or not earlier.hashes:
        return True
    whole = shared_messages((now.hashes, now.sizes), (earlier.hashes, earlier.sizes)) == len(earlier.hashes)
    return whole and now.lifetime == earlier.lifetime


def _learned(
    rules: CacheRules, state: CacheState, request: CacheRequest, usage: Usage | None, now_ms: float
) -> CacheState:
    """Note which share of a prefix that was surely there best effort has read."""
    if rules.hits is None or usage is None:
        return state
    found, _ = best_found(rules, state, request, now_ms)
    return _tried(rules, state, request.key, found.reach, usage) if found.alive == 1 else state


def _tried(rules: CacheRules, state: CacheState, key: str, reach: int, usage: Usage) -> CacheState:
    if rules.hits is None or usage.cached_tokens is None or not reach:
        return state
    got = min(1.0, max(0, usage.cached_tokens) / reach)
    trials = {k: (h, n) for k, h, n in state.trials}
    hits, calls = trials.pop(key, (0.0, 0.0))
    trials[key] = (hits + got, calls + 1)
    return state._replace(trials=tuple((k, *v) for k, v in list(trials.items())[-KEYS_KEPT:]))
