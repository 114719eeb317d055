"""Metrics against scikit-learn where it has them, and against their definition where it hasn't."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from training.metrics import auc, calibration_error, probability_metrics


@given(st.integers(0, 10_000), st.integers(4, 200))
def test_scores_equal_scikit_learns(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n).astype(float)
    y[:2] = 0, 1
    p = np.round(rng.uniform(0.01, 0.99, n), 2)  # rounded: ties must count half
    assert auc(y, p) == pytest.approx(roc_auc_score(y, p))
    scores = probability_metrics(y, p)
    assert scores.log_loss == pytest.approx(sklearn_log_loss(y, p))
    assert scores.brier == pytest.approx(brier_score_loss(y, p))


def test_calibration_error_is_zero_for_the_truth_and_the_bias_for_a_biased_one() -> None:
    p = np.repeat([0.2, 0.4, 0.6, 0.8], 100)
    y = np.concatenate(
        [np.repeat([1.0, 0.0], [int(100 * q), 100 - int(100 * q)]) for q in (0.2, 0.4, 0.6, 0.8)]
    )
    assert calibration_error(y, p, bins=4) == pytest.approx(0, abs=1e-12)
    assert calibration_error(y, p + 0.1, bins=4) == pytest.approx(0.1)


def test_one_class_has_no_auc() -> None:
    assert auc(np.ones(5), np.linspace(0, 1, 5)) is None
