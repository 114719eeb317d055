"""A reply before it takes a dialect's shape, and what the dialects share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from router.scripted.usage import BYTES_PER_TOKEN, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.scripted.reading import Conversation
    from router.scripted.script import FilledStep

CREATED_S = 1_760_000_000  # a fixed time, so that the same request always gets the same bytes

Event = tuple[str | None, bytes]  # SSE event name, data


class Call(NamedTuple):
    """A tool call with its id; `json` is its arguments, or the raw text if it is freeform."""

    id: str
    name: str
    json: str
    freeform: bool


class Reply(NamedTuple):
    """Everything an answer is made of."""

    id: str
    model: str
    text: str
    thinking: str
    calls: tuple[Call, ...]
    stop: str  # "end", "tools" or "length"
    tokens: Tokens
    turn: int
    chunk_chars: int
    include_usage: bool
    talk: Conversation


def make_reply(talk: Conversation, step: FilledStep, tokens: Tokens, chunk_chars: int) -> Reply:
    """Build the reply of a step; its ids hash the prompt, so equal requests get equal ids."""
    state = xxhash.xxh3_64(talk.model.encode())
    for block in talk.blocks:
        state.update(block.data)
    stem = state.hexdigest()
    calls = tuple(
        Call(
            f"{stem}{n:02d}", c.name, c.text if c.text is not None else _json(c.arguments), c.text is not None
        )
        for n, c in enumerate(step.calls)
    )
    text, stop = step.text, "tools" if calls else "end"
    if not calls and talk.max_tokens is not None and len(text) > talk.max_tokens * BYTES_PER_TOKEN:
        text, stop = text[: talk.max_tokens * BYTES_PER_TOKEN], "length"
        tokens = tokens._replace(output=talk.max_tokens)
    return Reply(
        stem,
        talk.model,
        text,
        step.thinking,
        calls,
        stop,
        tokens,
        talk.turns,
        chunk_chars,
        talk.include_usage,
        talk,
    )


def pieces(text: str, size: int) -> Iterator[str]:
    """Cut the text into pieces of `size` characters."""
    return (text[i : i + size] for i in range(0, len(text), max(1, size)))


def sse(event: Event) -> bytes:
    """One server-sent event as bytes."""
    name, data = event
    return (b"" if name is None else b"event: " + name.encode() + b"\n") + b"data: " + data + b"\n\n"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
