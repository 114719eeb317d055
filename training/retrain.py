"""`samediff retrain`: ingest what is new, train, gate, promote; nothing new, nothing done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from features.errors import BadInput
from features.files import replace_file
from models.bundle import Bundle
from models.prior import PRIOR_ENCODER
from models.store import Store
from training.examples import DEFAULT_KNOBS, Knobs
from training.publish import own_version
from training.record import Training, alone, lineage_of, recorded_train, render_training

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from training.registry import Registry
    from training.trainreport import TrainReport

LOCK = ".retrain.lock"
DECIDES = ("data", "features", "heads")  # what in a lineage a training's result depends on
LOST_SHARE = 0.5  # of the requests that the bundle there has learned from; a log with less was lost


class Retraining(msgspec.Struct, frozen=True, kw_only=True):
    """What `samediff retrain` did; `training` is null where the log holds nothing new."""

    new_rows: int
    new_outcomes: int
    data_digest: str
    training: Training | None = None
    failed_gates: list[str] = []  # of the training on this very log, where nothing is new since
    promoted: str | None = None  # digest that is in force now


class _Failed(msgspec.Struct, frozen=True):
    """A training that wrote no bundle, kept beside where that would be."""

    lineage: dict[str, str]
    samediff_version: str
    gates: list[str]


def retrain(
    log: Path,
    out: Path,
    registry: Registry | None,
    *,
    sources: Sequence[str] = (),
    encoder: Path = PRIOR_ENCODER,
    knobs: Knobs = DEFAULT_KNOBS,
) -> Retraining:
    """Ingest what is new, label, train and gate; nothing new since the last training: nothing is done.

    Raises BadInput when another retrain is on the same log, or when the log has lost most of its requests.
    """
    from training.ingest import run as ingest
    from training.labels.label import run as label

    with alone(log.with_name(f"{log.name}{LOCK}"), f"{log}: another `samediff retrain` is on this log"):
        told: Any = ingest(list(sources), log, encoder=encoder) if sources else None
        if not log.is_dir():
            raise BadInput(f"{log}: no such log; name its sources with --from")
        labelled = label(log)
        lineage = lineage_of(log, encoder, knobs)
        found = Retraining(
            new_rows=0 if told is None else told.kept,
            new_outcomes=labelled.added,
            data_digest=lineage["data"],
        )
        failed = _failed_gates(out, lineage)
        if failed or _is_there(out, lineage, registry):
            return msgspec.structs.replace(found, failed_gates=failed)
        _see_that_nothing_was_lost(log, out, lineage)
        training = recorded_train(log, out, registry, encoder=encoder, knobs=knobs, lineage=lineage)
        _remember(out, lineage, training.report)
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
    """As `retrain`; with a store the bundle is put in force if its gates passed, unless it once was.

    So a promotion that a kill prevented is made up for, and a rollback by hand isn't undone.
    """
    from training.promote import promote

    result = retrain(log, out, registry, sources=sources, encoder=encoder, knobs=knobs)
    failed = result.failed_gates or (result.training is not None and result.training.report.digest is None)
    if store is None or failed or not Store(store).owes(Bundle.load(out).digest):
        return result
    return msgspec.structs.replace(result, promoted=promote(store, out, None, registry).digest)


def render_retraining(result: Retraining, then: str) -> Iterator[RenderableType]:
    """What was new, what came of it, and the command that puts a challenger in force."""
    yield f"{result.new_rows:,} new requests, {result.new_outcomes:,} new outcomes"
    if result.training is not None:
        yield from render_training(result.training, None if result.promoted else then)
    elif result.failed_gates:
        gates = ", ".join(result.failed_gates)
        yield f"nothing new since the last training, which wrote no bundle (failed: {gates}): nothing done"
    else:
        yield "nothing new since this bundle was trained: nothing done"
    if result.promoted:
        yield f"[green]in force[/] {result.promoted[:12]}"


def _is_there(out: Path, lineage: dict[str, str], registry: Registry | None) -> bool:
    """Whether the bundle there came of this log, and is in the registry if there is one."""
    try:
        manifest = (bundle := Bundle.load(out)).manifest
    except BadInput:
        return False
    same = _decides(manifest.lineage) == _decides(lineage) and manifest.samediff_version == own_version()
    return same and (registry is None or registry.holds(bundle.digest))


def _decides(lineage: dict[str, str]) -> list[str | None]:
    return [lineage.get(name) for name in DECIDES]


def _memory(out: Path) -> Path:
    return out.with_name(f".{out.name}.failed.json")


def _failed_gates(out: Path, lineage: dict[str, str]) -> list[str]:
    """The gates at which a training on this log failed; none where there was no such training."""
    try:
        failed = msgspec.json.decode(_memory(out).read_bytes(), type=_Failed)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
    same = _decides(failed.lineage) == _decides(lineage) and failed.samediff_version == own_version()
    return failed.gates if same else []


def _remember(out: Path, lineage: dict[str, str], report: TrainReport) -> None:
    """Keep that a training failed, for the next retrain; a bundle tells by itself what it was made of."""
    if report.digest is not None:
        _memory(out).unlink(missing_ok=True)
        return
    failed = _Failed(lineage, own_version(), [gate.name for gate in report.gates if not gate.passed])
    try:
        replace_file(_memory(out), msgspec.json.encode(failed))
    except OSError as error:
        raise BadInput(f"{_memory(out)}: can't be written ({error.strerror})") from error


def _see_that_nothing_was_lost(log: Path, out: Path, lineage: dict[str, str]) -> None:
    """Nobody looks on when cron trains: what is left of a lost log would take the place of a good bundle."""
    try:
        before = int(Bundle.load(out).manifest.lineage.get("requests", 0))
    except BadInput:
        return
    now = int(lineage["requests"])
    if now < LOST_SHARE * before:
        raise BadInput(
            f"{log}: {now:,} requests, and the bundle at {out} learned from {before:,}: was the log lost? "
            "Restore it, or train on what is left with `samediff train`"
        )
