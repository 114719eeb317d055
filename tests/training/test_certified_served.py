"""From a log to a decision held to a certificate: its threshold is served, and no offset lifts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from test_dataset import fill

from features.facts import Facts
from features.records import OffsetRecord
from features.wire import parse_request
from models.bundle import Bundle
from router.catalog import Catalog
from router.decide import Decider
from router.given import CallContext, Session
from router.policy import parse_policy
from training.examples import Knobs
from training.log import LogStore
from training.pipeline import train

if TYPE_CHECKING:
    from pathlib import Path

KNOBS = Knobs(trees=(), ridges=(), certified=True)
ASKED = b'{"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "Fix it"}]}'
CERTIFIED = "learned:certified=worse_if_cheap"
CHEAP, DEAR = "claude-haiku-5-5", "claude-opus-5-5"


def log_of(folder: Path, tasks: int = 700) -> Path:
    """Each task by both, in a session of its own; the cheap one failed a few of the oldest, none since."""
    rng = np.random.default_rng(0)
    hard = rng.random(tasks) < 0.1
    rows: list[dict[str, object]] = [
        {
            "model_served": model,
            "task_id": f"t{i}",
            "facts": Facts(turn=1.0),
            "output_tokens": 100 + i,
            "success": int(not (hard[i] or (model == CHEAP and i < 5))),
        }
        for i in range(tasks)
        for model in (CHEAP, DEAR)
    ]
    return fill(LogStore(folder), rows).path


def test_what_was_certified_is_served_and_only_an_offset_downwards_moves_it(tmp_path: Path) -> None:
    report = train(log_of(tmp_path / "log"), tmp_path / "bundle", knobs=KNOBS)
    assert [gate.said for gate in report.gates if not gate.passed] == []
    assert report.held_out is not None
    found = {c.risk: c for c in report.certificates}["worse_if_cheap"]
    assert found.tau is not None
    assert not found.refitted
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.manifest.rows == 1400 - report.held_out.rows  # fitted on the older groups alone
    decider = Decider(bundle, Catalog.load(), parse_policy(CERTIFIED), environ=None)
    assert decider.held.certificate is not None
    assert decider.held.policy.tau == found.tau

    def decided(odds: float | None) -> tuple[str, OffsetRecord | None, float | None]:
        said = None if odds is None else OffsetRecord(log_odds=odds, outcomes=50.0)
        request = parse_request("anthropic_messages", ASKED)
        receipt = decider.decide(request, CallContext("r", "s", 1_700_000_000_000, Session(), offset=said))
        return receipt.chosen, receipt.offset, next(a.p_success for a in receipt.arms if a.candidate == CHEAP)

    plain = decided(None)
    assert plain[0] == CHEAP
    assert decided(3.0) == plain
    assert decided(-6.0)[1] is not None
    assert plain[2] is not None
    assert decided(-6.0)[0] != CHEAP


def test_a_bundle_fitted_anew_is_held_to_the_reference(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 400)
    train(log, tmp_path / "bundle", knobs=Knobs(trees=(), ridges=()))
    decider = Decider(Bundle.load(tmp_path / "bundle"), Catalog.load(), parse_policy(CERTIFIED), environ=None)
    assert (decider.held.policy.kind, decider.held.certificate) == ("pin", None)
    assert "fitted anew" in decider.held.said[0]
