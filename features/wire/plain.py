"""Careful reading of decoded JSON: bodies, texts, counts and tools, whatever a client or provider wrote."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import xxhash

from features.errors import BadInput
from features.toolschema import Shapes
from features.wire.held import held
from features.wire.types import Item, Message, Part, Role, Said, Tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_WORD = 40
MAX_DEPTH = 8  # content nested deeper than any dialect allows is not followed

MAX_MESSAGES = 20_000
MAX_TOOLS = 2_000
MAX_BLOCKS = 100_000  # of one message
TOO_DEEP = "request body: nested too deeply"
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")

# A JSON schema's integer may be written 4096.0; read it with `count`.
Count = (
    Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    | Annotated[float, msgspec.Meta(ge=0, le=2**53, multiple_of=1)]
)
Envelope = TypeVar("Envelope")
Read = TypeVar("Read")

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}

_encode = msgspec.json.Encoder().encode


class _ToolHead(msgspec.Struct):
    """The outer fields of one tool definition, in any dialect."""

    name: Any = None
    type: Any = None
    function: Any = None
    tools: Any = None
    cache_control: Any = None


_tool_head = msgspec.json.Decoder(_ToolHead)
_any = msgspec.json.Decoder()
_shapes = Shapes()


def decode_body(decoder: msgspec.json.Decoder[Envelope], body: bytes) -> Envelope:
    """Decode a request body into its envelope; raises BadInput naming the key, never echoing a value."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadInput(f"request body: {_tidy(str(error))}") from None
    except RecursionError:
        raise BadInput(TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"request body is not JSON: {_tidy(why_not_json(error, body))}") from None


def why_not_json(error: Exception, body: bytes) -> str:
    """What is wrong with a body, in words; msgspec takes half a surrogate pair for a body cut short."""
    if isinstance(error, UnicodeDecodeError):
        return "invalid UTF-8"
    said = str(error)
    odd = "truncated" in said or "hex escape" in said
    if odd and body.rstrip().endswith((b"}", b"]")) and _HALF.search(body):
        return "a string holds half of a surrogate pair"
    return said


def bounded(items: Sequence[Any] | None, key: str, limit: int) -> None:
    """Refuse a list that no client sends and that would take seconds to read."""
    if items is not None and len(items) > limit:
        raise BadInput(f"request body: `{key}` has {len(items)} entries; {limit} are let in")


def _tidy(message: str) -> str:
    """A msgspec message as the tail of our one line: `$.messages[0]` becomes `messages[0]`."""
    message = message.replace("Object missing required field", "missing").replace("`$.", "`")
    return message[:1].lower() + message[1:]


def decode_part(decoder: msgspec.json.Decoder[Read], raw: msgspec.Raw, key: str) -> Read:
    """Decode a value of a body by itself; BadInput naming `key`, or msgspec's error if it is no JSON."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        said, _, inside = str(error).partition(" - at `$")
        raise BadInput(f"request body: {_tidy(said)} - at `{key}{inside.removesuffix('`')}`") from None


def object_of(raw: msgspec.Raw, where: str) -> dict[str, Any]:
    """The object that an item of a list is; BadInput where it is none."""
    item = _any.decode(raw)
    if not isinstance(item, dict):
        raise BadInput(f"request body: `{where}` must be an object")
    return item


def decode_event(data: bytes) -> dict[str, Any] | None:
    """One JSON object of a provider's answer, or None: a bad answer is never an error of ours."""
    try:
        plain = _any.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is an object, or an empty one."""
    return value if isinstance(value, dict) else {}


def child(plain: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`, or an empty one."""
    value = plain.get(key)
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, leaving out whatever else it holds; empty for anything but a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def string(value: Any) -> str | None:
    """The value if it is a non-empty string."""
    return value if isinstance(value, str) and value else None


def word(value: Any) -> str | None:
    """The value if it is a short string, as names of settings are."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_WORD else None


def count(value: Any) -> int | None:
    """The value as a token count, or None where it isn't one: bool, negative, fractional or absurd."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= 2**53 else None  # True is none


def flatten(value: Any, depth: int = 0) -> str:
    """The text inside a content value: a string, a list of blocks, or one block; other shapes have none."""
    if isinstance(value, str):
        return value
    if depth >= MAX_DEPTH:
        return ""
    if isinstance(value, list):
        texts = [text for item in value if (text := flatten(item, depth + 1))]
        return texts[0] if len(texts) == 1 else "\n".join(texts)
    if isinstance(value, dict):
        for key in ("text", "content", "output", "stdout"):
            if text := flatten(value.get(key), depth + 1):
                return text
    return ""


