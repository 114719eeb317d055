"""Bodies that begin and end like one that was read before, with more of the conversation between.

An agent appends to its conversation and sends everything else again, byte for byte. Where a body begins like
a known one up to the end of a piece, and ends like it from the end of its last piece on, what stands between
can only be more pieces: JSON has one reading. Of the known bytes nothing is parsed again; they are compared
by 128 bits under the reader's seed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import xxhash

from features.wire import plain
from features.wire.head import address, head_of, place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.wire.head import Head, Places
    from features.wire.types import Dialect, Said, Tools

LOOSE = 4  # last pieces, which may still change: clients move their cache markers along
_ALIKE = 8  # bodies kept that begin alike
_STEP = 1_024  # bytes; this many, doubled as often as it goes, tell which bodies one may follow
_BODY_BYTES = 2_000  # that a body takes beside what it says
_DECODED = 30  # bytes that a byte of JSON may take once it is read, as in [{},{},{}]

_list = msgspec.json.Decoder(list[msgspec.Raw])
_SAID: dict[Dialect, str] = {
    "anthropic_messages": "messages",
    "openai_chat": "messages",
    "openai_responses": "input",
}


class Offer(NamedTuple):
    """The tools of a request, read."""

    tools: Tools
    seed: str  # of a chain
    held: int  # bytes


class Pieces(NamedTuple):
    """Pieces of a conversation, read."""

    said: Said
    marks: list[int]  # by which a reader knows each again
    held: int = 0  # bytes


class Outside(NamedTuple):
    """What a body says beside its conversation."""

    dialect: Dialect
    model: str
    places: Places
    envelope: Any  # the dialect's
    offer: Offer
    held: int = 0  # bytes


class Grown(NamedTuple):
    """A body as far as the next one of its session begins and ends like it, and what was read of that."""

    outside: Outside
    opening: bytes  # digest of its first bytes, to the last step before `start`
    start: int  # bytes that it begins with, to the end of a piece, and
    begins: bytes  # their digest
    end: int  # bytes that it ends with, from the end of the last piece on, and
    ends: bytes  # their digest
    size: int  # of the whole body
    pieces: Pieces  # to `start`
    held: int  # bytes


class Following(NamedTuple):
    """A body that follows a known one: its pieces from there on, and its envelope with them."""

    known: Grown
    raws: list[msgspec.Raw]
    between: bytes  # the same as a list
    head: Head
    envelope: Any


class Bodies:
    """The bodies read lately, by how they begin; bounded by the bytes that they hold."""

    def __init__(self, seed: int, kept_bytes: int) -> None:
        self._seed, self._kept_bytes, self._bytes = seed, kept_bytes, 0
        self._known: OrderedDict[bytes, list[Grown]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def follow(self, dialect: Dialect, body: bytes) -> Following | None:
        """What a body follows, and its new pieces; None if it has to be read whole."""
        view, step = memoryview(body), _last_step(len(body))
        while step >= _STEP:
            for known in self._known.get(self._digest(view[:step]), ()):
                if known.outside.dialect == dialect and self._fits(known, view):
                    return _following(known, body)
            step //= 2
        return None

    def _fits(self, known: Grown, view: memoryview) -> bool:
        edge = len(view) - known.end
        return (
            known.start < edge
            and self._digest(view[: known.start]) == known.begins
            and self._digest(view[edge:]) == known.ends
        )

    def read(self, body: bytes, outside: Outside, raws: Sequence[msgspec.Raw], pieces: Pieces) -> None:
        """Keep a body that was read whole, its conversation in `raws`, for those that follow it."""
        cut = len(pieces.marks)
        if not cut:
            return
        base = address(body)
        start, last = place_of(raws[cut - 1], base)[1], place_of(raws[-1], base)[1]
        ends = self._digest(memoryview(body)[last:])
        self._keep(body, start, Grown(_kept(outside), b"", 0, b"", len(body) - last, ends, 0, pieces, 0))

    def followed(self, body: bytes, following: Following, pieces: Pieces) -> None:
        """Keep a body that followed another instead of that."""
        known = following.known
        new = len(pieces.marks) - len(known.pieces.marks)
        if not new:
            return
        self._drop(known)
        start = known.start + place_of(following.raws[new - 1], address(following.between))[1]
        outside = known.outside._replace(places=following.head.values.places)
        self._keep(body, start, known._replace(outside=outside, pieces=pieces))

    def _keep(self, body: bytes, start: int, grown: Grown) -> None:
        """Keep a body to `start`, where its pieces end that are kept."""
        view, step = memoryview(body), _last_step(start)
        held = _BODY_BYTES + grown.outside.held + grown.pieces.held
        if start < _STEP or held > self._kept_bytes // 16:
            return
        opening, begins = self._digest(view[:step]), self._digest(view[:start])
        grown = grown._replace(opening=opening, start=start, begins=begins, size=len(body), held=held)
        alike = self._known.setdefault(opening, [])
        self._known.move_to_end(opening)
        alike.append(grown)
        self._bytes += held
        if len(alike) > _ALIKE:
            self._drop(alike[0])
        while self._bytes > self._kept_bytes:
            self._drop(next(iter(self._known.values()))[0])

    def _drop(self, known: Grown) -> None:
        alike = self._known[known.opening]
        del alike[next(at for at, one in enumerate(alike) if one is known)]
        if not alike:
            del self._known[known.opening]
        self._bytes -= known.held

    def _digest(self, view: memoryview) -> bytes:
        return xxhash.xxh3_128_digest(view, self._seed)


def _last_step(size: int) -> int:
    """The largest of the steps that go into a size; less than the first where none does."""
    return 1 << size.bit_length() - 1 if size else 0


def _following(known: Grown, body: bytes) -> Following | None:
    """What stands between the known ends of a body; None unless it is pieces alone."""
    edge = len(body) - known.end
    if body[known.start] != 0x2C:  # a comma
        return None
    between = b"[%b]" % body[known.start + 1 : edge]
    try:
        raws = _list.decode(between)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the whole tells where
        return None
    if not raws or len(known.pieces.marks) + len(raws) > plain.MAX_MESSAGES:
        return None
    by, was = len(body) - known.size, known.size - known.end
    places = {
        key: (start + by if start >= was else start, end + by if end > was else end)
        for key, (start, end) in known.outside.places.items()
    }
    said = _SAID[known.outside.dialect]
    pieces = raws if said == "messages" else msgspec.Raw(between)
    envelope = msgspec.structs.replace(known.outside.envelope, **{said: pieces})
    return Following(known, raws, between, head_of(known.outside.model, body, places), envelope)


def _kept(outside: Outside) -> Outside:
    """The same without the conversation, and without views into the body."""
    said = _SAID[outside.dialect]
    kept: dict[str, Any] = {said: [] if said == "messages" else msgspec.Raw()}
    held = 0
    for name in outside.envelope.__struct_fields__:
        value, (start, end) = getattr(outside.envelope, name), outside.places.get(name, (0, 0))
        if name == said:
            continue
        if isinstance(value, msgspec.Raw):
            kept[name] = value.copy()
        elif isinstance(value, list) and value and isinstance(value[0], msgspec.Raw):
            kept[name] = [raw.copy() for raw in value]
        held += (end - start) * (2 if name in kept else _DECODED)
    return outside._replace(envelope=msgspec.structs.replace(outside.envelope, **kept), held=held)
