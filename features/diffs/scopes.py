"""Which names of a Python module are locals that may be renamed, decided from its syntax tree alone.

Only what is certain: plain variables of functions and comprehensions. Parameters (callers may name them),
nested functions and classes (`__name__`), imports, `global`/`nonlocal` names, dunder names, names a class
body binds, and every function that could look at its own frame (locals, eval, exec …) keep their names.
"""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

# A function in which one of these occurs could read its variables by name.
_FRAME_READERS = frozenset(
    [
        "locals",
        "vars",
        "dir",
        "eval",
        "exec",
        "globals",
        "query",
        "evaluate",
        "sql",
        "_getframe",
        "currentframe",
        "f_locals",
        "getframeinfo",
        "inspect",
        "pudb",
        "breakpoint",
        "set_trace",
    ]
)
_NEW_SYNTAX = frozenset(("TypeAlias", "TypeVar", "ParamSpec", "TypeVarTuple", "TemplateStr", "Interpolation"))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Scope:
    """One scope and what is bound in it."""

    def __init__(self, kind: str, parent: Scope | None) -> None:
        self.kind = kind  # "module", "class", "function" or "comprehension"
        self.parent = parent
        self.plain: set[str] = set()  # bound as a variable
        self.fixed: set[str] = set()  # bound in a way that fixes the name
        self.uses: Counter[str] = Counter()
        self.inner_uses: set[str] = set()  # used from a scope inside

    def binds(self, name: str) -> bool:
        """Whether the name is bound here."""
        return name in self.plain or name in self.fixed

    def find(self, name: str) -> Scope | None:
        """The scope that a name used here belongs to; None = module, builtin or unknown."""
        scope: Scope | None = self
        while scope is not None:
            if scope.binds(name) and (scope.kind != "class" or scope is self):
                return scope
            scope = scope.parent
        return None


