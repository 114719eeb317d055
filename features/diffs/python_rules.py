"""Rewritings of Python syntax that keep behaviour exactly, as small functions on syntax trees."""

from __future__ import annotations

import ast
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.diffs.scopes import Scope

_JUMPS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
IMPORTS = (ast.Import, ast.ImportFrom)


def simple(node: ast.AST) -> ast.AST:
    """Expressions with several spellings in one of them."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = node.operand
        if isinstance(inner, ast.Compare) and len(inner.ops) == 1:
            opposite = _OPPOSITES.get(type(inner.ops[0]))
            if opposite is not None:
                return simple(ast.Compare(left=inner.left, ops=[opposite()], comparators=inner.comparators))
    elif isinstance(node, ast.Compare) and isinstance(node.ops[-1], (ast.In, ast.NotIn)):
        last = node.comparators[-1]
        if isinstance(last, ast.List):
            again = [*node.comparators[:-1], ast.Tuple(elts=last.elts, ctx=last.ctx)]
            return ast.Compare(left=node.left, ops=node.ops, comparators=again)
    elif isinstance(node, ast.JoinedStr) and all(isinstance(part, ast.Constant) for part in node.values):
        return ast.Constant(value="".join(str(part.value) for part in node.values))  # type: ignore[attr-defined]
    elif isinstance(node, ast.IfExp) and is_not(node.test):
        return ast.IfExp(test=node.test.operand, body=node.orelse, orelse=node.body)  # type: ignore[attr-defined]
    return node


_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def constant(value: object) -> bytes:
    """A constant with its type, so that 1, 1.0 and True differ."""
    text = hex(value) if type(value) is int else repr(value)  # decimals of long integers are refused
    return f"\x0f{type(value).__name__}:{text}".encode("utf-8", "surrogatepass")


def is_none(value: ast.expr | None) -> bool:
    """No value, or None written out."""
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def is_not(test: ast.expr) -> bool:
    """Whether this is `not …`, other than `not … in …` and `not … is …`, which are comparisons."""
    plain = simple(test)
    return isinstance(plain, ast.UnaryOp) and isinstance(plain.op, ast.Not)


def negated(test: ast.expr) -> ast.expr:
    """`not test`, in a place where only its truth counts."""
    return test.operand if is_not(test) else ast.UnaryOp(op=ast.Not(), operand=test)  # type: ignore[attr-defined]


def operands(test: ast.expr) -> list[ast.expr]:
    """The conditions that `and` joins."""
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]


def jumps(statements: list[ast.stmt]) -> bool:
    """Whether control never comes out at the end of these statements."""
    if not statements:
        return False
    last = statements[-1]
    if isinstance(last, ast.If):
        return jumps(last.body) and jumps(last.orelse)
    return isinstance(last, _JUMPS)


def without_annotation(node: ast.AnnAssign) -> ast.stmt:
    """A local variable's annotation is never evaluated, so `x: int = 1` is `x = 1`."""
    if node.value is None or not node.simple or not isinstance(node.target, ast.Name):
        return node
    return ast.Assign(targets=[node.target], value=node.value)


def returns_name(statement: ast.stmt, before: list[ast.stmt], scope: Scope) -> bool:
    """Whether this is `return x` just after `x = …`, with x used nowhere else."""
    if not (isinstance(statement, ast.Return) and isinstance(statement.value, ast.Name) and before):
        return False
    previous, name = before[-1], statement.value.id
    return (
        scope.kind == "function"
        and isinstance(previous, ast.Assign)
        and len(previous.targets) == 1
        and isinstance(previous.targets[0], ast.Name)
        and previous.targets[0].id == name
        and scope.uses[name] == 2
        and name in scope.plain
        and name not in scope.fixed
        and name not in scope.inner_uses
    )


def ordered_definitions(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Neighbouring plain functions by name: none of them runs before all of them are there."""
    out: list[ast.stmt] = []
    for plain, run in groupby(statements, key=_is_plain_function):
        group = list(run)
        names = [getattr(node, "name", "") for node in group]
        read = {name for node in group for name in _names_at_definition(node)} if plain else set()
        if plain and len(set(names)) == len(names) and not read & set(names):
            group.sort(key=lambda node: getattr(node, "name", ""))
        out += group
    return out


def _is_plain_function(node: ast.stmt) -> bool:
    """A function whose definition has no effect but its name: no decorators, constant defaults."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.decorator_list:
        return False
    if not all(isinstance(value, (ast.Constant, ast.Name)) for value in _defaults(node)):
        return False
    acts = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return not any(isinstance(inner, acts) for note in _annotations(node) for inner in ast.walk(note))


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    """The default values of a function's parameters."""
    return [*node.args.defaults, *(value for value in node.args.kw_defaults if value is not None)]


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    """The annotations of a function, which are evaluated with its definition."""
    taken = node.args
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    found = [argument.annotation for argument in every if argument is not None]
    return [note for note in (*found, node.returns) if note is not None]


def _names_at_definition(node: ast.stmt) -> Iterator[str]:
    """The names that are looked up when a plain function is defined."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for part in (*_defaults(node), *_annotations(node)):
            yield from (inner.id for inner in ast.walk(part) if isinstance(inner, ast.Name))


def entries(statements: list[ast.stmt]) -> list[bytes] | None:
    """A run of imports, name by name in order; None if two of them bind one name or one is a star."""
    bound: dict[str, bytes] = {}
    for node in statements:
        assert isinstance(node, IMPORTS)
        dots = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else None
        for alias in node.names:
            if alias.name == "*":
                return None
            entry = f"\x08{dots or ''} {alias.name} {alias.asname or ''}".encode()
            key = alias.asname or (alias.name if dots is not None else alias.name.split(".")[0])
            whole = dots is None and alias.asname is None
            if bound.setdefault(f"{key} {alias.name}" if whole else key, entry) != entry:
                return None
            if whole and bound.get(key, entry) != entry:
                return None
    keys = {key.split(" ")[0] for key in bound if " " in key}
    return None if keys & bound.keys() else sorted(set(bound.values()))
