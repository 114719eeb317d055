"""Parts of an answer while they stream in: growing, bounded, in order."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from msgspec.structs import replace

from features.wire.types import Part, PartKind

MAX_PART_CHARS = 262_144  # of a part's text; what comes after is dropped from our copy, not from the client's
MAX_PARTS = 1_024


class _Draft:
    """One part: what its start said, and the pieces of text since."""

    __slots__ = ("part", "pieces", "room")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.pieces = [part.text[:MAX_PART_CHARS]] if part.text else []
        self.room = MAX_PART_CHARS - len(part.text)


class Drafts:
    """The parts of one streamed answer by the key the dialect gives them."""

    def __init__(self) -> None:
        self._drafts: dict[Hashable, _Draft] = {}
        self.tool_call_begun = False

    def start(self, key: Any, part: Part) -> None:
        """Begin a part, or replace one that has begun."""
        if isinstance(key, Hashable) and (key in self._drafts or len(self._drafts) < MAX_PARTS):
            self._drafts[key] = _Draft(part)
            self.tool_call_begun = self.tool_call_begun or part.kind == "tool_call"

    def add(self, key: Any, kind: PartKind, text: Any) -> None:
        """Append a piece of text, beginning the part if nothing announced it."""
        if not isinstance(text, str):
            return
        try:
            draft = self._drafts.get(key)
        except TypeError:  # it can't be a key
            return
        if draft is None:
            self.start(key, Part(kind=kind))
            draft = self._drafts.get(key)
        if draft is not None and (room := draft.room) > 0:
            draft.room = left = room - len(text)
            draft.pieces.append(text if left >= 0 else text[:room])

    def name(self, key: Any, name: str | None, call_id: str | None) -> None:
        """Give a tool call the name and id that came with one of its pieces."""
        self.add(key, "tool_call", "")
        draft = self._drafts.get(key)
        if draft is not None and (name or call_id):
            old = draft.part
            draft.part = replace(old, name=old.name or name, call_id=old.call_id or call_id)

    def sign(self, key: Any) -> None:
        """Mark a thinking part as bound to its provider."""
        self.add(key, "thinking", "")
        draft = self._drafts.get(key) if isinstance(key, Hashable) else None
        if draft is not None:
            draft.part = replace(draft.part, signed=True)

    @property
    def spoken(self) -> bool:
        """Whether anything but tool calls has been said so far."""
        return any(d.part.kind != "tool_call" and any(d.pieces) for d in self._drafts.values())

    def parts(self) -> tuple[Part, ...]:
        """The parts so far, in the order they began."""
        return tuple([replace(d.part, text="".join(d.pieces)) for d in self._drafts.values()])
