"""The normal form of a file at each level, as a table of functions that make it when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from features.diffs.python_form import python_form
from features.diffs.python_pair import python_equal, python_equal_with_comments
from features.diffs.trees import Unparsable, form

if TYPE_CHECKING:
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


def equal_at_two(a: bytes, b: bytes, language: Language) -> bool:
    """Whether two files are equal at level 2, by the quickest way. Raises Unparsable."""
    if language.name == "python":
        try:
            return python_equal(a, b)
        except Unparsable:
            return form(a, language, 2) == form(b, language, 2)
    return form(a, language, 2) == form(b, language, 2)


def equal_at_one(a: bytes, b: bytes, language: Language) -> bool:
    """Whether two files are equal at level 1 by the grammar, by the quickest way. Raises Unparsable."""
    if language.name == "python":
        return python_equal_with_comments(a, b, language)
    return form(a, language, 1) == form(b, language, 1)


def plain_lines(content: bytes) -> list[bytes]:
    """Lines whatever their ends and whatever ends the file: all that is safe without a grammar."""
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    return text.rstrip(b"\n").split(b"\n")
