"""Sections of the page beside the first table: best controls, what is watched, and every estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.replay.quality.clusters import NOUNS
from training.replay.report.show import over_says, versus_cells, watch_says
from training.report import Axis, Line, picture, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.replay.report.result import Result


def versus_of(result: Result) -> Iterator[str]:
    """Each policy beside its best control."""
    rows = list(versus_cells(result))
    if not rows:
        return
    yield text("Beside the best control", "h2")
    yield table(("policy", "best control", "success, points", "95 %", "USD", "95 %"), rows)
    yield text(
        "A policy less the pin, mix or cascade of most success among those that cost no more, on the same "
        "sessions: what makes a session easy or dear is in both, and cancels. Advice takes these "
        "differences, as wide as holds for all policies at once.",
        kind="soft",
    )


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


def estimates_of(result: Result) -> Iterator[str]:
    """Appendix: what every estimator says."""
    rows = [
        (
            row.name,
            said["method"] + (" (quoted)" if said["quoted"] else ""),
            f"{said['value']:.1%}",
            "" if (ends := said["interval"]) is None else f"{ends[0]:.1%} – {ends[1]:.1%}",
            "" if said["ess"] is None else f"{said['ess']:,.0f}",
        )
        for row in result.policies
        for said in row.estimates
    ]
    if not rows:
        return
    yield text("Appendix: every estimator", "h2")
    yield text(
        f"Success of single decisions, intervals over {over_says(result)}. dm is what the model of outcomes "
        "believes: its bias is in no interval, and nothing is advised by it. Where the ESS is small, no "
        "other is to be believed either; what is quoted above is marked, and its _bootstrap draws the "
        "interval anew. ips_bernstein holds at any size, whatever was not seen (empirical Bernstein); "
        "replay's is exact where it kept no two decisions that belong together (Clopper-Pearson).",
        kind="soft",
    )
    yield table(("policy", "estimator", "success", "95 %", "ESS"), rows)


def drawn(svg: str) -> str:
    """A picture that scrolls sideways on a narrow screen, where its words would be too small."""
    return f'<div class="wide">{svg}</div>'
