"""Normal forms from a syntax tree: tokens and nesting, without what the grammar says doesn't count.

The nesting is part of the form, so that indentation, automatic semicolons and precedence count as they
should. Bytes which no leaf covers are never lost: unless they are white space they become a token.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from features.diffs.imports import Rendered, ordered
from features.diffs.languages import Language, directive_of, parser_of

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_GRAMMAR_BYTES = 4 << 20
MAX_NODES = 2_000_000

_CLOSERS = frozenset((b")", b"]", b"}", b">", b"|"))
_IDENTIFIER = re.compile(rb"[A-Za-z_$][\w$]*\Z")
_PLAIN_FORBIDDEN = re.compile(rb"[\\$#'\"`\n\r{]")
_JS_ESCAPE = re.compile(rb"\\([\s\S])")
OPEN, CLOSE = b"\x02", b"\x03"


class Unparsable(Exception):  # noqa: N818 - an answer, not an error
    """No trustworthy tree; the message is the reason."""


def parse(source: bytes, language: Language) -> Node:
    """The root node. Raises Unparsable when the grammar isn't there or the source is too large."""
    if len(source) > MAX_GRAMMAR_BYTES:
        raise Unparsable(f"a file over {MAX_GRAMMAR_BYTES >> 20} MB is compared by lines")
    if b"\0" in source:
        raise Unparsable("a binary file")
    parser = parser_of(language.name)
    if parser is None:
        raise Unparsable(f"no grammar for {language.name} here; pip install 'samediff[languages]'")
    tree = parser.parse(source)
    if tree is None:
        raise Unparsable(f"{language.name} grammar gave no tree")
    return tree.root_node


def form(source: bytes, language: Language, level: int, *, partial: bool = False) -> list[bytes]:
    """Tokens and nesting of a source at level 1 (comments count) or 2. Raises Unparsable.

    `partial` accepts a tree with errors, for fragments; each place of error then counts to the byte.
    """
    source = source.replace(b"\r\n", b"\n")
    root = parse(source, language)
    if root.has_error and not partial:
        raise Unparsable(f"it doesn't parse as {language.name}")
    return Writer(source, language, level).write(root)


Pending = (
    tuple["Node", "Node | None"] | Rendered | bytes
)  # a node with its parent, finished tokens, a closing mark


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
        self.directive = directive_of(language.name)

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
        if kind in language.exact or node.is_error or _kept_whole(node, language):
            self._token(node, self._exact(node, parent, kind))
            return
        children = node.children
        if not children:
            self._leaf(node, kind)
            return
        if self.level > 1:
            if kind == "parenthesized_expression" and language.parens and _redundant(node, parent):
                self._gap(node.start_byte)
                self.at = node.start_byte + 1
                stack.append(Rendered([], node.end_byte))
                stack.extend((child, parent) for child in node.named_children[::-1])
                return
            if kind == "formal_parameters" and language.parens and _lone_parameter(node, parent):
                self._gap(node.start_byte)
                self.out.append(node.named_children[0].text or b"")
                self.at = node.end_byte
                return
            children = self._without_optional(kind, children)
            if kind == "expression_statement" and language.name == "python" and _only_string(node):
                self._gap(node.start_byte)
                self.at = node.end_byte
                return
        self._gap(children[0].start_byte)
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

    def _gap(self, start: int) -> None:
        """Account for the bytes before a token: anything but white space is kept, any space is remembered."""
        gap = self.source[self.at : start] if start > self.at else b""
        if gap.strip():
            kept = self._required(gap, start) if self.optional else gap
            if kept.strip():
                self.out.append(b"\x04" + kept)
        self.at = max(self.at, start)
        self.space = self.space or bool(gap)

    def _required(self, gap: bytes, end: int) -> bytes:
        """The bytes of a gap without the punctuation that was left out on purpose."""
        first = end - len(gap)
        return bytes(byte for n, byte in enumerate(gap) if first + n not in self.optional)

    def _token(self, node: Node, text: bytes) -> None:
        """Write one token, with its spacing where that counts."""
        self._gap(node.start_byte)
        space, self.space = self.space, False
        tight = self.language.tight
        if space and self.spaced and text not in tight and self.last not in tight:
            self.out.append(b" ")
        self.last = text
        self.at = node.end_byte
        self.out.append(text)

    def _leaf(self, node: Node, kind: str) -> None:
        """Write a leaf; white space, which some grammars call a token, isn't one unless it is text."""
        text = self.source[node.start_byte : node.end_byte]
        if kind == "jsx_text":
            text = _jsx_text(text)
        elif kind == "text" and self.language.name == "html":
            text = b" ".join(text.split())
        elif kind == "color_value":
            text = text.lower()
        if node.is_missing:
            text = b"\x05" + kind.encode()
        if text.strip():
            self._token(node, text)

    def _comment(self, node: Node) -> None:
        """A comment counts at level 1, and always when a tool or the compiler reads it."""
        text = self.source[node.start_byte : node.end_byte]
        read = self.directive is not None and self.directive.search(text.decode("utf-8", "replace"))
        if read or self.level == 1:
            self._gap(node.start_byte)
            self.out.append(b"\x06" + b"\n".join(line.strip() for line in text.strip().split(b"\n")))
            self.at = node.end_byte
        else:
            self._gap(node.start_byte)
            self.at, self.space = node.end_byte, self.space or self.language.name != "html"

    def _exact(self, node: Node, parent: Node | None, kind: str) -> bytes:
        """The text of a node to the byte, in one quoting where the language has two for the same thing."""
        text = self.source[node.start_byte : node.end_byte]
        rule = self.language.quotes.get(kind) if self.level > 1 else None
        if rule is None:
            return text
        if rule == "js":
            return _js_string(text, node, parent)
        if rule == "plain" and text[:1] in (b"'", b'"') and not _PLAIN_FORBIDDEN.search(text[1:-1]):
            return b'"' + text[1:-1] if text[:1] == text[-1:] else text
        return text

    def _without_optional(self, kind: str, children: list[Node]) -> list[Node]:
        """Children without the comma before a closer, the last semicolon, and optional separators."""
        language = self.language
        if kind in language.commas:
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
        if kind in language.semicolon and children[-1].type == ";" and len(children) > 1:
            self.optional.add(children[-1].start_byte)
            return children[:-1]
        if kind in language.separated:
            self.optional.update(child.start_byte for child in children if child.type in (";", ","))
            return [child for child in children if child.type not in (";", ",")]
        return children

    def inner(self, node: Node) -> list[bytes]:
        """The form of one node by itself."""
        writer = Writer(self.source, self.language, self.level)
        writer.at = node.start_byte
        return writer.write(node)


