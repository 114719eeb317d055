"""The structure of the tools offered: parameters, nesting, types, and whether the task speaks of them.

A call with one flat function and a call with four nested ones are different tasks, whatever their texts say.
Only counts leave this file; a definition is read once and remembered by its digest, for tools seldom change.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.tools import NAME_CHARS, is_mcp, tool_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.wire.types import Tool

_KEPT = 4_096  # definitions remembered
_SCHEMAS_KEPT = 512  # sets of definitions
_OFFERS_KEPT = 64  # sets of tools with their names,
_OFFER_BYTES = 2**18  # if their definitions aren't larger
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


class _Offer(NamedTuple):
    """A set of tools, read: the facts that no text changes, and the words of each tool's name."""

    tools: Sequence[Tool]
    counts: dict[str, float]
    words: tuple[frozenset[str], ...]
    vocabulary: frozenset[str]  # all of these words


_Schema = tuple[dict[str, float], tuple[frozenset[str], ...]]
_schemas: dict[tuple[int, ...], _Schema] = {}  # by the digests of the definitions; an agent's seldom change
_offers: dict[int, _Offer] = {}  # by id, of those whose reader hands out the same tuple again


def offered_facts(tools: Sequence[Tool], *pieces: str) -> dict[str, float]:
    """The n_tools, tools_* and schema_* fields of Facts for the tools offered and a text in pieces.

    `tools_named_*`: share of the words of a tool's name that the text says too; the best and the mean tool.
    """
    if not tools:
        return _NONE.copy()
    offer = _offers.get(id(tools))
    if offer is None or offer.tools is not tools:
        offer = _offer(tools)
    said = frozenset().union(*[offer.vocabulary & _spoken(piece) for piece in pieces])
    named = [len(own & said) / len(own) if own else 0.0 for own in offer.words]
    return {**offer.counts, "tools_named_max": max(named), "tools_named_mean": sum(named) / len(named)}


def _offer(tools: Sequence[Tool]) -> _Offer:
    """Read a set of tools, and remember it by its id unless it is vast."""
    digests = tuple(tool.digest for tool in tools)
    schema, words = _schemas.get(digests) or _schema(digests, tools)
    size = sum(tool.bytes for tool in tools)
    counts = {
        "n_tools": float(len(tools)),
        "tools_bytes": float(size),
        **_kinds(tuple(tool.name[:NAME_CHARS] for tool in tools)),
        **schema,
    }
    offer = _Offer(tools, counts, words, frozenset().union(*words))
    if size <= _OFFER_BYTES:
        if len(_offers) >= _OFFERS_KEPT:
            _offers.clear()
        _offers[id(tools)] = offer
    return offer


def _schema(digests: tuple[int, ...], tools: Sequence[Tool]) -> _Schema:
    """Count what definitions hold, and remember it if every one is known by its digest."""
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
        if len(_schemas) >= _SCHEMAS_KEPT:
            _schemas.clear()
        _schemas[digests] = found
    return found


_KINDS = ("read", "search", "edit", "shell", "web", "plan", "agent")
_NONE = dict.fromkeys(
    (
        *("n_tools", "tools_bytes", "tools_mcp", *(f"tools_{kind}" for kind in _KINDS)),
        *("schema_params", "schema_params_max", "schema_required", "schema_required_max", "schema_nested"),
        *("schema_enums", "schema_arrays", "schema_defaults", "schema_depth", "schema_types"),
        *("schema_odd_types", "schema_doc_bytes", "tools_named_max", "tools_named_mean"),
    ),
    0.0,
)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _kinds(names: tuple[str, ...]) -> dict[str, float]:
    """How many tools there are of each kind; those of MCP servers are counted apart."""
    kinds = ["mcp" if is_mcp(name) else tool_kind(name) for name in names]
    return {f"tools_{kind}": float(kinds.count(kind)) for kind in ("mcp", *_KINDS)}


@lru_cache(maxsize=_KEPT)
def _words(name: str) -> frozenset[str]:
    """Words of a tool's name: get_weather, getWeather and mcp__weather__get alike."""
    return frozenset(_WORD.findall(_CASE.sub(" ", name).lower()))


@lru_cache(maxsize=_PIECES_KEPT)
def _spoken(piece: str) -> frozenset[str]:
    """Words of one piece of the salient text; a session's task comes again with every turn."""
    return frozenset(_WORD.findall(piece.lower()))
