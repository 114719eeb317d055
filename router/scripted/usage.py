"""Plausible and deterministic token counts: bytes / 4, with a cache of prefixes seen per key and model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import xxhash

if TYPE_CHECKING:
    from router.scripted.reading import Block, Conversation
    from router.scripted.script import FilledStep

BYTES_PER_TOKEN = 4


class Tokens(NamedTuple):
    """Token counts of one call; the prompt is `uncached + cached + cache_write`."""

    uncached: int
    cached: int
    cache_write: int
    output: int
    reasoning: int

    @property
    def prompt(self) -> int:
        """The whole prompt in tokens."""
        return self.uncached + self.cached + self.cache_write


class PrefixCache:
    """Which prompt prefixes were seen, by key and model; never expires, so a run is reproducible."""

    def __init__(self, floor_tokens: int) -> None:
        self._floor = floor_tokens
        self._seen: dict[tuple[str, str], set[int]] = {}

    def shared_bytes(self, key: str, talk: Conversation) -> int:
        """Bytes of the longest prefix kept before under this key and model; keeps this prompt's.

        Messages keeps the prefixes that end in a marker, the OpenAI dialects keep every one.
        """
        seen = self._seen.setdefault((key, talk.model), set())
        chain = _chain(talk.blocks)
        shared = max((size for digest, size in chain if digest in seen), default=0)
        every = talk.dialect != "anthropic_messages"
        kept = zip(chain, talk.blocks, strict=True)
        seen.update(digest for (digest, _), block in kept if every or block.marked)
        return shared if shared // BYTES_PER_TOKEN >= self._floor else 0


def _chain(blocks: tuple[Block, ...]) -> list[tuple[int, int]]:
    """Compute the running hash and running size after each block."""
    state, size, chain = xxhash.xxh3_64(), 0, []
    for block in blocks:
        state.update(len(block.data).to_bytes(8, "little") + block.data)
        size += len(block.data)
        chain.append((state.intdigest(), size))
    return chain


def count(talk: Conversation, step: FilledStep, shared_bytes: int) -> Tokens:
    """Token counts of answering `talk` with `step`, given what the cache already holds.

    Messages only caches what the client marked; the OpenAI dialects cache by themselves and report no
    write. An override of the step replaces single counts.
    """
    prompt = max(1, talk.size // BYTES_PER_TOKEN)
    cached = min(shared_bytes // BYTES_PER_TOKEN, prompt - 1)
    write = 0
    if talk.dialect == "anthropic_messages":
        marked = _marked_bytes(talk.blocks) // BYTES_PER_TOKEN
        cached = min(cached, marked)
        write = max(0, min(marked, prompt - 1) - cached)
    reasoning = _tokens(step.thinking)
    calls = sum(
        _tokens(c.name) + _tokens(c.text if c.text is not None else str(c.arguments)) for c in step.calls
    )
    simulated = Tokens(
        uncached=prompt - cached - write,
        cached=cached,
        cache_write=write,
        output=max(1, _tokens(step.text) + reasoning + calls),
        reasoning=reasoning,
    )
    if step.usage is None:
        return simulated
    given = {name: getattr(step.usage, name) for name in Tokens._fields}
    return simulated._replace(**{name: value for name, value in given.items() if value is not None})


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def _marked_bytes(blocks: tuple[Block, ...]) -> int:
    last = max((i for i, b in enumerate(blocks) if b.marked), default=-1)
    return sum(len(b.data) for b in blocks[: last + 1])
