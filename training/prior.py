"""The prior that ships, and its model card: trained on the public outcomes in sample/ by `make prior`."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from models.folder import Layout, read_manifest
from models.manifest import Source
from models.prior import PRIOR
from training.examples import Knobs
from training.ingest import run as ingest
from training.pipeline import train
from training.publish import Provenance

if TYPE_CHECKING:
    from models.manifest import Manifest
    from training.trainreport import TrainReport

ROOT = Path(__file__).parent.parent
CARD_FILE = "README.md"  # beside the bundle, not part of it

# What the prior is trained on; every file ships, so that anybody can train it again.
SOURCES: dict[str, Source] = {
    "sample/outcomes.parquet": Source(
        name="CodeRouterBench, in-distribution test rows", licence="MIT", rows=16_568
    ),
}


def build(out: Path = PRIOR) -> TrainReport:
    """Ingest the public sets into a throw-away log and train the prior; deterministic."""
    trained_on = tuple(
        msgspec.structs.replace(source, digest=hashlib.sha256((ROOT / file).read_bytes()).hexdigest())
        for file, source in SOURCES.items()
    )
    provenance = Provenance(kind="prior", trained_on=trained_on, lineage={"command": "make prior"})
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        ingest([str(ROOT / file) for file in SOURCES], log)
        # The public sets tell nothing of a request but its length, and theirs aren't an agent's: no trees.
        return train(log, out, provenance=provenance, knobs=Knobs(trees=(), ridges=()))


CARD = """# The prior

What samediff believes before it has seen a log of yours. `make prior` makes it, and writes this page.

## Trained on
{sources}

Candidates: {candidates}. Task types: {types}.

## What it is
A shrunken table of candidate × task type for success and for output tokens. No trees, no linear part: the
public sets tell nothing of a request but its length, and theirs isn't an agent's.

## Where it is calibrated
{held_out_rows:,.0f} rows held out by task, of the same benchmark: log-loss {held_out_log_loss:.3f}, Brier
{held_out_brier:.3f}, ECE {held_out_ece:.3f}, AUC {held_out_auc:.2f}. Of {slices} slices by candidate and task
type {off} are off beyond chance; the largest bias is {bias:+.3f}, of {worst}. It doesn't carry
over to other kinds of task, repositories or agents: docs/FINDINGS.md, "Calibration and certificates".

## Where it abstains
- A request of unknown task type gets each candidate's mean: the same order for all.
- A candidate that it doesn't know gets a guess by price and family, with an interval too wide to act on.
{abstains}
- Of an answer in hand it believes nothing: no judged answers ship.
"""


def card(manifest: Manifest) -> str:
    """The model card, read off the manifest."""
    found = [s for s in manifest.slices if s.kind in ("candidate", "task type")]
    worst = max(found, key=lambda s: abs(s.bias))
    unpriced = [p.candidate for p in manifest.candidates if p.input_usd_per_mtok is None]
    abstains = [f"- {c.said[0].upper()}{c.said[1:]}." for c in manifest.certificates]
    abstains += [f"- No price is known of {name}, so it is never chosen for it." for name in unpriced]
    return CARD.format(
        sources="\n".join(f"- {s.name}: {s.rows:,} rows, {s.licence}" for s in manifest.trained_on),
        candidates=", ".join(sorted(p.candidate for p in manifest.candidates)),
        types=", ".join(manifest.task_types),
        off=sum(s.beyond_chance for s in found),
        slices=len(found),
        bias=worst.bias,
        worst=f"{worst.kind} {worst.name}",
        abstains="\n".join(abstains),
        **manifest.metrics,
    )


def main() -> None:
    """Build the prior, write its card and say how good it is."""
    from rich.console import Console

    from training.trainreport import render

    report = build()
    if report.digest:
        (PRIOR / CARD_FILE).write_text(card(read_manifest(Layout(PRIOR))[0]), encoding="utf-8")
    console = Console()
    for part in render(report):
        console.print(part)
    sys.exit(0 if report.digest else 1)


if __name__ == "__main__":
    main()
