"""Two Python sources compared without walking what they share, so that small edits of large files are cheap.

Statements of the module and of its classes that both sources have, to the byte and equally often, are written
as their text. That hides no difference: the same texts in the same places are the same code.
"""

from __future__ import annotations

import ast

from features.diffs.python_form import parse, tree_form

# What the normal form takes as it stands, if it is a statement of the module or a class: nothing around it
# changes these, nor does what they bind there change a name elsewhere.
_SHARED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.For, ast.With, ast.Try)
_Owners = list[ast.Module | ast.ClassDef]


def python_equal(a: bytes, b: bytes) -> bool:
    """Whether both have one normal form. Raises Unparsable when this Python can't parse one of them."""
    trees = parse(a), parse(b)
    shared: dict[int, bytes] = {}
    if _read_alike(a, b):
        _share([trees[0]], [trees[1]], (a.split(b"\n"), b.split(b"\n")), shared)
    one, other = (tree_form(tree, source, shared=shared) for tree, source in zip(trees, (a, b), strict=True))
    return one == other


def _read_alike(a: bytes, b: bytes) -> bool:
    """Whether equal bytes mean the same in both, and lines end where we think: one encoding, no lone CR."""
    heads = [[line for line in source.split(b"\n", 2)[:2] if b"coding" in line] for source in (a, b)]
    return heads[0] == heads[1] and not any(b"\r" in source.replace(b"\r\n", b"") for source in (a, b))


def _share(a: _Owners, b: _Owners, lines: tuple[list[bytes], list[bytes]], shared: dict[int, bytes]) -> None:
    """Enter what the bodies of both sides have in common, by the nodes' ids, and go on in their classes."""
    while a and b:
        found_a, found_b = _by_text(a, lines[0]), _by_text(b, lines[1])
        for text, statements in found_a.items():
            others = found_b.get(text, [])
            if len(others) == len(statements):
                shared.update((id(statement), text) for statement in (*statements, *others))
        a, b = _classes(a, shared), _classes(b, shared)


def _classes(owners: _Owners, shared: dict[int, bytes]) -> _Owners:
    """The classes in these bodies that aren't shared as a whole."""
    inner = (statement for owner in owners for statement in owner.body)
    return [node for node in inner if isinstance(node, ast.ClassDef) and id(node) not in shared]


def _by_text(owners: _Owners, lines: list[bytes]) -> dict[bytes, list[ast.stmt]]:
    """The statements of these bodies by their lines, decorators included."""
    found: dict[bytes, list[ast.stmt]] = {}
    for owner in owners:
        ended = 0  # the last line of the statement before, which this one may share
        for statement in owner.body:
            decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
            first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
            last = statement.end_lineno or first
            alone = first > ended
            ended = last
            if alone and isinstance(statement, _SHARED):
                found.setdefault(b"\n".join(lines[first - 1 : last]), []).append(statement)
    return found
