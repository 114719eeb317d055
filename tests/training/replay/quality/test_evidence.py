"""What a log supports: labels of some arms only, decisions without a choice, bills off by a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from replay_answers import row, what_if
from replay_logs import CHEAP, STRONG, write_log

from features.errors import BadInput
from training.estimators.bandit import Bandit
from training.replay.quality.evidence import Evidence, held_by, was_drawn
from training.replay.quality.judge import Judge

if TYPE_CHECKING:
    from training.replay.quality.quoted import Quality

N = 4000


def evidence(known_of_second: float) -> Evidence:
    """Two arms drawn evenly, right in 9 and 5 of 10 answers; the second's outcomes are known in part."""
    rng = np.random.default_rng(3)
    action = rng.integers(0, 2, N)
    reward = (rng.random(N) < np.where(action == 0, 0.9, 0.5)).astype(float)
    reward[(action == 1) & (rng.random(N) >= known_of_second)] = np.nan
    log = Bandit(("good", "poor"), action, reward, np.full((N, 2), 0.5), np.arange(N) // 4, np.zeros(N, bool))
    return Evidence(log, np.zeros(N, dtype=int), N, 0, np.zeros((2, 2)))


def of(judge: Judge, target: np.ndarray) -> Quality:
    """Quality of a policy on a log of one part."""
    return judge.of(lambda _: target)


def test_labels_for_one_arm_tell_of_that_arm_alone() -> None:
    judge = Judge([evidence(0.0)])
    mix = of(judge, np.full((N, 2), 0.5))
    assert (mix.quality, mix.supported, mix.gain) == (None, False, None)
    assert "arms without any known outcome" in (mix.why or "")
    logged = of(judge, evidence(0.0).bandit.action)
    assert (logged.quality, logged.supported) == (None, False)
    assert "no outcome of poor is known" in (logged.why or "")
    pin = of(judge, np.zeros(N, dtype=int))
    assert pin.quality == pytest.approx(0.9, abs=0.03)
    assert (pin.gain, pin.gain_ci) == (None, None)


def test_unequal_labels_leave_the_logged_row_and_the_gain_at_one() -> None:
    judge = Judge([evidence(0.15)])
    logged, mix = of(judge, evidence(0.0).bandit.action), of(judge, np.full((N, 2), 0.5))
    assert logged.quality is not None
    assert mix.quality is not None
    assert logged.quality == pytest.approx(0.7, abs=0.03)
    assert mix.gain == pytest.approx(mix.quality - logged.quality)


def test_a_handful_of_labels_does_not_speak_for_half_the_log() -> None:
    logged = of(Judge([evidence(0.002)]), evidence(0.002).bandit.action)
    assert logged.quality is None
    assert "labelled so unequally" in (logged.why or "")


@pytest.mark.parametrize("kind", ["requests", "decisions", "outcomes"])
def test_a_file_that_is_cut_off_is_named_in_one_line(tmp_path: Any, kind: str) -> None:
    log = write_log(tmp_path / "log", sessions=5)
    file = next((log / kind).glob("day=*/*.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadInput, match=f"{file.name}: damaged") as caught:
        what_if(log)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["requests", "decisions", "outcomes"])
def test_damage_behind_a_sound_footer_is_named_in_one_line(tmp_path: Any, kind: str) -> None:
    log = write_log(tmp_path / "log", sessions=5)
    file = next((log / kind).glob("day=*/*.parquet"))
    raw = file.read_bytes()
    footer = 8 + int.from_bytes(raw[-8:-4], "little")
    file.write_bytes(raw[:4] + b"\xff" * (len(raw) - 4 - footer) + raw[-footer:])
    with pytest.raises(BadInput, match=f"{file.name}: damaged") as caught:
        what_if(log)
    assert "\n" not in str(caught.value)


def test_a_logger_that_never_varied_is_told_what_evidence_costs(tmp_path: Any) -> None:
    log = write_log(tmp_path / "log", sessions=60, epsilon=0.0)
    pin = row(what_if(log, "--with", CHEAP), f"pin:{CHEAP}")
    assert not pin["supported"]
    assert "the log never had a chance to do" in pin["why"]
    assert pin["missing"]["pairs"] >= 400
    assert pin["missing"]["usd"] == pytest.approx(pin["missing"]["pairs"] * pin["cost_usd"] / 240)


def test_calls_that_do_not_meet_their_own_cost_are_said_though_the_sum_is_met(tmp_path: Any) -> None:
    log = write_log(tmp_path / "log", sessions=100, turns=3, epsilon=0.0, dearer=(1.2, 20))
    result = what_if(log)
    assert result["reproduction"] == "met"
    assert result["calls_apart"] == 15
    apart = result["calls_apart_recorded_usd"] / result["calls_apart_listed_usd"]
    assert apart == pytest.approx(1.2, abs=0.01)
    assert "15 of 300 calls, recorded at" in result["reproduction_says"]


def test_decisions_of_one_arm_only_are_held_where_others_were_drawn() -> None:
    sure, even = [1.0, 0.0], [0.5, 0.5]
    unknown = [np.nan, np.nan]

    def told(chances: list[list[float]], locked: list[bool]) -> Evidence:
        zero = np.zeros(4, dtype=int)
        log = Bandit(("a", "b"), zero, np.ones(4), np.array(chances), zero, np.array(locked))
        return Evidence(log, zero, 4, 0, np.zeros((2, 2)))

    free = told([even, sure, unknown, sure], [False] * 4)
    assert was_drawn(free)
    assert held_by(free).bandit.locked.tolist() == [False, True, False, True]
    assert held_by(told([even, sure, unknown, sure], [False, True, False, False])).held.sum() == 1
    assert not was_drawn(told([sure, sure, unknown, sure], [False] * 4))


def test_a_session_that_keeps_what_it_drew_supports_its_pins(tmp_path: Any) -> None:
    log = write_log(tmp_path / "log", sessions=1200, turns=3, epsilon=1.0, keeps=True, pace_ms=600_000)
    result = what_if(log)
    assert result["free_decisions"] == 1200
    assert any(line.startswith("2,400 decisions were sure") for line in result["caveats"])
    for arm in (STRONG, CHEAP):
        pin = row(result, f"pin:{arm}")
        assert pin["supported"]
        assert pin["quality"] == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("factor", [0.6, 2.0])
def test_a_bill_that_is_raised_in_some_sessions_is_not_met(tmp_path: Any, factor: float) -> None:
    log = write_log(tmp_path / "log", sessions=100, turns=3, epsilon=0.0, dearer=(factor, 4))
    result = what_if(log, code=1)
    assert result["reproduction"] == "failed"
    assert result["reasons"] == {"unexplained": 25}
    assert result["policies"] == []


def test_a_bill_that_is_raised_everywhere_is_met_by_that_factor_alone_and_said(tmp_path: Any) -> None:
    log = write_log(tmp_path / "log", sessions=40, turns=3, epsilon=0.0, dearer=(2.0, 1))
    result = what_if(log)
    assert result["reproduction"] == "explained"
    assert "only as 40 sessions are taken at a factor" in result["reproduction_says"]


def test_where_nothing_is_recorded_prices_are_not_said_to_be_met(tmp_path: Any) -> None:
    log = write_log(tmp_path / "log", cost_source="priced")
    result = what_if(log)
    assert result["reproduction"] == "priced"
    assert result["recorded_usd"] == 0
    assert result["reproduction_says"].startswith("no recorded bill: priced by the table")
