"""The structure of the tools offered: parameters, nesting, types, and whether the task speaks of them.

A call with one flat function and a call with four nested ones are different tasks, whatever their texts say.
Only counts leave this file; a definition is read once and remembered by its digest, for tools seldom change.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import count
from string import ascii_lowercase, digits
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec

from features.tools import NAME_CHARS, is_mcp, tool_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.wire.types import Tool

_KEPT = 4_096  # definitions remembered,
_TYPES_KEPT = 64  # if they name no more types
_SCHEMAS_KEPT = 512  # sets of definitions
_OFFERS_KEPT = 64  # sets of tools
_KEPT_BYTES = 2**24  # of either,
_LARGEST = 2**22  # and of one set; a larger one is read anew each time
_WORD_BYTES = 56  # that a word of a name takes
_TOOL_BYTES = 500  # that a tool takes beside the words of its name
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
_LETTERS = bytes(byte if chr(byte) in ascii_lowercase else 32 for byte in range(256))  # all others are spaces
_DIGITS = bytes(byte if chr(byte) in digits else 32 for byte in range(256))
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
            known = shape_of(definition)
            if len(known.types) <= _TYPES_KEPT:
                if len(self) >= _KEPT:
                    self.clear()
                self[digest] = known
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


_KINDS = ("read", "search", "edit", "shell", "web", "plan", "agent", "mcp")
OFFERED_NAMES: tuple[str, ...] = (  # in the order of Facts
    *("n_tools", "tools_bytes", *(f"tools_{kind}" for kind in _KINDS)),
    *("schema_params", "schema_params_max", "schema_required", "schema_required_max", "schema_nested"),
    *("schema_enums", "schema_arrays", "schema_defaults", "schema_depth", "schema_types"),
    *("schema_odd_types", "schema_doc_bytes", "tools_named_max", "tools_named_mean"),
)
_NOTHING: frozenset[str] = frozenset()
_NONE = (0.0,) * len(OFFERED_NAMES)
_WORKING = frozenset(("edit", "shell"))

_Names = tuple[frozenset[str], ...]  # the words of each tool's name


_K = TypeVar("_K")
_V = TypeVar("_V")


class _Schema(NamedTuple):
    """What is read of a set of definitions: facts that no text changes, and the words of each tool's name."""

    works: bool
    kinds: tuple[float, ...]
    counts: tuple[float, ...]
    names: _Names
    vocabulary: frozenset[str]  # all of these words
    numbered: bool  # some of which are numbers
    held: int  # bytes
    number: int  # what texts say of it is remembered by; 0: it isn't


class _Offer(NamedTuple):
    """A set of tools, read."""

    tools: Sequence[Tool]
    counts: tuple[float, ...]
    schema: _Schema


class _Memory(dict[_K, _V], Generic[_K, _V]):
    """What was read; started anew when it is full or holds too many bytes."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self._kept, self._bytes = kept, 0

    def keep(self, key: _K, value: _V, held: int) -> None:
        """Remember a value that holds so many bytes, unless it would drive out all others."""
        if held > _LARGEST:
            return
        if len(self) >= self._kept or self._bytes + held > _KEPT_BYTES:
            self.clear()
            self._bytes = 0
        self[key] = value
        self._bytes += held


_schemas: _Memory[tuple[int, ...], _Schema] = _Memory(_SCHEMAS_KEPT)  # by digests; an agent's seldom change
_offers: _Memory[int, _Offer] = _Memory(_OFFERS_KEPT)  # by id, as a reader hands out the same tuple again
_said: dict[tuple[int, str], frozenset[str]] = {}  # by a schema's number: they hold no vocabulary
_named: dict[tuple[int, frozenset[str]], tuple[float, float]] = {}
_numbers = count(1)


def offered_values(tools: Sequence[Tool], pieces: Sequence[str]) -> tuple[float, ...]:
    """OFFERED_NAMES' values for the tools offered and a text in pieces.

    `tools_named_*`: share of the words of a tool's name that the text says too; the best and the mean tool.
    """
    if not tools:
        return _NONE
    offer = _offer(tools)
    schema, said = offer.schema, _NOTHING
    number = schema.number
    for piece in pieces:
        known = _said.get((number, piece))
        said |= _saying(schema, piece) if known is None else known
    return offer.counts + (_named.get((number, said)) or _naming(schema, said))


def _saying(schema: _Schema, piece: str) -> frozenset[str]:
    """Which of its words one piece of the salient text says; a session's task comes again with every turn."""
    lower = piece.lower().encode("utf-8", "surrogatepass")
    words = lower.translate(_LETTERS).decode().split()
    if schema.numbered:
        words += lower.translate(_DIGITS).decode().split()
    said = schema.vocabulary.intersection(words)
    if schema.number:
        if len(_said) >= _PIECES_KEPT:
            _said.clear()
        _said[schema.number, piece] = said
    return said


