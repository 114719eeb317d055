"""Several shadow runs of a log: nested ones of a seed, others drawn apart, and those nobody can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from replay_answers import row, what_if
from replay_logs import CHEAP, START_MS, STRONG, _outcome, _pair, _request

from training.labels.detail import written
from training.log import LogStore
from training.replay.quality.samples import chances, samples_of

if TYPE_CHECKING:
    from pathlib import Path

SESSIONS, TURNS = 150, 4
ALL = range(10)
GOOD = {(STRONG, True): 0.9, (CHEAP, True): 0.3, (STRONG, False): 0.9, (CHEAP, False): 0.95}

# Runs: (seed, chance where work is hard, chance where it is easy, share of the log there was when it ran).
DESIGNS = {
    "one": [(0, 0.4, 0.4, 1.0)],
    "same seed": [(0, 0.2, 0.4, 1.0), (0, 0.5, 0.3, 1.0)],
    "other seeds": [(0, 0.4, 0.4, 1.0), (1, 0.4, 0.4, 1.0)],
    "three": [(0, 0.4, 0.2, 1.0), (1, 0.3, 0.3, 1.0), (-2, 0.6, 0.1, 1.0)],
    "mixture": [(0, 0.3, 0.2, 0.5), (0, 0.5, 0.4, 1.0), (7, 0.2, 0.4, 0.5), (3, 0.5, 0.25, 1.0)],
}


def write(
    folder: Path,
    runs: list[tuple[int, float, float, float]],
    at: int,
    *,
    sessions: int = SESSIONS,
    told: range = ALL,
) -> float:
    """A log where the strong one answered hard work, the cheap one easy work; what the cheap one is worth.

    Of the runs, those `told` say in their outcomes who they are.
    """
    rng = np.random.default_rng(at)
    requests, outcomes, worth = [], [], []
    for s in range(sessions):
        hard = bool(rng.random() < 0.5)
        arm, other = (STRONG, CHEAP) if hard else (CHEAP, STRONG)
        sent, prompt = 0, 6_000
        for t in range(TURNS):
            prompt += int(rng.integers(500, 3_000))
            one = _request(f"s{s}", t, START_MS + s * 3_600_000 + t * 20_000, arm, (prompt, sent), {})
            sent = prompt
            requests.append(one)
            outcomes.append(_outcome(one, arm, float(rng.random() < GOOD[arm, hard])))
            worth.append(GOOD[CHEAP, hard])
            right = rng.random() < GOOD[other, hard]
            drawn = {seed: rng.random() for seed, *_ in runs}
            for i, (seed, of_hard, of_easy, share) in enumerate(runs):
                p = of_hard if hard else of_easy
                if s < share * sessions and drawn[seed] < p:
                    pair = _pair(one, other, arm, right, p)
                    run = written({"run": f"{seed}-{i:012x}", "role": "candidate"}) if i in told else None
                    outcomes.append(replace(pair, outcome_id=f"{pair.outcome_id}/{i}", detail=run))
    store = LogStore(folder)
    store.append("request", requests)
    store.append("outcome", outcomes)
    return float(np.mean(worth))


def weighed(folder: Path) -> pl.DataFrame:
    """What each pair counts as."""
    store = LogStore(folder)
    requests = store.scan("request").select("request_id", "ts_ms").collect()
    return chances(store.scan("outcome").collect(), requests, samples_of(folder))


@pytest.mark.parametrize("design", DESIGNS)
def test_pairs_of_any_runs_speak_for_all_calls_together(tmp_path: Path, design: str) -> None:
    total = []
    for at in range(5):
        write(tmp_path / str(at), DESIGNS[design], at)
        found = weighed(tmp_path / str(at))
        total.append((1 / found["chance"]).sum() / (SESSIONS * TURNS))
    error = np.std(total, ddof=1) / np.sqrt(len(total))
    assert abs(np.mean(total) - 1) < 0.08  # 1.45 by 1 - (1 - p)(1 - p) of those who asked, 1.6 by the larger
    assert error < 0.03


@pytest.mark.parametrize("design", ["same seed", "other seeds", "three", "mixture"])
def test_the_estimate_meets_the_truth_however_many_runs_there_were(tmp_path: Path, design: str) -> None:
    truth = write(tmp_path, DESIGNS[design], 9, sessions=450)
    pin = row(what_if(tmp_path), f"pin:{CHEAP}")
    assert pin["quality"] == pytest.approx(truth, abs=0.05)  # 11 points off before, of other seeds
    assert pin["quality_ci"][0] <= truth <= pin["quality_ci"][1]


def test_nested_runs_count_by_the_larger_chance(tmp_path: Path) -> None:
    write(tmp_path, DESIGNS["same seed"], 0)
    found = weighed(tmp_path).group_by("candidate").agg(pl.col("chance").unique())
    assert dict(found.iter_rows()) == {CHEAP: [0.5], STRONG: [0.4]}


def test_calls_that_name_no_run_are_one_sample_where_nothing_tells_otherwise(tmp_path: Path) -> None:
    write(tmp_path, DESIGNS["one"], 0, told=range(0))
    assert set(weighed(tmp_path)["chance"]) == {0.4}


def test_two_runs_that_nobody_names_are_refused_and_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, DESIGNS["other seeds"], 0, told=range(0))
    found = weighed(tmp_path)
    assert found["chance"].null_count() == len(found) > 300
    result = what_if(tmp_path)
    assert not row(result, f"pin:{CHEAP}")["supported"]
    said = f"{len(found):,} shadow pairs don't say which run asked them"
    assert any(line.startswith(said) for line in result["caveats"])


def test_beside_runs_that_are_named_the_others_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, DESIGNS["other seeds"], 0, told=range(1))
    found = weighed(tmp_path)
    assert set(found["chance"].drop_nulls()) == {0.4}
    assert found["chance"].null_count() == pytest.approx(0.24 * SESSIONS * TURNS, rel=0.25)
