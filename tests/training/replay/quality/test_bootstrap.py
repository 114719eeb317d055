"""Intervals of simulated money hold what they say on skewed costs of few sessions."""

import numpy as np
import pytest
from replay_answers import row, what_if
from replay_logs import write_log

from training.replay.quality.bootstrap import FEWEST, spread


@pytest.mark.parametrize(("sessions", "least"), [(10, 0.86), (20, 0.88), (40, 0.88), (100, 0.89)])
def test_coverage_on_lognormal_costs(sessions, least):
    runs, sigma = 300, 1.2
    rng = np.random.default_rng(1)
    held = np.zeros(2)
    for run in range(runs):
        base = rng.lognormal(0, sigma, sessions)
        other = base * rng.lognormal(-0.3 - 0.125, 0.5, sessions)
        found = spread(np.stack([base, other]), 400, run)
        assert found is not None
        truth = sessions * np.exp(sigma**2 / 2), 1 - np.exp(-0.3)
        held += [
            ends[0] <= at <= ends[1]
            for ends, at in zip((found.total[0], found.saving[1]), truth, strict=True)
        ]
    assert (held / runs >= least).all(), held / runs  # 77 to 91 and 82 to 92 % by percentiles


def test_few_sessions_have_no_interval():
    assert spread(np.ones((2, FEWEST - 1)), 100, 0) is None


def test_what_does_not_vary_has_no_width():
    usd = np.stack([np.arange(1.0, 21.0), 0.25 * np.arange(1.0, 21.0), np.zeros(20)])
    found = spread(usd, 200, 0)
    assert found is not None
    assert found.saving[0] == pytest.approx([0.0, 0.0])
    assert found.saving[1] == pytest.approx([0.75, 0.75])
    assert found.saving[2] == pytest.approx([1.0, 1.0])
    assert found.total[2] == pytest.approx([0.0, 0.0])
    nothing = spread(np.zeros((2, 20)), 200, 0)
    assert nothing is not None
    assert np.isnan(nothing.saving).all()


def test_a_log_of_few_sessions_says_so(tmp_path):
    result = what_if(write_log(tmp_path / "log", sessions=FEWEST - 1))
    assert row(result, "logged")["cost_usd_ci"] is None
    assert row(result, "logged")["cost_usd"] > 0
    assert any(line.startswith(f"{FEWEST - 1} sessions: {FEWEST} are needed") for line in result["caveats"])
