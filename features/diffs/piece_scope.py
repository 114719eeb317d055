"""What a piece of Python shows of where it stood: whether it is code at all, and which names are locals."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
# Statements that bodies of functions have and those of modules and classes mostly haven't.
_OF_FUNCTIONS = (
    ast.Return,
    ast.AugAssign,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Raise,
)
_JUMPS = (ast.Continue, ast.Break, ast.Delete, ast.Nonlocal)
_WAITS = (ast.Yield, ast.YieldFrom, ast.Await)
_OF_CODE = (
    *_OF_FUNCTIONS,
    *_JUMPS,
    *_WAITS,
    ast.Call,
    ast.Import,
    ast.Compare,
    ast.Assert,
    ast.BinOp,
    ast.BoolOp,
)
_STAND_INS = frozenset(("w",))  # what `fragments` puts around a piece
_Block = tuple[int, "_Block | None", list[bool]]  # column, the block around, [whether it is of a function]


def is_code(tree: ast.Module) -> bool:
    """Whether a piece has more than assignments and names, which lines of a string could have as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not _stands_in(node):
                return True
        elif isinstance(node, _OF_CODE) or (
            isinstance(node, _SCOPES) and getattr(node, "name", "") not in _STAND_INS
        ):
            return True
    return False


def names_in_functions(tree: ast.Module) -> frozenset[str]:
    """The names that a piece binds outside of its own functions and only in blocks that are of a function.

    A block is, if it or one around it returns, waits, loops, uses `self` and so on; none at the margin is.
    """
    blocks: list[_Block] = []
    bound: dict[str, list[_Block]] = {}
    for statement in sorted(_statements(tree), key=lambda node: (node.lineno, node.col_offset)):
        while blocks and blocks[-1][0] > statement.col_offset:
            blocks.pop()
        if not blocks or blocks[-1][0] < statement.col_offset:
            blocks.append((statement.col_offset, blocks[-1] if blocks else None, [False]))
        block = blocks[-1]
        if isinstance(statement, _SCOPES):
            continue
        block[2][0] = block[2][0] or (block[0] > 0 and _of_function(statement))
        for name in _bound(statement):
            bound.setdefault(name, []).append(block)
    return frozenset(name for name, places in bound.items() if all(_inside(place) for place in places))


def _inside(block: _Block | None) -> bool:
    """Whether a block is of a function, or within one that is."""
    while block is not None:
        if block[2][0]:
            return True
        block = block[1]
    return False


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a piece, without what is in its own functions and classes."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, _SCOPES):
            yield from _statements(child)


def _own(statement: ast.AST) -> Iterator[ast.AST]:
    """The expressions of one statement, without statements and scopes in it."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, (ast.stmt, *_SCOPES)):
            yield child
            yield from _own(child)


def _of_function(statement: ast.stmt) -> bool:
    """Whether this stands in a function rather than in a module or class."""
    if isinstance(statement, (*_OF_FUNCTIONS, *_JUMPS)):
        return True
    if (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and not _stands_in(statement.value)
    ):
        return True
    return any(
        isinstance(node, _WAITS) or (isinstance(node, ast.Name) and node.id in ("self", "cls"))
        for node in _own(statement)
    )


def _stands_in(node: ast.Call) -> bool:
    """Whether a call is one that was put around the piece."""
    return isinstance(node.func, ast.Name) and node.func.id in _STAND_INS


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that one statement binds."""
    if isinstance(statement, ast.Try):
        yield from (handler.name for handler in statement.handlers if handler.name)
    for node in _own(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
