"""Belief in a candidate without rows: wide, moved by its probe, and the same on disk."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.descriptors import Descriptor
from models.newcomer import NewcomerPrior, Outcomes, packed, posterior, unpacked
from models.table import Effect, PricePrior, Table

PRIOR = NewcomerPrior(
    columns=("log_price",),
    centre=(0.5,),
    families=("claude", "gpt"),
    weights=(0.3, 0.6, 0.2, -0.2),
    doubt=packed(np.diag([0.01, 0.04, 0.02, 0.02])),
    spread=(0.5, 1.0),
    family_spread=0.3,
    loadings={"fix": (0.8,), "write": (-0.8,)},
    cell_spread=0.4,
)
TABLE = Table(
    prior=PricePrior(intercept=0.0),
    newcomers=PRIOR,
    strength=25.0,
    candidates={"a": Effect(1.0, 300.0)},
    task_types={"fix": Effect(-0.3, 200.0), "write": Effect(0.3, 200.0)},
    cells={"a": {"fix": Effect(0.9, 100.0)}},
    factors={"a": (0.5,)},
)
CLAUDE = Descriptor(family="claude", input_usd_per_mtok=3.0, output_usd_per_mtok=15.0)
NO_PRICE = (None, None)


def deviation(descriptor, task_type=""):
    return PRIOR.value(PRIOR.belief(descriptor), task_type)[1]


def test_what_isnt_known_widens_the_belief():
    assert deviation(CLAUDE) >= 0.5
    assert deviation(Descriptor(family="claude")) > deviation(CLAUDE)
    assert deviation(msgspec.structs.replace(CLAUDE, family="newcomer")) > deviation(CLAUDE)
    assert deviation(CLAUDE, "fix") > deviation(CLAUDE)


def test_family_and_price_move_an_unseen_candidate():
    dear = TABLE.value("x", "", NO_PRICE, CLAUDE)
    assert dear > TABLE.value("x", "", NO_PRICE, msgspec.structs.replace(CLAUDE, family="gpt"))
    assert dear > TABLE.value("x", "", NO_PRICE, msgspec.structs.replace(CLAUDE, output_usd_per_mtok=3.0))
    assert TABLE.value("claude-new", "", (3.0, 15.0)) == dear  # the name and the price say the same


def test_a_known_candidate_fills_its_empty_cells_by_the_shared_factors():
    assert TABLE.value("a", "fix", NO_PRICE) == 0.9
    assert TABLE.value("a", "write", NO_PRICE) == pytest.approx(1.0 + 0.3 - 0.8 * 0.5)
    assert TABLE.value("a", "write", NO_PRICE, CLAUDE) == TABLE.value("a", "write", NO_PRICE)


def test_a_probe_moves_the_belief_and_narrows_it():
    failed = msgspec.structs.replace(CLAUDE, probe=(("fix", 1.0, 20.0),))
    assert TABLE.value("x", "fix", NO_PRICE, failed) < TABLE.value("x", "fix", NO_PRICE, CLAUDE) - 1.0
    assert TABLE.value("x", "", NO_PRICE, failed) < TABLE.value("x", "", NO_PRICE, CLAUDE)
    assert TABLE.effective_rows("x", "fix", 1.0, failed) > TABLE.effective_rows("x", "fix", 1.0, CLAUDE)


@given(st.floats(-3, 3), st.sampled_from(["", "fix", "never seen"]))
def test_no_public_fact_counts_for_more_than_a_handful_of_rows(shift, task_type):
    sure = msgspec.structs.replace(PRIOR, spread=(0.01, 0.01), cell_spread=0.01, weights=(shift, 0, 0, 0))
    table = msgspec.structs.replace(TABLE, newcomers=sure)
    assert 1.0 <= table.effective_rows("x", task_type, 1.0, CLAUDE) <= 10.0
    assert 1.0 <= TABLE.effective_rows("x", task_type, 1.0) <= 10.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_more_successes_never_lower_the_posterior(one, other):
    few, many = sorted((one, other))
    loadings, kind = np.array([[1.0, 0.5]]), np.zeros(1)
    values = [
        posterior(
            Outcomes(np.array([[float(k)]]), np.array([[60.0]]), kind, loadings),
            np.zeros((1, 2)),
            np.ones((1, 2)),
            0.1,
        )[0][0, 0]
        for k in (few, many)
    ]
    assert values[0] <= values[1] + 1e-6
    assert np.isfinite(values).all()


def test_it_is_the_same_from_json_and_an_old_table_still_loads():
    again = msgspec.json.decode(msgspec.json.encode(TABLE), type=Table)
    assert again == TABLE
    old = msgspec.json.decode(
        b'{"prior": {"intercept": 0.5, "slope": 0.1, "centre": 0.0, "spread": 0.8}}', type=Table
    )
    assert old.value("claude-new", "fix", NO_PRICE) == 0.5
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    assert unpacked(packed(matrix), 2) == pytest.approx(matrix)
