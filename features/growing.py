"""Bodies that begin and end like one that was read before, with more of the conversation between.

An agent appends to its conversation and sends everything else again, byte for byte. Where a body begins like
a known one up to the end of a piece, and ends like it from the end of its last piece on, what stands between
can only be more pieces: JSON has one reading. Of the known bytes nothing is read again; they are compared by
128 bits under the reader's seed.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from features.cache import PrefixChain
from features.trajectory import beside
from features.value import Value
from features.wire import plain
from features.wire.types import Said

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Sequence

    from features.wire.head import Head
    from features.wire.types import Dialect, Frame, Item, Message

LOOSE = 4  # last pieces, which may still change: clients move their cache markers along
_ALIKE = 8  # bodies kept that begin alike
_STEP = 1_024  # bytes; this many, doubled as often as it goes, tell which bodies one may follow
_BODY_BYTES = 8_000  # that a body takes beside what it says
_MESSAGE_BYTES = 250  # that a message takes in the stages of a body
_COMMA = 0x2C

_list = msgspec.json.Decoder(list[msgspec.Raw])


class Stage(Value, frozen=True):
    """A conversation up to the end of a piece, read; another body may begin with it and go on from here."""

    said: Said
    chain: PrefixChain
    aside: array[int]  # what stands beside the chain, see `beside`
    pieces: int = 0
    held: int = 0  # bytes
    start: int = 0  # bytes that the body has up to here, and
    begins: bytes = b""  # their digest

    def then(self, items: Sequence[Item], held: int, start: int, begins: bytes) -> Stage:
        """The same with more pieces behind it, which hold so many bytes, at its place in a body."""
        was, said = self.said.messages, self.said.then(items)
        chain, aside = self.chain, self.aside
        if was and said.messages[len(was) - 1] is not was[-1]:  # it became one with the next
            chain, aside = chain.without_last(), aside[:-1]
        new = said.messages[len(aside) :]
        if new:
            chain = chain.with_more(new)
            aside = aside + beside(new, aside)
        return Stage(said, chain, aside, self.pieces + len(items), self.held + held, start, begins)


class Before(NamedTuple):
    """What stands before a conversation in its chain."""

    seed: str
    messages: tuple[Message, ...]

    def stage(self) -> Stage:
        """Nothing said yet."""
        chain = PrefixChain(self.seed).with_more(self.messages)
        return Stage(Said.behind(self.messages), chain, beside(self.messages))

    def first(self, items: Sequence[Item]) -> int:
        """What a conversation is looked for by: the tools and the two messages that it begins with."""
        said = [message for item in items[:2] for message in item.messages]
        return hash((self.seed, (*self.messages, *said)[:2]))


class Outside(NamedTuple):
    """What a body says beside its conversation, and how that is read."""

    dialect: Dialect
    head: Head  # of the body that was read whole, without its bytes
    size: int  # of that
    frame: Frame
    before: Before
    kind: str
    read: Callable[[int, msgspec.Raw], Item]
    end: int  # bytes that it ends with, from the end of the last piece on, and
    ends: bytes  # their digest
    held: int  # bytes


class Grown:
    """A body whose session may go on, and what was read of it; `stages` are where, the last its end."""

    __slots__ = ("first", "held", "opening", "outside", "stages", "step")

    def __init__(self, outside: Outside, first: int, stages: list[Stage]) -> None:
        self.outside = outside
        self.first = first  # see `Before`
        self.opening = b""  # digest of its first bytes, to the last `step` within its first stage
        self.reach(stages)

    def reach(self, stages: list[Stage]) -> None:
        """Be as far as the last of these; of the others those are kept that a marker may be behind."""
        last = stages[-1]
        while len(stages) > 1 and stages[1].pieces <= last.pieces - LOOSE:
            stages = stages[1:]
        self.stages = stages
        self.step = _last_step(stages[0].start)
        self.held = _BODY_BYTES + self.outside.held + last.held + _MESSAGE_BYTES * len(last.aside)


class Following(Value, frozen=True):
    """A body that follows a known one: how far it begins like it, and its pieces from there on."""

    known: Grown
    at: int  # of the known one's stages
    raws: list[msgspec.Raw]
    between: bytes  # the same as a list
    ends: bytes  # digest of the body to the end of its last piece


class Bodies:
    """The bodies read lately, by how they begin; bounded by the bytes that they hold."""

    def __init__(self, seed: int, kept_bytes: int) -> None:
        self._seed, self._kept_bytes, self._bytes = seed, kept_bytes, 0
        self._most = kept_bytes // 16  # that one may hold
        self.digest: Callable[[memoryview], bytes] = partial(xxhash.xxh3_128_digest, seed=seed)
        self._known: OrderedDict[bytes, list[Grown]] = OrderedDict()
        self._first: dict[int, Grown] = {}  # the latest of those with the same first messages

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def follow(self, dialect: Dialect, body: bytes) -> Following | None:
        """What a body follows, and its new pieces; None if it has to be read whole."""
        view, step = memoryview(body), _last_step(len(body))
        while step >= _STEP:
            opening = xxhash.xxh3_128(view[:step], self._seed)
            for known in reversed(self._known.get(opening.digest(), ())):  # the latest first
                if known.outside.dialect == dialect:
                    following = self._following(known, body, view, opening)
                    if following is not None:
                        return following
            step //= 2
        return None

    def _following(
        self, known: Grown, body: bytes, view: memoryview, opening: xxhash.xxh3_128
    ) -> Following | None:
        """What a body follows of one that opens like it; `opening` has hashed the `step` bytes of that."""
        edge = len(body) - known.outside.end
        if edge <= 0 or self.digest(view[edge:]) != known.outside.ends:
            return None
        for at in range(len(known.stages) - 1, -1, -1):
            stage = known.stages[at]
            if stage.start > edge:
                continue
            state = opening.copy()
            state.update(view[known.step : stage.start])
            if state.digest() == stage.begins:
                found = _between(body, stage.start, edge)
                if found is None or stage.pieces + len(found[0]) > plain.MAX_MESSAGES:
                    return None
                state.update(view[stage.start : edge])
                return Following(known, at, *found, state.digest())
        return None

    def begun(self, before: Before, first: int, items: Sequence[Item]) -> Stage | None:
        """A stage with the chain of what these pieces say, as far as it is known whatever their bytes."""
        known = self._first.get(first)
        if known is None or known.outside.before != before:
            return None
        nothing = Said.behind(before.messages)
        messages = nothing.then(items).messages
        for stage in reversed(known.stages):
            n = len(stage.said.messages) - 1
            if nothing.apart < n < len(messages) and stage.said.messages[:n] == messages[:n]:
                return Stage(nothing, stage.chain.without_last(), stage.aside[:-1])
        return None

    def keep(self, body: bytes, new: Grown) -> None:
        """Keep a body for those that follow it."""
        if new.step < _STEP or new.held > self._most:
            return
        new.opening = self.digest(memoryview(body)[: new.step])
        alike = self._known.setdefault(new.opening, [])
        alike.append(new)
        self._bytes += new.held
        if len(alike) > _ALIKE:
            self._drop(alike[0])
        self._used(new)

    def grown(self, body: bytes, known: Grown, stages: list[Stage]) -> None:
        """Keep a body instead of the one that it followed."""
        step, held = known.step, known.held
        known.reach(stages)
        self._bytes += known.held - held
        if known.step == step and known.held <= self._most:
            self._used(known)
        else:
            self._drop(known)
            self.keep(body, known)

    def _used(self, known: Grown) -> None:
        """Note which one was the last, and let go of those that weren't for longest."""
        self._known.move_to_end(known.opening)
        self._first[known.first] = known
        while self._bytes > self._kept_bytes:
            self._drop(next(iter(self._known.values()))[0])

    def _drop(self, known: Grown) -> None:
        alike = self._known[known.opening]
        alike.remove(known)
        if not alike:
            del self._known[known.opening]
        if self._first.get(known.first) is known:
            del self._first[known.first]
        self._bytes -= known.held


def _last_step(size: int) -> int:
    """The largest of the steps that go into a size; less than the first where none does."""
    return 1 << size.bit_length() - 1 if size else 0


def _between(body: bytes, start: int, edge: int) -> tuple[list[msgspec.Raw], bytes] | None:
    """What stands between the known ends of a body, as pieces; None unless it is pieces alone."""
    if start == edge:
        return [], b""
    if body[start] != _COMMA:
        return None
    between = b"[%b]" % body[start + 1 : edge]
    try:
        raws = _list.decode(between)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the whole tells where
        return None
    return (raws, between) if raws else None
