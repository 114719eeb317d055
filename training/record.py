"""A training with its record: a run in MLflow, and a challenger in its registry if the gates pass."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from features.encoder import read_card
from features.errors import BadInput
from features.files import held_alone
from features.vector import feature_hash
from models.bundle import Bundle
from models.prior import PRIOR_ENCODER
from training.examples import DEFAULT_KNOBS, Knobs
from training.figures import calibration_page
from training.log import LogStore
from training.pipeline import TRAINED, train
from training.registry import installed
from training.trainreport import TrainReport, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from training.registry import Registry, Run

LOCK = ".retrain.lock"


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a training left in MLflow; null where nothing was recorded."""

    tracking_uri: str | None = None
    run_id: str | None = None
    version: str | None = None  # of the registered model: the challenger now
    why_not: str | None = None  # why nothing was recorded


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """A training's report and where it is recorded."""

    report: TrainReport
    recorded: Recorded = Recorded()


class FlatTraining(TrainReport, frozen=True, kw_only=True):
    """The report with where it is recorded beside it: what `--json` writes."""

    recorded: Recorded = Recorded()


class Retraining(msgspec.Struct, frozen=True, kw_only=True):
    """What `samediff retrain` did; `training` is null where the log holds nothing new."""

    new_rows: int
    new_outcomes: int
    data_digest: str
    training: Training | None = None
    promoted: str | None = None  # digest that is in force now


def recorded_train(
    log: Path,
    out: Path,
    registry: Registry | None,
    *,
    encoder: Path = PRIOR_ENCODER,
    knobs: Knobs = DEFAULT_KNOBS,
) -> Training:
    """Train and write the bundle, and write down how it came to be; without a registry nothing is recorded.

    The registry is asked first: one that is down stops the training before any work.
    """
    lineage = {"command": "samediff train"}
    if not log.is_dir():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    lineage["data"] = data_digest(LogStore(log))
    if knobs.certified:
        lineage["heads"] = "certified"
    card = read_card(encoder)
    lineage["features"] = feature_hash(card.dim, card.digest)
    said = msgspec.structs.replace(TRAINED, lineage=lineage)
    with _alone(out.with_name(f".{out.name}.lock"), f"{out}: another training is making this bundle"):
        if registry is None:
            report = train(log, out, encoder=encoder, provenance=said, knobs=knobs)
            why = "--no-mlflow" if installed() else "mlflow isn't installed: pip install 'samediff[train]'"
            return Training(report=report, recorded=Recorded(why_not=why))
        with registry.run({"data_digest": lineage["data"], "feature_hash": lineage["features"]}) as run:
            return _recorded(
                run,
                registry,
                lambda: train(log, out, encoder=encoder, provenance=said, knobs=knobs, told=run),
                knobs,
            )


def _recorded(run: Run, registry: Registry, work: Callable[[], TrainReport], knobs: Knobs) -> Training:
    """Do the work, write it down, and register what passed its gates."""
    run.params({name: str(value) for name, value in msgspec.to_builtins(knobs).items()})
    report = work()
    _write_down(run, report)
    version = None
    if report.digest is not None:
        with run.step("register"):
            version = _register(registry, run, Path(report.bundle))
    recorded = Recorded(tracking_uri=registry.shown, run_id=run.run_id, version=version)
    return Training(report=report, recorded=recorded)


def _write_down(run: Run, report: TrainReport) -> None:
    """Counts, scores beside their controls with intervals, gates, and the whole report."""
    held = report.held_out
    counts = report.counts
    run.params({"candidates": counts.candidates, "groups": counts.groups, "grouped_by": counts.grouped_by})
    metrics: dict[str, float | None] = {"labelled": report.counts.labelled}
    if held is not None:
        for name, scores in (("learned", held.success), ("table", held.table)):
            metrics |= {f"{name}_{k}": v for k, v in msgspec.to_builtins(scores).items()}
        run.params({"held_out_rows": held.rows, "held_out_groups": held.groups})
        metrics["ece_by_chance"] = held.ece_by_chance
        metrics["learned_ece_low"], metrics["learned_ece_high"] = held.ece_ci
        for control in ("table", "pin"):
            low, high = getattr(held, f"log_loss_minus_{control}_ci")
            mean = getattr(held, f"log_loss_minus_{control}")
            metrics |= {
                f"log_loss_minus_{control}": mean,
                f"log_loss_minus_{control}_low": low,
                f"log_loss_minus_{control}_high": high,
            }
        metrics["tokens_sum_ratio"] = held.tokens_sum_ratio
    for certificate in report.certificates:
        metrics[f"certified tau {certificate.risk}"] = certificate.tau
        least = min((tried.bound for tried in certificate.grid if tried.known), default=None)
        metrics[f"least bound {certificate.risk}"] = least
    metrics["slices_beyond_chance"] = sum(s.beyond_chance for s in report.slices)
    metrics |= {f"gate {gate.name}": float(gate.passed) for gate in report.gates}
    if report.parity is not None:
        metrics |= {"parity_max_abs_dp": report.parity.max_abs_dp, "parity_rows": report.parity.rows}
    run.metrics({name.replace("'", ""): value for name, value in metrics.items()})
    run.document("report.json", msgspec.to_builtins(report))
    if held is not None:
        run.figure("calibration.html", calibration_page(held, report.slices))


