"""From a log to a bundle: true small logs pass the gates, and a failed gate writes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from test_dataset import fill

from features.errors import BadInput
from features.facts import Facts
from features.vector import featurize_one
from models.bundle import Bundle, CandidateView
from training.examples import Knobs
from training.log import LogStore
from training.metrics import calibration_error, chance_error
from training.pipeline import train
from training.trainreport import render


def two_models(n: int, seed: int = 0, best: float = 0.85) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "model_served": model,
            "task_id": f"t{i // 2}",
            "success": int(rng.random() < p),
            "output_tokens": int(rng.integers(50, 500)),
        }
        for i in range(n)
        for model, p in ((("claude-opus-4-6", best), ("gpt-5.4-mini", 0.5))[i % 2],)
    ]


@pytest.mark.parametrize("n", [200, 1000])
def test_a_true_model_of_a_small_log_passes(tmp_path, n: int) -> None:
    report = train(fill(LogStore(tmp_path / "log"), two_models(n)).path, tmp_path / "bundle")
    assert [gate.name for gate in report.gates if not gate.passed] == []
    bundle = Bundle.load(tmp_path / "bundle")
    assert (bundle.digest, bundle.kind) == (report.digest, "trained")
    views = [CandidateView("claude-opus-4-6", 5.0, 25.0), CandidateView("gpt-5.4-mini", 0.75, 4.5)]
    features = featurize_one(Facts(turn=1.0), np.full(bundle.encoder.dim, np.nan, dtype=np.float32))
    strong, weak = bundle.predict(features, views).p_success
    assert strong == pytest.approx(0.85, abs=0.1)
    assert weak == pytest.approx(0.5, abs=0.12)


def test_outcomes_that_turn_over_time_fail_calibration_and_leave_the_old_bundle(tmp_path) -> None:
    train(fill(LogStore(tmp_path / "a"), two_models(300)).path, tmp_path / "bundle")
    before = Bundle.load(tmp_path / "bundle").digest
    rows = two_models(800, seed=1, best=0.95) + two_models(300, seed=2, best=0.05)
    for i, row in enumerate(rows):
        row["task_id"] = f"t{i}"
    report = train(fill(LogStore(tmp_path / "b"), rows).path, tmp_path / "bundle")
    assert [gate.name for gate in report.gates if not gate.passed] == ["calibration"]
    assert report.digest is None
    assert "no bundle was written" in [part for part in render(report) if isinstance(part, str)]
    assert Bundle.load(tmp_path / "bundle").digest == before


def test_a_bundle_without_output_lengths_says_what_that_means(tmp_path) -> None:
    rows = [{**row, "output_tokens": None} for row in two_models(300)]
    report = train(fill(LogStore(tmp_path / "log"), rows).path, tmp_path / "bundle")
    assert report.output_lengths_known is False
    assert any("every request to its reference" in str(part) for part in render(report))


def test_one_candidate_is_nothing_to_route_between(tmp_path) -> None:
    rows = [row for row in two_models(300) if row["model_served"] == "gpt-5.4-mini"]
    report = train(fill(LogStore(tmp_path / "log"), rows).path, tmp_path / "bundle")
    assert not next(gate for gate in report.gates if gate.name == "candidates").passed
    assert not (tmp_path / "bundle").exists()


def test_no_log_is_one_line(tmp_path) -> None:
    with pytest.raises(BadInput, match="no such log; make one with `samediff ingest"):
        train(tmp_path / "nothing", tmp_path / "bundle")


def test_beyond_what_the_trees_have_seen_the_table_answers(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows = two_models(1200)
    for row in rows:
        tokens = float(rng.uniform(10, 1000))
        row["facts"] = Facts(context_tokens_est=tokens)
        row["success"] = int(rng.random() < (0.9 if tokens < 300 else 0.2))
    log = fill(LogStore(tmp_path / "log"), rows)
    assert train(log.path, tmp_path / "bundle", knobs=Knobs(min_data_in_leaf=20)).trees
    bundle = Bundle.load(tmp_path / "bundle")
    none = np.full(bundle.encoder.dim, np.nan, dtype=np.float32)
    views = [CandidateView("claude-opus-4-6", 5.0, 25.0)]

    def p(tokens: float) -> float:
        return float(
            bundle.predict(featurize_one(Facts(context_tokens_est=tokens), none), views).p_success[0]
        )

    assert p(100) > 0.7
    assert p(900) < 0.4
    far = featurize_one(Facts(context_tokens_est=30_000.0), none)
    assert bundle.outside(far) == ["context_tokens_est"]
    assert 0.3 < p(30_000) < 0.6


@pytest.mark.parametrize("n", [50, 500])
def test_the_error_that_chance_shows_is_exceeded_by_true_probabilities_one_time_in_twenty(n: int) -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.95, n)
    limit = chance_error(p)
    errors = [calibration_error((rng.random(n) < p).astype(float), p) for _ in range(400)]
    assert 0.02 <= np.mean(np.array(errors) > limit) <= 0.09
