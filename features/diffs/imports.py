"""Order of imports: neighbours may change places where that can't change what a name means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tree_sitter import Node

    from features.diffs.languages import Language


class Rendered(NamedTuple):
    """Tokens already written for the source up to `end`."""

    tokens: list[bytes]
    end: int


class TreeWriter(Protocol):
    """The part of the tree writer which is needed here."""

    language: Language
    level: int
    source: bytes
    at: int

    def reads(self, node: Node) -> bool:
        """Whether a tool or the program reads this comment."""
        ...

    def inner(self, node: Node) -> list[bytes]:
        """The form of one node by itself."""
        ...


_PYTHON = re.compile(rb"from\s+([\w.]+|\.+[\w.]*)\s+import\s+\(?([^()]*)\)?\Z")
_PYTHON_PLAIN = re.compile(rb"import\s+([^()]*)\Z")


def ordered(kind: str, children: list[Node], writer: TreeWriter) -> Sequence[Node | Rendered]:
    """The children, with each run of imports replaced by its forms in canonical order."""
    if kind in writer.language.import_lists:
        return _list(children, writer)
    result: list[Node | Rendered] = []
    run: list[Node] = []
    between: list[Node] = []  # comments after an import: gone if another import follows
    held = False  # by an attribute, which must not move to another import
    for child in children:
        moves = child.type in writer.language.imports and not held and not _has_effect(child, writer)
        if child.type not in writer.language.comments:
            held = child.type == "attribute_item"
        if moves:
            run.append(child)
            between = []
        elif child.type in writer.language.comments and writer.level > 1 and run and not _read(child, writer):
            between.append(child)  # at level 2 a comment between two imports doesn't part them
        elif child.type == ";" and run:
            continue
        else:
            result += [*_run(run, writer), *between, child]
            run, between = [], []
    return [*result, *_run(run, writer), *between]


def _read(comment: Node, writer: TreeWriter) -> bool:
    """Whether a tool might read this comment."""
    return writer.reads(comment) or (comment.text or b"").startswith((b"//go:", b"#!", b"/*!"))


def _has_effect(node: Node, writer: TreeWriter) -> bool:
    """An import for its effect alone keeps its place."""
    return writer.language.parens and not any(child.type.endswith("_clause") for child in node.named_children)


def _run(run: list[Node], writer: TreeWriter) -> list[Node | Rendered]:
    """One run of imports in canonical order; as it stands if two of them bind one name."""
    if not run:
        return []
    if writer.language.name == "python":
        entries = _python(run)
        if entries is None:
            return list(run)
        forms = [[b"\x08" + b" ".join(entry)] for entry in sorted(set(entries))]
    else:
        forms = sorted(writer.inner(node) for node in run)
    return [Rendered([token for form in forms for token in form], run[-1].end_byte)]


def _list(children: list[Node], writer: TreeWriter) -> Sequence[Node | Rendered]:
    """The items of an import list in canonical order; as they stand when comments count among them."""
    items = [child for child in children if child.is_named]
    if any(child.type in writer.language.comments for child in items):
        return children
    forms = sorted(writer.inner(child) for child in items)
    return [Rendered([token for form in forms for token in form], children[-1].end_byte)]


Entry = tuple[bytes, ...]


def _python(run: list[Node]) -> list[Entry] | None:
    """Python imports one name at a time as (module, name, alias); None if their order or comments count."""
    entries: list[Entry] = []
    bound: dict[bytes, Entry] = {}
    for node in run:
        found = _python_entries(node.text or b"")
        if found is None:
            return None
        for entry in found:
            module, name, alias = entry
            key = alias or name or module.split(b".")[0]
            other = bound.setdefault(key, entry)
            if other != entry and (name or alias or other[1] or other[2]):
                return None  # two imports bind one name: the later one wins
            entries.append(entry)
    return entries


def _python_entries(text: bytes) -> list[Entry] | None:
    """The names of one import statement; None when it can't be taken apart safely."""
    if b"#" in text or b"*" in text or b";" in text:
        return None
    text = text.replace(b"\\\n", b" ").strip()
    match = _PYTHON.match(text) or _PYTHON_PLAIN.match(text)
    if match is None:
        return None
    module = match[1] if match.re is _PYTHON else b""
    entries: list[Entry] = []
    for item in match[match.re.groups].split(b","):
        words = item.split()
        if not words:
            continue
        if len(words) not in (1, 3) or (len(words) == 3 and words[1] != b"as"):
            return None
        alias = words[2] if len(words) == 3 else b""
        entries.append((module, words[0], alias) if module else (words[0], b"", alias))
    return entries
