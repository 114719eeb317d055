"""From a labelled log to a bundle: featurize, split, fit, calibrate, evaluate, gate, export, gate again.

`samediff train` runs it. A gate that fails leaves no bundle behind, and what was at the target stays.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from features.encoder import read_card
from features.errors import BadInput
from models.bundle import Bundle, CandidateView
from models.folder import install_bundle, kept_beside
from models.manifest import Parity
from models.prior import PRIOR_ENCODER
from training.audit import described
from training.calibrate import log_loss
from training.dataset import Dataset, DatasetCounts, holdout_mask, load_dataset
from training.examples import DEFAULT_KNOBS, Examples, Knobs
from training.fit import fit_amounts, fit_success, fit_tokens
from training.log import LogStore
from training.metrics import ProbabilityMetrics, chance_error, paired_error, probability_metrics
from training.publish import Provenance, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

MAX_EXCESS_ECE = 0.04  # of calibration error on held-out groups over what chance alone shows there
Z_95 = 1.96
MIN_CANDIDATES = 2
MAX_BUNDLE_MB = 64.0
MAX_DECISION_MS = 2.0  # median of a prediction for a dozen arms; the p99 of a busy machine is no gate
TIMED_ARMS, TIMED_CALLS = 12, 200
TRAINED = Provenance(kind="trained")


class Steps(Protocol):
    """Who is told which step of the pipeline is on."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """A context around one step."""


class Untold:
    """Nobody is."""

    def step(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 — the protocol's
        """Nothing but the step."""
        return contextlib.nullcontext()


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Scores on the newest groups, by heads fitted on the others; the table alone stands beside."""

    rows: int
    groups: int
    success: ProbabilityMetrics
    table: ProbabilityMetrics
    ece_by_chance: float  # which true probabilities would show on as many rows, 95 of 100 times less
    log_loss_minus_table: float
    log_loss_minus_table_ci: tuple[float, float]
    log_loss_minus_pin: float  # a pin believes each candidate's own rate, whatever the request
    log_loss_minus_pin_ci: tuple[float, float]
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
    told: Steps | None = None,
) -> TrainReport:
    """Train on a log and write the bundle; raises BadInput where the log can't be trained on at all.

    `encoder` is the folder of the encoder that the log was ingested with; it goes into the bundle.
    """
    told = told or Untold()
    if not log.is_dir():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    kept_beside(out)  # a target that can't be written is better known before the work than after
    with told.step("label and featurize"):
        card = read_card(encoder)
        dataset = load_dataset(LogStore(log), card.digest, card.dim)
    with told.step("split, fit, calibrate, evaluate"):
        held_out = measure(dataset, knobs)
    gates = gates_of(dataset, held_out)
    report = TrainReport(bundle=str(out), counts=dataset.counts, held_out=held_out, gates=gates)
    if not all(gate.passed for gate in gates):
        return report
    with told.step("fit on all groups"):
        heads = (fit_success(dataset.examples, knobs), fit_tokens(dataset.examples, knobs))
        amounts = fit_amounts(dataset.examples, knobs)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        with told.step("export and prove"):
            built = Path(scratch) / "bundle"
            metrics = {} if held_out is None else _numbers(held_out)
            said = msgspec.structs.replace(provenance, metrics=metrics, seed=knobs.seed)
            published = publish(built, heads, dataset.examples, said, encoder, amounts=amounts)
        gates = [*gates, *gates_of_bundle(built, dataset)]
        if not all(gate.passed for gate in gates):
            return msgspec.structs.replace(report, gates=gates)
        install_bundle(built, out)
    return msgspec.structs.replace(
        report,
        gates=gates,
        candidates=[msgspec.to_builtins(profile) for profile in published.manifest.candidates],
        trees=heads[0].learned.booster is not None,
        output_lengths_known=published.manifest.tokens is not None,
        parity=published.parity,
        digest=published.digest,
    )


def gates_of_bundle(folder: Path, dataset: Dataset) -> list[Gate]:
    """The conditions on the bundle itself: its size, and how long a decision for a dozen arms takes."""
    megabytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    bundle = Bundle.load(folder)
    names = list(bundle.profiles)
    views = [CandidateView(names[i % len(names)], None, None) for i in range(TIMED_ARMS)]
    spent = []
    for row in dataset.examples.features[np.arange(TIMED_CALLS) % len(dataset.examples.features)]:
        started = time.perf_counter()
        bundle.predict(row[None, :], views)
        spent.append((time.perf_counter() - started) * 1000)
    median = float(np.median(spent))
    return [
        Gate(
            name="size",
            passed=megabytes <= MAX_BUNDLE_MB,
            said=f"{megabytes:.1f} MB, at most {MAX_BUNDLE_MB:.0f}",
        ),
        Gate(
            name="latency",
            passed=median <= MAX_DECISION_MS,
            said=f"{median:.2f} ms for {TIMED_ARMS} arms, at most {MAX_DECISION_MS:.0f}",
        ),
    ]


def measure(dataset: Dataset, knobs: Knobs) -> HeldOut | None:
    """Fit on the older groups and score on the newest; None when the log is a single group."""
    held = holdout_mask(dataset.examples.group, dataset.ts_ms)
    if not held.any():
        return None
    older, newest = rows_of(dataset.examples, ~held), rows_of(dataset.examples, held)
    head, tokens = fit_success(older, knobs), fit_tokens(older, knobs)
    p = head.predict(newest.features, newest.candidate, newest.task_type)
    alone = fit_success(older, msgspec.structs.replace(knobs, trees=(), ridges=()))
    table = alone.predict(newest.features, newest.candidate, newest.task_type)
    loss = log_loss(p, newest.success)
    mean, error = paired_error(loss - log_loss(table, newest.success), newest.group)
    plain = alone.predict(newest.features, newest.candidate, np.full(len(newest.candidate), ""))
    over_pin, pin_error = paired_error(loss - log_loss(plain, newest.success), newest.group)
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
        log_loss_minus_pin=over_pin,
        log_loss_minus_pin_ci=(over_pin - Z_95 * pin_error, over_pin + Z_95 * pin_error),
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
    ece, chance = held_out.success.ece, held_out.ece_by_chance
    controls = {
        "not worse than the table": (held_out.log_loss_minus_table, held_out.log_loss_minus_table_ci),
        "not worse than a pin's belief": (held_out.log_loss_minus_pin, held_out.log_loss_minus_pin_ci),
    }
    return [
        *gates,
        Gate(
            name="calibration",
            passed=ece <= chance + MAX_EXCESS_ECE,
            said=f"ECE {ece:.3f}, at most {MAX_EXCESS_ECE} over the {chance:.3f} that chance shows",
        ),
        *(
            Gate(
                name=name,
                passed=interval[0] <= 0,
                said=f"log-loss {mean:+.4f} against it, 95 % {interval[0]:+.4f} to {interval[1]:+.4f}",
            )
            for name, (mean, interval) in controls.items()
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
    yield from described(counts.odd)
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
