"""Actions of agents without tool calling: what they do is in the assistant's text.

What came of it is in the next user turn.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import xxhash

from features.tools import Action, tool_kind, understand_command

if TYPE_CHECKING:
    from features.wire.types import Message

_FENCED_COMMAND = re.compile(r"```(?:bash|sh|shell|mswea_bash_command)\n(.*?)\n```", re.DOTALL)
_SEARCH_REPLACE = "<<<<<<< SEARCH"
_XML_ACTION = re.compile(
    r"<(execute_command|read_file|write_to_file|replace_in_file|apply_diff|search_files|list_files)>\s*"
    r"(?:<args>\s*<file>\s*)?<(?:command|path)>([^<]{0,2000})</"
)
_CHARS = 20_000


def mark_of(text: str) -> int:
    """By what an action or a path is known again."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def written_actions(message: Message) -> list[tuple[Action, int]]:
    """Commands and edits of agents that write them out instead of calling tools."""
    actions: list[tuple[Action, int]] = []
    for part in message.parts:
        if part.kind != "text":
            continue
        text = part.text[:_CHARS]
        if _SEARCH_REPLACE in text:
            actions.append((Action("edit"), mark_of(text)))
        elif "```" in text and (fenced := _FENCED_COMMAND.search(text)):
            actions.append((understand_command(fenced[1]), mark_of(fenced[1])))
        elif "</" in text:
            for tag, argument in _XML_ACTION.findall(text)[:1]:
                command = tag == "execute_command"
                action = (
                    understand_command(argument) if command else Action(tool_kind(tag), paths=(argument,))
                )
                actions.append((action, mark_of(text)))
    return actions
