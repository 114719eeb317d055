"""What changes in a request body: its model and what is added, at their places; every other byte stays.

Byte fidelity keeps the provider's prompt cache and whatever we don't know about a dialect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.wire.head import Head

    Pieces = tuple[bytes | memoryview, ...]  # of a body, in order


class Insert(NamedTuple):
    """Bytes to be put before the one at `at`."""

    at: int
    text: bytes


def with_model(body: bytes, head: Head, model: str, inserts: Sequence[Insert] = ()) -> Pieces:
    """Put another model in the body's place for it, and what is added at its places; nothing else changes.

    What comes of it is in pieces: nothing of the body is copied.
    """
    edits = [(insert.at, insert.at, insert.text) for insert in inserts]
    if model != head.model:
        edits.append((head.start, head.end, msgspec.json.encode(model)))
    if not edits:
        return (body,)
    view, reached = memoryview(body), 0
    pieces: list[bytes | memoryview] = []
    for start, end, text in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (view[reached:start], text)
        reached = end
    return (*pieces, view[reached:])
