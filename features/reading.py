"""Requests read with what was read before: an agent sends its whole conversation again with every turn.

Purely a saving of time: what comes out equals `read_head`, `parse_request` and `prefix_chain`. Pieces are
known again by 128 bits of their bytes under a seed of this process, which nobody outside can aim at.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from sys import getsizeof
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from features.cache import PrefixChain, prefix_chain, tools_seed
from features.growing import LOOSE, Bodies, Following, Offer, Outside, Pieces
from features.trajectory import beside
from features.wire import Unremembered, parse_request
from features.wire.head import Head, read_head
from features.wire.types import NOTHING_SAID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from features.cache import Chain
    from features.wire.types import Dialect, Envelope, Item, Message, Said, Tools, WireRequest

KEPT_BYTES = 32 * 2**20  # of each: known pieces as they are held, older ones, tools, bodies; 128 MiB at most
PIECE_BYTES = 700  # that a piece takes beside its text, however short that is
PART_BYTES = 130  # of a part beside its texts
KEPT_TOOLS = 256  # sets of tool definitions
TOOL_BYTES = 1_000  # that a tool takes beside its definition
KEPT_MESSAGES = 200_000  # in the chains that are gone on from
_MARKS = 2**63 - 1  # none is below 0
_NO_TOOLS = Offer(((), 0), "", 0)
_NO_PIECES = Pieces(NOTHING_SAID, [])


class _Known(NamedTuple):
    item: Item
    mark: int  # of all that was read of it: the same with and without cache markers
    held: int  # bytes


class _Grown(NamedTuple):
    """A chain that the next request goes on from, and the marks of the pieces that it is part of."""

    marks: list[int]
    chain: PrefixChain
    beside: list[int]


class Read(NamedTuple):
    """A request, read."""

    head: Head
    request: WireRequest
    chain: Chain  # its tools before its messages
    beside: list[int]  # after each message, of what trajectories go by and a chain leaves out


class Reader(Unremembered):
    """Reads requests; not from several threads at a time."""

    def __init__(self, kept_bytes: int = KEPT_BYTES, kept_messages: int = KEPT_MESSAGES) -> None:
        self._seed = secrets.randbits(63)
        self._kept_bytes, self._bytes = kept_bytes, 0
        self._young: dict[bytes, _Known] = {}
        self._old: dict[bytes, _Known] = {}
        self._kinds: dict[str, int] = {}
        self._tools: OrderedDict[bytes, Offer] = OrderedDict()
        self._tool_bytes = 0
        self._kept_messages, self._messages = kept_messages, 0
        self._grown: OrderedDict[tuple[str, tuple[int, ...]], _Grown] = OrderedDict()
        self._bodies = Bodies(self._seed, kept_bytes)
        self._following: Following | None = None  # of the request that is being read,
        self._envelope: Any = None
        self._offer = _NO_TOOLS
        self._marks: list[int] = []  # of its pieces,
        self._raws: Sequence[msgspec.Raw] = ()  # those of its conversation
        self._pieces = _NO_PIECES  # as they are read

    def read(self, dialect: Dialect, body: bytes) -> Read:
        """Read a request; BadInput as read_head and parse_request raise it."""
        following = self._following = self._bodies.follow(dialect, body)
        self._marks, self._raws, self._pieces, self._offer = [], (), _NO_PIECES, _NO_TOOLS
        head = following.head if following else read_head(body)
        request = parse_request(dialect, body, self)
        if following is not None:
            self._bodies.followed(body, following, self._pieces)
        else:
            outside = Outside(dialect, head.model, head.values.places, self._envelope, self._offer)
            self._bodies.read(body, outside, self._raws, self._pieces)
        return Read(head, request, *self._chain(request.messages))

    def envelope(self, read: Callable[[bytes], Envelope], body: bytes) -> Envelope:
        """What `read` makes of a body; what stood in one that this one follows isn't read again."""
        self._envelope = self._following.envelope if self._following else read(body)
        envelope: Envelope = self._envelope
        return envelope

    def each(
        self, kind: str, raws: Sequence[msgspec.Raw], read: Callable[[int, msgspec.Raw], Item]
    ) -> list[Item]:
        """What `read` makes of each piece, of one known from its bytes only."""
        found = self._find(kind, raws, read)
        self._mark(kind, [known.mark for known in found])
        return [known.item for known in found]

    def said(self, kind: str, raws: Sequence[msgspec.Raw], read: Callable[[int, msgspec.Raw], Item]) -> Said:
        """The same of the pieces of the conversation, after those that a body begins with."""
        before = self._following.known.pieces if self._following else _NO_PIECES
        found = self._find(kind, raws, read, len(before.marks))
        firm = max(0, len(found) - LOOSE)
        items, marks = [known.item for known in found], [known.mark for known in found]
        held = sum(known.held for known in found[:firm])
        self._raws = raws
        self._pieces = before
        if firm:
            said = before.said.then(items[:firm])
            self._pieces = Pieces(said, before.marks + marks[:firm], before.held + held)
        self._mark(kind, before.marks + marks)
        return self._pieces.said.then(items[firm:])

    def _find(
        self,
        kind: str,
        raws: Sequence[msgspec.Raw],
        read: Callable[[int, msgspec.Raw], Item],
        before: int = 0,
    ) -> list[_Known]:
        seed = self._seed ^ self._kinds.setdefault(kind, len(self._kinds))
        digest = xxhash.xxh3_128_digest
        keys = [digest(raw, seed) for raw in raws]  # hundreds of them: no loop does more than it must
        known_now = enumerate(map(self._young.get, keys))
        return [known or self._again(keys[at], before + at, raws[at], read) for at, known in known_now]

    def _mark(self, kind: str, marks: list[int]) -> None:
        """Note pieces that stand apart from others, by a mark below 0 before them, as no piece has."""
        if marks:
            self._marks += [-1 - self._kinds[kind], *marks]

    def tools(self, raws: Sequence[msgspec.Raw], read: Callable[[Sequence[msgspec.Raw]], Tools]) -> Tools:
        """What `read` makes of all tool definitions, which a client seldom changes."""
        if self._following is not None:
            self._offer = self._following.known.outside.offer
            return self._offer.tools
        state = xxhash.xxh3_128(b"%d" % len(raws), self._seed)
        for raw in raws:  # objects, so that no two lists run together alike
            state.update(raw)
        key = state.digest()
        offer = self._tools.get(key)
        if offer is None:
            tools = read(raws)
            held = sum(2 * len(memoryview(raw)) + TOOL_BYTES for raw in raws)
            offer = self._tools[key] = Offer(tools, tools_seed("", tools[0]), held)
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
            known = _Known(item, hash(item.messages) & _MARKS, _held(item))
        if known.held > self._kept_bytes // 16:  # one would drive out all that others come back to
            return known
        if self._bytes + known.held > self._kept_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._bytes += known.held
        self._young[key] = known
        return known

    def _chain(self, messages: Sequence[Message]) -> tuple[Chain, list[int]]:
        """The chain of a request and what stands beside it, gone on from those of one that began alike.

        Of that, all but the last two messages are taken over: its last piece may have been another, and
        neighbouring pieces may have become one message.
        """
        marks, seed = self._marks, self._offer.seed
        if len(messages) < 3:
            return prefix_chain(messages, seed), beside(messages)
        key = (seed, tuple([mark for mark in marks[:4] if mark >= 0][:2]))
        known = self._grown.pop(key, None)
        chain, aside = PrefixChain(seed), list[int]()
        if known is not None:
            self._messages -= len(known.marks)
            n = len(known.marks) - 1
            if known.marks[:n] == marks[:n] and len(known.chain.hashes) <= len(messages) - 2:
                chain, aside = known.chain, known.beside
        for message in messages[len(chain.hashes) : -2]:
            chain.add(message)
        aside += beside(messages[len(aside) : -2], aside)
        self._grown[key] = _Grown(marks, chain, aside)
        self._messages += len(marks)
        while self._messages > self._kept_messages:
            _, dropped = self._grown.popitem(last=False)
            self._messages -= len(dropped.marks)
        whole = chain.fork()
        for message in messages[-2:]:
            whole.add(message)
        return (whole.hashes, whole.sizes), aside + beside(messages[-2:], aside)


def _held(item: Item) -> int:
    """Bytes that a piece takes, by what its parts hold and not by what the client wrote."""
    parts = [part for message in item.messages for part in message.parts]
    texts = sum(getsizeof(part.text) + len(part.name or "") + len(part.call_id or "") for part in parts)
    return PIECE_BYTES + PART_BYTES * len(parts) + texts
