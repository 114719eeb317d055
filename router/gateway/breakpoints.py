"""Where markers go in a body of Anthropic's dialect whose client places none, found from its end backwards.

Four are let in as a rule, the best first: the end of this prompt, which the next one reads; the end of the
prompt before, where what is cached ends however many blocks this turn adds; the instructions, which other
conversations share; and a place one look-back before that, for a session that comes back after some turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.wire.head import address
from router.gateway.splice import Insert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.wire.head import Head

KEY = "cache_control"
_MARK = b',"cache_control":{"type":"ephemeral"}'
_MARKABLE = frozenset({"text", "image", "document", "search_result", "tool_use", "tool_result"})
_SHORT_BYTES = 256  # of a text that is looked at whether it is blank
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])

Marker = tuple[Insert, ...]  # what is put in for one marker; empty where none can be placed


class _ClientsOwn(Exception):
    """The body has a marker of its client's."""


class _Asked(NamedTuple):
    """A message of the user's, with how many blocks and answers stand behind it."""

    content: msgspec.Raw | None
    blocks: int
    answers: int


def breakpoints(body: bytes, head: Head, *, most: int, lookback: int) -> list[Marker]:
    """What to put into a body so that its prompt is cached: at most `most` markers, the best first.

    None where the body isn't in a shape that we know, or holds a marker of its client's.
    """
    values, base = head.values, address(body)
    if KEY in values or "messages" not in values:
        return []
    try:
        this, before, far = _ends(values["messages"], base, lookback)
        fixed = _marked(values.get("system"), base) or _last_tool(values.get("tools"), base)
    except (msgspec.DecodeError, UnicodeDecodeError, _ClientsOwn):
        return []
    return [marker for marker in (this, before, fixed, far) if marker][:most] if this else []


def _ends(messages: msgspec.Raw, base: int, lookback: int) -> tuple[Marker, Marker, Marker]:
    """Markers at the ends of this prompt and of the one before, and at most one look-back before that."""
    this: Marker = ()
    before: Marker = ()
    far: Marker = ()
    answers = blocks = 0
    for asked in _asked(messages):
        if before and asked.blocks - blocks > lookback:
            break
        if this and not before and asked.answers == answers:
            continue
        marker = _marked(asked.content, base)
        if not this:
            this, answers = marker, asked.answers
        elif not before:
            before, blocks = marker, asked.blocks
        else:
            far = marker or far
    return this, before, far


def _asked(messages: msgspec.Raw) -> Iterator[_Asked]:
    """Yield what the user says, tool results among it, from the last message on backwards."""
    blocks = answers = 0
    for raw in reversed(_list.decode(messages)):
        message = _object.decode(raw)
        content, role = message.get("content"), _short(message.get("role"))
        if role == "user":
            yield _Asked(content, blocks, answers)
        listed = content is not None and _first(content) == b"["
        blocks += len(_list.decode(content)) if content is not None and listed else 1
        answers += role == "assistant"


def _marked(content: msgspec.Raw | None, base: int) -> Marker:
    """What marks the end of a content: of a text, made a block, or of the last block that can be marked."""
    if content is None:
        return ()
    start = address(content) - base
    if _first(content) == b'"':
        end = start + len(memoryview(content))
        wrapped = Insert(start, b'[{"type":"text","text":'), Insert(end, _MARK + b"}]")
        return () if _is_blank(content) else wrapped
    for raw in reversed(_list.decode(content)):
        block = _object.decode(raw)
        if KEY in block:
            raise _ClientsOwn
        if _short(block.get("type")) in _MARKABLE and not _is_blank(block.get("text")):
            return (_inside(raw, base),)
    return ()


def _last_tool(tools: msgspec.Raw | None, base: int) -> Marker:
    """What marks the last tool that is sent with the prompt; one loaded later is no part of it."""
    for raw in reversed(_list.decode(tools) if tools is not None else []):
        tool = _object.decode(raw)
        if KEY in tool:
            raise _ClientsOwn
        later = tool.get("defer_loading")
        if tool and (later is None or bytes(later) == b"false"):
            return (_inside(raw, base),)
    return ()


def _inside(block: msgspec.Raw, base: int) -> Insert:
    """Put a marker before the brace that closes an object; it has a key already."""
    return Insert(address(block) - base + len(memoryview(block)) - 1, _MARK)


def _first(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def _is_blank(text: msgspec.Raw | None) -> bool:
    """Whether a text is there and blank: such a block can't be marked."""
    if text is None or len(memoryview(text)) > _SHORT_BYTES:
        return False
    said: Any = msgspec.json.decode(text)
    return not isinstance(said, str) or not said.strip()


def _short(raw: msgspec.Raw | None) -> str | None:
    """A role or a type."""
    said: Any = None if raw is None or len(memoryview(raw)) > _SHORT_BYTES else msgspec.json.decode(raw)
    return said if isinstance(said, str) else None
