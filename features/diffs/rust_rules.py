"""What Rust lets one write in two ways: a block around one expression, a comma before a closing bracket."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

_TUPLES = ("tuple_expression", "tuple_type", "tuple_pattern")
_BODIES = ("closure_expression", "match_arm")
# Words before `(x,)` that make it a tuple of one; the grammar calls some of them identifiers within a macro.
_KEYWORDS = frozenset(
    b"as break continue else for if in let loop match move mut ref return static unsafe where while".split()
)
# Macros of the standard library and of `log` and `anyhow`, which take a last comma and don't look at it.
_MACROS = frozenset(
    b"anyhow assert assert_eq assert_ne bail debug debug_assert debug_assert_eq debug_assert_ne ensure eprint"
    b" eprintln error format format_args info matches panic print println todo trace unimplemented"
    b" unreachable vec warn write writeln".split()
)

_DEFINITION = re.compile(rb"macro_rules!\s*(\w+)")
_TOKEN_READERS = frozenset(b"stringify concat quote quote_spanned parse_quote line_str dbg".split())


def lone_expression(node: Node, parent: Node | None) -> Node | None:
    """The expression of `{ expression }` where it could stand alone: a closure's body, an arm's value."""
    if parent is None or parent.type not in _BODIES:
        return None
    inner = [child for child in node.children if "comment" not in child.type]
    if len(inner) != 3 or not inner[1].is_named:
        return None
    found = inner[1]
    if found.type == "expression_statement":  # `if` and the like; with a semicolon it has no value
        return found.children[0] if found.child_count == 1 else None
    declares = found.type.endswith(("_item", "_declaration", "_statement", "_definition"))
    return None if declares or found.type == "label" else found


def _seen_as_text(node: Node) -> bool:
    """Whether this stands in a macro's definition or in a call of one that looks at its tokens."""
    around = node.parent
    while around is not None:
        if around.type == "macro_definition":
            return True
        if around.type == "macro_invocation":
            name = around.child_by_field_name("macro")
            text = (name.text or b"").rsplit(b"::", 1)[-1] if name is not None else b""
            if text in _TOKEN_READERS or text in _defined(_root(around).text or b""):
                return True
        around = around.parent
    return False


def _root(node: Node) -> Node:
    """The topmost node around this one."""
    while node.parent is not None:
        node = node.parent
    return node


@lru_cache(maxsize=4)
def _defined(source: bytes) -> frozenset[bytes]:
    """The macros that a file defines, whose patterns may ask for a comma or for none."""
    return frozenset(_DEFINITION.findall(source))


def comma_is_optional(node: Node) -> bool:
    """Whether a last comma in here says nothing: not in `(x,)`, of macros in calls and in those we know."""
    if node.type in _TUPLES:
        return sum(child.type == "," for child in node.children) > 1
    before = node.prev_sibling if node.type == "token_tree" else None
    if before is None:
        return False
    if before.type != "!" and _seen_as_text(node):
        return False
    if before.type == "!":
        name = before.prev_sibling
        return name is not None and (name.text or b"").rsplit(b"::", 1)[-1] in _MACROS
    if node.children[0].type == "[":
        return True  # of an array
    return before.type == "identifier" and before.text not in _KEYWORDS
