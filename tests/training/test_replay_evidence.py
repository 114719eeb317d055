"""What a log supports of quality: labels of some arms only, decisions without a choice, files cut off."""

from __future__ import annotations

import numpy as np
import pytest

from training.estimators.bandit import Bandit
from training.replay.evidence import Evidence
from training.replay.quality import Judge

N = 4000


def evidence(known_of_second: float) -> Evidence:
    """Two arms drawn evenly, right in 9 and 5 of 10 answers; the second's outcomes are known in part."""
    rng = np.random.default_rng(3)
    action = rng.integers(0, 2, N)
    reward = (rng.random(N) < np.where(action == 0, 0.9, 0.5)).astype(float)
    reward[(action == 1) & (rng.random(N) >= known_of_second)] = np.nan
    log = Bandit(("good", "poor"), action, reward, np.full((N, 2), 0.5), np.arange(N) // 4, np.zeros(N, bool))
    return Evidence(log, np.zeros(N, dtype=int), N, 0, {})


def test_labels_for_one_arm_tell_of_that_arm_alone() -> None:
    judge = Judge(evidence(0.0))
    mix = judge.of(np.full((N, 2), 0.5))
    assert (mix.quality, mix.supported, mix.gain) == (None, False, None)
    assert "arms without any known outcome" in (mix.why or "")
    logged = judge.of(judge.log.action)
    assert (logged.quality, logged.supported) == (None, False)
    assert "no outcome of poor is known" in (logged.why or "")
    pin = judge.of(np.zeros(N, dtype=int))
    assert pin.quality == pytest.approx(0.9, abs=0.03)
    assert (pin.gain, pin.gain_ci) == (None, None)


def test_unequal_labels_leave_the_logged_row_and_the_gain_at_one() -> None:
    judge = Judge(evidence(0.15))
    logged, mix = judge.of(judge.log.action), judge.of(np.full((N, 2), 0.5))
    assert logged.quality is not None
    assert mix.quality is not None
    assert logged.quality == pytest.approx(0.7, abs=0.03)
    assert mix.gain == pytest.approx(mix.quality - logged.quality)


def test_a_handful_of_labels_does_not_speak_for_half_the_log() -> None:
    logged = Judge(evidence(0.002)).of(evidence(0.002).bandit.action)
    assert logged.quality is None
    assert "labelled so unequally" in (logged.why or "")
