"""How alike two changes are: their longest common subsequence of tokens, and the symbols edited.

The LCS is Hyyrö's algorithm ("Bit-parallel LCS-length computation revisited", 2004) on Python's integers:
n·m/64 word operations in C, without a library for it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from features.bytewords import tokens_of
from features.diffs.grammars import Unparsable, parse

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tree_sitter import Node

    from features.diffs.languages import Language

MAX_TOKENS = 20_000  # beyond it the middle isn't aligned: only a bag of tokens is compared
MAX_SYMBOL_BYTES = 1 << 20  # the way up a tree takes time in proportion to its width and depth
MAX_SYMBOL_ROWS = 200
_SYMBOL = re.compile(
    r"function|method|class|struct|impl|interface|module|namespace|constructor|trait|enum|property|def"
)


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    if not a or not b:
        return 0
    masks: dict[Hashable, int] = {}  # where each item stands in `a`, a bit a place
    for place, item in enumerate(a):
        masks[item] = masks.get(item, 0) | 1 << place
    full = (1 << len(a)) - 1
    row = full
    for mask in map(masks.get, b):
        if mask:
            matches = row & mask
            row = ((row + matches) | (row - matches)) & full
    return len(a) - row.bit_count()


def ratio(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Similarity of two sequences in [0, 1]: 2·LCS / (len(a) + len(b)); 1 for two empty ones."""
    total = len(a) + len(b)
    if total == 0:
        return 1.0
    shorter, start, end = min(len(a), len(b)), 0, 0
    while start < shorter and a[start] == b[start]:
        start += 1
    while end < shorter - start and a[-1 - end] == b[-1 - end]:
        end += 1
    rest_a, rest_b = a[start : len(a) - end], b[start : len(b) - end]
    if len(rest_a) > MAX_TOKENS or len(rest_b) > MAX_TOKENS:
        common = sum((Counter(rest_a) & Counter(rest_b)).values())
    else:
        common = lcs_length(rest_a, rest_b)
    return 2 * (start + end + common) / total


class Change:
    """What one side changed: lines that went, lines that came, and where in the after-image they stand."""

    def __init__(self, before: bytes, after: bytes) -> None:
        old, new = (
            [line.strip() for line in before.split(b"\n")],
            [line.strip() for line in after.split(b"\n")],
        )
        self.came, self.came_at = _left_over(new, old)
        self.went, self.went_at = _left_over(old, new)

    def tokens(self) -> list[bytes]:
        """Tokens of the change, those that went apart from those that came."""
        return [b"-" + token for token in tokens_of(b"\n".join(self.went))] + tokens_of(b"\n".join(self.came))


def _left_over(lines: list[bytes], others: list[bytes]) -> tuple[list[bytes], list[int]]:
    """Lines (and their 0-based places) beyond those that the other side has too."""
    spare: dict[bytes, int] = {}
    for line in others:
        spare[line] = spare.get(line, 0) + 1
    kept, places = [], []
    for place, line in enumerate(lines):
        if left := spare.get(line):
            spare[line] = left - 1
        elif line:
            kept.append(line)
            places.append(place)
    return kept, places


def symbols(
    source: bytes, rows: Sequence[int], language: Language | None, known: dict[bytes, Node] | None = None
) -> frozenset[str]:
    """Names of the innermost declarations around the rows, as dotted paths; empty = top level or unknown."""
    if language is None or not rows or len(source) > MAX_SYMBOL_BYTES:
        return frozenset()
    try:
        root = parse(source, language, known)
    except Unparsable:
        return frozenset()
    found = set()
    wanted = sorted(set(rows))
    for row in wanted[:: len(wanted) // MAX_SYMBOL_ROWS + 1]:
        node = root.descendant_for_point_range((row, 0), (row, 1 << 20))
        names: list[str] = []
        while node is not None and len(names) < 20:
            name = node.child_by_field_name("name") if _SYMBOL.search(node.type) else None
            if name is not None and name.text:
                names.append(name.text.decode("utf-8", "replace"))
            node = node.parent
        found.add(".".join(reversed(names)))
    return frozenset(found)