def _naming(schema: _Schema, said: frozenset[str]) -> tuple[float, float]:
    """How much of the tools' names is said: of the best and of the mean one."""
    shares = [len(name & said) / len(name) if name else 0.0 for name in schema.names]
    found = max(shares), sum(shares) / len(shares)
    if schema.number:
        if len(_named) >= _PIECES_KEPT:
            _named.clear()
        _named[schema.number, said] = found
    return found


def works(tools: Sequence[Tool]) -> bool:
    """Whether there is among the tools offered what an agent works with: editing or a shell."""
    return bool(tools) and _offer(tools).schema.works


def _offer(tools: Sequence[Tool]) -> _Offer:
    """Read a set of tools, and remember it by its id unless it is vast."""
    known = _offers.get(id(tools))
    if known is not None and known.tools is tools:
        return known
    digests = tuple([tool.digest for tool in tools])
    schema = _schemas.get(digests) or _schema(digests, tools)
    size = sum([tool.bytes for tool in tools])
    offer = _Offer(tools, (float(len(tools)), float(size), *schema.kinds, *schema.counts), schema)
    _offers.keep(id(tools), offer, schema.held)
    return offer


def _schema(digests: tuple[int, ...], tools: Sequence[Tool]) -> _Schema:
    """Count what definitions hold, and remember it if every one is known by its digest."""
    shapes = zip(*[tool.shape for tool in tools], strict=True)
    params, required, nested, enums, arrays, defaults, depths, doc_bytes, typed = shapes
    types = frozenset().union(*typed)
    counts = (  # as OFFERED_NAMES has them
        *(sum(params), max(params), sum(required), max(required), sum(nested)),
        *(sum(enums), sum(arrays), sum(defaults), max(depths), len(types)),
        *(not types <= _USUAL, sum(doc_bytes)),
    )
    own = [tool.name[:NAME_CHARS] for tool in tools]
    names = tuple(map(_words, own))
    vocabulary = frozenset().union(*names)
    held = sum(map(getsizeof, names)) + _WORD_BYTES * sum(map(len, names))
    held += getsizeof(vocabulary) + _TOOL_BYTES * len(own)
    number = next(_numbers) if all(digests) and held <= _LARGEST else 0
    numbered = any(map(str.isdigit, vocabulary))
    found = _Schema(*_kinds(own), tuple(map(float, counts)), names, vocabulary, numbered, held, number)
    if number:
        _schemas.keep(digests, found, held)
    return found


def _kinds(names: Sequence[str]) -> tuple[bool, tuple[float, ...]]:
    """Whether any of all works; and how many tools there are of each kind, those of MCP servers apart."""
    all_kinds = [tool_kind(name) for name in names]
    kinds = ["mcp" if is_mcp(name) else kind for name, kind in zip(names, all_kinds, strict=True)]
    return not _WORKING.isdisjoint(all_kinds), tuple(float(kinds.count(kind)) for kind in _KINDS)


@lru_cache(maxsize=_KEPT)
def _words(name: str) -> frozenset[str]:
    """Words of a tool's name: get_weather, getWeather and mcp__weather__get alike."""
    return frozenset(_WORD.findall(_CASE.sub(" ", name).lower()))
