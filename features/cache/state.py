"""Which prompts are warm where: what caches hold after each answer, corrected by its usage block.

Pure: a state is a value, `after` gives the next one, the caller tells the time. A state covers one
conversation (or one scope) on all its candidates; a `key` names a cache: whoever shares it, and the model.
Requests come as hashes (blocks of tokens, or whole messages), or as token counts alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from features.cache.prefixes import goes_on, shared_messages
from features.cache.reading import best_found, hit_rate, up_to
from features.cache.types import CacheState, Sent

if TYPE_CHECKING:
    from features.cache.rules import CacheRules
    from features.cache.types import CacheRequest, Split
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
    tokens, answer = max(0, request.tokens), 0
    if usage is not None:
        state = _learned(rules, state, request, usage, now_ms)
        tokens = _counted(usage) or tokens
        answer = (usage.output_tokens or 0) if rules.answers else 0
    if tokens < rules.floor_tokens or _uncached(rules, request, usage):
        return state
    if not rules.sliding and best_found(rules, state, request, now_ms)[0].reach:
        return state  # the object lives on as it is
    sent = Sent(
        request.key, tokens, answer, request.hashes, request.sizes,
        _marks_after(rules, state, request, now_ms), request.settings, request.lifetime,
        now_ms, now_ms if visible_ms is None else visible_ms,
    )  # fmt: skip
    # What this prompt continues stands in for it until others can read it.
    waits = bool(request.hashes) and sent.visible_ms > now_ms
    own, others = [], []
    for earlier in state.sent:
        if earlier.key != sent.key:
            others.append(earlier)
        elif waits or not _continues(sent, earlier):
            own.append(earlier)
    kept = own[-(KEPT - 1) :] if request.hashes else []  # of counts only the last prompt can be told
    return CacheState((*others, *kept, sent)[-KEPT * KEYS_KEPT :], state.trials)


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
    if rules.hits is not None and said.hit >= hit_rate(rules, state, request.key) - 1e-9:
        state = _tried(rules, state, request.key, said.read, usage)  # and no lifetime is in doubt
    at = len(state.sent) - 1
    while at >= 0 and not _same(state.sent[at], request):
        at -= 1
    if at < 0:
        return state
    sent = state.sent[at]
    kept = [s for s in state.sent[:at] if s.key != sent.key or not _continues(sent, s)]
    tokens = _counted(usage) or sent.tokens
    if tokens >= rules.floor_tokens and not _uncached(rules, request, usage):
        answer = (usage.output_tokens or 0) if rules.answers else 0
        seen_ms = min(sent.visible_ms, now_ms)
        kept.append(replace(sent, tokens=tokens, answer_tokens=answer, visible_ms=seen_ms))
    return CacheState((*kept, *state.sent[at + 1 :]), state.trials)


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
    held: tuple[tuple[int, float], ...] = ()
    reach = 0
    kept: str | None = None
    for sent in reversed(state.sent):  # each has noted already what it had in common with those before it
        if sent.key != request.key or not sent.marks:
            continue
        n = shared_messages(request.hashes, sent.hashes)
        noted = reach if sent.lifetime == kept else 0
        marks = sent.marks[up_to(sent.marks, noted) : up_to(sent.marks, n)]
        living = rules.lifetime(sent.lifetime).living(marks, now_ms)
        merges = held and held[-1][0] > noted
        held = (*held, *living)
        if merges:  # of an entry in both, the later use comes last and stays
            held = tuple(dict(sorted(held)).items())
        reach, kept = max(noted, n), sent.lifetime
    last = len(request.hashes)
    if request.marks:
        own = request.marks[-(rules.marks_max or last) :]
        return tuple(sorted(dict((*held, *((entry, now_ms) for entry in own))).items()))
    if held and held[-1][0] == last:
        held = held[:-1]
    return (*held, (last, now_ms))


def _counted(usage: Usage) -> int | None:
    if usage.input_tokens_uncached is None:
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
    return now.lifetime == earlier.lifetime and goes_on(now.hashes, earlier.hashes)


def _learned(
    rules: CacheRules, state: CacheState, request: CacheRequest, usage: Usage, now_ms: float
) -> CacheState:
    """Note which share of a prefix that was surely there best effort has read."""
    if rules.hits is None:
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
    return CacheState(state.sent, tuple((k, *v) for k, v in list(trials.items())[-KEYS_KEPT:]))
