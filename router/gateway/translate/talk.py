"""A request between two dialects: what a conversation says, in nobody's words.

Readers of a dialect write down in `lost` whatever the neutral form can't hold, writers whatever theirs can't:
names of fields only, never a value. What would change the answer's meaning is refused instead.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from features.errors import BadInput
from features.wire import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from features.wire.types import Dialect

MAX_NAME = 64  # of a tool, the shortest limit among the dialects
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_UNSHOWN = re.compile(r"[^\w. -]", re.ASCII)
_LEAVES_DEEP = 3
MAX_LOST = 40  # names that are kept; a client may invent fields without end


class Untranslatable(BadInput):
    """A request says something that the other dialect has no words for, and that can't be left out."""


class Text(NamedTuple):
    """Plain text."""

    text: str


class Image(NamedTuple):
    """A picture: at an address, or inline as base64."""

    url: str | None
    media_type: str | None = None
    data: str | None = None
    detail: str | None = None  # how closely it is to be looked at, in OpenAI's words

    @property
    def address(self) -> str:
        """URL of the picture; an inline one as a data URL."""
        return self.url or f"data:{self.media_type};base64,{self.data}"


class File(NamedTuple):
    """A document: at an address, or inline as base64."""

    name: str
    url: str | None
    media_type: str | None = None
    data: str | None = None


class Call(NamedTuple):
    """A tool call; `arguments` is the JSON text as its model wrote it."""

    id: str
    name: str
    arguments: str


class Result(NamedTuple):
    """What came of a tool call."""

    call_id: str
    parts: tuple[Text | Image | File, ...]
    failed: bool = False


class Thought(NamedTuple):
    """Reasoning in plain text, where its maker gave it away."""

    text: str


Piece = Text | Image | File | Call | Result | Thought


class Turn(NamedTuple):
    """Consecutive pieces of one speaker; tool results are the user's, a late instruction is the system's."""

    role: Literal["system", "user", "assistant"]
    pieces: list[Piece]


class ToolDef(NamedTuple):
    """A tool the client offers; the schema keeps the order of its keys."""

    name: str
    description: str | None
    schema: dict[str, Any]
    strict: bool | None = None


class Schema(NamedTuple):
    """The JSON schema that the answer must follow; a schema of None asks for any JSON object."""

    name: str
    schema: dict[str, Any] | None
    strict: bool | None = None
    description: str | None = None


class Named(NamedTuple):
    """A tool as the client knows it."""

    name: str
    namespace: str | None = None
    freeform: bool = False  # takes text, not JSON


class Names:
    """Tool names that every dialect takes, and the client's own behind them."""

    def __init__(self) -> None:
        self._own: dict[str, Named] = {}

    def plain(self, name: str, namespace: str | None = None, *, freeform: bool = False) -> str:
        """The name to use for a client's tool; the same one every time."""
        joined = f"{namespace.removesuffix('__')}__{name}" if namespace else name
        plain = joined if _NAME.fullmatch(joined) else _shortened(joined)
        known = self._own.get(plain)
        if known is None or (freeform and not known.freeform):
            self._own[plain] = Named(name, namespace, freeform)
        return plain

    def own(self, plain: str) -> Named:
        """The client's tool behind a name; one that it never offered is passed on as it came."""
        return self._own.get(plain) or Named(plain)


def _shortened(name: str) -> str:
    mark = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{_ODD.sub('_', name)[: MAX_NAME - 9]}_{mark}"


def plain_id(call_id: str) -> str:
    """An id of a tool call that every dialect takes; most are one already."""
    return call_id if _NAME.fullmatch(call_id) else _shortened(call_id)


