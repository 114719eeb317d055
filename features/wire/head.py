"""Where the values of a request body stand, byte for byte, and the model it asks for.

Never by text search: `"model":` also occurs in tool schemas and in messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from features.errors import BadInput
from features.value import Value
from features.wire import plain

_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])

# What may stand between two values of an object: a comma, a key, a colon. A key that is given twice leaves
# its first value in such a gap, since the decoder keeps the last one.
_KEY = rb'\s*+"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+:\s*+'
_FIRST_GAP = re.compile(rb"\s*+\{" + _KEY)
_GAP = re.compile(rb"\s*+," + _KEY)
MAX_KEYS = 256  # at the top level; dialects have about 40

Places = Mapping[str, tuple[int, int]]  # first byte of each value of an object, and the one behind its last


class Values(Mapping[str, msgspec.Raw]):
    """The values of an object by their key, as views into its bytes.

    `places` are those of a body like it, but that one value ended at `was` there and is `by` bytes longer.
    """

    __slots__ = ("_body", "_by", "_was", "places")

    def __init__(self, body: bytes, places: Places, was: int = 0, by: int = 0) -> None:
        self.places = places
        self._body, self._was, self._by = body, was, by

    def place(self, key: str) -> tuple[int, int]:
        """First byte of a value and the one behind its last."""
        start, end = self.places[key]
        return start + self._by if start >= self._was else start, end + self._by if end > self._was else end

    def __getitem__(self, key: str) -> msgspec.Raw:
        """Return the value as it stands in the body."""
        start, end = self.place(key)
        return msgspec.Raw(memoryview(self._body)[start:end])

    def __contains__(self, key: object) -> bool:
        """Tell whether the object has a key."""
        return key in self.places

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self.places)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self.places)


class Head(Value, frozen=True):
    """The model a body asks for, where its JSON string stands, in bytes, and all values by their key."""

    model: str
    start: int
    end: int
    values: Values

    def moved(self, body: bytes, was: int, by: int) -> Head:
        """The head of a body that is `by` bytes longer where one of its values ended at `was`."""
        values = Values(body, self.values.places, was, by)
        return Head(self.model, *values.place("model"), values)


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
    places = {key: place_of(value, base) for key, value in values.items()}
    _refuse_duplicates(body, sorted(places.values()))
    try:
        model = msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("'model' in the request body must be a string") from error
    return Head(model, *places["model"], Values(body, places))


def _refuse_duplicates(body: bytes, places: list[tuple[int, int]]) -> None:
    reached, gap = 0, _FIRST_GAP
    for start, end in places:
        if gap.fullmatch(body, reached, start) is None:
            raise BadInput("the request body has a key twice at its top level")
        reached, gap = end, _GAP
    if body[reached:].strip() != b"}":
        raise BadInput("the request body has a key twice at its top level")


def place_of(raw: msgspec.Raw, base: int) -> tuple[int, int]:
    """First byte of a value and the one behind its last, in the body at the address `base`."""
    start = address(raw) - base
    return start, start + len(memoryview(raw))


def address(buffer: bytes | msgspec.Raw) -> int:
    """Memory address of a buffer; a Raw is a view into the body it was decoded from."""
    return int(np.frombuffer(memoryview(buffer), np.uint8).__array_interface__["data"][0])
