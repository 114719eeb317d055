"""What is exported of the heads, and their prediction in float64, to which the graph is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.calibration import Calibration, calibrated
from models.ensemble import booster_of
from models.table import EXTRA_COLUMNS, TREE_COLUMNS

if TYPE_CHECKING:
    from models.linear import LinearPart

BASES = {  # the column that holds each head's table value, and the head's output
    "success": ("table_logit", "p_success"),
    "tokens": ("token_base", "log_tokens"),
    "reasoning": ("reasoning_base", "log_reasoning"),
    "calls": ("calls_base", "log_calls"),
    "turns": ("turns_base", "log_turns"),
}


class Part(NamedTuple):
    """What a head adds to its table; one without trees and linear part is its table alone."""

    trees: str | None = None  # LightGBM's model text
    tree_weight: float = 1.0
    linear: LinearPart | None = None


class Heads(NamedTuple):
    """What is exported: success, and the amounts there are (names of BASES) with their limit."""

    success: Part
    calibration: Calibration
    n_features: int  # of the request, without the extra columns
    amounts: dict[str, tuple[Part, float]]  # and the log1p beyond which no prediction goes


class Reference:
    """LightGBM's own prediction plus table, linear part and calibration, in float64."""

    def __init__(self, heads: Heads) -> None:
        self.heads = heads
        parts = {"success": heads.success, **{name: part for name, (part, _) in heads.amounts.items()}}
        self.parts = parts
        self.boosters = {n: booster_of(p.trees) for n, p in parts.items() if p.trees is not None}

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """P(success) (n,) and log amounts (n,) by name, of rows (n, width) float32 as for the graph."""
        with np.errstate(invalid="ignore"):  # what is unknown stays NaN
            p = calibrated(self.heads.calibration, self._raw("success", rows))
        amounts = {
            name: np.clip(self._raw(name, rows), 0.0, limit)
            for name, (_, limit) in self.heads.amounts.items()
        }
        return p, amounts

    def _raw(self, name: str, rows: np.ndarray) -> np.ndarray:
        part, d = self.parts[name], self.heads.n_features
        total = rows[:, d + EXTRA_COLUMNS.index(BASES[name][0])].astype(np.float64)
        if name in self.boosters:
            seen = rows[:, : d + TREE_COLUMNS]
            grown = self.boosters[name].predict(seen, raw_score=True, num_threads=1)
            total = total + part.tree_weight * np.asarray(grown)
        if part.linear is not None:
            total = total + part.linear.values(rows[:, :d], rows[:, d])
        return total
