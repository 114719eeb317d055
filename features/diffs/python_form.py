"""The normal form of Python source: its syntax tree without what the program can't see, locals renamed.

Every rewriting keeps behaviour exactly: quotes and brackets, docstrings and other bare constants, `pass`,
order of imports, `else` after a jump, `if not a: x else: y`, `return None`, annotations of local variables.
The code is parsed, never run.
"""

from __future__ import annotations

import ast
import warnings
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING

from features.diffs.frames import names_read, order_read
from features.diffs.grammars import MAX_GRAMMAR_BYTES, Unparsable
from features.diffs.python_rules import (
    IMPORTS,
    constant,
    entries,
    is_none,
    is_not,
    jumps,
    negated,
    operands,
    ordered_definitions,
    returns_name,
    simple,
    without_annotation,
)
from features.diffs.scopes import Scope, Scopes
from features.diffs.trees import CLOSE, OPEN

if TYPE_CHECKING:
    from collections.abc import Mapping

_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SKIPPED = frozenset(("ctx", "kind", "type_comment", "type_ignores"))
_NAME_FIELDS = {"ExceptHandler": "name"}
_INSIDE = frozenset(("body", "elt", "key", "value", "generators"))  # the rest lies outside a scope
_BODIES = frozenset(("body", "orelse", "finalbody"))


def python_form(source: bytes, *, fresh: frozenset[str] = frozenset(), partial: bool = False) -> list[bytes]:
    """Tokens of the normal form. Raises Unparsable when this Python can't parse it.

    `fresh`: names which a fragment brings in and which may be renamed; `partial`: the end of the source isn't
    the end of its last function.
    """
    return tree_form(parse(source), source, fresh=fresh, partial=partial)


def tree_form(
    tree: ast.Module,
    source: bytes,
    *,
    fresh: frozenset[str] = frozenset(),
    partial: bool = False,
    shared: Mapping[int, bytes] = MappingProxyType({}),
) -> list[bytes]:
    """The normal form of a tree made from this source. Raises Unparsable.

    `shared`: the text of statements, by their node's id, that is written instead of their form.
    """
    text_read = b"__doc__" in source or b"getdoc" in source
    try:
        writer = _Writer(
            Scopes(tree, fresh, shared, kept=names_read(tree, source)),
            keep_docs=text_read,
            grammar_docs=b"yacc" in source or b"ply" in source,
        )
        writer.order_read = order_read(tree, source)
        writer.shared = shared
        writer.partial = partial
        writer.block(tree, tree.body, writer.scopes.module)
    except RecursionError:
        raise Unparsable("nested too deeply to compare") from None
    return writer.out


def parse(source: bytes) -> ast.Module:
    """The syntax tree. Raises Unparsable."""
    if len(source) > MAX_GRAMMAR_BYTES:
        raise Unparsable(f"a file over {MAX_GRAMMAR_BYTES >> 20} MB is compared by lines")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old code are no business of ours
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        raise Unparsable("it doesn't parse as Python") from None


