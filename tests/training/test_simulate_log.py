"""A made-up log is a served one: its receipts recompute, its bill adds up, and every command reads it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import samediff
from features.errors import BadInput
from features.records import DecisionRecord
from router.gateway.settings import Settings
from router.receipt import recompute
from training.labels.resolve import resolve, shadowed
from training.log import STATE_FILE, LogStore
from training.pipeline import train
from training.replay.options import Options
from training.replay.run import run as what_if
from training.simulate.team import new_team
from training.simulate.traffic import Traffic, scripts
from training.simulate.world import World
from training.simulate.write import Made, Wanted, make
from training.spend.report import run as spent

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "learned:max_loss=0.05,explore=0.2"
WORLD, TRAFFIC = World(seed=3), Traffic(pairs=0.1)


def made(folder: Path, turns: int, **wanted: object) -> Made:
    asked = Wanted(to=folder / "log", turns=turns, policy=POLICY, **wanted)
    return make(WORLD, TRAFFIC, asked, Settings())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[LogStore, Made, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("simulated")
    matrix = folder / "matrix.parquet"
    result = made(folder, 900, matrix=matrix, targets=("pin:glm-5",))
    return LogStore(folder / "log"), result, pl.read_parquet(matrix)


def test_the_log_holds_as_many_turns_as_were_asked_for(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    store, result, _ = log
    requests, decisions = store.scan("request").collect(), store.scan("decision").collect()
    ours = requests.filter(pl.col("source") == "journal")
    assert len(ours) == len(decisions) == 900
    assert set(ours["request_id"]) == set(decisions["request_id"])
    assert result.records["request"] == len(requests)
    assert (store.path / STATE_FILE).exists()


def test_the_same_seed_gives_the_same_log(tmp_path: Path) -> None:
    logs = []
    for name in ("a", "b"):
        made(tmp_path / name, 60)
        store = LogStore(tmp_path / name / "log")
        logs.append([store.scan(kind).collect() for kind in ("request", "decision", "outcome")])
        logs[-1].append((tmp_path / name / "log.truth.json").read_bytes())
    for one, other in zip(*logs, strict=True):
        assert one.equals(other) if isinstance(one, pl.DataFrame) else one == other


def test_propensities_are_chances_and_only_asks_are_free(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    store, result, _ = log
    arms = store.scan("decision").select("request_id", "locks", "explored", "chosen", "arms").collect()
    chances = arms.explode("arms").unnest("arms").group_by("request_id").agg(pl.col("propensity").sum())
    np.testing.assert_allclose(chances["propensity"], 1, atol=1e-9)
    free = arms.filter(pl.col("locks").list.len() == 0)
    assert len(free) == result.policies[0].asks
    assert 0.08 < free["explored"].mean() < 0.24  # 0.2, of which a fifth draws the arm that was best anyway


def test_receipts_recompute(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    store, _, _ = log
    decider = new_team(WORLD, TRAFFIC, Settings(), POLICY).decider
    for row in store.scan("decision").head(25).collect().iter_rows(named=True):
        row.pop("day")
        plain = {k: v for k, v in row.items() if v is not None}
        receipt = msgspec.convert(_known(plain), DecisionRecord, strict=False)
        assert recompute(receipt, decider) == receipt


def _known(value: object) -> object:
    """Plain values without nulls, as JSON leaves them out."""
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items() if v is not None}
    return [_known(v) for v in value] if isinstance(value, list) else value


def test_the_bill_is_the_truth_and_the_price_tables(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    store, result, _ = log
    requests = store.scan("request").collect()
    shadow = requests.filter(pl.col("source") == "shadow")["cost_usd"].sum()
    report = spent(store.path, [])
    truth = result.policies[0].cost_usd
    assert truth is not None
    assert report.total.paid_usd == truth + Decimal(shadow)
    assert result.policies[0].turns == 900


def test_a_route_of_one_arm_is_that_arm_pinned(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    """The pinned policy served by the decider itself costs what its route was reckoned to cost."""
    _, result, matrix = log
    served, reckoned = (p for p in result.policies if p.name == "pin:glm-5")
    assert served.quality == pytest.approx(reckoned.quality)
    assert served.cost_usd == reckoned.cost_usd
    mine = matrix.filter(pl.col("model") == "glm-5")
    assert mine["p_success"].mean() == pytest.approx(reckoned.quality)
    assert mine["cost_usd"].sum() == pytest.approx(float(reckoned.cost_usd or 0))
    assert result.policies[-1].name == "oracle"
    assert result.policies[-1].quality >= max(p.quality for p in result.policies)


def test_labels_and_pairs_say_what_was_told(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    store, result, matrix = log
    outcomes = store.scan("outcome").collect()
    requests = store.scan("request").filter(pl.col("source") == "journal").collect()
    labels = pl.concat(
        [requests.select("request_id", "candidate"), resolve(requests, outcomes)], how="horizontal"
    )
    keys = {"left_on": ["request_id", "candidate"], "right_on": ["request_id", "model"]}
    told = labels.join(matrix.drop_nulls("told"), **keys)
    assert (told["target"] == told["told"].cast(pl.Float64)).all()
    assert len(told) > 0.7 * result.policies[0].asks
    pairs = shadowed(requests, outcomes).join(matrix, **keys)
    assert set(pairs["candidate"]) == set(WORLD.arms)
    assert 0.85 < (pairs["target"] == pairs["success"]).mean() < 1  # 5 % noise


def test_what_if_meets_the_truth(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    """A replay knows neither the providers' tokenizers nor the other arms' answers; its costs are near."""
    store, result, _ = log
    answer = what_if(store.path, Options(policies=("pin:glm-5",), frontier=False), Settings())
    assert answer.reproduction == "priced"  # nobody recorded what it cost: caches are checked, prices aren't
    assert abs(answer.relative_error or 1) < 0.01
    assert answer.free_decisions == result.policies[0].asks
    for truth in result.policies:
        row = answer.row(truth.name)
        if row is not None and truth.name.startswith("pin:"):
            assert row.cost_usd == pytest.approx(float(truth.cost_usd or 0), rel=0.1)
            assert row.quality is None  # 200 asks prove nothing


def test_train_reads_it(log: tuple[LogStore, Made, pl.DataFrame], tmp_path: Path) -> None:
    store, _, _ = log
    report = train(store.path, tmp_path / "bundle")
    assert report.gates
    assert report.counts.candidates == len(WORLD.arms)
    assert report.counts.grouped_by == "repo"


def test_sessions_come_in_time_and_are_cut_at_the_last_turn() -> None:
    found = list(scripts(World(), Traffic(), 500))
    assert sum(script.turns for script in found) == 500
    starts = np.array([script.start_ms for script in found])
    assert (np.diff(starts) > -30 * 60_000).all()
    assert starts[-1] - starts[0] > 13 * 86_400_000


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "file").touch()
    with pytest.raises(BadInput, match="wants a new folder"):
        made(tmp_path, 10)
    with pytest.raises(BadInput, match="no candidate"):
        new_team(World(arms={"nobody": 0.9, "glm-5": 0.8}), Traffic(), Settings(), POLICY)
    with pytest.raises(BadInput, match="no arm here"):
        new_team(WORLD, TRAFFIC, Settings(), "pin:gpt-5.4")
    with pytest.raises(BadInput, match="share"):
        Traffic(noise=1.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "where to"),
        (["--power", "--sizes", "many"], "no number of decisions"),
        (["--to", "x", "--arms", "glm-5"], "no NAME=0.9"),
        (["--to", "x", "--turns", "0"], "one turn at least"),
        (["--to", "x", "--days", "inf"], "more than 0 days"),
        (["--to", "x", "--asks", "nan"], "1 or more"),
        (["--to", "x", "--drift", "nan"], "log-odds"),
        (["--to", "x", "--pairs-tested", "nan"], "pairs-tested is a share"),
        (["--to", "x", "--arms", "glm-5=0.9,glm-5=0.8,kimi-k2.5=0.7"], "twice"),
        (["--to", "x", "--truth", "no/such/file.json"], "no such folder"),
        (["--to", "x", "--matrix", "no/such/file.parquet"], "no such folder"),
        (["--power", "--sizes", "999999999999"], "more than fit"),
    ],
)
def test_the_command_refuses_in_one_line(words: list[str], said: str) -> None:
    done = CliRunner().invoke(samediff.app, ["simulate", *words])
    assert isinstance(done.exception, BadInput)
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


def test_own_arms_are_served_under_an_alias_of_their_own(tmp_path: Path) -> None:
    arms = "claude-opus-4-6=0.9,claude-haiku-4-5=0.8"
    words = ["simulate", "--to", str(tmp_path / "log"), "--turns", "30", "--arms", arms, "--json", "-"]
    done = CliRunner().invoke(samediff.app, words, catch_exceptions=False)
    result = msgspec.json.decode(done.stdout)
    assert [p["name"] for p in result["policies"]][1:3] == ["pin:claude-opus-4-6", "pin:claude-haiku-4-5"]
    assert set(LogStore(tmp_path / "log").scan("request").collect()["model_requested"]) >= {"auto"}


def test_power_needs_no_log() -> None:
    words = ["simulate", "--power", "--sizes", "400", "--runs", "1", "--session", "2", "--json", "-"]
    done = CliRunner().invoke(samediff.app, words, catch_exceptions=False)
    rows = msgspec.json.decode(done.stdout)
    assert {row["decisions"] for row in rows} == {400}
    assert all((row["half_width"] is None) == (row["refused"] == 1) for row in rows)


def test_arms_fail_each_on_their_own(log: tuple[LogStore, Made, pl.DataFrame]) -> None:
    """Were luck one for all arms, the likeliest would succeed wherever any does, and a table be an oracle."""
    _, _, matrix = log
    by_task = (
        matrix.sort("p_success")
        .group_by("task_id")
        .agg(pl.col("success").last(), any=pl.col("success").max())
    )
    assert by_task["any"].mean() > by_task["success"].mean() + 0.02
