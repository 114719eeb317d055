"""What a log pays for a candidate holds for the calls that it takes over, too."""

from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from replay_logs import CHEAP, START_MS, STRONG, _request, write_log

from router.gateway.settings import Settings
from training.log import LogStore
from training.replay.cost.bills import bills_of
from training.replay.cost.factors import factors_of
from training.replay.logged import parts
from training.replay.options import Options
from training.replay.policies import controls
from training.replay.policies.playing import play_all
from training.replay.reading import UNPRICED
from training.replay.run import run
from training.replay.stage import set_up


def billed_log(folder, paid, sessions=120):
    """Sessions of one call, by turns on each candidate, billed at about so much of the price table's."""
    rng = np.random.default_rng(0)
    rows = []
    for s in range(sessions):
        arm, factor = list(paid.items())[s % len(paid)]
        prompt = int(rng.integers(6_000, 9_000))
        one = _request(f"s{s}", 0, START_MS + s * 3_600_000, arm, (prompt, 0), {"task_id": f"t{s}"})
        usd = one.cost_usd * Decimal(str(round(factor * rng.normal(1, 0.01 * (factor != 1)), 6)))
        rows.append(replace(one, cost_usd=usd.quantize(Decimal("1e-12"))))
    LogStore(folder).append("request", rows)
    return folder


def costs_of(log, policies=()):
    found = run(log, Options(frontier=False, policies=policies), Settings())
    return found, {row.name: row for row in found.policies}


def test_calls_taken_over_cost_what_the_candidate_is_billed(tmp_path):
    """A call that moves to the cheap one costs 2.5 times its list price, as all the cheap one's own do."""
    _, listed = costs_of(billed_log(tmp_path / "list", {STRONG: 1.0, CHEAP: 1.0}))
    found, paid = costs_of(billed_log(tmp_path / "log", {STRONG: 1.0, CHEAP: 2.5}))
    cheap, strong = f"pin:{CHEAP}", f"pin:{STRONG}"
    assert paid[cheap].cost_usd == pytest.approx(2.5 * listed[cheap].cost_usd, rel=0.02)
    assert paid[strong].cost_usd == pytest.approx(listed[strong].cost_usd, rel=1e-6)
    assert any(f"{CHEAP} 2.5" in caveat for caveat in found.caveats)


def test_how_far_a_factor_varies_is_in_the_interval(tmp_path):
    _, sure = costs_of(billed_log(tmp_path / "sure", {STRONG: 1.0, CHEAP: 1.0}))
    _, paid = costs_of(billed_log(tmp_path / "log", {STRONG: 1.0, CHEAP: 2.5}))
    wide, narrow = (np.ptp(rows[f"pin:{CHEAP}"].cost_usd_ci) for rows in (paid, sure))
    assert wide > 2.5 * narrow


def test_a_cascade_tells_which_of_its_calls_are_at_a_factor(tmp_path):
    """What its steps take over, or how far the factor varies would be in the intervals of pins alone."""
    log = billed_log(tmp_path / "log", {STRONG: 1.0, CHEAP: 2.5})
    stage = set_up(log, Options(), Settings())
    bills = bills_of(log, stage.worlds)
    worlds = stage.worlds._replace(scale=bills.scale)
    worlds = worlds._replace(factors=factors_of(worlds, bills))
    pair = worlds.arms.at(CHEAP, "test"), worlds.arms.at(STRONG, "test")
    played = play_all(worlds, [controls.cascade(worlds, pair, 0.1, "cascade")], lambda: None)[0]
    alone = play_all(worlds, [controls.pinned("pin", pair[0])], lambda: None)[0]
    assert played.lent is not None
    assert alone.lent is not None
    assert played.lent[pair[0]] == pytest.approx(alone.lent[pair[0]])  # it asks the first at every call
    assert 0 < played.lent[pair[1]] < played.total


def test_whom_the_log_does_not_bill_is_at_list_price_and_said_to_be(tmp_path):
    other = "claude-sonnet-4-6"
    _, listed = costs_of(billed_log(tmp_path / "list", {STRONG: 1.0}), (f"pin:{other}",))
    found, paid = costs_of(billed_log(tmp_path / "log", {STRONG: 2.0}), (f"pin:{other}",))
    assert paid[f"pin:{other}"].cost_usd == pytest.approx(listed[f"pin:{other}"].cost_usd)
    assert any(other in caveat and "at list price" in caveat for caveat in found.caveats)


