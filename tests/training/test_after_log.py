"""Judged answers as a log holds them: shadow pairs and own successes are rows, all else is left out."""

from __future__ import annotations

import msgspec
import numpy as np
from test_dataset import fill

from features.answerfacts import AFTER_NAMES, AnswerFacts
from features.facts import Facts
from features.records import OutcomeRecord, RequestRecord
from models.bundle import Bundle
from training.after.samediff import rows_of_log
from training.after.samediff_heads import fit_log
from training.log import LogStore
from training.pipeline import train
from training.trainreport import render

CHEAP, REFERENCE = "gpt-5.4-mini", "claude-opus-4-6"


def edit(tokens: float, **more: float) -> AnswerFacts:
    return AnswerFacts(files=1.0, code_files=1.0, added_tokens=tokens, **more)


def asked(n: int, call: str, tokens: float, candidate: str = CHEAP, **more: float) -> RequestRecord:
    """A shadow call about the n-th logged request."""
    return RequestRecord(
        request_id=f"{call}_0",
        session_id=f"shadow/x/r{n}",
        ts_ms=1_700_000_100_000 + n,
        source="shadow",
        candidate=candidate,
        answer=edit(tokens, **more),
    )


def judged(n: int, call: str, level: str, candidate: str = CHEAP) -> OutcomeRecord:
    return OutcomeRecord(
        outcome_id=f"pair {call}",
        ts_ms=1_700_000_100_000 + n,
        source="shadow",
        request_id=f"r{n}",
        candidate=candidate,
        reference=REFERENCE,
        level=level,
        value=1.0 if level in ("L0", "L1", "L2") else None,
        detail=msgspec.json.encode({"call": call}).decode(),
    )


def logged(folder, n: int = 200, seed: int = 0) -> LogStore:
    """Own answers, mostly the reference's, with their success; beside each a cheap one, the same if small."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(3.0, 1.0, n).round() + 1
    same = rng.random(n) < 1 / (1 + np.exp(1.5 * (np.log(size) - 2.5)))
    own = [
        {
            "model_served": CHEAP if i % 4 == 0 else REFERENCE,
            "repo": f"repo{i % 20}",
            "task_id": f"t{i}",
            "harness": "claude_code",
            "answer": edit(float(size[i])),
            "facts": Facts(turn=1.0, n_tools=float(i % 7)),
            "success": int(rng.random() < 0.8),
        }
        for i in range(n)
    ]
    log = fill(LogStore(folder / "log"), own)
    log.append("request", [asked(i, f"c{i}", float(size[i])) for i in range(n)])
    log.append("outcome", [judged(i, f"c{i}", "L1" if same[i] else "different") for i in range(n)])
    return log


def test_shadow_pairs_and_own_successes_become_rows(tmp_path) -> None:
    rows = rows_of_log(logged(tmp_path))
    same, success = rows["same"], rows["success"]
    assert len(same.target) == len(success.target) == 200
    assert set(same.candidate) == {CHEAP}
    assert set(success.candidate) == {CHEAP, REFERENCE}
    assert len(np.unique(same.group)) == 20
    assert np.isfinite(same.reference).sum() == 150  # where the logged answer was the reference's
    assert np.isnan(success.reference).all()
    assert (same.features[:, AFTER_NAMES.index("files")] > 0).all()
    assert 0.1 < same.target.mean() < 0.9


def test_what_says_nothing_is_no_row(tmp_path) -> None:
    log = logged(tmp_path, n=10)
    log.append(
        "request",
        [
            asked(0, "unknown", 5.0),
            asked(1, "itself", 5.0, REFERENCE),
            asked(2, "again", 5.0),
            RequestRecord(request_id="again_1", session_id="s", ts_ms=1_800_000_000_000, source="shadow"),
        ],
    )
    log.append(
        "outcome",
        [
            judged(0, "unknown", "unknown"),
            judged(1, "itself", "L0", REFERENCE),  # the reference asked again: a ceiling, no candidate
            judged(2, "never answered", "different"),
            judged(3, "", "L2"),
        ],
    )
    assert len(rows_of_log(log)["same"].target) == 10


def test_a_judged_log_trains_heads_that_the_bundle_serves(tmp_path) -> None:
    log = logged(tmp_path, n=300)
    found, said = fit_log(log)
    assert found is not None
    assert said.heads["same"]["auc"] > 0.75
    assert said.heads["same"]["log_loss"] < said.heads["same"]["log_loss_of_base"]
    report = train(log.path, tmp_path / "bundle")
    assert report.digest is not None, [gate for gate in report.gates if not gate.passed]
    after = Bundle.load(tmp_path / "bundle").after
    assert after is not None
    assert after.judge_answer(CHEAP, edit(2.0)).p_same > after.judge_answer(CHEAP, edit(900.0)).p_same + 0.2
    shown = [line for line in render(report) if isinstance(line, str)]
    speaking = [name for name, speaks in (("trees", report.trees), ("linear part", report.linear)) if speaks]
    how = " + ".join(["table", *speaking]) if speaking else "the table alone: learners did not beat it"
    assert how in shown[-1]
    assert any(line.startswith("after the answer, same: log-loss") and "AUC" in line for line in shown)
