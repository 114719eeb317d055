"""What a policy is set beside: the best control that costs no more, named or not, and never itself."""

import numpy as np
import pytest
from test_advise import logged, row

from training.replay.quality.differences import Pairs, Scores
from training.replay.report.comparisons import Field, set_beside

SESSIONS = 400


def beside(*rows, better):
    """The rows of one log, each set beside its best control; `better` says by how much each succeeds more."""
    rng = np.random.default_rng(5)
    common, size = rng.normal(0.7, 0.2, SESSIONS), np.ones(SESSIONS)
    scores = {
        r.name: Scores(common + better.get(r.name, 0.0) + rng.normal(0, 0.02, SESSIONS), size, SESSIONS)
        for r in rows
    }
    usd = {r.name: np.full(SESSIONS, r.cost_usd / SESSIONS) for r in rows}
    pairs = Pairs(scores, usd, dict.fromkeys(usd, 0.0))
    set_beside(rows, Field.of(rows, rows[0], pairs), pairs)
    return {r.name: r.versus for r in rows}


@pytest.mark.parametrize("role", ["pin", "policy"])
def test_the_best_control_that_costs_no_more_stands_beside_also_where_it_was_asked_for(role):
    rows = [
        logged(),
        row("learned", 50.0),
        row("pin:good", 40.0, role=role),
        row("pin:poor", 30.0, role="pin"),
        row("pin:dear", 60.0, role="pin"),
    ]
    found = beside(*rows, better={"pin:good": 0.05, "pin:dear": 0.2, "learned": 0.1})["learned"]
    assert found.control == "pin:good"
    assert found.quality == pytest.approx(0.05, abs=0.01)
    assert found.quality_ci[0] < found.quality < found.quality_ci[1]
    assert found.usd == pytest.approx(10.0)


def test_nothing_is_set_beside_itself_under_another_name():
    pin, always = row("pin:big", 90.0), row("reference", 90.0, role="control")
    always.share = dict(pin.share)
    assert beside(logged(), pin, always, better={})["pin:big"] is None
