"""The shrunken task-type × candidate table and the model's input matrix: numpy for training and serving.

A table holds values on a link scale (logit of success, or log1p of output tokens). How it is fitted is
training's business (`training/shrink.py`); here it is only looked up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.descriptors import Descriptor, Prices, describe, log_blended, log_price
from models.newcomer import NewcomerPrior

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Columns that follow the request features in the model's input, in this order.
EXTRA_COLUMNS: tuple[str, ...] = (
    "candidate_index",  # a whole number, or UNSEEN_INDEX; the linear part takes what is neither for unseen
    "log_input_price",
    "log_output_price",
    "type_index",
    "table_logit",
    "token_base",
    "reasoning_base",
    "calls_base",
    "turns_base",
)
TREE_COLUMNS = 4  # of these, the trees split on the first four; a table's value is added to its head's sum
UNSEEN_INDEX = -1  # goes to the "any other category" side of every categorical split
_UNSEEN_ROWS = 10.0  # what a regression on public facts may count for at most, however well it fits


class Effect(msgspec.Struct, frozen=True):
    """A value on the link scale and the number of rows behind it."""

    value: float
    rows: float


class PricePrior(msgspec.Struct, frozen=True):
    """A line through the known candidates over log blended price, the belief where there is no regression.

    `spread` is the standard deviation of known candidates around that line, on the link scale.
    """

    intercept: float
    slope: float = 0.0
    centre: float = 0.0
    spread: float = 1.0

    def value(self, prices: Prices) -> float:
        """Value of a candidate of these prices; without a price, the typical candidate's."""
        log_price = log_blended(prices)
        return (
            self.intercept
            if math.isnan(log_price)
            else self.intercept + self.slope * (log_price - self.centre)
        )


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Value of (candidate, task type): the cell if seen, else candidate + type, else what descriptors say."""

    prior: PricePrior
    candidates: dict[str, Effect] = {}
    task_types: dict[str, Effect] = {}
    cells: dict[str, dict[str, Effect]] = {}
    strength: float = 0.0  # rows that the additive guess counts for inside a cell
    newcomers: NewcomerPrior | None = None  # null in bundles made before there was one: the price line then
    factors: dict[str, tuple[float, ...]] = {}  # candidate -> its latents after the effect

    def value(
        self, candidate: str, task_type: str, prices: Prices, descriptor: Descriptor | None = None
    ) -> float:
        """Value of one pair on the link scale; an empty task type means unknown.

        A candidate without rows is judged by its descriptor, found by its name where none is given, and by
        the probe outcomes in it.
        """
        cell = self.cells.get(candidate, {}).get(task_type)
        if cell is not None:
            return cell.value
        kind = self.task_types.get(task_type)
        of_type = 0.0 if kind is None else kind.value
        known = self.candidates.get(candidate)
        if known is not None:
            return known.value + of_type + self._by_factors(candidate, task_type)
        if self.newcomers is None:
            return self.prior.value(prices) + of_type
        return self._unseen(self.newcomers, candidate, task_type, prices, descriptor)[0]

    def _by_factors(self, candidate: str, task_type: str) -> float:
        """What the patterns shared by candidates add in a cell without rows."""
        factors = self.factors.get(candidate, ())
        if self.newcomers is None or not factors:
            return 0.0
        return float(np.dot(self.newcomers.loading(task_type)[1:], factors))

    def _unseen(
        self,
        newcomers: NewcomerPrior,
        candidate: str,
        task_type: str,
        prices: Prices,
        descriptor: Descriptor | None,
    ) -> tuple[float, float, float]:
        """Value, standard deviation and probe rows of a candidate without rows of its own."""
        said = describe(candidate, prices) if descriptor is None else descriptor
        kinds = {name: effect.value for name, effect in self.task_types.items()} if said.probe else {}
        value, deviation = newcomers.value(newcomers.known(said, kinds), task_type)
        kind = self.task_types.get(task_type)
        rows = sum(rows for _, _, rows in said.probe)
        return value + (0.0 if kind is None else kind.value), deviation, rows

    def values(
        self, candidate: Iterable[str], task_type: Iterable[str], prices: Mapping[str, Prices]
    ) -> np.ndarray:
        """Values of many pairs, (n,) float64."""
        pairs, where = unique_pairs(candidate, task_type)
        values = [self.value(c, t, prices.get(c, (None, None))) for c, t in pairs]
        result: np.ndarray = np.array(values, dtype=np.float64)[where]
        return result

    def effective_rows(
        self,
        candidate: str,
        task_type: str,
        design_effect: float,
        descriptor: Descriptor | None = None,
    ) -> float:
        """Independent rows behind the value of a pair of success, for an interval.

        Rows of one group resemble each other, so they count 1/design_effect; what a cell borrows from the
        additive guess counts at most `strength`. An unseen candidate has what its belief's standard deviation
        allows, 1 / (p (1 - p) deviation²), and beyond its probe's rows never more than a handful.
        """
        known = self.candidates.get(candidate)
        if known is None and self.newcomers is None:
            return min(_UNSEEN_ROWS, max(1.0, 4.0 / self.prior.spread**2))
        if known is None and self.newcomers is not None:
            prices = (None, None) if descriptor is None else descriptor.prices
            value, deviation, probed = self._unseen(self.newcomers, candidate, task_type, prices, descriptor)
            p = 0.5 * (1.0 + math.tanh(0.5 * value))
            behind = 1.0 / max(deviation**2 * p * (1.0 - p), 1e-9)
            return min(max(1.0, behind), _UNSEEN_ROWS + probed / design_effect)
        assert known is not None
        rows = known.rows / design_effect
        if not task_type:
            return max(1.0, rows)
        cell = self.cells.get(candidate, {}).get(task_type)
        own = 0.0 if cell is None else cell.rows / design_effect
        return max(1.0, own + min(self.strength, rows))


def unique_pairs(left: Iterable[str], right: Iterable[str]) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Distinct (left, right) pairs and, for each row, the number of its pair; shape (n,) int."""
    names: dict[tuple[str, str], int] = {}
    where = [names.setdefault((str(a), str(b)), len(names)) for a, b in zip(left, right, strict=False)]
    return list(names), np.array(where, dtype=np.int64)


