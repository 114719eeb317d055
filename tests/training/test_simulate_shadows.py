"""Shadow pairs of a made-up log: the records that `samediff shadow` writes, and a truth beside them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from shadow_place import FAR, NEAR, REFERENCE, Provider, command, edit, finished, make_log, record

from features.diffs.verdicts import SAME_LEVELS
from features.errors import BadInput
from router.gateway.settings import Settings
from training.after.samediff import rows_of_log
from training.log import LogStore
from training.replay.options import Options
from training.replay.run import run as what_if
from training.simulate.traffic import Traffic
from training.simulate.world import World
from training.simulate.write import Wanted, make

if TYPE_CHECKING:
    from pathlib import Path

ARMS = {"claude-opus-4-6": 0.9, "kimi-k2.5": 0.8, "glm-5": 0.6}
POLICY = "mix:claude-opus-4-6=0.5,kimi-k2.5=0.5"


def made(folder: Path, turns: int, **traffic: float) -> LogStore:
    wanted = Wanted(to=folder / "made", turns=turns, policy=POLICY, matrix=folder / "matrix.parquet")
    make(World(arms=ARMS, seed=5), Traffic(asks=1.0, turns=1.0, **traffic), wanted, Settings())
    return LogStore(folder / "made")


def asked_by_shadow(folder: Path) -> LogStore:
    """Two requests that the reference answered and another did, asked again for real."""
    make_log(folder, [record(0), record(1, candidate=FAR)])
    steps = [{"text": "ok", "calls": [{"name": "Edit", "arguments": edit("a + b")}]}]
    provider = Provider({"steps": steps}, folder)
    try:
        options = ("--budget", "1", "--candidates", NEAR, "--reference", REFERENCE, "--self-share", "0.01")
        assert finished(command(folder, provider.url, *options))[0] == 0
    finally:
        provider.stop()
    return LogStore(folder / "log")


def filled(frame: pl.DataFrame) -> set[str]:
    """Columns in which every row tells something."""
    return {name for name in frame.columns if not frame[name].null_count()}


def test_they_have_the_form_of_those_that_shadow_writes(tmp_path: Path) -> None:
    real, store = asked_by_shadow(tmp_path), made(tmp_path, 120, pairs=1.0, pairs_tested=0.5)
    calls, asked = (s.scan("request").filter(pl.col("source") == "shadow").collect() for s in (real, store))
    counts = {"cache_write_1h_tokens", "reasoning_tokens"}  # as the provider counts
    assert filled(calls) - counts == filled(asked) - counts
    assert calls["request_id"].str.contains(r"^shadow_[0-9a-f]{32}_1$").all()
    assert asked["request_id"].str.contains(r"^shadow_[0-9a-f]{32}_1$").all()
    assert asked["session_id"].str.starts_with("shadow/simulated/req_").all()
    assert calls["answer"].struct.fields == asked["answer"].struct.fields
    theirs, ours = (s.scan("outcome").filter(pl.col("source") == "shadow").collect() for s in (real, store))
    tests, diffs = ours.filter(pl.col("level") == "tests"), ours.filter(pl.col("level") != "tests")
    assert filled(theirs.drop("value")) == filled(diffs.drop("value"))
    keys = {tuple(json.loads(detail)) for detail in (*theirs["detail"], *diffs["detail"])}
    assert len(keys) == 1
    against = [{json.loads(detail)["against"] for detail in frame["detail"]} for frame in (theirs, diffs)]
    assert against == [{"logged", "fresh", "nothing"}] * 2
    assert set(diffs["level"]) <= {"L0", "L3", "different", "unknown"}
    same = diffs["level"].is_in(SAME_LEVELS)
    assert set(diffs.filter(same)["value"]) == {1.0}
    assert diffs.filter(~same)["value"].is_null().all()
    assert 0.4 * len(diffs) < len(tests) < 0.6 * len(diffs)
    assert tests["sampling_probability"].is_null().all()  # as those report who run them: shadow's row has it


def test_their_truth_is_known(tmp_path: Path) -> None:
    store = made(tmp_path, 600, pairs=1.0, noise=0.0)
    truth = pl.read_parquet(tmp_path / "matrix.parquet").select("request_id", "model", "success")
    pairs = store.scan("outcome").filter(pl.col("source") == "shadow").collect()
    keys = {"left_on": ["request_id", "candidate"], "right_on": ["request_id", "model"]}
    tests = pairs.filter(pl.col("level") == "tests").join(truth, **keys)
    assert (tests["value"] == tests["success"]).all()
    assert tests.select("request_id", "candidate").is_unique().all()
    assert len(tests) == 600 * 2
    judged = pairs.filter(pl.col("reference") == "claude-opus-4-6").join(truth, **keys)
    rates = judged.filter(pl.col("level") != "tests").group_by("success").agg(pl.col("level") == "L0")
    same = {success: sum(levels) / len(levels) for success, levels in rates.iter_rows()}
    assert 0.15 < same[1.0] < 0.3  # 26 % of two right answers, 2.5 % of one that is
    assert 0.0 < same[0.0] < 0.08


def test_diffs_alone_tell_nothing_and_tests_do(tmp_path: Path) -> None:
    said = {}
    for tested in (0.0, 1.0):
        folder = tmp_path / str(tested)
        folder.mkdir()
        store = made(folder, 430, pairs=1.0, pairs_tested=tested)
        answer = what_if(store.path, Options(policies=("pin:glm-5",), frontier=False), Settings())
        said[tested] = answer.row("pin:glm-5"), answer.caveats
    (row, caveats), (told, _) = said[0.0], said[1.0]
    assert row is not None
    assert row.quality is None
    assert "no shadow pair of it has a known outcome" in (row.why or "")
    assert any("a diff alone tells no quality" in line for line in caveats)
    assert told is not None
    assert told.quality_how == "paired"


def test_answers_learn_from_them_as_from_real_ones(tmp_path: Path) -> None:
    rows = rows_of_log(made(tmp_path, 120, pairs=1.0))["same"]
    assert 0.05 < rows.target.mean() < 0.3
    assert set(rows.candidate) == {"kimi-k2.5", "glm-5"}


def test_an_arm_without_a_price_is_asked_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text('[candidates.own]\nendpoints = { anthropic = "our-own-model" }\n')
    settings = Settings(catalog=str(tmp_path / "catalog.toml"))
    world = World(arms={"claude-opus-4-6": 0.9, "own": 0.8})
    wanted = Wanted(to=tmp_path / "made", turns=10, policy="pin:claude-opus-4-6")
    with pytest.raises(BadInput, match=r"own has no published price.*--pairs 0"):
        make(world, Traffic(), wanted, settings)
    assert make(world, Traffic(pairs=0.0), wanted, settings).sessions
