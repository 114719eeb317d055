"""Shadow pairs in what-if: as `samediff shadow` writes them, with outcomes beside, and with some untold."""

import numpy as np
import pytest
from replay_answers import row, what_if
from replay_logs import CHEAP, STRONG, write_log

from features.records import OutcomeRecord
from training.estimators.bandit import Bandit
from training.estimators.estimate import estimate
from training.estimators.intervals import wilson
from training.estimators.model import table_model
from training.estimators.paired import Surprises, paired, surprise
from training.estimators.support import Seen, support_of, verdict
from training.log import LogStore
from training.replay.quality.evidence import Evidence
from training.replay.quality.judge import Judge

TRUTH = {STRONG: 0.9, CHEAP: 0.6}


def test_diffs_alone_tell_no_quality_and_what_would_is_said(tmp_path):
    log = write_log(tmp_path / "log", sessions=150, epsilon=0.0, truth=TRUTH, pairs=1.0, tested=0.0)
    result = what_if(log)
    pin = row(result, f"pin:{CHEAP}")
    assert (pin["quality"], pin["supported"]) == (None, False)
    assert "no shadow pair of it has a known outcome" in pin["why"]
    assert pin["missing"]["pairs"] > 0
    assert pin["missing"]["usd"] is None  # more calls of the kind would tell as little
    told = [line for line in result["caveats"] if line.startswith("600 shadow pairs have no known outcome")]
    assert len(told) == 1
    assert "tests of those answers" in told[0]


def test_tests_of_those_answers_are_heard_with_the_chance_their_calls_had(tmp_path):
    log = write_log(tmp_path / "log", sessions=400, epsilon=0.0, truth=TRUTH, pairs=0.5, tested=0.0)
    store = LogStore(log)
    rng = np.random.default_rng(1)
    pairs = store.scan("outcome").collect().filter(source="shadow")
    store.append(
        "outcome",
        [
            OutcomeRecord(
                outcome_id=f"{one['outcome_id']}/tests",
                ts_ms=one["ts_ms"] + 1,
                source="shadow",
                request_id=one["request_id"],
                candidate=one["candidate"],
                reference=one["reference"],
                level="tests",
                value=float(one["value"] == 1.0 or rng.random() < 0.3 / 0.7),
            )
            for one in pairs.iter_rows(named=True)
        ],
    )
    result = what_if(log)
    pin = row(result, f"pin:{CHEAP}")
    assert pin["quality_how"] == "paired"
    assert pin["quality"] == pytest.approx(TRUTH[CHEAP], abs=0.06)
    assert not any("have no known outcome" in line for line in result["caveats"])


def test_pairs_without_outcome_lower_no_quality(tmp_path):
    log = write_log(tmp_path / "log", sessions=400, epsilon=0.0, truth=TRUTH, pairs=1.0, tested=0.5)
    pin = row(what_if(log), f"pin:{CHEAP}")
    assert pin["quality_ci"][0] < TRUTH[CHEAP] < pin["quality_ci"][1]
    assert 600 < pin["ess"] < 1_000  # half of 1,600


def test_another_run_of_who_answered_says_nothing_of_the_logged_answer(tmp_path):
    log = write_log(tmp_path / "log", sessions=250, epsilon=1.0, truth=TRUTH)
    store = LogStore(log)
    before = row(what_if(log), f"pin:{CHEAP}")
    answered = store.scan("request").filter(model_served=CHEAP).collect()
    verdicts = ({"level": "tests", "value": 0.0}, {"level": "L0", "value": 1.0})
    store.append(
        "outcome",
        [
            OutcomeRecord(
                outcome_id=f"{one['request_id']}/again/{said['level']}",
                ts_ms=one["ts_ms"] + 1,
                source="shadow",
                request_id=one["request_id"],
                candidate=CHEAP,
                reference=STRONG,
                sampling_probability=1.0,
                **said,
            )
            for one in answered.iter_rows(named=True)
            for said in verdicts
        ],
    )
    after = row(what_if(log), f"pin:{CHEAP}")
    assert (after["quality"], after["quality_ci"]) == (before["quality"], before["quality_ci"])
    assert before["quality_ci"][0] < TRUTH[CHEAP] < before["quality_ci"][1]


