"""Normal forms of pieces of files, for the weaker verdict when the base isn't known.

A piece may begin inside a block, a bracket or a string. Python's is put on a scaffold on which it parses;
other languages' grammars recover by themselves. A piece that could have begun inside a comment or a long
string is compared by lines only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from features.diffs.c_tokens import raw_in_macro, text_macros
from features.diffs.directives import python_directives
from features.diffs.grammars import Unparsable
from features.diffs.grammars import parse as parse_tree
from features.diffs.piece_scope import is_code, names_in_functions
from features.diffs.python_form import parse, tree_form
from features.diffs.trees import form

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.diffs.languages import Language

MAX_PIECE_BYTES = 400_000
_LEXEME = re.compile(
    rb'"""(?:[^\\]|\\.)*?(?:"""|\Z)|\'\'\'(?:[^\\]|\\.)*?(?:\'\'\'|\Z)|"(?:[^"\\\n]|\\.)*"?|\'(?:[^\'\\\n]|\\.)*\'?'
    rb"|#[^\n]*|\\\r?\n|\n|[()\[\]{}]",
    re.DOTALL,
)
_CONTINUES = re.compile(rb"(elif|else|except|finally|case)\b")
_STARTS = tuple(
    start + b"\n"
    for start in (b'"""', b"'''", b"def w(", b"from w import (", b'w("""', b"w('''", b'w(w("""', b"w(w('''")
)
_OPENERS = {b")": b"w(", b"]": b"[", b"}": b"{"}
_LEADING = re.compile(rb"^[ \t]*\t", re.MULTILINE)
# Lines that make no sense without what stands further up, and are code all the same.
_CUT = re.compile(
    rb"[)\]}]|(?:case|default|else|catch|finally|public|private|protected|internal|static|async|override|get|set"
    rb"|readonly|return|break|continue|constructor)\b"
)
_COMMENT_AFTER = re.compile(rb"(?:\s+|\A)//.*\Z|\s*/\*.*\*/\s*\Z")
_CODE_ENDS = tuple(b"{ } ( ) ; [ ]".split())
_GLUED = re.compile(rb"[\w:]//[^\n]*")
_PAIRS = {b")": b"(", b"]": b"[", b"}": b"{"}


def lines_form(text: bytes) -> list[bytes]:
    """Lines of a piece without blanks at the end and empty lines."""
    return [line.rstrip() for line in text.split(b"\n") if line.strip()]


def piece_form(
    text: bytes, language: Language | None, level: int, fresh: frozenset[str] = frozenset()
) -> list[bytes]:
    """The form of a piece at level 1 or 2. Raises Unparsable where whole lines are all that is safe."""
    if language is None or len(text) > MAX_PIECE_BYTES:
        raise Unparsable("compared by lines")
    if language.name == "python":
        middle, tail = scaffold(text)
        lines = lines_form(text) if level == 1 else []
        tree = parse(middle)
        said = python_directives(text) if is_code(tree) else comments_of(text)
        written = tree_form(tree, middle, fresh=fresh & names_in_functions(tree), partial=True)
        return [*said, *written, b"\x10", *lines_form(tail), *lines]
    if not language.local_lexing or _maybe_inside(text):
        raise Unparsable("a piece that may begin inside a comment or string")
    if language.tokens and (raw_in_macro(text) or text_macros(text)):
        raise Unparsable("macros whose text counts")
    strange = _strange_lines(text, language)
    level = 1 if strange else level  # a comment may be text as well then
    glued = _GLUED.findall(text)  # https://…
    return [*form(text, language, level, partial=True), b"\x10", *strange, *glued]


def _strange_lines(text: bytes, language: Language) -> list[bytes]:
    """The lines that the grammar can't make sense of, whole: they may be lines of a string."""
    lines, rows = text.replace(b"\r\n", b"\n").split(b"\n"), set[int]()
    stack = [parse_tree(b"\n".join(lines), language)]
    while stack:
        node = stack.pop()
        if node.is_error or node.is_missing:
            rows.update(range(node.start_point[0], node.end_point[0] + 1))
        stack.extend(
            child for child in node.children if child.has_error or child.is_error or child.is_missing
        )
    strange = (lines[row].strip() for row in sorted(rows) if row < len(lines))
    return [line for line in strange if line and not _looks_like_code(line)]


def _looks_like_code(line: bytes) -> bool:
    """Whether a line that the grammar can't place is code cut off from what belongs to it, not prose."""
    return _CUT.match(line) is not None or _COMMENT_AFTER.sub(b"", line).endswith(_CODE_ENDS)


def comments_of(text: bytes) -> list[bytes]:
    """Everything in a piece of Python that looks like a comment."""
    return [match[0].rstrip() for match in _LEXEME.finditer(text) if match[0].startswith(b"#")]


def _maybe_inside(text: bytes) -> bool:
    """Whether the piece could begin or end inside a comment or a string of several lines."""
    opener, closer = text.find(b"/*"), text.find(b"*/")
    if closer >= 0 and (opener < 0 or closer < opener):
        return True
    if text.count(b"/*") != text.count(b"*/") or text.count(b"`") % 2 or text.count(b'"""') % 2:
        return True
    return b"<<" in text or text.lstrip().startswith(b"*")


def scaffold(text: bytes) -> tuple[bytes, bytes]:
    """A piece of Python with just enough around it to parse, and the unfinished statement at its end.

    Raises Unparsable.
    """
    text = _LEADING.sub(lambda match: match[0].expandtabs(8), text.replace(b"\r\n", b"\n"))
    for start in (b"", *_openers(text), *_STARTS):
        framed = _framed(start + text if start else text, opened=bool(start))
        if framed is None:
            continue
        try:
            parse(framed[0])
        except Unparsable:
            continue
        return framed
    raise Unparsable("a piece that doesn't parse as Python")


def _openers(text: bytes) -> list[bytes]:
    """The brackets that the piece closes without having opened them."""
    depth = 0
    missing: list[bytes] = []
    for match in _LEXEME.finditer(text):
        token = match[0]
        if token in (b"(", b"[", b"{"):
            depth += 1
        elif token in _PAIRS:
            if depth == 0:
                missing.append(_OPENERS[token])
            depth = max(0, depth - 1)
    return [b"".join(reversed(missing)) + b"\n"] if 0 < len(missing) < 20 else []


def _framed(text: bytes, *, opened: bool) -> tuple[bytes, bytes] | None:
    """The piece with headers for the blocks it begins in, and what it leaves open at its end."""
    lines = list(_logical_lines(text))
    tail = b""
    if lines and lines[-1][2]:  # an open bracket or string
        at = lines.pop()[0]
        text, tail = text[:at], text[at:]
    if not lines:
        return None
    levels = [_indent(line) for _, line, _ in lines]
    if (
        opened and len(levels) > 1
    ):  # the opener stands where the statement after it stands, or just above its block
        following = levels[1][0] - (1 if levels[0][1].rstrip().endswith(b":") else 0)
        first = max(following, 0)
        text = b" " * first + text
        levels[0] = (first, levels[0][1])
    return _headers(levels) + text.rstrip(b"\n") + b"\n" + _ending(levels), tail


def _headers(levels: list[tuple[int, bytes]]) -> bytes:
    """Headers for each block that the piece comes out of without having gone in."""
    lowest: list[tuple[int, bytes]] = []
    for level, line in levels:
        if not lowest or level < lowest[-1][0]:
            lowest.append((level, line))
    out = b""
    first_level, first_line = lowest[0]
    outer = lowest[:0:-1]
    if lowest[-1][0] > 0:
        out += b"if 1:\n"
    for level, line in outer:
        out += b" " * level + (b"try:\n" if line.startswith((b"except", b"finally")) else b"if 1:\n")
    if _CONTINUES.match(first_line):
        word = b"try:" if first_line.startswith((b"except", b"finally")) else b"if 1:"
        out += b" " * first_level + word + b" pass\n"
    return out


def _ending(levels: list[tuple[int, bytes]]) -> bytes:
    """A body for a header at the end, a function for a decorator, a handler for a try."""
    level, line = levels[-1]
    code = line.split(b"#")[0].rstrip()
    if line.startswith(b"@"):
        return b" " * level + b"def w(): pass\n"
    out = b" " * (level + 1) + b"pass\n" if code.endswith(b":") else b""
    tries: list[int] = []
    for at, text in levels:
        while tries and (at < tries[-1] or (at == tries[-1] and not text.startswith(b"try"))):
            tries.pop()
        if text.startswith(b"try:"):
            tries.append(at)
    return out + b"".join(b" " * at + b"finally: pass\n" for at in reversed(tries))


def _logical_lines(text: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, text, left open) of each logical line that holds code."""
    start = at = 0
    depth: list[bytes] = []
    code = False
    for match in _LEXEME.finditer(text):
        token = match[0]
        code = code or bool(text[at : match.start()].strip())
        at = match.end()
        if token == b"\n":
            if depth:
                continue
            if code:
                yield start, text[start : match.start()], False
            start, code = at, False
        elif token in _PAIRS:
            if depth and depth[-1] == _PAIRS[token]:
                depth.pop()
            code = True
        elif token in (b"(", b"[", b"{"):
            depth.append(token)
            code = True
        elif token[:1] in (b'"', b"'"):
            code = True
            if token[:3] in (b'"""', b"'''") and (len(token) < 6 or token[-3:] != token[:3]):
                depth.append(token[:3])
    if code or text[at:].strip():
        yield start, text[start:], bool(depth)


def _indent(line: bytes) -> tuple[int, bytes]:
    """Blanks before a logical line's code and that code; empty and comment lines may stand before it."""
    offset = 0
    for physical in line.split(b"\n"):
        bare = physical.lstrip(b" ")
        if bare and not bare.startswith(b"#"):
            return len(physical) - len(bare), line[offset:].lstrip(b" ")
        offset += len(physical) + 1
    return 0, line
