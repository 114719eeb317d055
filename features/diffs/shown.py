"""What a reviewer is shown of two after-images: the first lines in which they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.diffs.verdicts import Difference

if TYPE_CHECKING:
    from features.diffs.languages import Language
    from features.diffs.postimage import Window

SHOWN_LINES = 8
_HASH, _SLASHES = (b"#",), (b"//", b"/*")
_COMMENT_MARKS = {  # by which a line is a comment: for showing where code differs, nothing hangs on it
    **dict.fromkeys(("python", "ruby", "bash", "yaml", "toml", "julia"), _HASH),
    **dict.fromkeys(
        ("javascript", "typescript", "tsx", "go", "rust", "java", "c", "cpp", "csharp", "php"), _SLASHES
    ),
}


def first_difference(window: Window, language: Language | None) -> Difference:
    """The first lines that differ in more than white space: of code, where code differs at all."""
    comments = _COMMENT_MARKS.get(language.name if language else "", ())
    a, b = _numbered(window.a, comments), _numbered(window.b, comments)
    if [line for _, line in a] == [line for _, line in b]:
        a, b = _numbered(window.a, ()), _numbered(window.b, ())
    start = max(window.start, 1)
    place = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x[1] != y[1]), min(len(a), len(b)))
    line_a, line_b = (found[place][0] if place < len(found) else None for found in (a, b))
    ends = window.a.rstrip().count(b"\n"), window.b.rstrip().count(b"\n")
    return Difference(
        line_a=start + (ends[0] + 1 if line_a is None else line_a),
        line_b=start + (ends[1] + 1 if line_b is None else line_b),
        text_a="" if line_a is None else _shown(window.a, line_a),
        text_b="" if line_b is None else _shown(window.b, line_b),
    )


def _shown(text: bytes, line: int) -> str:
    """A few lines from the given one on."""
    lines = text.split(b"\n")[line : line + SHOWN_LINES]
    return "\n".join(part[:200].rstrip().decode("utf-8", "replace") for part in lines)


def _numbered(text: bytes, comments: tuple[bytes, ...]) -> list[tuple[int, bytes]]:
    """Lines with something on them that isn't a comment, and their 0-based numbers."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split(b"\n"))]
    return [(number, line) for number, line in lines if line and not (comments and line.startswith(comments))]
