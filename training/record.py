"""A training with its record: a run in MLflow, and a challenger in its registry if the gates pass."""

from __future__ import annotations

import contextlib
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
from training.pipeline import SCRATCH, TRAINED, train
from training.registry import DATA_TAG, DIGEST_TAG, FEATURES_TAG, installed
from training.trainreport import TrainReport, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from features.records import RecordKind
    from training.registry import Registry
    from training.tracking import Run


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


def lineage_of(log: Path, encoder: Path, knobs: Knobs) -> dict[str, str]:
    """What a bundle comes from: the digest and size of the log, the features, and which heads it serves."""
    if not log.is_dir():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    store, card = LogStore(log), read_card(encoder)
    lineage = {"command": "samediff train", "data": data_digest(store)}
    lineage["requests"] = str(_rows(store, "request"))
    if knobs.certified:
        lineage["heads"] = "certified"
    return lineage | {"features": feature_hash(card.dim, card.digest)}


def recorded_train(
    log: Path,
    out: Path,
    registry: Registry | None,
    *,
    encoder: Path = PRIOR_ENCODER,
    knobs: Knobs = DEFAULT_KNOBS,
    lineage: dict[str, str] | None = None,
) -> Training:
    """Train and write the bundle, and write down how it came to be; without a registry nothing is recorded.

    The registry is asked first: one that is down stops the training before any work.
    """
    lineage = lineage or lineage_of(log, encoder, knobs)
    said = msgspec.structs.replace(TRAINED, lineage=lineage)
    with alone(out.with_name(f".{out.name}.lock"), f"{out}: another training is making this bundle"):
        sweep(out)
        if registry is None:
            report = train(log, out, encoder=encoder, provenance=said, knobs=knobs)
            why = "--no-mlflow" if installed() else "mlflow isn't installed: pip install 'samediff[train]'"
            return Training(report=report, recorded=Recorded(why_not=why))
        with registry.run(out.name, _tags(lineage)) as run:
            registry.learned_from(run, log, lineage["data"], {"requests": int(lineage["requests"])})
            run.params({name: str(value) for name, value in msgspec.to_builtins(knobs).items()})
            report = train(log, out, encoder=encoder, provenance=said, knobs=knobs, told=run)
            _write_down(run, report)
            return Training(report=report, recorded=_registered(registry, run, report))


def _tags(lineage: dict[str, str]) -> dict[str, str]:
    """What a run and a version can be found by."""
    return {DATA_TAG: lineage["data"], FEATURES_TAG: lineage["features"]}


def _registered(registry: Registry, run: Run, report: TrainReport) -> Recorded:
    """Register the bundle if there is one."""
    recorded = Recorded(tracking_uri=registry.shown, run_id=run.run_id)
    if report.digest is None:
        return recorded
    bundle = Bundle.load(report.bundle)
    tags = {DIGEST_TAG: bundle.digest, **_tags(bundle.manifest.lineage)}
    columns = (bundle.manifest.n_features, len(bundle.profiles))
    try:
        with run.step("register"):
            version = registry.register(run, Path(report.bundle), tags, columns=columns)
    except BadInput as error:
        raise BadInput(
            f"bundle {bundle.digest[:12]} is at {report.bundle}, but not registered: {error}"
        ) from error
    return msgspec.structs.replace(recorded, version=version.number)


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
        metrics["learned_ece_low"], metrics["learned_ece_high"] = held.ece_ci or (None, None)
        for name, ends in (("learned", held.success_ci), ("table", held.table_ci)):
            for score, (low, high) in ends.items():
                metrics |= {f"{name}_{score}_low": low, f"{name}_{score}_high": high}
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
    failed = [gate.name for gate in report.gates if not gate.passed]
    lines = [f"- {'pass' if gate.passed else '**FAIL**'} {gate.name}: {gate.said}" for gate in report.gates]
    said = "no bundle was written" if report.digest is None else f"bundle `{report.digest[:12]}`"
    run.note("\n".join([said, "", *lines]), {"gates": f"failed: {', '.join(failed)}" if failed else "passed"})
    run.document("report.json", msgspec.to_builtins(report))
    if held is not None:
        run.figure("calibration.html", calibration_page(held, report.slices))


def _rows(log: LogStore, kind: RecordKind) -> int:
    import polars as pl

    return int(log.scan(kind).select(pl.len()).collect().item())


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


def flat(training: Training) -> FlatTraining:
    """The report's keys at the top, as they were before there was a record."""
    fields = {name: getattr(training.report, name) for name in TrainReport.__struct_fields__}
    return FlatTraining(**fields, recorded=training.recorded)


def render_training(training: Training, then: str | None) -> Iterator[RenderableType]:
    """The report, where it is recorded, and the command that puts it in force if nothing has."""
    from rich.text import Text

    yield from render(training.report)
    recorded = training.recorded
    if recorded.tracking_uri is None:
        yield f"[dim]no run was recorded ({recorded.why_not})[/]"
    elif recorded.version is None:
        yield f"recorded in MLflow at {recorded.tracking_uri}; no version, since a gate failed"
    else:
        said = f"recorded in MLflow at {recorded.tracking_uri}: version {recorded.version} is the challenger"
        yield said if then is None else f"{said}; to put it in force:"
        if then is not None:
            yield Text(f"    {then}")


def sweep(out: Path) -> None:
    """Take away what killed trainings of a bundle have left beside it; nobody else may be at it."""
    ours = re.compile(rf"\.{re.escape(out.name)}-[a-z0-9_]{{8}}{re.escape(SCRATCH)}")
    for left in out.parent.iterdir() if out.parent.is_dir() else ():
        if ours.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def alone(file: Path, held: str) -> Iterator[None]:
    """Keep others out; BadInput with what `held` says when another is in."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held_alone(file))
        except BlockingIOError:
            raise BadInput(f"{held}; wait for it to end") from None
        except OSError as error:
            raise BadInput(f"{file}: can't be written ({error.strerror}); choose another place") from error
        yield