def drawn(share: float, seed: int, n: int = 20_000) -> tuple[Bandit, float]:
    """One arm answered all; the other was asked where answers are uncertain, and `share` of that is told."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    chance, good = np.where(hard, 0.08, 0.01), np.where(hard, 0.4, 0.9)
    asked = rng.random(n) < chance
    known = asked & (rng.random(n) < share)
    pairs, chances = np.full((2, n, 2), np.nan)
    pairs[known, 1] = rng.random(int(known.sum())) < good[known]
    chances[asked, 1] = chance[asked]
    log = Bandit(
        ("a", "b"),
        np.zeros(n, dtype=int),
        (rng.random(n) < 0.7).astype(float),
        np.full((n, 2), np.nan),
        np.arange(n),
        np.zeros(n, dtype=bool),
        pairs,
        chances,
        silent=np.isfinite(chances) & np.isnan(pairs),
    )
    return log, float(good.mean())


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_untold_pairs_bias_nothing(share):
    off, held = [], []
    for seed in range(30):
        log, truth = drawn(share, seed)
        target = np.tile([0.0, 1.0], (log.n, 1))
        said = estimate(log, target, table_model(log, np.zeros(log.n, dtype=int))).quality
        assert said is not None
        assert said.quality_ci is not None
        assert said.quality is not None
        off.append(said.quality - truth)
        held.append(said.quality_ci[0] <= truth <= said.quality_ci[1])
        if seed:
            continue
        same = Judge([Evidence(log, np.zeros(log.n, dtype=int), 0, 0, np.zeros((2, 2)))])
        in_parts = same.of(lambda _: np.ones(20_000, dtype=int))
        assert in_parts.quality == pytest.approx(said.quality)
    assert abs(np.mean(off)) < 0.012  # 8 points below by 60 % told, before
    assert np.mean(held) >= 0.85


def surprised(rng: np.random.Generator, n: int) -> Bandit:
    """Three arms alike, some requests hard for all: what was logged tells of what pairs will say."""
    good, action = rng.random(n), rng.integers(0, 3, n)
    asked = rng.random((n, 3)) < 0.1
    asked[np.arange(n), action] = False
    pairs = np.where(asked, (rng.random((n, 3)) < good[:, None]).astype(float), np.nan)
    return Bandit(
        ("a", "b", "c"),
        action,
        (rng.random(n) < good).astype(float),
        np.full((n, 3), 1 / 3),
        np.arange(n),
        np.zeros(n, dtype=bool),
        pairs,
        np.where(asked, 0.1, np.nan),
    )


def slopes_of(log: Bandit) -> np.ndarray:
    model = table_model(log, np.zeros(log.n, dtype=int))
    return Surprises.of(log, model, surprise(log, model)).slopes()


def test_slopes_of_the_same_log_do_no_harm():
    runs, n = 300, 400
    off, held = np.zeros((2, runs)), np.zeros((2, runs), dtype=bool)
    for run in range(runs):
        rng = np.random.default_rng(run)
        log, other = surprised(rng, n), surprised(rng, n)
        model, target = table_model(log, np.zeros(n, dtype=int)), np.tile([1.0, 0.0, 0.0], (n, 1))
        for i, slopes in enumerate((slopes_of(log), slopes_of(other))):
            said = log._replace(whole=log.sums._replace(slopes=slopes))
            found = wilson(paired(said, target, model), log.cluster)
            off[i, run], held[i, run] = found.mean - 0.5, found.low <= 0.5 <= found.high
    assert abs(off[0].mean() - off[1].mean()) < 0.002
    assert off[0].std() < 1.02 * off[1].std()
    assert (held.mean(axis=1) > 0.92).all()


def seen(**given: float) -> Seen:
    whole = {
        "n": 1_000,
        "told": 1_000,
        "weight": 1_000.0,
        "largest": 1.0,
        "unsupported": 0.0,
        "unlabelled": 0.0,
    }
    rest = {"square": 5_000.0, "expected": 5_000.0, "logged": 5_000.0, "both": 0.0, "pairs": 0, "asked": 0.0}
    return Seen(**(whole | rest | {"pair_weight": 0.0, "pair_square": 0.0} | given))


def test_what_logged_answers_and_pairs_have_in_common_counts_once():
    zero = np.zeros(0)
    log = Bandit(
        ("a", "b"), np.arange(1_000) % 2, np.ones(1_000), np.full((1_000, 2), 0.5), np.arange(1_000), zero
    )
    alone = support_of(seen(asked=1_100.0, both=900.0), log, locked=0)
    assert alone.pairs_ess == 0  # no pair is of an arm that the target asks
    assert alone.together == alone.ess == pytest.approx(200)
    assert verdict(alone)[0] is None  # not "dr" by the logged answers of a sample without any pair
    apart = support_of(seen(asked=5_000.0, pairs=200), log, locked=0)
    assert apart.together == pytest.approx(400)
    assert verdict(apart)[0] == "combined"
    common = support_of(seen(asked=5_000.0, pairs=200, both=3_000.0), log, locked=0)
    assert common.together == pytest.approx(250)
    assert verdict(common)[0] is None
