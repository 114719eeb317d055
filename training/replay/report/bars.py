"""Stacked bars with intervals, as plain SVG beside the pictures of training/report.py."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from training.report import WIDTH, text

if TYPE_CHECKING:
    from collections.abc import Sequence

ROW, NAME, RIGHT, TOP = 26, 190, 132, 26
COLOURS = ("a", "c", "b", "d", "e")


class Bar(NamedTuple):
    """A bar of parts, with what stands behind it and the interval of the whole."""

    name: str
    parts: Sequence[float]
    said: str
    ends: tuple[float, float] | None = None


def bars(about: str, kinds: Sequence[str], rows: Sequence[Bar]) -> str:
    """Stacked bars, one for each row, the parts named at the top; `about` says it in words."""
    most = max((max(sum(row.parts), row.ends[1] if row.ends else 0.0) for row in rows), default=0.0)
    if not most > 0:
        return text("nothing to show: no cost is known", kind="soft")
    scale = (WIDTH - NAME - RIGHT) / most
    drawn = [_legend(kinds)]
    for n, row in enumerate(rows):
        drawn.append(_row(row, TOP + n * ROW, scale))
    height = TOP + len(rows) * ROW + 6
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(about)}">{"".join(drawn)}</svg>'
    )


def _row(row: Bar, y: int, scale: float) -> str:
    middle = y + ROW / 2
    drawn = [f'<text x="{NAME - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(row.name)}</text>']
    x = float(NAME)
    for colour, part in zip(COLOURS, row.parts, strict=False):
        width = max(part, 0.0) * scale
        drawn.append(
            f'<rect x="{x:.1f}" y="{y + 5}" width="{width:.2f}" height="{ROW - 10}" fill="var(--{colour})" '
            'opacity=".85"/>'
        )
        x += width
    if row.ends is not None:
        low, high = (NAME + end * scale for end in row.ends)
        drawn.append(
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="var(--ink)" '
            'stroke-width="1.5"/>'
        )
        x = max(x, high)
    drawn.append(f'<text class="soft" x="{x + 6:.1f}" y="{middle + 4:.1f}">{escape(row.said)}</text>')
    return "".join(drawn)


def _legend(kinds: Sequence[str]) -> str:
    drawn, x = [], NAME
    for colour, kind in zip(COLOURS, kinds, strict=False):
        drawn.append(
            f'<rect x="{x}" y="6" width="11" height="11" fill="var(--{colour})" opacity=".85"/>'
            f'<text class="soft" x="{x + 16}" y="16">{escape(kind)}</text>'
        )
        x += 30 + 7 * len(kind)
    return "".join(drawn)
