"""What a mistake in a file or a body of ours may have been meant to be, in half a line."""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

_SAID = re.compile(r"(?:Invalid enum value|Object contains unknown field) ['`](.*?)['`](?: - at `\$(.*)`)?")
_STEP = re.compile(r"\w+|\[.*?\]")  # of a path such as steps[0].fault or models[...][0]


def meant(said: str, table: Any) -> str:
    """What follows msgspec's words of a `table`: the near key, else all keys, or all values; else ""."""
    found = _SAID.fullmatch(said)
    if found is None:
        return ""
    kind = _at(found[2] or "", table)
    if get_origin(kind) is Literal:
        return f"; it may be {', '.join(map(repr, get_args(kind)))}"
    if not _is_struct(kind):
        return ""
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    near = difflib.get_close_matches(found[1], names, n=1)
    return f"; is it `{near[0]}`?" if near else f"; there are {', '.join(names)}"


def _at(path: str, kind: Any) -> Any:
    """The type of what lies at a path in a table."""
    for step in _STEP.findall(path):
        if step.startswith("["):
            inner = [each for each in get_args(kind) if each is not ...]
            kind = inner[-1] if inner else None
        else:
            kind = get_type_hints(kind).get(step) if _is_struct(kind) else None
        if type(None) in get_args(kind):  # X | None
            kind = get_args(kind)[0]
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