def model_matrix(features: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """Request features (n, d) or (1, d) and extra columns (n, e) -> the model's input (n, d + e) float32.

    What is not finite becomes NaN here, for training and serving alike: trees were never fitted on infinity.
    """
    width = features.shape[1]
    matrix = np.empty((extra.shape[0], width + extra.shape[1]), dtype=np.float32)
    matrix[:, :width] = finite(features)
    matrix[:, width:] = finite(extra)
    return matrix


def finite(values: np.ndarray) -> np.ndarray:
    """Values of any shape as float32, NaN where they aren't finite."""
    if values.dtype != np.float32:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and then unknown
            values = values.astype(np.float32)
    return np.where(np.isfinite(values), values, np.nan)


def extra_columns(
    candidate: Iterable[str],
    task_type: Iterable[str],
    index: Mapping[str, int],
    types: Mapping[str, int],
    prices: Mapping[str, Prices],
) -> np.ndarray:
    """Extra columns of n rows with the tables' values still 0; (n, len(EXTRA_COLUMNS)) float64."""
    pairs, where = unique_pairs(candidate, task_type)
    matrix = np.zeros((len(pairs), len(EXTRA_COLUMNS)))
    for row, (name, kind) in zip(matrix, pairs, strict=True):
        row[0] = index.get(name, UNSEEN_INDEX)
        row[1:3] = [log_price(p) for p in prices.get(name, (None, None))]
        row[3] = types.get(kind, UNSEEN_INDEX)
    result: np.ndarray = matrix[where]
    return result
