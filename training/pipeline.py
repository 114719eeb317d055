"""From a log to a bundle: `samediff train` runs STEPS in order, and MLflow shows each.

A gate that fails ends the training: no bundle is left behind, and what was at the target stays.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import numpy as np
import polars as pl

from features.encoder import EncoderCard, read_card
from features.errors import BadInput
from models.folder import install_bundle, kept_beside
from models.prior import PRIOR_ENCODER
from training.after.samediff_heads import AfterFit, fit_log
from training.certify import certificates, routed_rows
from training.dataset import Dataset, Labelled, featurized, holdout_mask, labelled_rows
from training.examples import DEFAULT_KNOBS, Examples, Knobs
from training.fit import SuccessHead, TokensHead, fit_amounts, fit_success, fit_tokens
from training.gates import Gate, gates_of_bundle, gates_of_rows, gates_of_scores
from training.heldout import Believed, Fitted, HeldOut, believed, fit_both, scored
from training.log import LogStore
from training.offsets import fit_offsets
from training.publish import Provenance, Published, publish
from training.routed import route_score
from training.slices import slices
from training.tasktype import with_types
from training.trainreport import TrainReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from models.certificate import Certificate
    from models.manifest import Slice
    from models.offset import OffsetCard


TRAINED = Provenance(kind="trained")
SCRATCH = ".samediff-tmp"  # what the folder that a bundle is made in ends with


class Steps(Protocol):
    """Who is told which step of the pipeline is on."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """A context around one step."""


class Untold:
    """Nobody is."""

    def step(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 — the protocol's
        """Nothing but the step."""
        return contextlib.nullcontext()


class Heads(NamedTuple):
    """What goes into the bundle, fitted on all groups."""

    success: SuccessHead
    tokens: TokensHead | None
    amounts: dict[str, TokensHead]


@dataclass
class Work:
    """What the steps hand to each other; a step reads what those before it have set."""

    log: Path
    built: Path  # where the bundle is made before it takes its place
    encoder: Path
    provenance: Provenance
    knobs: Knobs
    gates: list[Gate] = field(default_factory=list)
    store: LogStore = field(init=False)
    card: EncoderCard = field(init=False)
    labelled: Labelled = field(init=False)
    dataset: Dataset = field(init=False)
    older: Examples = field(init=False)
    newest: Examples = field(init=False)
    fitted: Fitted = field(init=False)
    said: Believed = field(init=False)  # on the newest groups
    heads: Heads = field(init=False)
    of: Examples = field(init=False)  # what those were fitted on: all, or the older ones if certified
    after: AfterFit | None = None
    held_out: HeldOut | None = None
    slices: list[Slice] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    published: Published | None = None


def ingest(work: Work) -> None:
    """Open what `samediff ingest` wrote, and the encoder it was written with."""
    work.store, work.card = LogStore(work.log), read_card(work.encoder)


def label(work: Work) -> None:
    """Join outcomes to requests; what has no verdict is left out and counted."""
    work.labelled = labelled_rows(work.store, work.card.digest)


def featurize(work: Work) -> None:
    """The rows as numbers."""
    work.dataset = featurized(work.labelled, work.card.dim)


def split(work: Work) -> None:
    """Hold the newest groups out, whole."""
    held = _held(work)
    work.gates += gates_of_rows(work.dataset, held)
    work.older, work.newest = work.dataset.examples.some(~held), work.dataset.examples.some(held)


def fit(work: Work) -> None:
    """Fit the heads on the older groups, calibrated out of fold, and the table alone beside them."""
    work.fitted = fit_both(work.older, work.knobs)


def evaluate(work: Work) -> None:
    """Score them on the newest groups beside their controls."""
    work.said = believed(work.fitted, work.newest)
    rows = routed_rows(work.fitted.served, work.older, work.newest, _tasks(work)[_held(work)])
    held_out = scored(work.fitted, work.newest, work.said, work.knobs.seed)
    work.held_out = msgspec.structs.replace(held_out, route=route_score(rows))
    work.slices = slices(work.newest, work.said.p)
    work.gates += gates_of_scores(work.held_out)


def certify(work: Work) -> None:
    """Find the threshold whose harm is bounded, on the groups that the heads haven't seen."""
    task = _tasks(work)[_held(work)]
    work.certificates = certificates(work.fitted.served, work.older, work.newest, task)


def refit(work: Work) -> None:
    """Fit again on all groups: what is served has seen everything, unless it is to be what was certified."""
    if work.knobs.certified and any(c.tau is not None for c in work.certificates):
        work.of = with_types(work.older, seed=work.knobs.seed)
        amounts = fit_amounts(work.of, work.knobs)
        work.heads = Heads(work.fitted.success, work.fitted.tokens, amounts)
        return
    work.certificates = [msgspec.structs.replace(c, refitted=True) for c in work.certificates]
    work.of = with_types(work.dataset.examples, seed=work.knobs.seed)
    of = work.of, work.knobs
    work.heads = Heads(fit_success(*of), fit_tokens(*of), fit_amounts(*of))