def compact_json(value: Any) -> str:
    """A tool call's arguments as text: a string as it stands, anything else as compact JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else _json(value).decode()


def _json(value: Any) -> bytes:
    """Compact JSON; logs read by other decoders may hold lone surrogates, which are escaped."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def digest(value: Any) -> int:
    """xxh3-64 of a decoded JSON value."""
    if isinstance(value, str):
        return xxhash.xxh3_64_intdigest(value.encode("utf-8", "surrogatepass"))
    return xxhash.xxh3_64_intdigest(_json(value))


def other(block: Any) -> Part:
    """A piece of content we don't know: kept as its digest and whatever text it shows."""
    return Part(kind="other", text=flatten(block), digest=digest(block), signed=held(block))


def role_of(value: Any, where: str) -> Role:
    """The role of a message; an unknown one speaks as the user. Raises BadInput when there is none."""
    if not isinstance(value, str):
        raise BadInput(f"request body: `{where}.role` is missing or not a string")
    return ROLES.get(value, "user")


def error_type(error: Any) -> str:
    """The type or code of a provider's error object; its message may quote the prompt and is left out."""
    if isinstance(error, dict):
        for key in ("type", "code", "status"):
            if isinstance(value := error.get(key), str | int) and value != "":
                return str(value)[:80]
    return "error"


def not_content(where: str) -> BadInput:
    """The error for a content that is neither text nor a list."""
    return BadInput(f"request body: `{where}.content` must be a string or a list")


def objects_only(items: Sequence[Any], key: str) -> Sequence[dict[str, Any]]:
    """The items as objects; raises BadInput naming the first that isn't one."""
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadInput(f"request body: `{key}[{i}]` must be an object")
    return items


def join_turns(messages: Iterable[Message]) -> list[Message]:
    """Neighbouring messages of the assistant become one, and so do neighbouring tool results.

    The dialects cut one turn differently (a message per result, per output item, per block in some logs);
    joined, the same session has the same messages in a request, in a log and in another dialect.
    """
    return [*Said().then((Item(tuple(map(turned, messages))),)).messages]


def turned(message: Message) -> Message:
    """The message, as a tool's where it holds tool results and their images, and nothing else."""
    parts = message.parts
    if message.role == "user" and parts and parts[0].kind == "tool_result" and _only_results(parts):
        return Message(role="tool", parts=message.parts)
    return message


def _only_results(parts: tuple[Part, ...]) -> bool:
    """Whether a message that begins with a tool result holds those and their images, and nothing else."""
    return len(parts) == 1 or all(part.kind in ("tool_result", "image") for part in parts)


def read_tools(raw: Sequence[msgspec.Raw] | None) -> tuple[tuple[Tool, ...], int]:
    """Tool definitions of any dialect -> (tools, how many carry a cache_control marker)."""
    tools: list[Tool] = []
    markers = 0
    for i, definition in enumerate(raw or ()):
        try:
            head = _tool_head.decode(definition)
        except msgspec.ValidationError:
            raise BadInput(f"request body: `tools[{i}]` must be an object") from None
        body = bytes(definition)
        if head.cache_control is not None:
            markers += 1
            plain = _any.decode(body)
            del plain["cache_control"]
            body = _encode(plain)
        tools.extend(_named(head, body))
    return tuple(tools), markers


def _named(head: _ToolHead, body: bytes) -> list[Tool]:
    """The tools of one definition: one as a rule, several for a namespace."""
    mark = xxhash.xxh3_64_intdigest(body)
    if head.type == "namespace" and (inner := objects(head.tools)):
        space = (string(head.name) or "namespace").removesuffix("__")
        share = len(body) // len(inner)
        return [_inner(space, tool, share, mark) for tool in inner]
    name = string(head.name) or string(mapping(head.function).get("name")) or string(head.type)
    return [Tool(name=name or "unnamed", bytes=len(body), digest=mark, shape=_shapes.of(mark, body))]


def _inner(space: str, tool: dict[str, Any], size: int, mark: int) -> Tool:
    """One tool of a namespace, which shares the namespace's size and digest."""
    name = string(tool.get("name")) or ""
    return Tool(name=f"{space}__{name}", bytes=size, digest=mark, shape=_shapes.of(digest(tool), tool))
