"""Normal forms from a syntax tree: tokens and nesting, without what the grammar says doesn't count.

The nesting is part of the form, so that indentation, automatic semicolons and precedence count as they
should. Bytes which no leaf covers are never lost: unless they are white space they become a token.
"""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING

from features.diffs.c_tokens import c_tokens, raw_in_macro, text_macros
from features.diffs.directives import directives_of
from features.diffs.grammars import Unparsable, parse
from features.diffs.imports import Rendered, ordered
from features.diffs.rust_rules import comma_is_optional, lone_expression
from features.diffs.texts import (
    block_scalar,
    called,
    css_number,
    idle_statements,
    js_string,
    jsx_blank,
    jsx_text,
    kept_whole,
    lone_parameter,
    macro_text,
    one_quoting,
    only_string,
    redundant,
    redundant_type,
    with_end,
)

if TYPE_CHECKING:
    from tree_sitter import Node

    from features.diffs.languages import Language

MAX_NODES = 2_000_000

_CLOSERS = frozenset((b")", b"]", b"}", b">", b"|"))
_DELIMITER = re.compile(rb"[\"'`\\#]|/\*|//|\*/")
_APART = re.compile(rb"[ \t]*\n[ \t]*\n")
_ASSOCIATIVE = frozenset(("union_type", "intersection_type"))  # TypeScript: A | (B | C) and a leading |
OPEN, CLOSE = b"\x02", b"\x03"


Place = tuple[int, int, str]  # a node's first byte, the byte after its last, its type


def form(source: bytes, language: Language, level: int, *, partial: bool = False) -> list[bytes]:
    """Tokens and nesting of a source at level 1 (comments count) or 2. Raises Unparsable.

    `partial` accepts a tree with errors, for fragments; each place of error then counts to the byte.
    """
    source = source.replace(b"\r\n", b"\n")
    root = parse(source, language)
    unclear = language.tokens and raw_in_macro(source)
    if (root.has_error or unclear) and not partial:
        tokens = c_tokens(source, level) if language.tokens else None
        if tokens is not None:
            return [b"tokens", *tokens]
        if unclear or not (language.resilient and _only_local_errors(root)):
            raise Unparsable(f"it doesn't parse as {language.name}")
    writer = Writer(source, language, level)
    writer.write(root)
    writer.gap(len(source))  # a root of errors may end before the source does
    return writer.out


Pending = (
    tuple["Node", "Node | None"] | Rendered | bytes
)  # a node with its parent, finished tokens, a closing mark


