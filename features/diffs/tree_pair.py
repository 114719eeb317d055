"""Two sources of one language compared without walking what they share: small edits of large files are cheap.

What both have to the byte and equally often, at the same column and between the same neighbouring bytes, is
written as its text. That hides no difference: the same texts in the same places are the same code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.diffs.c_tokens import raw_in_macro
from features.diffs.grammars import parse
from features.diffs.trees import Place, Writer, form

if TYPE_CHECKING:
    from tree_sitter import Node

    from features.diffs.languages import Language

    _Key = tuple[str, int, bytes]

MIN_BYTES = 100  # of a node worth looking for on the other side
MAX_DEPTH = 12  # of such nodes: each level reads the source once
# Whether and how these are written depends on what stands around them.
_DEPENDENT = frozenset(
    [
        "parenthesized_expression",
        "parenthesized_type",
        "formal_parameters",
        "block",
        "token_tree",
        "jsx_expression",
        "jsx_text",
        "text",
        "union_type",
        "intersection_type",
    ]
)


class TreePair:
    """Two sources, each parsed once. Raises Unparsable when the grammar isn't there or one is too large."""

    def __init__(self, a: bytes, b: bytes, language: Language, known: dict[bytes, Node]) -> None:
        self.language = language
        self.sources = tuple(source.replace(b"\r\n", b"\n") for source in (a, b))
        roots = [parse(source, language, known) for source in self.sources]
        self.whole = any(root.has_error for root in roots) or (
            language.tokens and any(raw_in_macro(source) for source in self.sources)
        )  # then nothing is certain to end where it seems to
        self.roots = roots
        self.shared = (frozenset[Place](), frozenset[Place]())
        if not self.whole:
            self.shared = shared_places(roots, self.sources, language)

    def equal(self, level: int) -> bool:
        """Whether both have one normal form at this level. Raises Unparsable."""
        if self.whole:
            one, other = (form(source, self.language, level) for source in self.sources)
            return one == other
        one, other = (
            _form(root, source, self.language, level, shared)
            for root, source, shared in zip(self.roots, self.sources, self.shared, strict=True)
        )
        return one == other


def _form(root: Node, source: bytes, language: Language, level: int, shared: frozenset[Place]) -> list[bytes]:
    """The form of a tree, the shared places as their text."""
    writer = Writer(source, language, level)
    writer.shared = shared
    writer.write(root)
    writer.gap(len(source))
    return writer.out


def shared_places(
    roots: list[Node], sources: tuple[bytes, ...], language: Language
) -> tuple[frozenset[Place], frozenset[Place]]:
    """The places of the largest nodes that two trees have in common, level by level from the top."""
    found: tuple[set[Place], set[Place]] = (set(), set())
    levels = [[child for child in root.children if _large(child)] for root in roots]
    for _ in range(MAX_DEPTH):
        if not all(levels):
            break
        keys = [_by_key(nodes, source, language) for nodes, source in zip(levels, sources, strict=True)]
        both = [key for key, nodes in keys[0].items() if len(nodes) == len(keys[1].get(key, ()))]
        for side in (0, 1):
            found[side].update(_place(node) for key in both for node in keys[side][key])
            levels[side] = [
                child
                for node in levels[side]
                if _place(node) not in found[side]
                for child in node.children
                if _large(child)
            ]
    return frozenset(found[0]), frozenset(found[1])


def _by_key(nodes: list[Node], source: bytes, language: Language) -> dict[_Key, list[Node]]:
    """Nodes by what has to be the same of them."""
    found: dict[_Key, list[Node]] = {}
    for node in nodes:
        if _opaque(node, language):
            text = source[max(node.start_byte - 1, 0) : node.end_byte + 1]
            found.setdefault((node.type, node.start_point[1], text), []).append(node)
    return found


def _opaque(node: Node, language: Language) -> bool:
    """Whether a node's form depends on nothing but its own text."""
    kind = node.type
    if kind in _DEPENDENT or kind in language.comments or kind in language.exact or kind in language.imports:
        return False
    if kind in language.import_lists or (kind == "expression_statement" and language.name == "python"):
        return False
    return node.is_named and node.child_count > 0


def _large(node: Node) -> bool:
    """Whether a node is worth looking for."""
    return node.end_byte - node.start_byte >= MIN_BYTES


def _place(node: Node) -> Place:
    """Where a node stands in its source."""
    return node.start_byte, node.end_byte, node.type
