"""The shrunken task-type × candidate table and the model's input matrix: numpy for training and serving.

A table holds values on a link scale (logit of success, or log1p of output tokens). How it is fitted is
training's business (`training/shrink.py`); here it is only looked up.
"""

from __future__ import annotations

import math
from itertools import repeat
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Prices = tuple[float | None, float | None]  # USD per million tokens, (input, output)

# Columns that follow the request features in the model's input, in this order.
EXTRA_COLUMNS: tuple[str, ...] = (
    "candidate_index",
    "log_input_price",
    "log_output_price",
    "table_logit",
    "token_base",
)
TREE_COLUMNS = 3  # of these, the trees split on the first three; the last two are added to their sum
UNSEEN_INDEX = -1  # goes to the "any other category" side of every categorical split
_PRICE_FLOOR = 0.01  # USD per Mtok; a free model needs a finite logarithm


class Effect(msgspec.Struct, frozen=True):
    """A value on the link scale and the number of rows behind it."""

    value: float
    rows: float


class PricePrior(msgspec.Struct, frozen=True):
    """What to believe of a candidate never seen: a line through the known ones over log blended price.

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
    """Value of (candidate, task type): the cell if seen, else candidate + type, else the price prior."""

    prior: PricePrior
    candidates: dict[str, Effect] = {}
    task_types: dict[str, Effect] = {}
    cells: dict[str, dict[str, Effect]] = {}
    strength: float = 0.0  # rows that the additive guess counts for inside a cell

    def value(self, candidate: str, task_type: str, prices: Prices) -> float:
        """Value of one pair on the link scale; an empty task type means unknown."""
        cell = self.cells.get(candidate, {}).get(task_type)
        if cell is not None:
            return cell.value
        known = self.candidates.get(candidate)
        base = self.prior.value(prices) if known is None else known.value
        kind = self.task_types.get(task_type)
        return base if kind is None else base + kind.value

    def values(
        self, candidate: Iterable[str], task_type: Iterable[str], prices: Mapping[str, Prices]
    ) -> np.ndarray:
        """Values of many pairs, (n,) float64."""
        pairs, where = unique_pairs(candidate, task_type)
        values = [self.value(c, t, prices.get(c, (None, None))) for c, t in pairs]
        result: np.ndarray = np.array(values, dtype=np.float64)[where]
        return result

    def effective_rows(self, candidate: str, task_type: str, design_effect: float) -> float:
        """Independent rows behind the value of a pair, for an interval.

        Rows of one group resemble each other, so they count 1/design_effect; what a cell borrows from the
        additive guess counts at most `strength`; an unseen candidate has what the prior's spread allows.
        """
        known = self.candidates.get(candidate)
        if known is None:
            return min(10.0, max(1.0, 4.0 / self.prior.spread**2))
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


def log_price(usd_per_mtok: float | None) -> float:
    """Natural log of a price, NaN when it is unknown; free counts as a cent."""
    if usd_per_mtok is None or not math.isfinite(usd_per_mtok) or usd_per_mtok < 0:
        return math.nan
    return math.log(usd_per_mtok + _PRICE_FLOOR)


def log_blended(prices: Prices) -> float:
    """Log of the price at three input tokens to one output token; NaN when either is unknown."""
    if prices[0] is None or prices[1] is None:
        return math.nan
    return log_price((3.0 * prices[0] + prices[1]) / 4.0)


def model_matrix(features: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """Request features (n, d) or (1, d) and extra columns (n, 5) -> the model's input (n, d + 5) float32.

    What is not finite becomes NaN here, for training and serving alike: trees were never fitted on infinity.
    """
    matrix = np.empty((extra.shape[0], features.shape[1] + extra.shape[1]), dtype=np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and then unknown
        matrix[:, : features.shape[1]] = features
        matrix[:, features.shape[1] :] = extra
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def extra_columns(
    candidate: Iterable[str], index: Mapping[str, int], prices: Mapping[str, Prices]
) -> np.ndarray:
    """Extra columns of n rows with the table's two still 0; (n, 5) float64."""
    pairs, where = unique_pairs(candidate, repeat(""))
    rows = [
        (index.get(c, UNSEEN_INDEX), *(log_price(p) for p in prices.get(c, (None, None))), 0.0, 0.0)
        for c, _ in pairs
    ]
    matrix: np.ndarray = np.array(rows, dtype=np.float64).reshape(len(pairs), len(EXTRA_COLUMNS))[where]
    return matrix
