"""The model in a request body: found at its place, replaced there, every other byte left as it came.

Byte fidelity keeps the provider's prompt cache and whatever we don't know about a dialect. Never by text
search: `"model":` also occurs in tool schemas and in messages.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
import numpy as np

from features.errors import BadInput
from features.wire import plain

_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])

# What may stand between two values of an object: a comma, a key, a colon. A key that is given twice leaves
# its first value in such a gap, since the decoder keeps the last one.
_KEY = rb'\s*+"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+:\s*+'
_FIRST_GAP = re.compile(rb"\s*+\{" + _KEY)
_GAP = re.compile(rb"\s*+," + _KEY)
MAX_KEYS = 256  # at the top level; dialects have about 40


class Head(NamedTuple):
    """The model a body asks for and where its JSON string stands, in bytes."""

    model: str
    start: int
    end: int


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
    base = _address(body)
    places = sorted((_address(value) - base, len(memoryview(value))) for value in values.values())
    _refuse_duplicates(body, places)
    try:
        model = msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("'model' in the request body must be a string") from error
    start = _address(raw) - base
    return Head(model, start, start + len(memoryview(raw)))


def with_model(body: bytes, head: Head, model: str) -> bytes:
    """Put another model in the body's place for it; nothing else changes."""
    if model == head.model:
        return body
    return b"".join((body[: head.start], msgspec.json.encode(model), body[head.end :]))


def _refuse_duplicates(body: bytes, places: list[tuple[int, int]]) -> None:
    reached, gap = 0, _FIRST_GAP
    for start, length in places:
        if gap.fullmatch(body, reached, start) is None:
            raise BadInput("the request body has a key twice at its top level")
        reached, gap = start + length, _GAP
    if body[reached:].strip() != b"}":
        raise BadInput("the request body has a key twice at its top level")


def _address(buffer: bytes | msgspec.Raw) -> int:
    """Memory address of a buffer; a Raw is a view into the body it was decoded from."""
    return int(np.frombuffer(memoryview(buffer), np.uint8).__array_interface__["data"][0])
