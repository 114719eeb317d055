"""Requests read with what was read before: an agent sends its whole conversation again with every turn.

Purely a saving of time: what comes out equals `read_head`, `parse_request` and `prefix_chain`. Pieces are
known again by 128 bits of their bytes under a seed of this process, which nobody outside can aim at.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from features.cache import tools_seed
from features.errors import BadInput
from features.growing import LOOSE, Before, Bodies, Following, Grown, Outside, Stage
from features.value import Value
from features.wire import Unremembered, open_request
from features.wire.head import Head, address, place_of, read_head

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Sequence

    from features.cache import Chain
    from features.wire.types import Dialect, Frame, Item, Tools, WireRequest

KEPT_BYTES = 32 * 2**20  # of each: known pieces as they are held, older ones, tools, bodies; 128 MiB at most
PIECE_BYTES = 700  # that a piece takes beside its text, however short that is
PART_BYTES = 130  # of a part beside its texts
KEPT_TOOLS = 256  # sets of tool definitions
TOOL_BYTES = 1_000  # that a tool takes beside its definition


class _Known(NamedTuple):
    item: Item
    held: int  # bytes


class _Offer(NamedTuple):
    """The tools of a request, read."""

    tools: Tools
    seed: str  # of a chain
    held: int  # bytes


class Read(Value, frozen=True):
    """A request, read."""

    head: Head
    request: WireRequest
    chain: Chain  # its tools before its messages
    aside: array[int]  # after each message, of what trajectories go by and a chain leaves out
    spoken: int  # messages in the assistant's name


class Reader(Unremembered):
    """Reads requests; not from several threads at a time."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._seed = secrets.randbits(63)
        self._kept_bytes, self._bytes = kept_bytes, 0
        self._young: dict[bytes, _Known] = {}
        self._old: dict[bytes, _Known] = {}
        self._kinds: dict[str, int] = {}
        self._tools: OrderedDict[bytes, _Offer] = OrderedDict()
        self._tool_bytes = 0
        self._offered = _Offer(((), 0), "", 0)  # with the request that is being read, and
        self._sizes: list[int] = []  # bytes that its pieces hold
        self._bodies = Bodies(self._seed, kept_bytes)

    def read(self, dialect: Dialect, body: bytes) -> Read:
        """Read a request; BadInput as read_head and parse_request raise it."""
        following = self._bodies.follow(dialect, body)
        if following is not None:
            try:
                return self._gone_on(body, following)
            except (BadInput, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # the whole tells what is wrong, and where
        return self._anew(dialect, body)

    def _gone_on(self, body: bytes, following: Following) -> Read:
        """Read what a body says behind what is known of it."""
        known, raws = following.known, following.raws
        outside, stages = known.outside, known.stages[: following.at + 1]
        stage, edge = stages[-1], len(body) - outside.end
        if stage is known.stages[-1]:  # it has only grown, by what nobody knows yet
            items = [outside.read(at, raw) for at, raw in enumerate(raws, stage.pieces)]
            held = sum(map(_held, items))
        else:
            items = self.each(outside.kind, raws, outside.read, stage.pieces)
            held = sum(self._sizes[-LOOSE:])
            if len(items) > LOOSE:
                start = stage.start + place_of(raws[-LOOSE - 1], address(following.between))[1]
                firm = self._bodies.digest(memoryview(body)[:start])
                stage = stage.then(items[:-LOOSE], sum(self._sizes[:-LOOSE]), start, firm)
                stages.append(stage)
                items = items[-LOOSE:]
        if items:
            stage = stage.then(items, held, edge, following.ends)
            stages.append(stage)
            self._bodies.grown(body, known, stages)
        head = outside.head.moved(body, outside.size - outside.end, len(body) - outside.size)
        return _read(head, outside.frame, stage, len(body))

    def _anew(self, dialect: Dialect, body: bytes) -> Read:
        """Read a body whole, but for those of its pieces and as much of its chain as are known."""
        head = read_head(body)
        frame, pieces, items = open_request(dialect, body, self)
        before = Before(self._offered.seed, frame.request.messages)
        first, base, view = before.first(items), address(body), memoryview(body)
        cuts = [len(items) - LOOSE, len(items)] if len(items) > LOOSE else [len(items)]
        stage, stages = self._bodies.begun(before, first, items[: cuts[0]]) or before.stage(), []
        grows = pieces.listed and bool(items)
        for cut in cuts:
            start, done = place_of(pieces.raws[cut - 1], base)[1] if grows else 0, stage.pieces
            begins = self._bodies.digest(view[:start])
            stage = stage.then(items[done:cut], sum(self._sizes[done:cut]), start, begins)
            stages.append(stage)
        if grows:
            end = len(body) - stage.start
            held = 2 * (end + place_of(pieces.raws[0], base)[0])
            outside = Outside(
                dialect, head.moved(b"", 0, 0), len(body), frame, before, pieces.kind, pieces.read,
                end, self._bodies.digest(view[stage.start :]), held,
            )  # fmt: skip
            self._bodies.keep(body, Grown(outside, first, stages))
        return _read(head, frame, stage, len(body))

    def each(
        self,
        kind: str,
        raws: Sequence[msgspec.Raw],
        read: Callable[[int, msgspec.Raw], Item],
        before: int = 0,
    ) -> list[Item]:
        """What `read` makes of each piece behind so many; of one known from its bytes only."""
        seed = self._seed ^ self._kinds.setdefault(kind, len(self._kinds))
        digest = xxhash.xxh3_128_digest
        keys = [digest(raw, seed) for raw in raws]  # hundreds of them: no loop does more than it must
        known_now = enumerate(map(self._young.get, keys))
        found = [known or self._again(keys[at], before + at, raws[at], read) for at, known in known_now]
        self._sizes = [known.held for known in found]
        return [known.item for known in found]

    def _again(
        self, key: bytes, at: int, raw: msgspec.Raw, read: Callable[[int, msgspec.Raw], Item]
    ) -> _Known:
        """Read a piece that isn't known, or was long ago."""
        known = self._old.get(key)
        if known is None:
            item = read(at, raw)
            known = _Known(item, _held(item))
        if known.held > self._kept_bytes // 16:  # one would drive out all that others come back to
            return known
        if self._bytes + known.held > self._kept_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._bytes += known.held
        self._young[key] = known
        return known

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
        self._offered = offer
        return offer.tools


def _read(head: Head, frame: Frame, stage: Stage, body_bytes: int) -> Read:
    said, chain = stage.said, stage.chain
    return Read(head, frame.around(said, body_bytes), (chain.hashes, chain.sizes), stage.aside, said.spoken)


def _held(item: Item) -> int:
    """Bytes that a piece takes, by what its parts hold and not by what the client wrote."""
    held = PIECE_BYTES
    for message in item.messages:
        for part in message.parts:
            held += PART_BYTES + getsizeof(part.text) + len(part.name or "") + len(part.call_id or "")
    return held
