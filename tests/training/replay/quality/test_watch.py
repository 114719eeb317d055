"""What is watched: no interval without its mean; where no single rate made the sessions, it is said."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from replay_answers import shown, what_if
from replay_logs import CHEAP, STRONG, write_log

from training.estimators.intervals import betting
from training.replay.quality.by_session import watch
from training.replay.report.show import watch_says

SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(SHARES.flatmap(lambda part: st.integers(1, 8).map(lambda often: part * often)), min_size=1))
def test_an_interval_has_its_mean_or_there_is_none(parts):
    values = np.array([value for part in parts for value in part] * 2)[:600]
    found = watch(values)
    if found.ci is None:
        assert "no single rate" in watch_says(found._asdict())
    else:
        assert found.ci[0] <= found.quality <= found.ci[1]
        assert f"{found.ci[0]:.1%} – {found.ci[1]:.1%}" in watch_says(found._asdict())


def test_a_rate_that_changes_is_said_and_one_that_does_not_hardly_ever():
    rng = np.random.default_rng(3)
    steady = sum(watch((rng.random(300) < 0.4).astype(float)).ci is None for _ in range(60))
    assert steady <= 5
    fell = (rng.random(600) < np.repeat([0.9, 0.3], 300)).astype(float)
    found = watch(fell)
    assert found.ci is None
    assert found.halves == (fell[:300].mean(), fell[300:].mean())


def test_sessions_in_a_row_that_are_alike_have_no_ends_that_leave_their_mean():
    """As the sample's: seven models answered each task one after the other, so a row of seven is one draw."""
    said = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = watch(np.repeat(rng.random(250) < 0.4, 7).astype(float))
        said += found.ci is None
        assert found.ci is None or found.ci[0] <= found.quality <= found.ci[1]
    assert said >= 5


def test_once_every_mean_is_refuted_there_are_no_ends():
    low, high = betting(np.repeat([1.0, 0.0], 200))
    gone = np.isnan(low)
    assert gone.any()
    assert (np.flatnonzero(gone) >= np.argmax(gone)).all()
    assert np.isnan(high[gone]).all()
    found = watch(np.repeat([1.0, 0.0], 200))
    assert found.ci is None
    assert np.isfinite(np.array(found.course)).all()


def test_a_log_that_gets_worse_says_so_in_json_terminal_and_page(tmp_path):
    log = write_log(tmp_path / "log", sessions=150, turns=1, truth={STRONG: 1.0, CHEAP: 1.0})
    write_log(log, sessions=150, turns=1, truth={STRONG: 0.0, CHEAP: 0.0}, first=150)
    assert what_if(log)["watch"]["ci"] is None
    assert "changes over its time (100.0% in its older half, 0.0% in its newer)" in " ".join(
        shown(log, "--html", str(tmp_path / "page.html")).split()
    )
    page = (tmp_path / "page.html").read_text()
    assert "no single rate" in page
    assert "hold at all times together" not in page
