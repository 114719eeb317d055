"""C and C++ as the compiler's own tokens, for files that the grammar can't read: it can't expand macros.

What a file of C means is told by its tokens and by where its preprocessor lines end, so equal tokens are the
same program, whatever the grammar makes of them.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    rb"""
    (?P<comment>/\*.*?\*/|//(?:[^\n\\]|\\.)*)
  | (?P<open>/\*)
  | (?P<space>(?:[\ \t\r\f\v]|\\\n)+)
  | (?P<newline>\n)
  | (?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)")
  | (?P<string>(?:u8|[uUL])?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
  | (?P<number>\.?\d(?:[eEpP][+-]|'\w|[\w.])*)
  | (?P<name>[A-Za-z_$\x80-\xff][\w$\x80-\xff]*)
  | (?P<sign><=>|<<=|>>=|\.\.\.|->\*|->|\+\+|--|<<|>>|\#\#|::|\.\*|[-+*/%&|^<>=!]=|&&|\|\||[^"'])
    """,
    re.VERBOSE | re.DOTALL,
)
_HEADER = re.compile(rb"[ \t]*(<[^>\n]*>)")
_INCLUDES = (b"include", b"include_next", b"import")
_RAW_IN_MACRO = re.compile(rb'^[ \t]*#(?:[^\n]|\\\n)*(?<!\w)(?:u8|[uUL])?R"', re.MULTILINE)
_DEFINED = re.compile(
    rb"^[ \t]*#[ \t]*define[ \t]+(\w+)\(([^)]*)\)((?:[^\n\\]|\\.)*)", re.MULTILINE | re.DOTALL
)
_STRINGIFIES = re.compile(rb"(?<!#)#[ \t]*[A-Za-z_]")
LINE, END, PARAMETERS = b"\x08", b"\x0e", b"\x0f"


def raw_in_macro(source: bytes) -> bool:
    """Whether a preprocessor line begins a raw string, in which the grammar would see comments."""
    return b'R"' in source and _RAW_IN_MACRO.search(source) is not None


def text_macros(source: bytes) -> frozenset[bytes]:
    """The macros defined here that turn an argument into a string, or hand theirs to one that does."""
    if b"#" not in source or b"define" not in source:
        return frozenset()
    defined = [(match[1], match[3]) for match in _DEFINED.finditer(source)]
    found = {name for name, body in defined if _STRINGIFIES.search(body)}
    while found:
        words = re.compile(rb"\b(?:" + b"|".join(sorted(found)) + rb")\b")
        more = {name for name, body in defined if name not in found and words.search(body)}
        if not more:
            break
        found |= more
    return frozenset(found)


def c_tokens(source: bytes, level: int) -> list[bytes] | None:
    """The tokens of a source at level 1 (comments count) or 2; None if a quote never ends or blanks count."""
    if text_macros(source):
        return None  # blanks count in their arguments
    out: list[bytes] = []
    at, fresh, inside = 0, True, False  # at the start of a line, within a preprocessor line
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None or match["open"]:
            return None
        text, at = match[0], match.end()
        if match["comment"]:
            if level == 1:
                out.append(b"\x06" + b"\n".join(line.strip() for line in text.split(b"\n")))
        elif match["newline"]:
            out += [END] if inside else []
            fresh, inside = True, False
        elif not match["space"]:
            if text == b"#" and fresh:
                out.append(LINE)
                inside = True
            out.append(text)
            fresh = False
            if inside and match["name"]:
                at = _read_blanks(source, at, out)
    return [*out, END] if inside else out


def _read_blanks(source: bytes, at: int, out: list[bytes]) -> int:
    """What blanks decide in a preprocessor line, `#include <a b>` and `#define f(x)`; where to go on."""
    if out[-3:-1] == [LINE, b"#"] and out[-1] in _INCLUDES and (header := _HEADER.match(source, at)):
        out.append(header[1])
        return header.end()
    if out[-4:-1] == [LINE, b"#", b"define"] and source[at : at + 1] == b"(":
        out.append(PARAMETERS)  # `#define f (x)` has none
    return at
