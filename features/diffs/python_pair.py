"""Two Python sources compared without walking what they share, so that small edits of large files are cheap.

Statements which both sources begin and end with, byte for byte, are left out, in the module and in a class
if one alone is left. That hides no difference: what is left out stands in the same place on both sides.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from features.diffs import trees
from features.diffs.python_form import parse, tree_form

if TYPE_CHECKING:
    from tree_sitter import Node

    from features.diffs.languages import Language

_Block = list[ast.stmt]
# Imports are put in order together with the comments on them, so no cut may fall among these.
_ORDERED = frozenset(("comment", "import_statement", "import_from_statement", "future_import_statement"))


def python_equal(a: bytes, b: bytes) -> bool:
    """Whether both have one normal form. Raises Unparsable when this Python can't parse one of them."""
    tree_a, tree_b = parse(a), parse(b)
    lines_a, lines_b = a.split(b"\n"), b.split(b"\n")
    tree_a.body, tree_b.body = _trimmed(tree_a.body, tree_b.body, lines_a, lines_b)
    if len(tree_a.body) == len(tree_b.body) == 1:
        (one,), (other,) = tree_a.body, tree_b.body
        if isinstance(one, ast.ClassDef) and isinstance(other, ast.ClassDef):
            one.body, other.body = _trimmed(one.body, other.body, lines_a, lines_b)
    return tree_form(tree_a, a) == tree_form(tree_b, b)


def _trimmed(a: _Block, b: _Block, lines_a: list[bytes], lines_b: list[bytes]) -> tuple[_Block, _Block]:
    """Both blocks without the statements that they begin and end with alike."""
    texts_a, texts_b = [_text(s, lines_a) for s in a], [_text(s, lines_b) for s in b]
    shorter = min(len(a), len(b))
    start = 0
    while start < shorter and texts_a[start] == texts_b[start]:
        start += 1
    end = 0
    while end < shorter - start and texts_a[-1 - end] == texts_b[-1 - end]:
        end += 1
    return a[start : len(a) - end], b[start : len(b) - end]


def _text(statement: ast.stmt, lines: list[bytes]) -> list[bytes]:
    """The lines of a statement, its decorators included."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return lines[first - 1 : statement.end_lineno]


def python_equal_with_comments(a: bytes, b: bytes, language: Language) -> bool:
    """Whether both have one form at level 1: comments count, white space and import order don't.

    Raises Unparsable when the grammar can't read one of them.
    """
    texts = [source.replace(b"\r\n", b"\n") for source in (a, b)]
    roots = [trees.parse(text, language) for text in texts]
    if any(root.has_error for root in roots):
        raise trees.Unparsable("it doesn't parse as python")
    nodes = [root.children for root in roots]
    shorter = min(len(n) for n in nodes)
    start = 0
    while start < shorter and _same(nodes, texts, start):
        start += 1
    while start and any(not _cuttable(n, start) for n in nodes):
        start -= 1
    end = 0
    while end < shorter - start and _same(nodes, texts, -1 - end):
        end += 1
    while end and any(not _cuttable(n, len(n) - end) for n in nodes):
        end -= 1
    one, other = (
        text[_begin(n, start, text) : _begin(n, len(n) - end, text)]
        for n, text in zip(nodes, texts, strict=True)
    )
    return trees.form(one, language, 1) == trees.form(other, language, 1)


def _begin(nodes: list[Node], at: int, text: bytes) -> int:
    """Where statement number `at` begins; the end of the text when there is none."""
    return nodes[at].start_byte if at < len(nodes) else len(text)


def _same(nodes: list[list[Node]], texts: list[bytes], at: int) -> bool:
    """Whether both have the same text as their statement number `at`."""
    (one, other), (text_a, text_b) = (n[at] for n in nodes), texts
    return text_a[one.start_byte : one.end_byte] == text_b[other.start_byte : other.end_byte]


def _cuttable(nodes: list[Node], at: int) -> bool:
    """Whether a source may be cut before its statement number `at`: at a line's start, not among imports."""
    if at < len(nodes) and nodes[at].start_point[1]:
        return False
    return not any(0 <= n < len(nodes) and nodes[n].type in _ORDERED for n in (at - 1, at))
