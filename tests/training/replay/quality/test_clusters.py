"""--cluster-by: intervals over users, repos or tasks hold where their sessions are alike; few tell none."""

from __future__ import annotations

import numpy as np
import pytest
from replay_answers import row, shown, what_if
from replay_logs import CHEAP, write_log

from features.errors import BadInput
from training.estimators.bandit import Bandit
from training.replay.quality.clusters import Clusters
from training.replay.quality.differences import Pairs
from training.replay.quality.estimates import every_estimate
from training.replay.quality.evidence import Evidence
from training.replay.quality.judge import Judge

USERS, SESSIONS, TURNS = 40, 600, 2


def logged(seed: int) -> tuple[Bandit, np.ndarray]:
    """Sessions of users who succeed 30 % or 80 % of the time, whichever of two equal arms is drawn."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, USERS, SESSIONS)
    rate = rng.choice([0.3, 0.8], USERS)[user].repeat(TURNS)
    n = SESSIONS * TURNS
    session = np.arange(SESSIONS).repeat(TURNS)
    action, reward = rng.integers(0, 2, n), (rng.random(n) < rate).astype(float)
    log = Bandit(("a", "b"), action, reward, np.full((n, 2), 0.5), session, np.zeros(n, dtype=bool))
    return log, np.unique(user, return_inverse=True)[1]


def evidence(log: Bandit, rows: np.ndarray | slice = slice(None)) -> Evidence:
    some = log if isinstance(rows, slice) else log.rows(rows)
    return Evidence(some, np.zeros(some.n, dtype=int), some.n, 0, np.zeros((2, 2)))


def test_users_whose_sessions_are_alike_are_covered_by_user_and_not_by_session() -> None:
    held = {"user": 0, "session": 0, "whole": 0}
    for seed in range(60):
        log, user = logged(seed)
        target = [np.ones(log.n, dtype=int)]
        by_user, by_session = (
            Judge([evidence(log)], groups=code).of(lambda part, t=target: t[part]) for code in (user, None)
        )
        assert by_user.quality == pytest.approx(by_session.quality)
        for name, ends in (("user", by_user.ci), ("session", by_session.ci)):
            assert ends is not None
            held[name] += ends[0] <= 0.55 <= ends[1]
        whole = by_user.by_session
        assert whole is not None
        if not whole.supported:
            continue
        assert whole.quality_ci is not None
        held["whole"] += whole.quality_ci[0] <= 0.55 <= whole.quality_ci[1]
    assert held["user"] >= 53  # 57 are to be expected
    assert held["session"] <= 45


def test_clusters_that_lie_in_several_parts_are_whole() -> None:
    log, user = logged(1)
    cut = log.cluster < SESSIONS // 2
    target = np.ones(log.n, dtype=int)
    pieces = [target[cut], target[~cut]]
    one = Judge([evidence(log)], groups=user)
    two = Judge([evidence(log, cut), evidence(log, ~cut)], groups=user)
    first, second = one.of(lambda _: target), two.of(lambda part: pieces[part])
    assert first.ci == pytest.approx(second.ci)
    assert first.gain_ci == pytest.approx(second.gain_ci)
    assert first.by_session == pytest.approx(second.by_session)
    told = [
        every_estimate(one, {"b": (lambda _: target, first)})["b"],
        every_estimate(two, {"b": (pieces.__getitem__, second)})["b"],
    ]
    for mine, theirs in zip(*told, strict=True):
        if mine["method"] not in ("dr_clipped", "dr_switch"):  # their thresholds are chosen part by part
            assert mine["value"] == pytest.approx(theirs["value"])
            assert mine["interval"] == (theirs["interval"] and pytest.approx(theirs["interval"]))


def test_few_clusters_have_a_mean_and_no_interval() -> None:
    log, user = logged(2)
    target = np.ones(log.n, dtype=int)
    said = Judge([evidence(log)], groups=user % 9).of(lambda _: target)
    assert said.supported
    assert (said.ci, said.gain_ci) == (None, None)
    assert said.scores is not None
    pairs = Pairs({"a": said.scores, "b": said.scores}, {}, {})
    gap = pairs.success("a", [(1.0, "b")])
    assert gap is not None
    assert gap.ends is None


def test_sums_keep_the_total_and_are_by_cluster() -> None:
    clusters = Clusters("user", np.array([0, 1, 0, 1]), 2)
    assert clusters.sums(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [4.0, 6.0]
    assert Clusters("session", None, 4).sums(np.arange(4.0)).tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def log(tmp_path_factory):  # type: ignore[no-untyped-def]
    return write_log(tmp_path_factory.mktemp("clusters") / "log", sessions=300, turns=4, epsilon=1.0)


def test_the_answer_says_what_it_is_clustered_by(log) -> None:  # type: ignore[no-untyped-def]
    plain = what_if(log)
    assert (plain["clustered_by"], plain["clusters"]) == ("session", 300)
    few = what_if(log, "--cluster-by", "user")
    assert (few["clustered_by"], few["clusters"]) == ("user", 2)
    assert "2 users: 10 are needed for an interval over users, so none is told" in few["caveats"]
    for mine, theirs in zip(plain["policies"], few["policies"], strict=True):
        assert mine["cost_usd"] == theirs["cost_usd"]
        assert theirs["quality"] == (mine["quality"] and pytest.approx(mine["quality"]))
        for name in ("cost_usd_ci", "saving_ci", "quality_ci", "quality_gain_ci"):
            assert theirs[name] is None
    assert row(plain, f"pin:{CHEAP}")["quality_ci"] is not None
    assert few["watch"] is None


def test_sessions_that_name_none_stand_alone(log) -> None:  # type: ignore[no-untyped-def]
    said = what_if(log, "--cluster-by", "task")
    assert said["clusters"] == 300
    assert "300 of 300 sessions name no task: each is one of its own" in said["caveats"]
    assert said["policies"][0]["cost_usd_ci"] == what_if(log)["policies"][0]["cost_usd_ci"]
    assert "intervals are over 300 tasks" in " ".join(shown(log, "--cluster-by", "task").split())


def test_what_is_no_cluster_is_refused_before_the_work(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match="--cluster-by team: say one of session, repo, user, client, task"):
        what_if(tmp_path / "no log", "--cluster-by", "team")
