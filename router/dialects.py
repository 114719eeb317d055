"""Which dialect a request body speaks, where its path doesn't say."""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from features.errors import BadInput
from features.wire import plain
from features.wire.types import Dialect

DIALECTS: tuple[Dialect, ...] = typing.get_args(Dialect)

# Top-level keys that one dialect has and Chat Completions hasn't.
_MESSAGES_KEYS = frozenset(
    {
        "system",
        "stop_sequences",
        "top_k",
        "thinking",
        "context_management",
        "output_config",
        "anthropic_version",
    }
)


def parse_dialect(name: str) -> Dialect:
    """Check a dialect's name; BadInput lists those there are."""
    if name not in DIALECTS:
        raise BadInput(f"unknown dialect {name!r}; use one of {', '.join(DIALECTS)}")
    return name


def detect_dialect(body: bytes) -> Dialect:
    """Tell a body's dialect from its keys; a body that could be several is taken for Chat Completions."""
    try:
        keys = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the request body is not a JSON object: {plain.why_not_json(error, body)}") from error
    except RecursionError:
        raise BadInput("the request body is nested too deeply") from None
    if "input" in keys and "messages" not in keys:
        return "openai_responses"
    if _MESSAGES_KEYS & keys.keys() or _claude_tools(keys):
        return "anthropic_messages"
    model = bytes(keys.get("model", b""))
    return "anthropic_messages" if model.startswith(b'"claude') else "openai_chat"


def _claude_tools(keys: dict[str, msgspec.Raw]) -> bool:
    """Whether the tools are written the Messages way, with an `input_schema`."""
    try:
        tools: Any = msgspec.json.decode(keys.get("tools", b"[]"))
    except msgspec.DecodeError:
        return False
    return isinstance(tools, list) and any(isinstance(t, dict) and "input_schema" in t for t in tools)
