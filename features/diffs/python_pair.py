"""Two Python sources compared at level 2 without walking what they share, so that small edits are cheap.

Statements which both sources begin and end with, byte for byte, are left out, in the module and in a class
if one alone is left. That hides no difference: what is left out stands in the same place on both sides.
"""

from __future__ import annotations

import ast

from features.diffs.python_form import parse, tree_form

_Block = list[ast.stmt]


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
