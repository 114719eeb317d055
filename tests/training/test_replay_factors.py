"""What a log pays for a candidate holds for the calls that it takes over, too."""

from decimal import Decimal

import numpy as np
import pytest
from msgspec.structs import replace
from replay_logs import CHEAP, START_MS, STRONG, _request, write_log

from router.gateway.settings import Settings
from training.log import LogStore
from training.replay.options import Options
from training.replay.run import run


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


def test_whom_the_log_does_not_bill_is_at_list_price_and_said_to_be(tmp_path):
    other = "claude-sonnet-4-6"
    _, listed = costs_of(billed_log(tmp_path / "list", {STRONG: 1.0}), (f"pin:{other}",))
    found, paid = costs_of(billed_log(tmp_path / "log", {STRONG: 2.0}), (f"pin:{other}",))
    assert paid[f"pin:{other}"].cost_usd == pytest.approx(listed[f"pin:{other}"].cost_usd)
    assert any(other in caveat and "at list price" in caveat for caveat in found.caveats)


def test_bills_at_the_price_table_say_nothing_of_factors(tmp_path):
    found, _ = costs_of(write_log(tmp_path / "log", sessions=20))
    assert not any("list price" in caveat or "factor" in caveat for caveat in found.caveats)
