"""Texts of tokens in one spelling, language by language, and the small questions asked of nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

    from features.diffs.languages import Language

_IDENTIFIER = re.compile(rb"[A-Za-z_$][\w$]*\Z")
_PLAIN_FORBIDDEN = re.compile(rb"[\\$#'\"`\n\r{]")
_YAML_ESCAPE = re.compile(rb"['\"\\\n]")
_JS_ESCAPE = re.compile(rb"\\([\s\S])")
_MACRO = re.compile(
    rb"(/\*.*?\*/|//[^\n]*)|(\\\r?\n|\s+)|(?:u8|[uUL])?R\"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)\""
    rb"|(?:u8|[uUL])?\"(?:[^\"\\]|\\.)*\"|(?:u8|[uUL])?'(?:[^'\\]|\\.)*'|\w[\w.]*|<<=|>>=|\.\.\.|->|\+\+|--"
    rb"|<<|>>|##|::|[-+*/%&|^<>=!]=|&&|\|\||.",
    re.DOTALL,
)
_CSS_FRACTION = re.compile(rb"(?<=[+-])\.(?=\d)|\A\.(?=\d)")


def js_string(text: bytes, node: Node, parent: Node | None) -> bytes:
    """A string of JavaScript or CSS in one quoting; a key that could be bare as if it were."""
    content, around = text[1:-1], parent.type if parent is not None else ""
    if around == "jsx_attribute":
        return b'"' + (text if b"\\" in text else content)
    if around == "pair" and parent is not None and _IDENTIFIER.match(content):
        key = parent.child_by_field_name("key")
        if key is not None and key.start_byte == node.start_byte:
            return content
    return b'"' + _JS_ESCAPE.sub(lambda match: match[1] if match[1] in b"'\"" else match[0], content)


def macro_text(text: bytes, level: int) -> bytes:
    """The tokens of a C macro's body; at level 2 without comments."""
    tokens = [match[0] for match in _MACRO.finditer(text) if not match[2] and (level == 1 or not match[1])]
    return b" ".join(tokens)


def with_end(source: bytes, start: int, end: int) -> bytes:
    """A block scalar of YAML with the blanks and empty lines at its end, which the grammar leaves out."""
    rest = source[end:]
    blanks = rest[: len(rest) - len(rest.lstrip(b" \t\n"))]
    if len(blanks) < len(rest):
        blanks = blanks[: blanks.rfind(b"\n") + 1]
    text = source[start:end] + blanks
    return text if b"+" in text.partition(b"\n")[0] else text.rstrip(b"\n")


def called(node: Node) -> bytes:
    """The name of the function or macro that a call of C calls; empty if it is more than a name."""
    function = node.child_by_field_name("function")
    return (function.text or b"") if function is not None and function.type == "identifier" else b""


def idle_statements(children: list[Node]) -> Iterator[Node]:
    """The empty statements of JavaScript that can go: none that keeps a string from being a directive."""
    directive = False
    for child in reversed(children):
        if child.type == "empty_statement" and not directive:
            yield child
        elif child.type not in ("comment", "empty_statement"):
            named = child.named_children if child.type == "expression_statement" else []
            directive = len(named) == 1 and named[0].type == "string"


def block_scalar(text: bytes, line: bytes) -> bytes:
    """A block scalar of YAML, its indentation counted from the line it belongs to (`line`: up to here)."""
    head, _, body = text.partition(b"\n")
    if any(digit in head for digit in b"123456789#"):
        return text
    if b"\n" not in text:
        return head.rstrip()
    lines = body.split(b"\n")
    first = next((part for part in lines if part.strip()), b"")
    indent = len(first) - len(first.lstrip(b" "))
    if any(part[:indent].strip() for part in lines):
        return text
    content = b"\n".join(part[indent:] for part in lines)
    deeper = indent - (len(line) - len(line.lstrip(b" -")))
    return b"%d%s\n" % (deeper, head.rstrip()) + (content if b"+" in head else content.rstrip(b"\n"))


def jsx_text(text: bytes) -> bytes:
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


# What holds a bracket and ends an optional chain in it anyway.
_ENDS_A_CHAIN = frozenset(
    (
        *("ternary_expression", "binary_expression", "arguments"),
        *("variable_declarator", "return_statement", "pair"),
    )
)


def redundant(node: Node, parent: Node | None) -> bool:
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
    # (a?.b).c throws where a?.b.c doesn't: a chain ends with its brackets.
    return parent.type in _ENDS_A_CHAIN or b"?." not in (inner[0].text or b"")


def redundant_type(node: Node, parent: Node | None) -> bool:
    """Whether these parentheses around a type of TypeScript can go: (typeof x)[k] is typeof x[k]."""
    inner = node.named_children
    around = parent.type if parent is not None else ""
    return len(inner) == 1 and inner[0].type == "type_query" and around in ("lookup_type", "array_type")


def jsx_blank(node: Node, parent: Node | None) -> bytes | None:
    """The blanks of `{" "}` among an element's children, which are text; None for anything else."""
    if parent is None or parent.type not in ("jsx_element", "jsx_fragment"):
        return None
    inner = node.named_children
    text = (inner[0].text or b"")[1:-1] if len(inner) == 1 and inner[0].type == "string" else b""
    return text if text and not text.strip(b" ") else None


def only_string(node: Node) -> bool:
    """Whether a Python statement is nothing but a string, as docstrings are."""
    named = [child for child in node.named_children if child.type != "comment"]
    return len(named) == 1 and named[0].type in ("string", "concatenated_string")


def kept_whole(node: Node, kind: str, language: Language) -> bool:
    """Elements of HTML in which every blank is shown, templates whose text the grammar doesn't cover."""
    if kind == "template_string":
        ends = [node.start_byte, *(child.end_byte for child in node.children)]
        return any(child.start_byte != end for child, end in zip(node.children, ends, strict=False))
    if language.name != "html" or node.type != "element" or not node.named_children:
        return False
    tag = (node.named_children[0].text or b"").lower()
    return tag.startswith((b"<pre", b"<textarea", b"<xmp", b"<listing", b"<plaintext"))


def lone_parameter(node: Node, parent: Node | None) -> bool:
    """Whether this is `(x)` of an arrow function, for which `x` would do."""
    named = node.named_children
    arrow = parent is not None and parent.type == "arrow_function"
    return arrow and len(named) == 1 and bool(_IDENTIFIER.match(named[0].text or b""))


def one_quoting(text: bytes, rule: str) -> bytes:
    """A string without escapes or interpolation in one quoting, any other as it stands."""
    forbidden = _YAML_ESCAPE if rule == "yaml" else _PLAIN_FORBIDDEN
    if text[:1] not in (b"'", b'"') or text[:1] != text[-1:] or forbidden.search(text[1:-1]):
        return text
    return b'"' + text[1:-1]


def css_number(text: bytes) -> bytes:
    """A number of CSS with a digit before its point."""
    return _CSS_FRACTION.sub(b"0.", text)
