"""The normal form of a file at each level, as a table of functions that make it when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from features.diffs.directives import has_cells, python_directives
from features.diffs.grammars import Unparsable
from features.diffs.python_form import python_form
from features.diffs.python_pair import python_equal
from features.diffs.tree_pair import TreePair
from features.diffs.trees import form

if TYPE_CHECKING:
    from tree_sitter import Node

    from features.diffs.languages import Language
    from features.diffs.verdicts import VerdictLevel

# Sources whose last empty lines say something: YAML that keeps them, data after the program, output of PHP.
_END_COUNTS = re.compile(
    rb"[|>][1-9]?\+[1-9]?[ \t]*(?:#[^\n]*)?(?:\n[^\n]*)*\n\n\Z|^__(?:END|DATA)__$|\?>\n\n+\Z", re.MULTILINE
)

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
            if has_cells(content):
                return form(content, language, 1)
            return [b"py", *python_directives(content), *python_form(content)]
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
        if python_directives(a) != python_directives(b):
            return None
        if has_cells(a) or has_cells(b):
            return "L1" if TreePair(a, b, language, known).equal(1) else None
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
    text = content.replace(b"\r\n", b"\n")
    if not text.startswith((b"\xef\xbb\xbf#!", b"\xef\xbb\xbf<?")):  # a kernel and PHP see it
        text = text.removeprefix(b"\xef\xbb\xbf")
    if not (_may_count(text) and _END_COUNTS.search(text)):
        text = text.rstrip(b"\n")
    return text.split(b"\n")


def _may_count(text: bytes) -> bool:
    """Whether a text has any of what its end could count by: looking closer takes 20 times as long."""
    return text.endswith(b"\n\n") or b"__END__" in text or b"__DATA__" in text