def _js_string(text: bytes, node: Node, parent: Node | None) -> bytes:
    """A string of JavaScript or CSS in one quoting; a key that could be bare as if it were."""
    content, around = text[1:-1], parent.type if parent is not None else ""
    if around == "jsx_attribute":
        return b'"' + (text if b"\\" in text else content)
    if around == "pair" and parent is not None and _IDENTIFIER.match(content):
        key = parent.child_by_field_name("key")
        if key is not None and key.start_byte == node.start_byte:
            return content
    return b'"' + _JS_ESCAPE.sub(lambda match: match[1] if match[1] in b"'\"" else match[0], content)


def _lone_parameter(node: Node, parent: Node | None) -> bool:
    """Whether this is `(x)` of an arrow function, for which `x` would do."""
    named = node.named_children
    arrow = parent is not None and parent.type == "arrow_function"
    return arrow and len(named) == 1 and bool(_IDENTIFIER.match(named[0].text or b""))


def _redundant(node: Node, parent: Node | None) -> bool:
    """Whether these parentheses of JavaScript can go, given that nesting is kept."""
    inner = [child for child in node.named_children if "comment" not in child.type]
    if len(inner) != 1 or parent is None:
        return False
    if inner[0].type in ("string", "template_string") and parent.type == "expression_statement":
        return False  # ('use strict') is no directive
    if parent.type in ("assignment_expression", "augmented_assignment_expression"):
        left = parent.child_by_field_name("left")
        if left is not None and left.start_byte == node.start_byte:
            return False  # (f) = function () {} doesn't name the function
    return b"?." not in (inner[0].text or b"")  # (a?.b).c throws where a?.b.c doesn't


def _only_string(node: Node) -> bool:
    """Whether a Python statement is nothing but a string, as docstrings are."""
    named = [child for child in node.named_children if child.type != "comment"]
    return len(named) == 1 and named[0].type in ("string", "concatenated_string")


def _kept_whole(node: Node, language: Language) -> bool:
    """Elements of HTML in which every blank is shown."""
    if language.name != "html" or node.type != "element" or not node.named_children:
        return False
    tag = (node.named_children[0].text or b"").lower()
    return tag.startswith((b"<pre", b"<textarea"))


def _jsx_text(text: bytes) -> bytes:
    """Text of a JSX element as React sees it: lines trimmed, empty lines gone, the rest joined by a blank."""
    lines = text.split(b"\n")
    last = len(lines) - 1
    trimmed = [
        (line if n == 0 else line.lstrip()) if n == last else (line.rstrip() if n == 0 else line.strip())
        for n, line in enumerate(lines)
    ]
    if last == 0:
        return b"\x07" + text
    joined = b" ".join(line for line in trimmed if line)
    return b"\x07" + joined if joined else b""
