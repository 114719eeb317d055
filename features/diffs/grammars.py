"""Source to syntax tree by the grammar of its language, within bounds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from features.diffs.languages import Language, parser_of

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_GRAMMAR_BYTES = 2 << 20
_NON_ASCII = re.compile(rb"[\x80-\xff]")


class Unparsable(Exception):
    """No trustworthy tree; the message is the reason."""


def parse(source: bytes, language: Language, known: dict[bytes, Node] | None = None) -> Node:
    """The root node, kept in `known` where given. Raises Unparsable: no grammar, or too large a source.

    Where a grammar's scanner takes ASCII only, it is shown a letter for each other byte: offsets hold, and
    the text of a token has to be taken from the source, never from the node.
    """
    if len(source) > MAX_GRAMMAR_BYTES:
        raise Unparsable(f"a file over {MAX_GRAMMAR_BYTES >> 20} MB is compared by lines")
    if known is not None and source in known:
        return known[source]
    if b"\0" in source:
        raise Unparsable("a binary file")
    parser = parser_of(language.name)
    if parser is None:
        raise Unparsable(f"no grammar for {language.name} here; pip install 'samediff[languages]'")
    tree = parser.parse(_NON_ASCII.sub(b"u", source) if language.ascii_scanner else source)
    if tree is None:
        raise Unparsable(f"{language.name} grammar gave no tree")
    if known is not None:
        known[source] = tree.root_node
    return tree.root_node
