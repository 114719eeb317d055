"""Slices: a part that is off beyond chance is named, true probabilities are not."""

from __future__ import annotations

import numpy as np
import pytest

from features.vector import feature_names
from training.examples import Examples
from training.metrics import calibration_error
from training.slices import MIN_ROWS, error_interval, said, slices


def rows_of(rng: np.random.Generator, n: int) -> tuple[Examples, np.ndarray]:
    p = rng.uniform(0.2, 0.8, n)
    features = np.zeros((n, len(feature_names(0))), dtype=np.float32)
    features[: n // 2, feature_names(0).index("lang_python")] = 3
    examples = Examples(
        features=features,
        candidate=rng.choice(["a", "b"], n),
        task_type=rng.choice(["fix", "test", ""], n),
        success=(rng.random(n) < p).astype(float),
        output_tokens=np.full(n, np.nan),
        group=rng.integers(0, 60, n).astype(str),
    )
    return examples, p


def test_true_probabilities_hold_nearly_everywhere() -> None:
    rows, p = rows_of(np.random.default_rng(0), 6000)
    found = slices(rows, p)
    assert {s.kind for s in found} == {"candidate", "task type", "group", "context tokens", "language"}
    assert not any(s.beyond_chance for s in found)
    assert all(s.rows >= MIN_ROWS for s in found)


def test_what_is_off_in_one_part_is_named_first_with_its_sign() -> None:
    rows, p = rows_of(np.random.default_rng(1), 6000)
    wrong = np.where(rows.task_type == "test", np.minimum(p + 0.15, 0.99), p)
    found = slices(rows, wrong)
    off = {(s.kind, s.name): s for s in found if s.beyond_chance}
    assert off["task type", "test"].bias > 0.08
    assert ("task type", "fix") not in off
    assert any("task type test: P(success) is too high" in line for line in said(found))


def test_nothing_is_said_of_nothing() -> None:
    rows, p = rows_of(np.random.default_rng(2), 20)
    assert slices(rows, p) == []
    assert list(said([])) == []


def test_an_interval_of_the_error_holds_the_true_one() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(60):
        group = rng.integers(0, 80, 2400)
        p = rng.uniform(0.2, 0.8, 2400)
        y = (rng.random(2400) < p - 0.08 + rng.normal(0, 0.03, 80)[group]).astype(float)
        low, high = error_interval(y, p, group)
        held += low <= 0.08 <= high
        assert low <= calibration_error(y, p) <= high + 1e-9
    assert held >= 51


@pytest.mark.parametrize("groups", [12, 100])
@pytest.mark.parametrize("true", [0.0, 0.01, 0.03])
def test_an_interval_near_nothing_holds_the_true_error(true: float, groups: int) -> None:
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(40):
        group = rng.integers(0, groups, 1500)
        p = rng.uniform(0.2, 0.8, 1500)
        low, high = error_interval((rng.random(1500) < p - true).astype(float), p, group)
        held += low <= true <= high
        assert high < true + 0.08
    assert held >= 36


def test_what_chance_shows_has_an_interval_down_to_nothing() -> None:
    rows, p = rows_of(np.random.default_rng(7), 3000)
    found = [s for s in slices(rows, p) if s.ece <= s.ece_by_chance and s.ece_ci is not None]
    assert found
    assert all(s.ece_ci is not None and s.ece_ci[0] == 0.0 for s in found)


def test_the_interval_of_true_probabilities_is_down_to_nothing() -> None:
    rows, p = rows_of(np.random.default_rng(4), 4000)
    low, high = error_interval(rows.success, p, rows.group)
    assert low <= 0.01
    assert calibration_error(rows.success, p) <= high + 1e-9
    assert high < 0.04
