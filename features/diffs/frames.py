"""Python that reads names as text: variables of other frames, and the order in which a file defines things.

A file is walked for it only when one of the words occurs in its bytes.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache


def _set(text: str) -> frozenset[str]:
    """A set from words."""
    return frozenset(text.split())


# Whatever has one of these in its file could read the variables of a function that calls it, by name.
_READERS = _set(
    "_getframe f_locals f_globals currentframe getouterframes getinnerframes duckdb pandasql sqldf patsy"
    " dmatrix dmatrices numexpr statsmodels formulaic varname nameof argname icecream pysnooper snoop chdb"
)
# Called by their own name they read the function that calls them alone, which `scopes` leaves as it is.
_OWN = frozenset(("locals", "eval", "exec"))
_FRAMES = frozenset(("stack", "trace"))  # of `inspect`
_QUERIES = frozenset(("query", "eval"))
_ORDER = _set(
    "globals locals vars __dict__ inspect getmembers f_locals f_globals co_firstlineno __subclasses__"
)
_WORDS = re.compile(
    rb"\b(?:"
    + b"|".join(sorted(w.encode() for w in _READERS | _OWN | _ORDER | _QUERIES | {"vars"}))
    + rb")\b"
)
_AT_NAME = re.compile(r"@\s*`?([^\W\d]\w*)")


def names_read(tree: ast.Module, source: bytes) -> frozenset[str] | None:
    """The names that something in a file reads as text, wherever they are bound; None if any may be."""
    words = _words(source)
    if not words - {"vars", "globals", "__dict__"}:
        return frozenset()
    queried = bool(words & _QUERIES) and "@" in source.decode("utf-8", "replace")
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if _reads_frames(node, called, inspecting="inspect" in words):
            return None
        if queried and isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(_AT_NAME.findall(node.value))
    return frozenset(found)


def order_read(tree: ast.Module, source: bytes) -> bool:
    """Whether something in a file could see in which order its functions are defined."""
    return bool(_words(source) & _ORDER) and any(
        name in _ORDER for node in ast.walk(tree) for name in _named(node)
    )


@lru_cache(maxsize=4)
def _words(source: bytes) -> frozenset[str]:
    """The telling words of a source, comments and strings included."""
    return frozenset(word.decode() for word in _WORDS.findall(source))


def _named(node: ast.AST) -> list[str]:
    """The names a node spells out."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.alias):
        return node.name.split(".")
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")
    return []


def _reads_frames(node: ast.AST, called: set[int], *, inspecting: bool) -> bool:
    """Whether a node could make any function's variables readable by name."""
    names = _named(node)
    if any(name in _READERS or (inspecting and name in _FRAMES) for name in names):
        return True
    if not any(name in _OWN or name == "vars" for name in names):
        return False
    if isinstance(node, ast.Attribute):  # df.eval(…) and builtins.locals, but not of re.compile
        return node.attr != "eval" and id(node) not in called
    return not (isinstance(node, ast.Name) and id(node) in called)  # under another name
