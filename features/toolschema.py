"""The structure of the tools offered: parameters, nesting, types, and whether the task speaks of them.

A call with one flat function and a call with four nested ones are different tasks, whatever their texts say.
Only counts leave this file; a definition is read once and remembered by its digest, for tools seldom change.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.tools import NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.wire.types import Tool

_KEPT = 4_096  # definitions remembered
_OFFERS_KEPT = 512  # sets of definitions
_PIECES_KEPT = 1_024
_MAX_DEPTH = 12  # what is nested deeper is not followed
_MAX_NODES = 2_000  # of one definition
# The types that JSON Schema and its usual misspellings know; others tell of another language's declarations.
_USUAL = frozenset(
    (
        *("object", "dict", "array", "list", "tuple", "string", "integer", "int", "number", "float"),
        *("boolean", "bool", "null"),
    )
)
_ARRAYS = frozenset(("array", "list", "tuple", "arraylist"))
_WORD = re.compile(r"[a-z]+|[0-9]+")
_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_any = msgspec.json.Decoder()


class ToolShape(NamedTuple):
    """Counts of one tool's definition."""

    params: int = 0  # of the function itself
    required: int = 0
    nested: int = 0  # parameters of parameters
    enums: int = 0
    arrays: int = 0
    defaults: int = 0
    depth: int = 0  # of the deepest parameter, 1 for a flat function
    doc_bytes: int = 0  # of the function's own description
    types: frozenset[str] = frozenset()  # names of types, in lower case


class Shapes(dict[int, ToolShape]):
    """Digest of a definition -> its shape; started anew when full."""

    def of(self, digest: int, definition: bytes | dict[str, Any]) -> ToolShape:
        """Shape of a definition in any dialect, JSON or decoded; what isn't one has no parameters."""
        known = self.get(digest)
        if known is None:
            if len(self) >= _KEPT:
                self.clear()
            known = self[digest] = shape_of(definition)
        return known


def shape_of(definition: bytes | dict[str, Any]) -> ToolShape:
    """Read a definition's shape: of its `parameters` (OpenAI) or its `input_schema` (Anthropic)."""
    try:
        plain = _any.decode(definition) if isinstance(definition, bytes) else definition
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ToolShape()
    if not isinstance(plain, dict):
        return ToolShape()
    inner = plain.get("function")
    function = inner if isinstance(inner, dict) else plain
    schema = function.get("parameters") or function.get("input_schema")
    said = function.get("description")
    doc = len(said.encode("utf-8", "surrogatepass")) if isinstance(said, str) else 0
    return _walked(schema, doc)


def _walked(schema: Any, doc_bytes: int) -> ToolShape:
    """Count a schema's nodes without recursion: a hostile one is cut off, not followed."""
    counts = dict.fromkeys(("params", "required", "nested", "enums", "arrays", "defaults", "depth"), 0)
    types: set[str] = set()
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    for _ in range(_MAX_NODES):
        if not waiting:
            break
        node, depth = waiting.pop()
        if not isinstance(node, dict) or depth > _MAX_DEPTH:
            continue
        counts["depth"] = max(counts["depth"], depth)
        kind = node.get("type")
        if isinstance(kind, str):
            types.add(kind[:40].lower())
            counts["arrays"] += kind.lower() in _ARRAYS
        counts["enums"] += "enum" in node
        counts["defaults"] += "default" in node
        inner = node.get("properties")
        if isinstance(inner, dict):
            counts["nested" if depth else "params"] += len(inner)
            waiting.extend((value, depth + 1) for value in inner.values())
        required = node.get("required")
        if not depth and isinstance(required, list):
            counts["required"] += len(required)
        waiting.append((node.get("items"), depth + 1))
    return ToolShape(**counts, doc_bytes=doc_bytes, types=frozenset(types))


def schema_facts(tools: Sequence[Tool], *pieces: str) -> dict[str, float]:
    """The schema_* and tools_named_* fields of Facts for the tools offered and a text in pieces.

    `tools_named_*`: share of the words of a tool's name that the text says too; the best and the mean tool.
    """
    if not tools:
        return dict.fromkeys(_NONE, 0.0)
    digests = tuple(tool.digest for tool in tools)
    counts, words = _offers.get(digests) or _offer(digests, tools)
    spoken = frozenset().union(*map(_spoken, pieces))
    named = [len(own & spoken) / len(own) if own else 0.0 for own in words]
    return {**counts, "tools_named_max": max(named), "tools_named_mean": sum(named) / len(named)}


Offer = tuple[dict[str, float], tuple[frozenset[str], ...]]  # schema_* of a set of tools, and their words
_offers: dict[tuple[int, ...], Offer] = {}  # by the digests of the definitions; an agent's seldom change


def _offer(digests: tuple[int, ...], tools: Sequence[Tool]) -> Offer:
    """Read a set of tools, and remember it if every definition is known by its digest."""
    shapes = [tool.shape for tool in tools]
    types = frozenset().union(*(shape.types for shape in shapes))
    counts = {
        "schema_params": float(sum(s.params for s in shapes)),
        "schema_params_max": float(max(s.params for s in shapes)),
        "schema_required": float(sum(s.required for s in shapes)),
        "schema_required_max": float(max(s.required for s in shapes)),
        "schema_nested": float(sum(s.nested for s in shapes)),
        "schema_enums": float(sum(s.enums for s in shapes)),
        "schema_arrays": float(sum(s.arrays for s in shapes)),
        "schema_defaults": float(sum(s.defaults for s in shapes)),
        "schema_depth": float(max(s.depth for s in shapes)),
        "schema_types": float(len(types)),
        "schema_odd_types": float(not types <= _USUAL),
        "schema_doc_bytes": float(sum(s.doc_bytes for s in shapes)),
    }
    found = counts, tuple(_words(tool.name[:NAME_CHARS]) for tool in tools)
    if all(digests):
        if len(_offers) >= _OFFERS_KEPT:
            _offers.clear()
        _offers[digests] = found
    return found


_NONE = (
    *("schema_params", "schema_params_max", "schema_required", "schema_required_max", "schema_nested"),
    *("schema_enums", "schema_arrays", "schema_defaults", "schema_depth", "schema_types"),
    *("schema_odd_types", "schema_doc_bytes", "tools_named_max", "tools_named_mean"),
)


@lru_cache(maxsize=_KEPT)
def _words(name: str) -> frozenset[str]:
    """Words of a tool's name: get_weather, getWeather and mcp__weather__get alike."""
    return frozenset(_WORD.findall(_CASE.sub(" ", name).lower()))


@lru_cache(maxsize=_PIECES_KEPT)
def _spoken(piece: str) -> frozenset[str]:
    """Words of one piece of the salient text; a session's task comes again with every turn."""
    return frozenset(_WORD.findall(piece.lower()))
