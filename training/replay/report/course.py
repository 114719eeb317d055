"""The page's part on what is watched: success of the logged sessions as they came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.replay.quality.clusters import NOUNS
from training.replay.report.sections import drawn
from training.replay.report.show import watch_says
from training.report import Axis, Line, picture, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.replay.report.result import Result


def course_of(result: Result) -> Iterator[str]:
    """The logged sessions' success as it was learned, one after the other."""
    if result.watch is None:
        return
    yield text("How is what is logged doing?", "h2")
    said = watch_says(result.watch, result.clustered_by)
    yield text(said[0].upper() + said[1:] + ".")
    course = result.watch["course"]
    lines = [
        Line([(float(n), low) for n, low, _ in course], "at least", "a"),
        Line([(float(n), high) for n, _, high in course], "at most", "b"),
    ]
    by = result.clustered_by
    axes = Axis(f"{NOUNS[by]} with a known outcome"), Axis(f"success, by {by}", 100, " %", (0.0, 1.0))
    yield drawn(picture(f"ends of logged success by {by}, as they came in", axes, lines, []))
    hold = (
        "These ends hold at all times together, so that looking every day costs nothing; intervals elsewhere "
        "on this page hold for one look."
    )
    broken = "Ends that left the mean of all, or crossed, are those of no single rate: read none of them."
    yield text(hold if result.watch["ci"] else broken, kind="soft")
