"""Requests read with what was read before: an agent sends its whole conversation again with every turn.

Purely a saving of time: what comes out equals `parse_request` and `prefix_chain`. Pieces are known again by
128 bits of their bytes under a seed of this process, which nobody outside can aim at.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from features.cache import PrefixChain, prefix_chain, tools_seed
from features.wire import Unremembered, parse_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from features.cache import Chain
    from features.wire.types import Dialect, Item, Message, Tools, WireRequest

KEPT_BYTES = 32 * 2**20  # of known pieces as they are held, as much again of older ones, and of tools
PIECE_BYTES = 700  # that a piece takes beside its text, however short that is
PART_BYTES = 130  # of a part beside its texts
KEPT_TOOLS = 256  # sets of tool definitions
TOOL_BYTES = 1_000  # that a tool takes beside its definition
KEPT_MESSAGES = 200_000  # in the chains that are gone on from


class _Known(NamedTuple):
    item: Item
    mark: int  # of what prefix chains are made of: the same with and without cache markers
    held: int  # bytes


class _Offer(NamedTuple):
    tools: Tools
    seed: str  # of a chain
    held: int  # bytes


class _Grown(NamedTuple):
    """A chain that the next request goes on from, and the marks of the pieces that it is part of."""

    marks: list[int]
    chain: PrefixChain


class Reader(Unremembered):
    """Reads requests; not from several threads at a time."""

    def __init__(self, kept_bytes: int = KEPT_BYTES, kept_messages: int = KEPT_MESSAGES) -> None:
        self._seed = secrets.randbits(63)
        self._kept_bytes, self._bytes = kept_bytes, 0
        self._young: dict[bytes, _Known] = {}
        self._old: dict[bytes, _Known] = {}
        self._kinds: dict[str, int] = {}
        self._tools: OrderedDict[bytes, _Offer] = OrderedDict()
        self._tool_bytes = 0
        self._kept_messages, self._messages = kept_messages, 0
        self._grown: OrderedDict[tuple[str, tuple[int, ...]], _Grown] = OrderedDict()
        self._marks: list[int] = []  # of the request that is being read,
        self._offer = _Offer(((), 0), "", 0)  # and its tools

    def read(self, dialect: Dialect, body: bytes) -> tuple[WireRequest, Chain]:
        """A request and its prefix chain, tools before messages; BadInput as parse_request raises it."""
        self._marks = []
        request = parse_request(dialect, body, self)
        return request, self._chain(request.messages)

    def each(
        self, kind: str, raws: Sequence[msgspec.Raw], read: Callable[[int, msgspec.Raw], Item]
    ) -> list[Item]:
        """What `read` makes of each piece, of one known from its bytes only."""
        place = self._kinds.setdefault(kind, len(self._kinds))
        seed = self._seed ^ place
        digest = xxhash.xxh3_128_digest
        keys = [digest(raw, seed) for raw in raws]  # hundreds of them: no loop does more than it must
        known_now = map(self._young.get, keys)
        found = [known or self._again(keys[at], at, raws[at], read) for at, known in enumerate(known_now)]
        if found:  # a mark below 0, as no piece has: what stands apart is never joined
            self._marks += [-1 - place, *[known.mark for known in found]]
        return [known.item for known in found]

    def tools(self, raws: Sequence[msgspec.Raw], read: Callable[[Sequence[msgspec.Raw]], Tools]) -> Tools:
        """What `read` makes of all tool definitions, which a client seldom changes."""
        state = xxhash.xxh3_128(b"%d" % len(raws), self._seed)
        for raw in raws:  # objects, so that no two lists run together alike
            state.update(raw)
        key = state.digest()
        offer = self._tools.get(key)
        if offer is None:
            tools = read(raws)
            held = sum(2 * len(memoryview(raw)) + TOOL_BYTES for raw in raws)
            offer = self._tools[key] = _Offer(tools, tools_seed("", tools[0]), held)
            self._tool_bytes += held
            while self._tools and (len(self._tools) > KEPT_TOOLS or self._tool_bytes > self._kept_bytes):
                self._tool_bytes -= self._tools.popitem(last=False)[1].held
        self._offer = offer
        return offer.tools

    def _again(
        self, key: bytes, at: int, raw: msgspec.Raw, read: Callable[[int, msgspec.Raw], Item]
    ) -> _Known:
        """Read a piece that isn't known, or was long ago."""
        known = self._old.get(key)
        if known is None:
            item = read(at, raw)
            known = _Known(item, prefix_chain(item.messages)[0][-1] if item.messages else 0, _held(item))
        if known.held > self._kept_bytes // 16:  # one would drive out all that others come back to
            return known
        if self._bytes + known.held > self._kept_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._bytes += known.held
        self._young[key] = known
        return known

    def _chain(self, messages: Sequence[Message]) -> Chain:
        """The chain of a request, gone on from that of one that began alike.

        Of that, all but the last two messages are taken over: its last piece may have been another, and
        neighbouring pieces may have become one message.
        """
        marks, seed = self._marks, self._offer.seed
        if len(messages) < 3:
            return prefix_chain(messages, seed)
        key = (seed, tuple([mark for mark in marks[:4] if mark >= 0][:2]))
        known = self._grown.pop(key, None)
        chain = PrefixChain(seed)
        if known is not None:
            self._messages -= len(known.marks)
            n = len(known.marks) - 1
            if known.marks[:n] == marks[:n] and len(known.chain.hashes) <= len(messages) - 2:
                chain = known.chain
        for message in messages[len(chain.hashes) : -2]:
            chain.add(message)
        self._grown[key] = _Grown(marks, chain)
        self._messages += len(marks)
        while self._messages > self._kept_messages:
            _, dropped = self._grown.popitem(last=False)
            self._messages -= len(dropped.marks)
        whole = chain.fork()
        for message in messages[-2:]:
            whole.add(message)
        return whole.hashes, whole.sizes


def _held(item: Item) -> int:
    """Bytes that a piece takes, by what its parts hold and not by what the client wrote."""
    parts = [part for message in item.messages for part in message.parts]
    texts = sum(getsizeof(part.text) + len(part.name or "") + len(part.call_id or "") for part in parts)
    return PIECE_BYTES + PART_BYTES * len(parts) + texts
