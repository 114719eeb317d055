"""What `samediff train` did, for programs and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from models.certificate import Certificate
from models.manifest import Parity, Slice
from models.tasktype import TypeCard
from training.after.samediff_heads import AfterSaid
from training.audit import described
from training.dataset import DatasetCounts
from training.gates import Gate
from training.heldout import HeldOut
from training.slices import said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.table import Table


class TrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `samediff train` did; `digest` is null when a gate failed and nothing was written."""

    bundle: str
    counts: DatasetCounts
    held_out: HeldOut | None
    gates: list[Gate]
    slices: list[Slice] = []  # of the held-out rows
    certificates: list[Certificate] = []
    candidates: list[dict[str, Any]] = []
    trees: bool | None = None
    linear: bool | None = None
    output_lengths_known: bool | None = (
        None  # without them no cost is, and every request goes to its reference
    )
    paired_rows: int = 0  # newcomers' outcomes held against known candidates' on the same task
    types: TypeCard | None = None  # how well a task type is told where no client tells it
    after: AfterSaid | None = None  # what is believed of an answer in hand
    parity: Parity | None = None
    digest: str | None = None


def render(report: TrainReport) -> Iterator[RenderableType]:
    """The report for people: what was learned from, how good it is beside the table, the gates."""
    counts = report.counts
    yield (
        f"{counts.requests} requests: {counts.labelled} labelled, {counts.unlabelled} unknown, "
        f"{counts.one_sided} with evidence that could only go one way, "
        f"{counts.no_candidate} without a model, {counts.other_encoder} embedded by another encoder, "
        f"{counts.drifted} answered by another version than was to be served; "
        f"{counts.candidates} candidates, {counts.groups} groups by {counts.grouped_by}"
    )
    if counts.imputed_output_tokens:
        names = ", ".join(counts.imputed_output_tokens)
        yield f"! output_tokens of {names}: about one constant per task type, so imputed: left out"
    yield from described(counts.odd)
    yield from _types_said(report)
    if report.paired_rows:
        yield f"{report.paired_rows:,} outcomes of newcomers were held against known models' on the same task"
    if report.held_out is not None:
        yield _scores(report.held_out)
    yield from said(report.slices)
    for certificate in report.certificates:
        yield f"certificate: {certificate.said}"
    if report.held_out is not None and not report.certificates:
        yield "no certificate: the best candidate is the cheapest, or fewer than two have prices and outcomes"
    yield from _after_said(report)
    for gate in report.gates:
        yield f"{'[green]pass[/]' if gate.passed else '[red]FAIL[/]'}  {gate.name}: {gate.said}"
    if report.digest is None:
        yield "no bundle was written"
        return
    if not report.output_lengths_known:
        yield "! no output_tokens are known, so no cost is: `auto` gives every request to its reference"
    learners = [name for name, speaks in (("trees", report.trees), ("linear part", report.linear)) if speaks]
    alone = "the table alone: learners did not beat it out of fold"
    how = " + ".join(["table", *learners]) if learners else alone
    yield f"bundle {report.digest[:12]} written to {report.bundle} ({how})"


def _scores(held: HeldOut) -> Table:
    """Scores on the newest groups with their intervals, the table alone beside them."""
    from rich.table import Table

    table = Table(title=f"held out: the newest {held.groups} groups, {held.rows} rows (95 % over groups)")
    for column in ("", "log-loss", "Brier", "ECE", "AUC"):
        table.add_column(column, justify="left" if not column else "right")
    for name, score, ends in (
        ("learned", held.success, held.success_ci | ({} if held.ece_ci is None else {"ece": held.ece_ci})),
        ("table alone", held.table, held.table_ci),
    ):
        keys = ("log_loss", "brier", "ece", "auc")
        values = [getattr(score, key) for key in keys]
        table.add_row(name, *("–" if value is None else f"{value:.4f}" for value in values))
        table.add_row("", *("{:.3f}–{:.3f}".format(*ends[key]) if key in ends else "" for key in keys))
    return table


def _types_said(report: TrainReport) -> Iterator[str]:
    """What stands for the task type, and how well it is told where no client tells it."""
    if report.counts.typed_by == "kind":
        kinds = ", ".join(f"{name} {rows:,}" for name, rows in report.counts.types.items())
        yield f"no request tells a task type, so the kind of its call stands in: {kinds}"
    if report.types is None:
        return
    scores = report.types.metrics
    yield (
        f"task types told without being told: {scores['accuracy']:.1%} right out of fold "
        f"({scores['accuracy_of_base']:.1%} by the commonest), log-loss {scores['log_loss']:.3f} against "
        f"{scores['log_loss_of_base']:.3f}, on {scores['requests']:,.0f} requests"
    )


def _after_said(report: TrainReport) -> Iterator[str]:
    """What of an answer in hand can be told, and what the log doesn't teach."""
    if report.after is None:
        return
    for name, scores in report.after.heads.items():
        area = f", AUC {scores['auc']:.3f}" if "auc" in scores else ""
        yield (
            f"after the answer, {name}: log-loss {scores['log_loss']:.4f} against "
            f"{scores['log_loss_of_base']:.4f} of the base rate{area}, out of fold"
        )
    for question, why in report.after.missing.items():
        yield f"after the answer, {question}: not learned ({why})"
