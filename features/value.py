"""What small immutable values are made of on the way of a request."""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """A value that never changes and never leaves the process: made in C, in a sixth of a NamedTuple's time.

    Say `class Name(Value, frozen=True)`. It can't be unpacked, and `_replace` is `msgspec.structs.replace`.
    What it holds must not lead back to it, since the garbage collector doesn't look inside. As it is neither
    encoded nor decoded, the types of its fields needn't be there at run time.
    """