class Talk:
    """One request; None is what the client left to its provider."""

    def __init__(self) -> None:
        self.system: list[str] = []
        self.turns: list[Turn] = []
        self.tools: list[ToolDef] = []
        self.names = Names()
        self.choice: Literal["auto", "none", "required"] | None = None
        self.forced: str | None = None  # the tool that must be called
        self.parallel: bool | None = None
        self.limit: int | None = None  # output tokens
        self.temperature: float | None = None
        self.top_p: float | None = None
        self.stop: list[str] = []
        self.stream = False
        self.effort: str | None = None
        self.thinks: bool | None = None
        self.schema: Schema | None = None
        self.marked = False  # the client asks for a cache
        self.alike: dict[str, Any] = {}  # fields that the two OpenAI dialects share
        self.lost: list[str] = []

    def lose(self, *names: str) -> None:
        """Note what is left out."""
        for name in names:
            shown = _UNSHOWN.sub("_", name[:60])  # it goes into a header
            if shown not in self.lost and len(self.lost) < MAX_LOST:
                self.lost.append(shown)

    def unread(self, where: str, value: dict[str, Any], known: frozenset[str]) -> None:
        """Note the fields of an object that its reader doesn't know, if they say anything."""
        if value.keys() <= known:
            return
        for key in sorted(value.keys() - known):
            self.lose(*_leaves(f"{where}.{key}", value[key]))

    def say(self, role: Literal["system", "user", "assistant"], pieces: Iterable[Piece]) -> None:
        """Add to the conversation; the same speaker goes on in the same turn."""
        pieces = list(pieces)
        if not pieces:
            return
        if self.turns and self.turns[-1].role == role:
            self.turns[-1].pieces.extend(pieces)
        else:
            self.turns.append(Turn(role, pieces))

    @property
    def in_tool_loop(self) -> bool:
        """Whether the request hands back the results of a call."""
        return bool(self.turns) and any(isinstance(piece, Result) for piece in self.turns[-1].pieces)


def _leaves(where: str, value: Any, depth: int = 0) -> Iterator[str]:
    """Names of what is said within a value; none for one that says nothing."""
    inner = plain.objects(value if isinstance(value, list) else [value])[:MAX_LOST]
    if inner and depth < _LEAVES_DEEP:
        for one in inner:
            for key in sorted(one.keys() - {"type"}):
                yield from _leaves(f"{where}.{key}", one[key], depth + 1)
    elif not (value is None or value is False or value in ("", [], {})):
        yield where


class Target(NamedTuple):
    """Where a request goes: the dialect and its seller's peculiarities."""

    dialect: Dialect
    provider: str
    model: str
    max_output_tokens: int | None = None  # of the candidate, where it is known
    cached: bool = False  # ask for caching though the client doesn't


def arguments_of(text: str) -> dict[str, Any] | None:
    """A call's arguments as an object; None where a model wrote something else."""
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def json_text(value: Any) -> str:
    """Compact JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError as error:
        raise Untranslatable("a string of the request holds half of a surrogate pair") from error


FREEFORM_KEY = "input"


def freeform_schema(description: str | None) -> dict[str, Any]:
    """The schema of a freeform tool where only functions are known: one string."""
    said = description or "The tool's whole input as plain text."
    return {
        "type": "object",
        "properties": {FREEFORM_KEY: {"type": "string", "description": said}},
        "required": [FREEFORM_KEY],
        "additionalProperties": False,
    }


def freeform_text(arguments: str) -> str:
    """The text inside the arguments of such a call; a model that wrote bare text meant that."""
    found = arguments_of(arguments)
    if found is None or not isinstance(found.get(FREEFORM_KEY), str):
        return arguments
    return str(found[FREEFORM_KEY])


def strict_enough(schema: Any, depth: int = 0) -> bool:
    """Whether OpenAI's strict mode takes a schema: every object closed, every property required."""
    if isinstance(schema, list):
        return all(strict_enough(item, depth + 1) for item in schema)
    if not isinstance(schema, dict):
        return True
    if depth > 20:
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        names = set(properties) if isinstance(properties, dict) else set()
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or set(required or ()) != names:
            return False
    return all(strict_enough(value, depth + 1) for value in schema.values())
