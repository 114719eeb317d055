"""The normal form of a file at each level, as a table of functions that make it when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from features.diffs.grammars import Unparsable
from features.diffs.python_form import python_form
from features.diffs.python_pair import python_equal
from features.diffs.tree_pair import TreePair
from features.diffs.trees import form

if TYPE_CHECKING:
    from tree_sitter import Node

    from features.diffs.languages import Language
    from features.diffs.verdicts import VerdictLevel

Form = Callable[[], list[bytes]]


def level_forms(content: bytes, language: Language | None) -> list[tuple[VerdictLevel, Form]]:
    """(level, form) from L1 on, cheapest first. A form raises Unparsable when the level is out of reach."""
    forms: list[tuple[VerdictLevel, Form]] = [("L1", lambda: plain_lines(content))]
    if language is None:
        return forms
    forms.append(("L1", lambda: form(content, language, 1)))
    forms.append(("L2", lambda: _second(content, language)))
    return forms


def _second(content: bytes, language: Language) -> list[bytes]:
    """Level 2: Python by its own parser, for what it can't read and all other languages by the grammar."""
    if language.name == "python":
        try:
            return [b"py", *python_form(content)]
        except Unparsable:
            return form(content, language, 2)
    return form(content, language, 2)


def equal_level(
    a: bytes, b: bytes, language: Language, known: dict[bytes, Node] | None = None
) -> VerdictLevel | None:
    """The level from L1 on at which two whole files are equal by their language, None if at none.

    Trees made on the way are kept in `known`. Raises Unparsable when no level can be decided.
    """
    known = {} if known is None else known
    if language.name == "python":
        try:
            if not python_equal(a, b):
                return None
        except Unparsable:  # not by this Python's parser
            return _tree_level(a, b, language, known)
        try:
            return "L1" if TreePair(a, b, language, known).equal(1) else "L2"
        except Unparsable:  # the grammar knows less than the parser: comments can't be told
            return "L2"
    return _tree_level(a, b, language, known)


def _tree_level(a: bytes, b: bytes, language: Language, known: dict[bytes, Node]) -> VerdictLevel | None:
    """The same by the grammar alone; level 2 first, as what differs there differs at level 1."""
    pair = TreePair(a, b, language, known)
    if not pair.equal(2):
        return None
    return "L1" if pair.equal(1) else "L2"


def plain_lines(content: bytes) -> list[bytes]:
    """Lines whatever their ends and whatever ends the file: all that is safe without a grammar."""
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    return text.rstrip(b"\n").split(b"\n")
