"""From a log to a bundle: label, featurize, split, fit, evaluate, gate, export. `samediff train` runs it.

A gate that fails leaves no bundle behind, and whatever was at the target stays as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from features.encoder import read_card
from models.manifest import Parity
from models.prior import PRIOR_ENCODER
from training.dataset import Dataset, DatasetCounts, holdout_mask, load_dataset
from training.examples import DEFAULT_KNOBS, Examples, Knobs
from training.fit import fit_success, fit_tokens
from training.log import LogStore
from training.metrics import ProbabilityMetrics, log_loss, probability_metrics
from training.publish import Provenance, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import RenderableType

MAX_ECE = 0.06  # on held-out groups; a few hundred rows alone show 0.03 by chance
MIN_CANDIDATES = 2
TRAINED = Provenance(kind="trained")


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Scores on the newest groups, by heads fitted on the others; the table alone stands beside."""

    rows: int
    groups: int
    success: ProbabilityMetrics
    table: ProbabilityMetrics
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
    table = 1 / (1 + np.exp(-head.table.values(newest.candidate, newest.task_type, head.prices)))
    difference = _by_group(
        newest.group, _row_log_loss(newest.success, p) - _row_log_loss(newest.success, table)
    )
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
        log_loss_minus_table=log_loss(newest.success, p) - log_loss(newest.success, table),
        log_loss_minus_table_ci=_bootstrap_mean(difference, knobs.seed),
        tokens_sum_ratio=ratio,
    )


def gates_of(dataset: Dataset, held_out: HeldOut | None) -> list[Gate]:
    """The conditions with their numbers: two candidates, held-out calibration, not worse than the table."""
    n = dataset.counts.candidates
    gates = [
        Gate(
            name="candidates", passed=n >= MIN_CANDIDATES, said=f"{n} with labels, at least {MIN_CANDIDATES}"
        )
    ]
    if held_out is None:
        return [
            *gates,
            Gate(name="held out", passed=False, said="the log is one group: nothing can be held out"),
        ]
    ece, low = held_out.success.ece, held_out.log_loss_minus_table_ci[0]
    return [
        *gates,
        Gate(name="calibration", passed=ece <= MAX_ECE, said=f"ECE {ece:.3f}, at most {MAX_ECE}"),
        Gate(
            name="not worse than the table",
            passed=low <= 0,
            said=f"log-loss {held_out.log_loss_minus_table:+.4f} against the table, "
            f"95 % interval {low:+.4f} to {held_out.log_loss_minus_table_ci[1]:+.4f}",
        ),
    ]


def rows_of(examples: Examples, mask: np.ndarray) -> Examples:
    """The examples of a boolean mask (n,)."""
    arrays = {name: getattr(examples, name)[mask] for name in examples._fields if name != "prices"}
    return examples._replace(**arrays)


def _row_log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-7, 1 - 1e-7)
    loss: np.ndarray = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return loss


def _by_group(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum and count of values per group, (groups, 2)."""
    _, where = np.unique(group, return_inverse=True)
    return np.stack([np.bincount(where, values), np.bincount(where)], axis=1)


def _bootstrap_mean(by_group: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean over rows, by resampling whole groups."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(by_group), np.full(len(by_group), 1 / len(by_group)), size=draws)
    totals = weights @ by_group
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return float(low), float(high)


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
    how = "table + trees" if report.trees else "the table alone: trees did not beat it out of fold"
    yield f"bundle {report.digest[:12]} written to {report.bundle} ({how})"