def _only_local_errors(root: Node) -> bool:
    """Whether no place of error could hide where a string or a comment begins or ends."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.is_error and _DELIMITER.search(node.text or b""):
            return False
        stack.extend(child for child in node.children if child.has_error or child.is_error)
    return True


class Writer:
    """Walks a tree without recursion and writes its form."""

    def __init__(self, source: bytes, language: Language, level: int) -> None:
        self.source = source
        self.language = language
        self.level = level
        self.out: list[bytes] = []
        self.at = 0  # end of the last token written
        self.last = b""  # that token
        self.space = False  # there was white space or a comment since then
        self.optional: set[int] = set()  # where punctuation was left out
        self.spaced = 1 if "*" in language.spaced else 0
        self.directives = directives_of(language, source)
        self.text_macros = text_macros(source) if language.tokens else frozenset()
        self.docs_read = b"__doc__" in source or b"getdoc" in source or b"yacc" in source or b"ply" in source
        self.shared: frozenset[Place] = frozenset()  # nodes written as their text, not walked

    def write(self, root: Node) -> list[bytes]:
        """The form of a node and all below it."""
        stack: list[Pending] = [(root, None)]
        nodes = 0
        while stack:
            item = stack.pop()
            if isinstance(item, bytes):
                self.out.append(CLOSE)
                self.spaced -= item == b"spaced"
            elif isinstance(item, Rendered):
                self.out += item.tokens
                self.at = max(self.at, item.end)
            else:
                nodes += 1
                if nodes > MAX_NODES:
                    raise Unparsable("a tree too large to compare")
                self._node(*item, stack)
        return self.out

    def _node(self, node: Node, parent: Node | None, stack: list[Pending]) -> None:
        """Write a leaf, or open a node and put its children on the stack."""
        kind, language = node.type, self.language
        if kind in language.comments:
            self._comment(node)
            return
        if kind in language.exact or node.is_error or kept_whole(node, kind, language):
            self._token(node, self._exact(node, parent, kind))
            return
        if kind == "call_expression" and self.text_macros and called(node) in self.text_macros:
            self._token(node, b" ".join(self.source[node.start_byte : node.end_byte].split()))
            return
        if self.shared and (node.start_byte, node.end_byte, kind) in self.shared:
            self._token(node, b"\x0b" + self.source[node.start_byte : node.end_byte])
            return
        children = node.children
        if not children:
            self._leaf(node, kind)
            return
        if self.level > 1:
            if self._simplified(node, parent, stack):
                return
            children = self._without_optional(node, children)
            if kind in _ASSOCIATIVE and (len(children) == 1 or (parent is not None and parent.type == kind)):
                stack.append(Rendered([], node.end_byte))
                stack.extend((child, node) for child in reversed(children))
                return
        self.gap(children[0].start_byte if children else node.start_byte)
        spaced = kind in language.spaced
        self.spaced += spaced
        self.out.append(OPEN + kind.encode())
        stack.append(b"spaced" if spaced else b"")
        if len(children) < node.child_count:
            stack.append(Rendered([], node.end_byte))
        if kind in language.import_lists or any(child.type in language.imports for child in children):
            items = ordered(kind, children, self)
            stack.extend(item if isinstance(item, Rendered) else (item, node) for item in reversed(items))
        else:
            stack.extend((child, node) for child in reversed(children))

    def _simplified(self, node: Node, parent: Node | None, stack: list[Pending]) -> bool:
        """Write a node for which a simpler one would do as that one; False where none would."""
        kind, brackets, rust = node.type, self.language.parens, self.language.name == "rust"
        if (kind == "parenthesized_expression" and brackets and redundant(node, parent)) or (
            kind == "parenthesized_type" and redundant_type(node, parent)
        ):
            self.gap(node.start_byte)
            self.at = node.start_byte + 1
            stack.append(Rendered([], node.end_byte))
            stack.extend((child, parent) for child in node.named_children[::-1])
        elif kind == "formal_parameters" and brackets and lone_parameter(node, parent):
            self.gap(node.start_byte)
            inner = node.named_children[0]
            self.out.append(self.source[inner.start_byte : inner.end_byte])
            self.at = node.end_byte
        elif kind == "block" and rust and (lone := lone_expression(node, parent)) is not None:
            self.gap(node.start_byte)
            self.at = node.start_byte + 1
            stack += [Rendered([], node.end_byte), (lone, parent)]
        elif kind == "jsx_expression" and (blank := jsx_blank(node, parent)) is not None:
            self._shown(node, b"\x07" + blank)
        elif (
            kind == "expression_statement"
            and self.language.name == "python"
            and only_string(node)
            and not self.docs_read
        ):
            self.gap(node.start_byte)
            self.at = node.end_byte
        else:
            return False
        return True

    def _shown(self, node: Node, text: bytes) -> None:
        """Write text of a JSX element; neighbouring texts are one."""
        if self.level > 1 and self.last[:1] == b"\x07" and self.out[-1] is self.last:
            self.gap(node.start_byte)
            self.at, self.space = node.end_byte, False
            self.last = self.out[-1] = self.last + text[1:]
        else:
            self._token(node, text)

    def gap(self, start: int) -> None:
        """Account for the bytes before a token: anything but white space is kept, any space is remembered."""
        gap = self.source[self.at : start] if start > self.at else b""
        if gap and self.language.name == "php" and not gap.strip() and self._sent(gap):
            self._write(b"\x04" + gap)
        if gap.strip():
            if self.language.resilient:
                gap = gap.replace(b"\\\n", b"  ")
            kept = self._required(gap, start) if self.optional else gap
            if kept.strip():
                self.space = self.space or kept[:1].isspace()
                bare = kept.strip()
                self._write(b"\x04" + (css_number(bare) if self.language.name == "css" else bare))
                self.space = kept[-1:].isspace()
                self.at = max(self.at, start)
                return
        self.at = max(self.at, start)
        self.space = self.space or bool(gap)

    def _sent(self, gap: bytes) -> bool:
        """Whether PHP prints these blanks: before its first tag, and after another but for one line end."""
        return self.at == 0 or (self.last == b"?>" and gap != b"\n")

    def _required(self, gap: bytes, end: int) -> bytes:
        """The bytes of a gap without the punctuation that was left out on purpose."""
        first = end - len(gap)
        return bytes(byte for n, byte in enumerate(gap) if first + n not in self.optional)

    def _token(self, node: Node, text: bytes) -> None:
        """Write one token, with its spacing where that counts."""
        self.gap(node.start_byte)
        self.at = node.end_byte
        self._write(text)

    def _write(self, text: bytes) -> None:
        """Put a token down, after a blank if there was white space and that counts."""
        tight = self.language.tight
        if self.space and self.spaced and text not in tight and self.last not in tight:
            self.out.append(b" ")
        self.space = False
        self.last = text
        self.out.append(text)

    def _leaf(self, node: Node, kind: str) -> None:
        """Write a leaf; white space, which some grammars call a token, isn't one unless it is text."""
        text = self.source[node.start_byte : node.end_byte]
        if kind == "jsx_text" and not node.is_missing:
            if shown := jsx_text(text):
                self._shown(node, shown)
            return
        if kind == "text" and self.language.name == "html":
            if b"{{" not in text and b"{%" not in text and b"white-space" not in self.source:
                text = b" ".join(text.split())
        elif kind == "color_value":
            text = text.lower()
        elif kind == "float_value":
            text = css_number(text)
        elif text[:1] == b"#" and self.language.resilient:
            text = b"#" + text[1:].strip()  # "#  define" is "#define"
        if node.is_missing:
            text = b"\x05" + kind.encode()
        if text.strip():
            self._token(node, text)

    def _comment(self, node: Node) -> None:
        """A comment counts at level 1, and always when a tool or the compiler reads it."""
        text = self.source[node.start_byte : node.end_byte]
        if self.reads(node) or self.level == 1:
            self.gap(node.start_byte)
            self.out.append(b"\x06" + b"\n".join(line.strip() for line in text.strip().split(b"\n")))
            self.at = node.end_byte
            if self.language.name == "go" and self.reads(node) and _APART.match(self.source, node.end_byte):
                self.out.append(
                    b"\x06apart"
                )  # an empty line parts `// +build` and cgo's C from what they are of
        else:
            self.gap(node.start_byte)
            self.at, self.space = node.end_byte, self.space or self.language.name != "html"

    def reads(self, node: Node) -> bool:
        """Whether a tool or the program reads this comment."""
        text = self.source[node.start_byte : node.end_byte].decode("utf-8", "replace").rstrip("\r")
        return any(pattern.search(text) for pattern in self.directives)

    def _exact(self, node: Node, parent: Node | None, kind: str) -> bytes:
        """The text of a node to the byte, in one quoting where the language has two for the same thing."""
        text = self.source[node.start_byte : node.end_byte]
        if kind == "preproc_arg":
            return macro_text(text, self.level)
        if kind == "block_scalar":
            text = with_end(self.source, node.start_byte, node.end_byte)
        rule = self.language.quotes.get(kind) if self.level > 1 else None
        if rule == "js" and parent is not None and parent.type == "charset_statement":
            return text  # to be read it has to have double quotes
        if rule is None:
            return text
        if rule == "js":
            return js_string(text, node, parent)
        if rule == "block":
            start = self.source.rfind(b"\n", 0, node.start_byte) + 1
            return block_scalar(text, self.source[start : node.start_byte])
        return one_quoting(text, rule)

    def _without_optional(self, node: Node, children: list[Node]) -> list[Node]:
        """Children without the comma before a closer, the last semicolon, and optional separators."""
        kind, language = node.type, self.language
        if kind in language.commas or (language.name == "rust" and comma_is_optional(node)):
            real = [child for child in children if child.type not in language.comments]
            if (
                len(real) > 2
                and real[-2].type == ","
                and real[-1].type.encode() in _CLOSERS
                and real[-3].type not in (",", "[", "(", "{")
            ):
                comma = real[-2].start_byte
                self.optional.add(comma)
                return [child for child in children if child.start_byte != comma]
        if kind in language.semicolon and children[-1].type in (";", ",") and len(children) > 1:
            self.optional.add(children[-1].start_byte)
            return children[:-1]
        if kind in _ASSOCIATIVE:
            self.optional.update(child.start_byte for child in children if child.type in ("|", "&"))
            return [child for child in children if child.type not in ("|", "&")]
        if kind in ("program", "statement_block") and language.parens:
            gone = {child.start_byte for child in idle_statements(children)}
            self.optional |= gone
            return [child for child in children if child.start_byte not in gone]
        if kind in language.separated:
            self.optional.update(child.start_byte for child in children if child.type in (";", ","))
            return [child for child in children if child.type not in (";", ",")]
        return children

    def inner(self, node: Node) -> list[bytes]:
        """The form of one node by itself."""
        writer = copy(self)  # with what is known of the whole source
        writer.out, writer.last, writer.space, writer.optional = [], b"", False, set()
        writer.spaced = 1 if "*" in self.language.spaced else 0
        writer.shared = frozenset()
        writer.at = node.start_byte
        return writer.write(node)