def after(work: Work) -> None:
    """Fit what an answer's own edit tells of it; without judged answers nothing, and that is said."""
    work.after = fit_log(work.store, seed=work.knobs.seed)


def export(work: Work) -> None:
    """One graph with its proof, one manifest, one digest."""
    heads = work.heads
    metrics = {} if work.held_out is None else _numbers(work.held_out)
    said = msgspec.structs.replace(
        work.provenance,
        metrics=metrics,
        seed=work.knobs.seed,
        certificates=tuple(work.certificates),
        slices=tuple(work.slices),
        offsets=_offsets(work),
    )
    pair = heads.success, heads.tokens
    card = None if work.after is None else work.after.card
    work.published = publish(work.built, pair, work.of, said, work.encoder, amounts=heads.amounts, after=card)


def _offsets(work: Work) -> OffsetCard | None:
    """How far repositories lie from what heads say that saw none of their rows."""
    rows = work.labelled.rows.select(pl.col("repo", "tenant").fill_null(""))
    seen = np.ones(len(rows), bool) if len(work.of.success) == len(rows) else ~_held(work)
    where = np.stack([rows[name].to_numpy().astype(str)[seen] for name in ("repo", "tenant")], axis=1)
    return fit_offsets(work.heads.success.oof, work.of.success, where, _tasks(work)[seen])


def _held(work: Work) -> np.ndarray:
    """Rows (n,) of the newest groups."""
    return holdout_mask(work.dataset.examples.group, work.dataset.ts_ms)


def _tasks(work: Work) -> np.ndarray:
    """What each row (n,) is an answer to."""
    return work.labelled.rows.select(task=pl.coalesce("task_id", "request_id"))["task"].to_numpy().astype(str)


def gate(work: Work) -> None:
    """Hold the bundle to its proof, its size and its speed."""
    assert work.published is not None
    work.gates += gates_of_bundle(work.built, work.published.parity, work.dataset)


# The last, registering, is training/record.py's: it needs MLflow, and the bundle in its place.
STEPS: tuple[tuple[str, Callable[[Work], None]], ...] = (
    ("ingest", ingest),
    ("label", label),
    ("featurize", featurize),
    ("split", split),
    ("fit and calibrate", fit),
    ("evaluate", evaluate),
    ("certify", certify),
    ("fit on all groups", refit),
    ("fit after the answer", after),
    ("export and prove", export),
    ("gate", gate),
)


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
    if not log.is_dir():
        raise BadInput(f"{log}: no such log; make one with `samediff ingest SOURCE --to {log}`")
    kept_beside(out)  # a target that can't be written is better known before the work than after
    with _beside(out) as scratch:
        work = Work(log, scratch / "bundle", encoder, provenance, knobs)
        for name, step in STEPS:
            with (told or Untold()).step(name):
                step(work)
            if not all(gate.passed for gate in work.gates):
                return _report(work, out)
        install_bundle(work.built, out)
    return _report(work, out, written=True)


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside the target, gone afterwards; a disk that is full or forbidden is said in one line."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(SCRATCH, f".{out.name}-", out.parent) as scratch:
            yield Path(scratch)
    except OSError as error:
        if error.filename and not Path(error.filename).absolute().is_relative_to(out.parent.absolute()):
            raise BadInput(f"{error.filename}: {error.strerror}; nothing was written to {out}") from error
        raise BadInput(
            f"{out}: can't be written ({error.strerror or error}); make space, or choose another --out"
        ) from error


def _report(work: Work, out: Path, *, written: bool = False) -> TrainReport:
    report = TrainReport(
        bundle=str(out),
        counts=work.dataset.counts,
        held_out=work.held_out,
        gates=work.gates,
        slices=work.slices,
        certificates=work.certificates,
        after=None if work.after is None else work.after.said,
    )
    published = work.published
    if published is None or not written:
        return report
    return msgspec.structs.replace(
        report,
        candidates=[msgspec.to_builtins(profile) for profile in published.manifest.candidates],
        trees=work.heads.success.learned.booster is not None,
        linear=work.heads.success.learned.linear is not None,
        output_lengths_known=published.manifest.tokens is not None,
        types=published.manifest.types,
        paired_rows=int(work.heads.success.metrics["paired_rows"]),
        parity=published.parity,
        digest=published.digest,
    )


def _numbers(held_out: HeldOut) -> dict[str, float]:
    """What the manifest keeps of the held-out scores."""
    scores = msgspec.to_builtins(held_out.success)
    return {f"held_out_{name}": float(value) for name, value in scores.items() if value is not None}
