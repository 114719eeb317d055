"""Recorded bills against the price table: what is off is found and explained, or said to be unexplained."""

from __future__ import annotations

from decimal import Decimal

import pytest
from spend_logs import START_MS, call, request, write
from typer.testing import CliRunner

import samediff
from training.spend.agree import agreement

BIG = {"input_tokens_uncached": 40_000, "cached_tokens": 300_000, "cache_write_tokens": 20_000}
BIG |= {"output_tokens": 3_000}
# By hand, in USD per million: fresh 5, read 0.50, written 6.25 or 10 for an hour, output 25.
LISTED = Decimal("0.2") + Decimal("0.15") + Decimal("0.125") + Decimal("0.075")


def session(n, usd, **more):
    return call(n, session_id=f"s{n}", cost_usd=usd, **{**BIG, **more})


def only(*calls):
    found = agreement(calls)
    return {check.reason for check in found.off}, found


def test_bills_that_are_met() -> None:
    found = agreement([session(n, LISTED) for n in range(4)])
    assert (found.relative_error, found.session_median_error, found.sessions_off) == (0.0, 0.0, 0)
    assert found.listed_usd == 4 * LISTED == found.recorded_usd
    assert found.ok


WAYS = {
    "hourly_writes": (LISTED + Decimal("0.0757"), {"cache_write_tokens": 20_187}),
    "reads_free": (LISTED - Decimal("0.15"), {}),
    "writes_free": (LISTED - Decimal("0.125"), {}),
    "reads_as_input": (Decimal("0.36") * 5 + Decimal("0.075"), {}),
    "batch": (LISTED / 2, {}),
    "reasoning_apart": (LISTED + Decimal("0.25"), {"reasoning_tokens": 10_000, "reasoning_in_output": True}),
    "reasoning_inside": (LISTED, {"reasoning_tokens": 10_000, "reasoning_in_output": False}),
    "rounded": (Decimal("0.6"), {}),
    "recorded_zero": (Decimal(0), {}),
    "output_missing": (Decimal("0.9123456"), {"output_tokens": 40, "attempts": 30}),
    "sub_agents": (Decimal("0.3123456"), {"tools_called": ["Bash", "Task"]}),
    "unexplained": (Decimal("0.9123456"), {}),
}


@pytest.mark.parametrize("reason", WAYS)
def test_ways_of_being_off_are_told_apart(reason) -> None:
    usd, more = WAYS[reason]
    reasons, found = only(session(0, usd, **more))
    assert reasons == {reason}
    assert found.sessions_unexplained == (reason == "unexplained")


def test_input_that_holds_the_cached_tokens() -> None:
    reasons, _ = only(session(0, LISTED, input_tokens_uncached=360_000))
    assert reasons == {"input_holds_cached"}


def test_a_price_of_another_time_is_found() -> None:
    usage = {"input_tokens_uncached": 10_000, "output_tokens": 1_000, "model_served": "deepseek-v4-pro"}
    now = START_MS + 170 * 86_400_000
    before = Decimal("0.00522")  # 0.435 and 0.87 a million, until August 2026
    reasons, found = only(call(0, ts_ms=now, cost_usd=before, **usage))
    assert reasons == {"another_date"}
    assert "2026-08 and before" in found.off[0].detail
    assert found.explained_relative_error == pytest.approx(0, abs=1e-9)


def test_one_factor_for_all_sessions_is_the_sellers_own_price() -> None:
    reasons, found = only(*(session(n, LISTED * Decimal("0.68")) for n in range(3)))
    assert reasons == {"factor"}
    assert "× 0.680" in found.off[0].detail


def test_a_factor_of_some_sessions_is_no_price_of_the_sellers() -> None:
    off = [session(n, LISTED * Decimal("1.37")) for n in range(5)]
    reasons, found = only(*off, *(session(n, LISTED) for n in range(5, 25)))
    assert reasons == {"unexplained"}
    assert found.sessions_unexplained == 5


def test_a_way_that_meets_few_of_its_kind_is_luck() -> None:
    lucky = [session(0, LISTED / 2)]
    others = [session(n, LISTED * Decimal(f"1.{n}7234567")) for n in range(1, 5)]
    _, found = only(*lucky, *others)
    assert "batch" not in found.reasons


def test_cache_writes_that_the_seller_does_not_bill_are_another_models() -> None:
    reasons, _ = only(session(0, Decimal("2.9123456"), model_served="gpt-5.4"))
    assert reasons == {"mixed_models"}


def test_nothing_recorded_nothing_compared() -> None:
    found = agreement([call(0), call(1, cost_usd=1, model_served="nobody-sells-this")])
    assert (found.calls, found.ok, found.relative_error) == (0, None, None)


def test_the_gate_of_the_command(tmp_path) -> None:
    good = write(tmp_path / "good", [request(0, cost_usd="0.01")])
    bad = write(tmp_path / "bad", [request(0, cost_usd="0.0191234")])
    for log, code in ((good, 0), (bad, 1)):
        assert CliRunner().invoke(samediff.app, ["cost", str(log), "--check"]).exit_code == code
