"""From a log to a bundle: label, featurize, split, fit, evaluate, gate, export. `samediff train` runs it.

A gate that fails leaves no bundle behind, and whatever was at the target stays as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from features.encoder import read_card
from features.errors import BadInput
from models.folder import kept_beside
from models.manifest import Parity
from models.prior import PRIOR_ENCODER
from training.calibrate import log_loss
from training.dataset import Dataset, DatasetCounts, holdout_mask, load_dataset
from training.examples import DEFAULT_KNOBS, Examples, Knobs
from training.fit import fit_success, fit_tokens
from training.log import LogStore
from training.metrics import ProbabilityMetrics, chance_error, paired_error, probability_metrics
from training.publish import Provenance, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import RenderableType

MAX_EXCESS_ECE = 0.04  # of calibration error on held-out groups over what chance alone shows there
Z_95 = 1.96
MIN_CANDIDATES = 2
TRAINED = Provenance(kind="trained")


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Scores on the newest groups, by heads fitted on the others; the table alone stands beside."""

    rows: int
    groups: int
    success: ProbabilityMetrics
    table: ProbabilityMetrics
    ece_by_chance: float  # which true probabilities would show on as many rows, 95 of 100 times less
    log_loss_minus_table: float
    log_loss_minus_table_ci: tuple[float, float]
    tokens_sum_ratio: float | None  # predicted over actual output tokens


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One condition for a bundle to be written."""

    name: str
    passed: bool
    said: str


class TrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `samediff train` did; `digest` is null when a gate failed and nothing was written."""

    bundle: str
    counts: DatasetCounts
    held_out: HeldOut | None
    gates: list[Gate]
    candidates: list[dict[str, Any]] = []
    trees: bool | None = None
    output_lengths_known: bool | None = (
        None  # without them no cost is, and every request goes to its reference
    )
    parity: Parity | None = None
    digest: str | None = None


def train(
    log: Path,
    out: Path,
    *,
    encoder: Path = PRIOR_ENCODER,
    provenance: Provenance = TRAINED,
    knobs: Knobs = DEFAULT_KNOBS,
) -> TrainReport:
    """Train on a log and write the bundle; raises BadInput where the log can't be trained on at all.

    `encoder` is the folder of the encoder that the log was ingested with; it goes into the bundle.
    """
    if not log.is_dir():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    kept_beside(out)  # a target that can't be written is better known before the work than after
    card = read_card(encoder)
    dataset = load_dataset(LogStore(log), card.digest, card.dim)
    held_out = measure(dataset, knobs)
    gates = gates_of(dataset, held_out)
    if not all(gate.passed for gate in gates):
        return TrainReport(bundle=str(out), counts=dataset.counts, held_out=held_out, gates=gates)
    success = fit_success(dataset.examples, knobs)
    heads = (success, fit_tokens(dataset.examples, knobs))
    metrics = {} if held_out is None else _numbers(held_out)
    said = msgspec.structs.replace(provenance, metrics=metrics, seed=knobs.seed)
    published = publish(out, heads, dataset.examples, said, encoder)
    return TrainReport(
        bundle=str(out),
        counts=dataset.counts,
        held_out=held_out,
        gates=gates,
        candidates=[msgspec.to_builtins(profile) for profile in published.manifest.candidates],
        trees=success.booster is not None,
        output_lengths_known=published.manifest.tokens is not None,
        parity=published.parity,
        digest=published.digest,
    )


def measure(dataset: Dataset, knobs: Knobs) -> HeldOut | None:
    """Fit on the older groups and score on the newest; None when the log is a single group."""
    held = holdout_mask(dataset.examples.group, dataset.ts_ms)
    if not held.any():
        return None
    older, newest = rows_of(dataset.examples, ~held), rows_of(dataset.examples, held)
    head, tokens = fit_success(older, knobs), fit_tokens(older, knobs)
    p = head.predict(newest.features, newest.candidate, newest.task_type)
    alone = fit_success(older, msgspec.structs.replace(knobs, trees=()))
    table = alone.predict(newest.features, newest.candidate, newest.task_type)
    mean, error = paired_error(log_loss(p, newest.success) - log_loss(table, newest.success), newest.group)
    known = np.isfinite(newest.output_tokens)
    ratio = None
    if tokens is not None and known.any():
        said = tokens.predict(newest.features[known], newest.candidate[known], newest.task_type[known])
        ratio = float(said.sum() / max(newest.output_tokens[known].sum(), 1.0))
    return HeldOut(
        rows=int(held.sum()),
        groups=len(np.unique(newest.group)),
        success=probability_metrics(newest.success, p),
        table=probability_metrics(newest.success, table),
        ece_by_chance=chance_error(p, knobs.seed),
        log_loss_minus_table=mean,
        log_loss_minus_table_ci=(mean - Z_95 * error, mean + Z_95 * error),
        tokens_sum_ratio=ratio,
    )