class _Writer:
    """Writes a tree as tokens."""

    def __init__(self, scopes: Scopes, *, keep_docs: bool, grammar_docs: bool) -> None:
        self.scopes = scopes
        self.keep_docs = keep_docs
        self.grammar_docs = grammar_docs  # ply reads its grammar from the docstrings of p_ and t_ functions
        self.partial = False
        self.order_read = False  # something in the file looks at the order of its definitions
        self.shared: Mapping[int, bytes] = {}
        self.out: list[bytes] = []
        self.numbers: dict[tuple[int, str], int] = {}
        self.depth = 0

    def block(self, owner: ast.AST, statements: list[ast.stmt], scope: Scope) -> None:
        """A list of statements in normal form."""
        function = isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef))
        described = function or isinstance(owner, ast.ClassDef)
        kept = self._normal(statements, scope, docs=self._doc_counts(owner), described=described)
        if function and not self.partial:
            while kept and isinstance(kept[-1], ast.Return) and is_none(kept[-1].value):
                kept.pop()
        if scope.kind != "function" and not self.order_read and not _made_otherwise(owner):
            kept = ordered_definitions(kept)
        self.out.append(OPEN)
        for imports, run in groupby(kept, key=lambda s: isinstance(s, IMPORTS)):
            statements = list(run)
            if imports and (names := entries(statements)) is not None:
                self.out += names
                continue
            for statement in statements:
                self.node(statement, scope)
        self.out.append(CLOSE)

    def _doc_counts(self, owner: ast.AST) -> bool:
        """Whether the program reads the docstring of this owner."""
        if not isinstance(owner, _DOCUMENTED):
            return False
        return self.keep_docs or (self.grammar_docs and getattr(owner, "name", "").startswith(("p_", "t_")))

    def _normal(
        self, statements: list[ast.stmt], scope: Scope, *, docs: bool = False, described: bool = False
    ) -> list[ast.stmt]:
        """Statements without no-ops, with one shape for branches."""
        out: list[ast.stmt] = []
        pending = list(reversed(statements))
        first = True
        while pending:  # in a piece of a file a string alone may be one of several in a bracket
            statement = pending.pop()
            counts = (docs and first) or (self.partial and not (first and described))
            first = False
            if isinstance(statement, ast.Pass) or (_bare(statement) and not (counts and _is_text(statement))):
                continue
            if isinstance(statement, ast.If):
                statement, hoisted = self._branch(statement, scope)
                pending.extend(reversed(hoisted))
            elif isinstance(statement, ast.AnnAssign) and scope.kind == "function":
                statement = without_annotation(statement)
            if returns_name(statement, out, scope):
                previous = out.pop()
                statement = ast.Return(value=previous.value)  # type: ignore[attr-defined]
            out.append(statement)
        return out

    def _branch(self, node: ast.If, scope: Scope) -> tuple[ast.If, list[ast.stmt]]:
        """An if in one shape, and what of its else can follow it because the other side has jumped away."""
        test, body, orelse = node.test, list(node.body), list(node.orelse)
        while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and is_not(test.operand):
            test = test.operand.operand  # type: ignore[attr-defined]
        if orelse and is_not(test):
            test, body, orelse = test.operand, orelse, body  # type: ignore[attr-defined]
        if orelse and jumps(orelse) and not jumps(body):
            test, body, orelse = negated(test), orelse, body
        hoisted: list[ast.stmt] = []
        if orelse and jumps(body):
            orelse, hoisted = [], orelse
        inner = self._normal(body, scope) if not orelse else []
        if len(inner) == 1 and isinstance(inner[0], ast.If) and not inner[0].orelse:
            values = [*operands(test), *operands(inner[0].test)]
            test, body = ast.BoolOp(op=ast.And(), values=values), inner[0].body
        return ast.If(test=test, body=body, orelse=orelse), hoisted

    def node(self, node: ast.AST, scope: Scope) -> None:
        """One node and all below it."""
        if (text := self.shared.get(id(node))) is not None:
            self.out.append(b"\x0b" + text)
            return
        node = simple(node)
        if isinstance(node, ast.Name):
            self.out.append(self._name(node.id, scope))
            return
        if isinstance(node, ast.Constant):
            self.out.append(constant(node.value))
            return
        kind = "ExprF" if _formatted(node) else type(node).__name__
        outer = self.scopes.of.get(id(node))
        if scope.kind == "module" and outer is not None:
            self.numbers = {key: n for key, n in self.numbers.items() if key[0] == id(scope)}
        self.out.append(OPEN + kind.encode())
        for field in node._fields:
            if field not in _SKIPPED:
                inside = outer if outer is not None and field in _INSIDE else scope
                self._field(node, field, inside)
        self.out.append(CLOSE)

    def _field(self, node: ast.AST, field: str, scope: Scope) -> None:
        """One field of a node."""
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            self.node(value, scope)
        elif isinstance(value, list):
            self._list(node, field, value, scope)
        elif isinstance(value, str):
            self.out.append(
                self._name(value, scope)
                if _NAME_FIELDS.get(type(node).__name__) == field
                else value.encode("utf-8", "surrogatepass")
            )
        else:
            self.out.append(repr(value).encode())

    def _list(self, node: ast.AST, field: str, values: list[object], scope: Scope) -> None:
        """A field that is a list: statements, generators or expressions."""
        if field in _BODIES and values and isinstance(values[0], ast.stmt):
            self.block(node, values, scope)  # type: ignore[arg-type]
            return
        self.out.append(OPEN)
        for number, value in enumerate(values):
            if isinstance(value, ast.comprehension):
                self._generator(value, scope, first=number == 0)
            elif isinstance(value, ast.AST):
                self.node(value, scope)
            else:
                self.out.append(str(value).encode("utf-8", "surrogatepass"))
        self.out.append(CLOSE)

    def _generator(self, node: ast.comprehension, scope: Scope, *, first: bool) -> None:
        """One `for … in … if …`; the first iterable is looked up outside."""
        self.out.append(OPEN + b"async" * node.is_async)
        self.node(node.iter, scope.parent if first and scope.parent is not None else scope)
        self.node(node.target, scope)
        for test in node.ifs:
            self.node(test, scope)
        self.out.append(CLOSE)

    def _name(self, name: str, scope: Scope) -> bytes:
        """A name, numbered by first occurrence where its spelling can't matter."""
        home = self.scopes.renamable(scope, name)
        if home is None:
            return name.encode("utf-8", "surrogatepass")
        number = self.numbers.setdefault((id(home), name), len(self.numbers))
        return b"\x0e%d" % number


def _bare(statement: ast.stmt) -> bool:
    """Whether a statement is a constant alone."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _formatted(node: ast.AST) -> bool:
    """Whether a statement is an f-string alone, which is no docstring whatever is in it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.JoinedStr)


def _made_otherwise(owner: ast.AST) -> bool:
    """Whether a class is made in a way that could read the order of its methods."""
    return isinstance(owner, ast.ClassDef) and bool(owner.keywords or owner.decorator_list)


def _is_text(statement: ast.stmt) -> bool:
    """Whether a bare constant is a string."""
    value = getattr(statement, "value", None)
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
