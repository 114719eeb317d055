"""Which calibration is chosen: the line unless another kind is better on folds it wasn't fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration import calibrated
from training.calibrate import ROWS_ISOTONIC, fit_calibration, log_loss, sigmoid
from training.metrics import calibration_error


def drawn(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return (rng.random(len(p)) < p).astype(float)


def test_scores_that_are_log_odds_keep_the_line() -> None:
    rng = np.random.default_rng(0)
    for rows in (800, 8000):
        raw = rng.normal(0.5, 1.5, rows)
        found = fit_calibration(raw, drawn(rng, sigmoid(raw)), np.arange(rows) % 5)
        assert found.kind == "platt"
        assert found.a == pytest.approx(1, abs=0.25)


def test_a_bend_that_a_line_cannot_follow_is_followed() -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(0, 2, 4000)
    truth = sigmoid(0.2 * np.logaddexp(0, raw) - 2.0 * np.logaddexp(0, -raw) + 1.0)
    found = fit_calibration(raw, drawn(rng, truth), np.arange(4000) % 5)
    assert found.kind == "beta"
    assert np.abs(calibrated(found, raw) - truth).mean() < 0.02


def test_steps_are_followed_by_a_curve_where_there_are_rows_enough() -> None:
    rng = np.random.default_rng(2)
    rows = 4 * ROWS_ISOTONIC
    raw = rng.normal(0, 2, rows)
    truth = np.select([raw < -1, raw < 0.5, raw < 2], [0.1, 0.6, 0.65], 0.95)
    target = drawn(rng, truth)
    found = fit_calibration(raw, target, np.arange(rows) % 5)
    assert found.kind == "isotonic"
    assert len(found.knots) <= 26
    half = ROWS_ISOTONIC // 2
    few = fit_calibration(raw[:half], target[:half], np.arange(half) % 5)
    assert few.kind != "isotonic"
    fresh = rng.normal(0, 2, rows)
    told = np.select([fresh < -1, fresh < 0.5, fresh < 2], [0.1, 0.6, 0.65], 0.95)
    y = drawn(rng, told)
    line = sigmoid(found.a * fresh + found.b)
    assert log_loss(calibrated(found, fresh), y).mean() < log_loss(line, y).mean() - 0.005
    assert calibration_error(y, calibrated(found, fresh)) < 0.035


def test_one_fold_can_only_have_the_line() -> None:
    raw = np.linspace(-2, 2, 60)
    assert fit_calibration(raw, (raw > 0).astype(float), np.zeros(60, dtype=int)).kind == "platt"


def test_soft_targets_of_one_value_are_no_crash() -> None:
    raw = np.zeros(6000)
    found = fit_calibration(raw, np.full(6000, 0.3), np.arange(6000) % 5)
    assert calibrated(found, raw) == pytest.approx(0.3, abs=0.01)