def gates_of(dataset: Dataset, held_out: HeldOut | None) -> list[Gate]:
    """The conditions with their numbers: two candidates, held-out calibration, not worse than the table."""
    n = dataset.counts.candidates
    enough = f"{n} with labels, at least {MIN_CANDIDATES}"
    gates = [Gate(name="candidates", passed=n >= MIN_CANDIDATES, said=enough)]
    if held_out is None:
        alone = "the log is one group: nothing can be held out"
        return [*gates, Gate(name="held out", passed=False, said=alone)]
    ece, chance, low = held_out.success.ece, held_out.ece_by_chance, held_out.log_loss_minus_table_ci[0]
    return [
        *gates,
        Gate(
            name="calibration",
            passed=ece <= chance + MAX_EXCESS_ECE,
            said=f"ECE {ece:.3f}, at most {MAX_EXCESS_ECE} over the {chance:.3f} that chance shows",
        ),
        Gate(
            name="not worse than the table",
            passed=low <= 0,
            said=f"log-loss {held_out.log_loss_minus_table:+.4f} against the table, "
            f"95 % interval {low:+.4f} to {held_out.log_loss_minus_table_ci[1]:+.4f}",
        ),
    ]


def rows_of(examples: Examples, mask: np.ndarray) -> Examples:
    """The examples of a boolean mask (n,)."""
    arrays = {name: v[mask] for name, v in examples._asdict().items() if isinstance(v, np.ndarray)}
    return examples._replace(**arrays)


def _numbers(held_out: HeldOut) -> dict[str, float]:
    """What the manifest keeps of the held-out scores."""
    scores = msgspec.to_builtins(held_out.success)
    return {f"held_out_{name}": float(value) for name, value in scores.items() if value is not None}


def render(report: TrainReport) -> Iterator[RenderableType]:
    """The report for people: what was learned from, how good it is beside the table, the gates."""
    from rich.table import Table

    counts = report.counts
    yield (
        f"{counts.requests} requests: {counts.labelled} labelled, {counts.unlabelled} unknown, "
        f"{counts.one_sided} with evidence that could only go one way, "
        f"{counts.no_candidate} without a model, {counts.other_encoder} embedded by another encoder; "
        f"{counts.candidates} candidates, {counts.groups} groups by {counts.grouped_by}"
    )
    if counts.imputed_output_tokens:
        names = ", ".join(counts.imputed_output_tokens)
        yield f"! output_tokens of {names}: about one constant per task type, so imputed: left out"
    if report.held_out is not None:
        held = report.held_out
        table = Table(title=f"held out: the newest {held.groups} groups, {held.rows} rows")
        for column in ("", "log-loss", "Brier", "ECE", "AUC"):
            table.add_column(column, justify="left" if not column else "right")
        for name, score in (("learned", held.success), ("table alone", held.table)):
            auc = "–" if score.auc is None else f"{score.auc:.3f}"
            table.add_row(name, f"{score.log_loss:.4f}", f"{score.brier:.4f}", f"{score.ece:.3f}", auc)
        yield table
    for gate in report.gates:
        yield f"{'[green]pass[/]' if gate.passed else '[red]FAIL[/]'}  {gate.name}: {gate.said}"
    if report.digest is None:
        yield "no bundle was written"
        return
    parity = report.parity
    assert parity is not None
    proof = f"ONNX = LightGBM on {parity.rows} adversarial rows: max |Δp| {parity.max_abs_dp:.1e}"
    yield f"[green]pass[/]  {proof}"
    if not report.output_lengths_known:
        yield "! no output_tokens are known, so no cost is: `auto` gives every request to its reference"
    how = "table + trees" if report.trees else "the table alone: trees did not beat it out of fold"
    yield f"bundle {report.digest[:12]} written to {report.bundle} ({how})"