def _register(registry: Registry, run: Run, out: Path) -> str:
    bundle = Bundle.load(out)
    columns = (bundle.manifest.n_features, len(bundle.profiles))
    tags = {"bundle_digest": bundle.digest, "feature_hash": bundle.feature_hash}
    tags["data_digest"] = bundle.manifest.lineage["data"]
    return registry.register(run, out, tags, columns=columns).number


def data_digest(log: LogStore) -> str:
    """Digest of what a log's requests and outcomes say, whatever files they lie in and in whatever order."""
    import polars as pl

    parts = []
    for kind in ("request", "outcome"):
        frame = log.scan(kind)
        names = sorted(frame.collect_schema().names())
        summed = frame.select(pl.len(), pl.struct(names).hash(seed=0).sum().alias("sum")).collect()
        parts.append(f"{kind}:{summed.row(0)}")
    return xxhash.xxh3_128_hexdigest("|".join(parts).encode())


def retrain(
    log: Path,
    out: Path,
    registry: Registry | None,
    *,
    sources: Sequence[str] = (),
    encoder: Path = PRIOR_ENCODER,
    knobs: Knobs = DEFAULT_KNOBS,
) -> Retraining:
    """Ingest what is new, label, train and gate; nothing new since `out` was trained: nothing is done.

    Raises BadInput when another retrain is on the same log.
    """
    from training.ingest import run as ingest
    from training.labels.label import run as label

    held = f"{log}: another `samediff retrain` is on this log"
    with _alone(log.with_name(f"{log.name}{LOCK}"), held):
        told: Any = ingest(list(sources), log, encoder=encoder) if sources else None
        if not log.is_dir():
            raise BadInput(f"{log}: no such log; name its sources with --from")
        labelled = label(log)
        data = data_digest(LogStore(log))
        found = Retraining(
            new_rows=0 if told is None else told.kept,
            new_outcomes=labelled.added,
            data_digest=data,
        )
        if _trained_on(out) == (data, knobs.certified):
            return found
        training = recorded_train(log, out, registry, encoder=encoder, knobs=knobs)
        return msgspec.structs.replace(found, training=training)


def retrain_and_promote(
    log: Path,
    out: Path,
    registry: Registry | None,
    *,
    sources: Sequence[str],
    encoder: Path,
    store: str | None,
    knobs: Knobs = DEFAULT_KNOBS,
) -> Retraining:
    """As `retrain`; with a store the bundle is put in force if its gates passed."""
    from training.promote import promote

    result = retrain(log, out, registry, sources=sources, encoder=encoder, knobs=knobs)
    if store is None or result.training is None or result.training.report.digest is None:
        return result
    return msgspec.structs.replace(result, promoted=promote(store, out, None, registry).digest)


def flat(training: Training) -> FlatTraining:
    """The report's keys at the top, as they were before there was a record."""
    fields = {name: getattr(training.report, name) for name in TrainReport.__struct_fields__}
    return FlatTraining(**fields, recorded=training.recorded)


def render_training(training: Training) -> Iterator[RenderableType]:
    """The report, and where it is recorded."""
    yield from render(training.report)
    recorded = training.recorded
    if recorded.tracking_uri is None:
        yield f"[dim]no run was recorded ({recorded.why_not})[/]"
    elif recorded.version is None:
        yield f"recorded in MLflow at {recorded.tracking_uri}; no version, since a gate failed"
    else:
        yield (
            f"recorded in MLflow at {recorded.tracking_uri}: version {recorded.version} is the challenger; "
            "`samediff promote --store STORE` puts it in force"
        )


def render_retraining(result: Retraining) -> Iterator[RenderableType]:
    """What was new, and what came of it."""
    yield f"{result.new_rows:,} new requests, {result.new_outcomes:,} new outcomes"
    if result.training is None:
        yield "nothing new since this bundle was trained: nothing done"
        return
    yield from render_training(result.training)
    if result.promoted:
        yield f"[green]in force[/] {result.promoted[:12]}"


def _trained_on(out: Path) -> tuple[str | None, bool] | None:
    """Data digest of the bundle that is there, and whether as certified; None where none can be used."""
    try:
        lineage = Bundle.load(out).manifest.lineage
    except BadInput:
        return None
    return lineage.get("data"), lineage.get("heads") == "certified"


@contextmanager
def _alone(file: Path, held: str) -> Iterator[None]:
    """Keep others out; BadInput with what `held` says when another is in."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held_alone(file))
        except BlockingIOError:
            raise BadInput(f"{held}; wait for it to end") from None
        except OSError as error:
            raise BadInput(f"{file}: can't be written ({error.strerror}); choose another place") from error
        yield
