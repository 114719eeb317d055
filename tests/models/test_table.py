"""The table's look-up order, effective rows, and the model's input matrix."""

import math

import numpy as np
import pytest

from models.descriptors import log_blended, log_price
from models.table import EXTRA_COLUMNS, Effect, PricePrior, Table, extra_columns

TABLE = Table(
    prior=PricePrior(intercept=0.2, slope=0.5, centre=math.log(1.01), spread=0.8),
    strength=8.0,
    candidates={"a": Effect(1.0, 300.0)},
    task_types={"fix": Effect(-0.3, 200.0)},
    cells={"a": {"fix": Effect(0.9, 100.0)}},
)
NO_PRICE = (None, None)


def test_the_cell_comes_first_then_the_sum_then_the_price():
    assert TABLE.value("a", "fix", NO_PRICE) == 0.9
    assert TABLE.value("a", "", NO_PRICE) == 1.0
    assert TABLE.value("a", "new type", NO_PRICE) == 1.0
    assert TABLE.value("new", "fix", (1.0, 1.0)) == pytest.approx(0.2 - 0.3)
    assert TABLE.value("new", "", NO_PRICE) == 0.2
    assert TABLE.value("new", "", (30.0, 150.0)) > 1.0


def test_many_values_are_the_single_ones():
    names, kinds = ["a", "new", "a", "new"], ["fix", "fix", "", ""]
    prices = {"new": (3.0, 15.0)}
    one_by_one = [TABLE.value(c, t, prices.get(c, NO_PRICE)) for c, t in zip(names, kinds, strict=True)]
    assert TABLE.values(names, kinds, prices).tolist() == one_by_one
    assert TABLE.values([], [], {}).shape == (0,)


def test_effective_rows_shrink_with_crowding_and_ignorance():
    assert TABLE.effective_rows("a", "", 1.0) == 300
    assert TABLE.effective_rows("a", "", 10.0) == 30
    assert TABLE.effective_rows("a", "fix", 1.0) == 108
    assert TABLE.effective_rows("a", "new type", 1.0) == 8
    assert TABLE.effective_rows("new", "fix", 1.0) == pytest.approx(4 / 0.64)


def test_prices_unknown_free_and_absurd():
    assert math.isnan(log_price(None))
    assert math.isnan(log_price(-1.0))
    assert math.isnan(log_price(math.inf))
    assert math.isfinite(log_price(0.0))
    assert math.isnan(log_blended((1.0, None)))


def test_extra_columns_mark_the_unseen():
    index, types = {"a": 0, "b": 1}, {"fix": 0}
    rows = extra_columns(["b", "a", "new"], ["fix", "", "other"], index, types, {"a": (1.0, None)})
    assert rows.shape == (3, len(EXTRA_COLUMNS))
    assert rows[:, 0].tolist() == [1, 0, -1]
    assert rows[:, 3].tolist() == [0, -1, -1]
    assert np.isnan(rows[1, 2])
    assert extra_columns([], [], {}, {}, {}).shape == (0, len(EXTRA_COLUMNS))