class Scopes:
    """The scopes of one module; `fresh` are module-level names which may be renamed too (for fragments).

    `left_out`: ids of statements in the module or in classes that are never asked about. `kept`: names that
    something in the file reads as text, None = any (see `frames.names_read`).
    """

    def __init__(
        self,
        tree: ast.Module,
        fresh: frozenset[str] = frozenset(),
        left_out: Container[int] = (),
        *,
        kept: frozenset[str] | None = frozenset(),
    ) -> None:
        self.kept = kept
        self.of: dict[int, Scope] = {}  # id of each node which opens a scope
        self.fresh = fresh
        self.left_out = left_out
        self.frozen: set[int] = set()  # ids of outermost scopes in which nothing is renamed
        self.banned: dict[int, set[str]] = {}  # per outermost scope
        self.module = Scope("module", None)
        self._unit: Scope = self.module
        for statement in tree.body:
            if id(statement) not in left_out:
                self._visit(statement, self.module)

    def renamable(self, scope: Scope, name: str) -> Scope | None:
        """The scope whose variable `name` is, if it may be renamed there."""
        if self.kept is None or name in self.kept:
            return None
        home = scope.find(name)
        if home is None or home.kind == "class" or name in home.fixed or name.startswith("__"):
            return None
        if home.kind == "module":
            return home if name in self.fresh and name in home.plain and home.uses[name] > 1 else None
        unit = self._outermost(home)
        if id(unit) in self.frozen or name in self.banned.get(id(unit), ()):
            return None
        return home

    def _outermost(self, scope: Scope) -> Scope:
        """The outermost function or comprehension around a scope; the scope itself if there is none."""
        found, at = scope, scope.parent
        while at is not None:
            if at.kind in ("function", "comprehension"):
                found = at
            at = at.parent
        return found

    def _open(self, node: ast.AST, kind: str, parent: Scope) -> Scope:
        """A new scope for a node."""
        scope = Scope(kind, parent)
        self.of[id(node)] = scope
        return scope

    def _ban(self, scope: Scope, names: Iterable[str]) -> None:
        """Names that keep their spelling everywhere in the outermost scope around."""
        self.banned.setdefault(id(self._outermost(scope)), set()).update(names)

    def _freeze(self, scope: Scope) -> None:
        """Nothing is renamed in the outermost scope around."""
        self.frozen.add(id(self._outermost(scope)))

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        """Record the bindings and uses of a node and all below it."""
        if isinstance(node, ast.Name):
            self._name(node, scope)
        elif isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            self._function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._class(node, scope)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node, scope)
        elif isinstance(node, ast.NamedExpr):
            home = scope  # `:=` in a comprehension binds around it
            while home.kind == "comprehension" and home.parent is not None:
                home = home.parent
            self._name(node.target, home)
            self._visit(node.value, scope)
        else:
            self._other(node, scope)
            for child in ast.iter_child_nodes(node):
                self._visit(child, scope)

    def _name(self, node: ast.Name, scope: Scope) -> None:
        """A variable, read or bound."""
        if node.id in _FRAME_READERS:
            self._freeze(scope)
        if not isinstance(node.ctx, ast.Load):
            scope.plain.add(node.id)
        scope.uses[node.id] += 1
        around = scope.parent
        while around is not None:
            around.inner_uses.add(node.id)
            around = around.parent
        if scope.kind == "class" and self._outermost(scope) is not scope:
            self._ban(scope, [node.id])  # a class body looks a name up in ways of its own

    def _other(self, node: ast.AST, scope: Scope) -> None:
        """Bindings that aren't names in the tree."""
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            self._ban(scope, node.names)
            scope.fixed.update(node.names)
        elif isinstance(node, ast.alias):
            scope.fixed.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            scope.fixed.add(node.name) if scope.kind == "module" else scope.plain.add(node.name)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            scope.fixed.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            scope.fixed.add(node.rest)
        elif isinstance(node, ast.Attribute) and node.attr in _FRAME_READERS:
            self._freeze(scope)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "@" in node.value:
            self._ban(scope, _at_names(node.value))
        elif type(node).__name__ in _NEW_SYNTAX:
            self._freeze(scope)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope) -> None:
        """A function: its defaults and decorators belong outside, its parameters and body inside."""
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
        outside: list[ast.AST] = [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
        outside += [argument.annotation for argument in every if argument.annotation is not None]
        inner = self._open(node, "function", scope)
        inner.fixed.update(argument.arg for argument in every)
        if isinstance(node, ast.Lambda):
            body: list[ast.AST] = [node.body]
        else:
            scope.fixed.add(node.name)
            outside += node.decorator_list
            outside += [node.returns] if node.returns is not None else []
            body = list(node.body)
            if getattr(node, "type_params", None):
                self._freeze(inner)
        for item in outside:
            self._visit(item, scope)
        for item in body:
            self._visit(item, inner)

    def _class(self, node: ast.ClassDef, scope: Scope) -> None:
        """A class: its body is a scope that functions inside it don't see."""
        scope.fixed.add(node.name)
        for outside in [*node.decorator_list, *node.bases, *node.keywords]:
            self._visit(outside, scope)
        inner = self._open(node, "class", scope)
        if getattr(node, "type_params", None):
            self._freeze(inner)
        for statement in node.body:
            if id(statement) not in self.left_out:
                self._visit(statement, inner)

    def _comprehension(self, node: ast.AST, scope: Scope) -> None:
        """A comprehension: only its first iterable belongs outside."""
        inner = self._open(node, "comprehension", scope)
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        self._visit(generators[0].iter, scope)
        for number, generator in enumerate(generators):
            self._visit(generator.target, inner)
            for later in [*([generator.iter] if number else []), *generator.ifs]:
                self._visit(later, inner)
        for part in _results(node):
            self._visit(part, inner)


def _results(node: ast.AST) -> Iterator[ast.AST]:
    """What a comprehension yields."""
    for field in ("elt", "key", "value"):
        part = getattr(node, field, None)
        if part is not None:
            yield part


def _at_names(text: str) -> list[str]:
    """Names that a string mentions as @name, the way DataFrame.query reads variables."""
    return [part.split()[0].strip("()[],.=<>!&|") for part in text.split("@")[1:] if part.split()]
