"""What changes in a request body: its model and what is added, at their places; every other byte stays.

Byte fidelity keeps the provider's prompt cache and whatever we don't know about a dialect. Never by text
search: `"model":` also occurs in tool schemas and in messages.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.errors import BadInput
from features.wire import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])

# What may stand between two values of an object: a comma, a key, a colon. A key that is given twice leaves
# its first value in such a gap, since the decoder keeps the last one.
_KEY = rb'\s*+"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+:\s*+'
_FIRST_GAP = re.compile(rb"\s*+\{" + _KEY)
_GAP = re.compile(rb"\s*+," + _KEY)
MAX_KEYS = 256  # at the top level; dialects have about 40


class Head(NamedTuple):
    """The model a body asks for, where its JSON string stands, in bytes, and all values by their key."""

    model: str
    start: int
    end: int
    values: Mapping[str, msgspec.Raw] = {}  # views into the body


class Insert(NamedTuple):
    """Bytes to be put before the one at `at`."""

    at: int
    text: bytes


def read_head(body: bytes) -> Head:
    """Find the model of a request body; BadInput if it is no JSON object, has none, or has a key twice."""
    try:
        values = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the request body is not a JSON object: {plain.why_not_json(error, body)}") from error
    except RecursionError:
        raise BadInput("the request body is nested too deeply") from None
    if len(values) > MAX_KEYS:
        raise BadInput(f"the request body has {len(values)} keys at its top level; {MAX_KEYS} are let in")
    raw = values.get("model")
    if raw is None:
        raise BadInput("the request body lacks 'model'")
    base = address(body)
    places = sorted((address(value) - base, len(memoryview(value))) for value in values.values())
    _refuse_duplicates(body, places)
    try:
        model = msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("'model' in the request body must be a string") from error
    start = address(raw) - base
    return Head(model, start, start + len(memoryview(raw)), values)


def with_model(body: bytes, head: Head, model: str, inserts: Sequence[Insert] = ()) -> bytes:
    """Put another model in the body's place for it, and what is added at its places; nothing else changes.

    The body is copied once; it is handed back itself where nothing is to be changed.
    """
    edits = [(insert.at, insert.at, insert.text) for insert in inserts]
    if model != head.model:
        edits.append((head.start, head.end, msgspec.json.encode(model)))
    if not edits:
        return body
    view, reached = memoryview(body), 0
    pieces: list[bytes | memoryview] = []
    for start, end, text in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (view[reached:start], text)
        reached = end
    return b"".join((*pieces, view[reached:]))


def _refuse_duplicates(body: bytes, places: list[tuple[int, int]]) -> None:
    reached, gap = 0, _FIRST_GAP
    for start, length in places:
        if gap.fullmatch(body, reached, start) is None:
            raise BadInput("the request body has a key twice at its top level")
        reached, gap = start + length, _GAP
    if body[reached:].strip() != b"}":
        raise BadInput("the request body has a key twice at its top level")


def address(buffer: bytes | msgspec.Raw) -> int:
    """Memory address of a buffer; a Raw is a view into the body it was decoded from."""
    return int(np.frombuffer(memoryview(buffer), np.uint8).__array_interface__["data"][0])