def test_bills_at_the_price_table_say_nothing_of_factors(tmp_path):
    found, _ = costs_of(write_log(tmp_path / "log", sessions=20))
    assert not any("list price" in caveat or "factor" in caveat for caveat in found.caveats)


def sold_by(log, model, which=True, **names):
    """The same log with a model's calls, or only those of some of its sessions, under other names."""
    for file in (log / "requests").glob("day=*/*.parquet"):
        frame = pl.read_parquet(file, hive_partitioning=False)
        own = (pl.col("model_served") == model) & which
        frame.with_columns(
            **{key: pl.when(own).then(pl.lit(name)).otherwise(pl.col(key)) for key, name in names.items()}
        ).write_parquet(file)
    return log


def unpriced(found):
    """The one caveat about candidates without a price."""
    told = [caveat for caveat in found.caveats if caveat.startswith("no price is known of")]
    assert len(told) == 1, found.caveats
    return told[0]


@pytest.mark.parametrize("calls", [10_000, 30])
def test_whose_rows_have_no_price_has_none_as_a_pin(tmp_path, monkeypatch, calls):
    """Left out as rows and yet promised at another seller's price: once three times what was billed."""
    monkeypatch.setattr(parts, "CALLS", calls)
    log = billed_log(tmp_path / "log", {STRONG: 1.0, CHEAP: 1.0})
    sold_by(log, CHEAP, candidate=CHEAP, model_served="their-own-name")
    found, rows = costs_of(log, (f"pin:{CHEAP}", f"mix:{STRONG}=1,{CHEAP}=1", "learned:max_loss=0.9"))
    assert found.left_out == {UNPRICED: 60}
    for name in (f"pin:{CHEAP}", f"mix:{STRONG}=1,{CHEAP}=1"):
        assert rows[name].cost_usd is None
        assert rows[name].saving is None
    assert f"{CHEAP} (none of its 60 rows has one)" in unpriced(found)
    assert rows["learned:max_loss=0.9"].cost_usd is not None
    assert CHEAP not in rows["learned:max_loss=0.9"].share
    assert found.advised != f"pin:{CHEAP}"
    assert rows[f"pin:{STRONG}"].cost_usd is not None


def test_whose_rows_have_a_price_in_part_is_priced_by_these(tmp_path):
    log = billed_log(tmp_path / "log", {STRONG: 1.0, CHEAP: 1.0})
    sold_by(log, CHEAP, pl.col("session_id") == "s1", candidate=CHEAP, model_served="their-own-name")
    found, rows = costs_of(log)
    assert found.left_out == {UNPRICED: 1}
    assert rows[f"pin:{CHEAP}"].cost_usd is not None


def test_whose_own_bill_no_price_explains_has_none(tmp_path):
    """A few calls at scattered multiples of the list: met by no price, and too little to spoil the whole."""
    log = billed_log(tmp_path / "log", {STRONG: 1.0})
    rng = np.random.default_rng(1)
    odd = []
    for s, factor in enumerate(rng.uniform(2.2, 4.7, 6)):
        one = _request(f"s90{s}", 0, START_MS + s, CHEAP, (1_000, 0), {"task_id": f"o{s}"})
        usd = one.cost_usd * Decimal(str(round(factor, 6)))
        odd.append(replace(one, cost_usd=usd.quantize(Decimal("1e-12"))))
    LogStore(log).append("request", odd)
    found, rows = costs_of(log)
    assert found.ok
    assert rows[f"pin:{CHEAP}"].cost_usd is None
    assert f"{CHEAP} (billed $" in unpriced(found)
    assert rows["logged"].cost_usd is not None
    assert found.recommendation is not None
    assert CHEAP not in found.recommendation
    assert rows["cheapest"].said is not None
    assert CHEAP not in rows["cheapest"].said


def test_costs_that_are_only_rounded_keep_their_price(tmp_path):
    log = billed_log(tmp_path / "log", {STRONG: 1.0})
    one = _request("s900", 0, START_MS, CHEAP, (7_000, 0), {"task_id": "o"})
    LogStore(log).append("request", [replace(one, cost_usd=Decimal("0.01"))])
    found, rows = costs_of(log)
    assert found.reasons == {"rounded": 1}
    assert rows[f"pin:{CHEAP}"].cost_usd is not None
