"""One self-contained HTML page from a JSON result: plain SVG, no script, nothing from the network.

The pieces here (page, picture, table) know nothing of evaluations: their numbers are what they are given.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 26, 14, 46
_TICKS = 5
_CSS = """
:root{color-scheme:light dark;--ink:#1c1f23;--soft:#5d6670;--line:#d5dae0;--paper:#fff;--card:#f6f7f9;
--a:#1661be;--b:#b4540a;--c:#18794e;--d:#8b3fb0;--e:#5d6670}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a2abb5;--line:#3a4149;--paper:#15181c;
--card:#1e2328;--a:#6cb0ff;--b:#ffab5e;--c:#5fd39a;--d:#d79bf5;--e:#a2abb5}}
*{box-sizing:border-box}body{margin:0 auto;max-width:58rem;padding:1.5rem 1rem 4rem;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,sans-serif}h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;
margin:2.2rem 0 .5rem}p{margin:.5rem 0}.soft{color:var(--soft)}.advice{border-left:4px solid var(--a);
background:var(--card);padding:.8rem 1rem;font-size:1.05rem}.wide{overflow-x:auto}.wide svg{min-width:36rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
tr.mark td{font-weight:650}svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;
fill:var(--ink)}svg .soft{fill:var(--soft)}svg .grid{stroke:var(--line);stroke-width:1}ul{padding-left:1.2rem}
"""


class Point(NamedTuple):
    """A marked point with the half-open bars of its intervals; colour is one of a to e."""

    x: float
    y: float
    name: str
    colour: str = "e"
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None


class Line(NamedTuple):
    """A line through points, in order of x."""

    points: Sequence[tuple[float, float]]
    name: str
    colour: str = "a"
    dashed: bool = False


class Axis(NamedTuple):
    """What an axis shows, and what its ticks are multiplied by and followed by."""

    title: str
    unit: float = 1.0
    suffix: str = ""
    bounds: tuple[float, float] | None = None


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document; `parts` are finished HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def text(words: str, tag: str = "p", kind: str = "") -> str:
    """One escaped element."""
    of_kind = f' class="{kind}"' if kind else ""
    return f"<{tag}{of_kind}>{escape(words)}</{tag}>"


def items(lines: Iterable[str]) -> str:
    """A list of escaped lines; nothing for none."""
    rows = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{rows}</ul>" if rows else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], marked: Iterable[str] = ()) -> str:
    """A table that scrolls sideways on a narrow screen; rows whose first cell is marked stand out."""
    chosen = set(marked)
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        ('<tr class="mark">' if row[0] in chosen else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def picture(about: str, axes: tuple[Axis, Axis], lines: Sequence[Line], points: Sequence[Point]) -> str:
    """A chart of lines and points with intervals as SVG; `about` says it in words for who can't see it."""
    xs = [x for line in lines for x, _ in line.points] + [e for p in points for e in (p.x_ends or (p.x, p.x))]
    ys = [y for line in lines for _, y in line.points] + [e for p in points for e in (p.y_ends or (p.y, p.y))]
    if not xs:
        return text("nothing to show: no cost is known", kind="soft")
    across = _Scale(axes[0].bounds or _padded(xs), (LEFT, WIDTH - RIGHT))
    upward = _Scale(axes[1].bounds or _padded(ys), (HEIGHT - BOTTOM, TOP))
    drawn = [*_grid(axes, across, upward), *(_line(line, across, upward) for line in lines)]
    taken: list[tuple[float, float]] = []
    for point in points:
        drawn += _point(point, across, upward, taken)
    drawn += _legend(lines)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(about)}">{"".join(drawn)}</svg>'
    )


class _Scale(NamedTuple):
    """Values to places."""

    values: tuple[float, float]
    places: tuple[float, float]

    def __call__(self, value: float) -> float:
        (low, high), (start, stop) = self.values, self.places
        return start + (value - low) / (high - low) * (stop - start)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Bounds with some room; what is never negative doesn't begin below 0."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return max(low - room, 0.0) if low >= 0 else low - room, high + room


def _ticks(bounds: tuple[float, float], unit: float) -> list[float]:
    """Round values within bounds, about half a dozen of them."""
    low, high = (bound * unit for bound in bounds)
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 2.5, 5, 10), key=lambda factor: abs(factor * power - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step / unit for n in range(first, last + 1)]


def _grid(axes: tuple[Axis, Axis], across: _Scale, upward: _Scale) -> list[str]:
    drawn = []
    for x in _ticks(across.values, axes[0].unit):
        at = across(x)
        drawn += [
            f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
            f'<text class="soft" x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{_tick(x, axes[0])}</text>",
        ]
    for y in _ticks(upward.values, axes[1].unit):
        at = upward(y)
        drawn += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>',
            f'<text class="soft" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
            f"{_tick(y, axes[1])}</text>",
        ]
    middle = (TOP + HEIGHT - BOTTOM) / 2
    drawn += [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(axes[0].title)}</text>",
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        f"{escape(axes[1].title)}</text>",
    ]
    return drawn


def _tick(value: float, axis: Axis) -> str:
    return f"{value * axis.unit:.3g}{axis.suffix}"


def _line(line: Line, across: _Scale, upward: _Scale) -> str:
    way = " ".join(f"{across(x):.1f},{upward(y):.1f}" for x, y in sorted(line.points))
    dash = ' stroke-dasharray="6 5"' if line.dashed else ""
    return f'<polyline points="{way}" fill="none" stroke="var(--{line.colour})" stroke-width="2"{dash}/>'


def _point(point: Point, across: _Scale, upward: _Scale, taken: list[tuple[float, float]]) -> list[str]:
    x, y, stroke = across(point.x), upward(point.y), f'stroke="var(--{point.colour})"'
    drawn: list[str] = []
    bars: list[tuple[float, float, float, float]] = []
    if point.y_ends is not None:
        bars.append((x, upward(point.y_ends[0]), x, upward(point.y_ends[1])))
    if point.x_ends is not None:
        bars.append((across(point.x_ends[0]), y, across(point.x_ends[1]), y))
    for x1, y1, x2, y2 in bars:
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        drawn.append(f'<line {ends} {stroke} opacity=".55"/>')
    drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--{point.colour})"/>')
    right = x > WIDTH - 150
    words = y - 8
    while any(abs(words - other_y) < 13 and abs(x - other_x) < 120 for other_x, other_y in taken):
        words += 14  # under the one that is there already
    taken.append((x, words))
    anchor = "end" if right else "start"
    drawn.append(
        f'<text x="{x - 8 if right else x + 8:.1f}" y="{words:.1f}" text-anchor="{anchor}">'
        f"{escape(point.name)}</text>"
    )
    return drawn


def _legend(lines: Sequence[Line]) -> list[str]:
    drawn = []
    for n, line in enumerate(lines):
        y = HEIGHT - BOTTOM - 14 - 18 * (len(lines) - 1 - n)
        dash = ' stroke-dasharray="6 5"' if line.dashed else ""
        drawn += [
            f'<line x1="{WIDTH - 210}" x2="{WIDTH - 180}" y1="{y}" y2="{y}" stroke="var(--{line.colour})" '
            f'stroke-width="2"{dash}/>',
            f'<text x="{WIDTH - 172}" y="{y + 4}">{escape(line.name)}</text>',
        ]
    return drawn
