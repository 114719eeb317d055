"""The report of `samediff label` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from training.labels.coverage import LabelReport


def render(report: LabelReport) -> Iterator[RenderableType]:
    """The report for people."""
    yield (
        f"{report.requests:,} requests: {report.labelled:,} with evidence, {report.unknown:,} unknown, "
        f"{report.disagreeing:,} with kinds that disagree\n"
        f"{report.shadow_labels:,} answers of other candidates to them have evidence too\n"
        f"{report.added:,} outcomes added to {report.log}, {report.known_already:,} were there"
    )
    if report.coverage:
        yield _coverage_table(report)
    if report.compared:
        yield _compared_table(report)
    if report.clashes:
        clashes = Table(title="kinds that met on a request")
        for column in ("", "", "both", "agree"):
            clashes.add_column(column, justify="right" if column else "left")
        for clash in report.clashes[:12]:
            clashes.add_row(clash.a, clash.b, f"{clash.both:,}", f"{clash.agree:,}")
        yield clashes
    if report.support:
        yield _support_table(report)
    if report.noise is not None:
        noise = report.noise
        low, high = noise.flip_rate_ci
        yield (
            f"rerun noise: {noise.flip_rate:.1%} ({low:.1%} to {high:.1%}) of reruns come out differently "
            f"over {noise.tasks:,} repeated tasks; no Brier score gets below {noise.brier_floor:.3f} there"
        )
    if report.unmatched:
        yield f"! {report.unmatched:,} outcomes name no request, session or task of this log"
    yield report.verdict


def _coverage_table(report: LabelReport) -> Table:
    how = (
        f"learned on {report.overlap:,} requests" if report.overlap else "stated: too little overlap to learn"
    )
    table = Table(title=f"evidence; P(success) behind its word: {how}")
    table.add_column("kind (source)")
    table.add_column("level")
    for column in ("requests", "good", "bad", "P if good", "if bad"):
        table.add_column(column, justify="right")
    for line in report.coverage:
        name = line.kind if line.source == line.kind else f"{line.kind} ({line.source})"
        mark = "*" if report.overlap and not line.learned else ""
        good, bad = (f"{p:.2f}{mark}" if p != 0.5 else "–" for p in (line.rate_good, line.rate_bad))
        share = f"{line.requests:,} {line.share:4.0%}"
        table.add_row(name, line.level, share, f"{line.good:,}", f"{line.bad:,}", good, bad)
    return table


def _compared_table(report: LabelReport) -> Table:
    table = Table(title="answers beside the reference's to the same request")
    for column in ("candidate", "reference", "level", "source"):
        table.add_column(column)
    table.add_column("requests", justify="right")
    for line in report.compared:
        again = " (again: the ceiling)" if line.candidate == line.reference else ""
        share = f"{line.requests:,} {line.share:4.0%}"
        table.add_row(line.candidate + again, line.reference, line.level, line.source, share)
    return table


def _support_table(report: LabelReport) -> Table:
    table = Table(title="what it supports: at most so many bad (95 %)")
    table.add_column("candidate", max_width=28)
    for column in ("labelled", "verdicts", "bad", "at most", "pairs", "same"):
        table.add_column(column, justify="right")
    if pairs := any(line.pairs for line in report.support):
        table.add_column("levels of the pairs")
    for line in report.support:
        limit = "–" if line.at_most_bad is None else f"{line.at_most_bad:.1%}"
        numbers = (line.labelled, line.verdicts, line.bad)
        levels = ", ".join(f"{level} {n}" for level, n in line.levels.items())
        cells = [*map(str, numbers), limit, str(line.pairs), str(line.same)]
        table.add_row(line.candidate, *cells, *([levels] if pairs else []))
    return table
