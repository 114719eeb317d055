"""A set of candidates as a bundle knows them before it sees a request: looked up once, asked at every call.

Where no task type is told, it also holds what mixes the tables over a posterior of types.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.descriptors import log_price, unprobed
from models.heads import BASES
from models.table import UNSEEN_INDEX, finite
from models.tasktype import Mixture, mixture, stacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle import CandidateView
    from models.descriptors import Prices
    from models.manifest import CandidateProfile, Manifest, TokenScale
    from models.table import Table
    from models.tasktype import TaskTypes

AMOUNTS = ("tokens", "reasoning", "calls", "turns")
_REMEMBERED = 256  # sets of candidates whose look-ups are kept


class ByType(NamedTuple):
    """What is known of k candidates for each of T task types, to be mixed where no type is told."""

    tables: Mixture  # of the h tables, (h, k, T)
    rows: np.ndarray  # (k, T) effective rows
    base: np.ndarray  # (T,) base rates of the types

    def values(self, posterior: np.ndarray) -> np.ndarray:
        """The tables' values (h, k) on the link scale at a posterior (T,); (m, h, k) at m of them, (m, T)."""
        return self.tables.at(posterior if posterior.ndim == 1 else posterior[:, None, None, :])

    def behind(self, posterior: np.ndarray, overall: np.ndarray) -> np.ndarray:
        """Effective rows (k,) behind a value at a posterior (T,), of `overall` (k,) behind the candidates.

        The variances of cells add up by the posterior's weights; away from the base rates their rows count.
        """
        near = float(np.add.reduce(np.minimum(posterior, self.base)))
        rows: np.ndarray = 1.0 / (
            near / overall + (1.0 - near) * np.add.reduce(posterior / self.rows, axis=1)
        )
        return rows


class Lineup(NamedTuple):
    """What doesn't depend on the request, of k candidates; h tables in the order of the graph's outputs."""

    extra: np.ndarray  # (k, extra columns of the bundle) float32 as the graph takes them, NaN if not finite
    values: np.ndarray  # (h, k) of the tables on the link scale, success first
    places: np.ndarray  # (h,) their columns in `extra`
    effective_rows: np.ndarray  # (k,)
    ratios: np.ndarray  # (4, k) of AMOUNTS, NaN where the bundle doesn't know one
    by_type: ByType | None = None

    def inputs(self, features: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """The graph's input (m · k, d + extra) float32 for m requests' features (m, d).

        `values` (m, h, k) or, of one request, (h, k) are the tables' where they aren't those in here.
        """
        (m, d), (k, e) = features.shape, self.extra.shape
        matrix = np.empty((m, k, d + e), dtype=np.float32)
        matrix[:, :, :d] = finite(features)[:, None, :]
        matrix[:, :, d:] = self.extra
        if values is not None:
            matrix[:, :, d + self.places] = values.swapaxes(-1, -2)
        return matrix.reshape(m * k, d + e)


class Lineups:
    """Look-ups in a bundle's tables, remembered for each set of candidates and task type."""

    def __init__(self, manifest: Manifest, outputs: Sequence[str], types: TaskTypes | None) -> None:
        self._manifest, self._types = manifest, types
        self._profiles: dict[str, CandidateProfile] = {p.candidate: p for p in manifest.candidates}
        self._index = {name: i for i, name in enumerate(manifest.task_types)}
        known = {"success": manifest.success, **{n: table for n, (table, _) in tables_of(manifest).items()}}
        heads = {BASES[name][1]: (name, table) for name, table in known.items()}
        self._tables: dict[str, Table] = dict(heads[output] for output in outputs)
        columns = manifest.extra_columns
        self._places = np.array([columns.index(BASES[name][0]) for name in self._tables], dtype=np.intp)
        self._found: dict[tuple[tuple[CandidateView, ...], str], Lineup] = {}

    def of(self, candidates: tuple[CandidateView, ...], task_type: str) -> Lineup:
        """The candidates for a type; an empty one is unknown."""
        found = self._found.get((candidates, task_type))
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[candidates, task_type] = self._look_up(candidates, task_type)
        return found

    def _look_up(self, candidates: tuple[CandidateView, ...], task_type: str) -> Lineup:
        columns = self._manifest.extra_columns
        extra = np.zeros((len(candidates), len(columns)))
        for row, view in zip(extra, candidates, strict=True):
            said = self._said(view, task_type)
            row[:] = [said.get(column, 0.0) for column in columns]
        rows = self._rows_behind(candidates, task_type)
        ratios = [[self._ratio(name, view.candidate) for view in candidates] for name in AMOUNTS]
        values = extra.T[self._places]
        found = Lineup(finite(extra), values, self._places, rows, np.array(ratios))
        if self._types is None or task_type:
            return found
        each = [self._look_up(candidates, name) for name in self._types.names]
        cells, base = np.stack([one.values for one in each], 2), self._types.base
        mixtures = [
            mixture(values[i], cells[i], base, logit=name == "success") for i, name in enumerate(self._tables)
        ]
        by_type = ByType(stacked(mixtures), np.stack([one.effective_rows for one in each], 1), base)
        return found._replace(by_type=by_type)

    def _said(self, view: CandidateView, task_type: str) -> dict[str, float]:
        """A candidate's extra columns by name."""
        profile = self._profiles.get(view.candidate)
        prices = _prices(view, profile)
        said: dict[str, float] = {
            "candidate_index": UNSEEN_INDEX if profile is None else profile.index,
            "log_input_price": log_price(prices[0]),
            "log_output_price": log_price(prices[1]),
            "type_index": self._index.get(task_type, UNSEEN_INDEX),
        }
        for name, table in self._tables.items():
            # A probe tells of successes alone.
            shown = view.descriptor if name == "success" else unprobed(view.descriptor)
            said[BASES[name][0]] = table.value(view.candidate, task_type, prices, shown)
        return said

    def _rows_behind(self, candidates: tuple[CandidateView, ...], task_type: str) -> np.ndarray:
        """Effective rows (k,) behind each candidate's P(success)."""
        table, effect = self._manifest.success, self._manifest.calibration.design_effect
        rows = [table.effective_rows(v.candidate, task_type, effect, v.descriptor) for v in candidates]
        return np.array(rows, dtype=np.float64)

    def _ratio(self, name: str, candidate: str) -> float:
        """Actual over predicted amount of a candidate; NaN for an amount that the bundle doesn't know."""
        manifest = self._manifest
        if name not in self._tables:
            return math.nan
        if name != "tokens" or manifest.token_scale is None:
            return manifest.amounts[name].ratio_of(candidate)
        profile = self._profiles.get(candidate)
        return manifest.token_scale.default_ratio if profile is None else profile.output_ratio


def tables_of(manifest: Manifest) -> dict[str, tuple[Table, TokenScale]]:
    """Table and scale of each amount that the bundle knows."""
    known = {name: (amount.table, amount.scale) for name, amount in manifest.amounts.items()}
    if manifest.tokens is not None and manifest.token_scale is not None:
        known["tokens"] = manifest.tokens, manifest.token_scale
    return known


def _prices(view: CandidateView, profile: CandidateProfile | None) -> Prices:
    """Prices the trees see: a known candidate keeps its training's, or a discount would pass for skill."""
    if profile is not None:
        return profile.input_usd_per_mtok, profile.output_usd_per_mtok
    return view.input_usd_per_mtok, view.output_usd_per_mtok
