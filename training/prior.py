"""The prior that ships: trained on the public outcomes in sample/ by `make prior`, the usual way."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from models.manifest import Source
from models.prior import PRIOR
from training.examples import Knobs
from training.ingest import run as ingest
from training.pipeline import train
from training.publish import Provenance

if TYPE_CHECKING:
    from training.trainreport import TrainReport

ROOT = Path(__file__).parent.parent

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


def main() -> None:
    """Build the prior and say how good it is."""
    from rich.console import Console

    from training.trainreport import render

    report = build()
    console = Console()
    for part in render(report):
        console.print(part)
    sys.exit(0 if report.digest else 1)


if __name__ == "__main__":
    main()
