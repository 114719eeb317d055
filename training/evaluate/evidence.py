"""What is known of a run only once it is over (--evidence): columns per (task, model) as numbers.

A column may hold numbers, a text of few values, or a JSON object of numbers, whose parts and shares of the
whole become columns of their own. Heavy tails are cut by logarithms; comparing within a candidate is left to
the heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.errors import BadInput
from training.evaluate.words import counted

if TYPE_CHECKING:
    import polars as pl

    from training.evaluate.matrix import Matrix
    from training.evaluate.options import Notes

MAX_LEVELS = 30  # of a text
MAX_COLUMNS = 200
# Outcomes under another name, and what can't differ between two runs of a task.
NO_EVIDENCE = ("success", "score", "passed", "resolved", "task_id", "model", "prompt", "group", "repo")
_LEAK = 0.9  # share of the variance of success within a model that one column may not tell
_BINS = 16
_OBJECT = msgspec.json.Decoder(dict[str, float | None])


class Evidence(NamedTuple):
    """Evidence of n tasks × m models."""

    values: np.ndarray  # (n, m, d) float32, NaN unknown
    names: tuple[str, ...]


def evidence_of(rows: pl.DataFrame, matrix: Matrix, columns: tuple[str, ...], notes: Notes) -> Evidence:
    """Read the evidence of every cell of the matrix; repeated rows are averaged, as outcomes are."""
    import polars as pl

    numbers: dict[str, np.ndarray] = {}
    for name in columns:
        numbers |= _numbers(rows["cost" if name == "cost_usd" else name].alias(name), name)
    if len(numbers) > MAX_COLUMNS:
        raise BadInput(f"--evidence: {len(numbers)} columns once written out; at most {MAX_COLUMNS}")
    frame = rows.select("task_id", "model").with_columns(
        pl.Series(name, _tamed(values)).fill_nan(None) for name, values in numbers.items()
    )
    cells = frame.group_by("task_id", "model").agg(pl.col(*numbers).mean())
    grid = matrix.tasks.select("task_id").join(pl.DataFrame({"model": matrix.models}), how="cross")
    ordered = grid.join(cells, on=["task_id", "model"], how="left", maintain_order="left")
    values = ordered.select(*numbers).fill_null(float("nan")).to_numpy().astype(np.float32)
    values = values.reshape(len(matrix.tasks), len(matrix.models), len(numbers))
    found = Evidence(values, tuple(numbers))
    _say(found, matrix, notes)
    return found


def demand(columns: tuple[str, ...], names: list[str], path: object) -> None:
    """Refuse, in one line, evidence that isn't there or is the outcome itself."""
    for name in columns:
        if name not in names:
            raise BadInput(f"{path}: --evidence {name}: no such column; it has: {', '.join(names)}")
        if name in NO_EVIDENCE or name.startswith("success"):
            raise BadInput(f"--evidence {name}: the outcome or the task itself, not evidence of a run")


def _numbers(column: pl.Series, name: str) -> dict[str, np.ndarray]:
    """A column as named numbers (rows,), NaN unknown."""
    import polars as pl

    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return {name: column.cast(pl.Float64).fill_null(float("nan")).to_numpy()}
    if column.dtype == pl.Struct:
        return _parts(name, [dict(row or {}) for row in column.to_list()])
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise BadInput(f"--evidence {name}: holds {column.dtype}; numbers, text or JSON objects are read")
    texts = column.cast(pl.String).to_list()
    first = next((text for text in texts if text), "")
    if first.lstrip().startswith("{"):
        return _parts(name, [_object(text, name) for text in texts])
    levels = sorted({text for text in texts if text is not None})
    if len(levels) > MAX_LEVELS:
        raise BadInput(
            f"--evidence {name}: neither numbers, JSON objects of numbers, nor a text of at most "
            f"{MAX_LEVELS} values ({len(levels)})"
        )
    return {f"{name}={level}": np.array([float(text == level) for text in texts]) for level in levels}


def _object(text: str | None, name: str) -> dict[str, float | None]:
    if not text:
        return {}
    try:
        return _OBJECT.decode(text)
    except msgspec.MsgspecError:
        raise BadInput(f"--evidence {name}: holds JSON that is no object of numbers") from None


def _parts(name: str, rows: list[dict[str, float | None]]) -> dict[str, np.ndarray]:
    """Each part of objects, and its share of their sum where none is negative."""
    keys = sorted({key for row in rows for key in row})
    table = np.array([[_number(row.get(key)) for key in keys] for row in rows]).reshape(len(rows), len(keys))
    found = {f"{name}.{key}": table[:, i] for i, key in enumerate(keys)}
    if len(keys) > 1 and not (table < 0).any():
        total = np.nansum(table, axis=1)
        share = table / np.where(total > 0, total, np.nan)[:, None]
        found |= {f"{name}.{key} share": share[:, i] for i, key in enumerate(keys)}
    return found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _tamed(values: np.ndarray) -> np.ndarray:
    """Logarithm of what is positive throughout, of 1 + counts; the rest as it is."""
    values = np.where(np.isfinite(values), values, np.nan)
    known = values[np.isfinite(values)]
    if len(known) == 0 or known.min() < 0 or (known.min() == 0 and known.max() <= 10):
        return values
    tamed: np.ndarray = np.log(values) if known.min() > 0 else np.log1p(values)
    return tamed


def _say(found: Evidence, matrix: Matrix, notes: Notes) -> None:
    """Warn of columns that give the outcome away, and of evidence that is missing."""
    told = [
        name for i, name in enumerate(found.names) if _told(found.values[:, :, i], matrix.success) >= _LEAK
    ]
    listed = ", ".join(told[:6])
    notes.add(
        "evidence_leaks",
        len(told),
        f"evidence {listed} all but tells success: is it the outcome under another name?",
    )
    empty = int(np.isnan(found.values).all(axis=2).sum())
    cells = counted(empty, "run has", "runs have")
    notes.add("missing_evidence", empty, f"{cells} no evidence at all: judged by their candidate's mean")


def _told(column: np.ndarray, success: np.ndarray) -> float:
    """Share of the variance of success within models that 16 steps of a column (n, m) tell."""
    explained = total = 0.0
    for x, y in zip(column.T, success.T, strict=True):
        known = np.isfinite(x)
        steps = np.linspace(0, 1, _BINS + 1)[1:-1]
        edges = np.unique(np.quantile(x[known], steps)) if known.any() else steps
        bins = np.where(known, 1 + np.searchsorted(edges, x, side="right"), 0)  # unknown is a step of its own
        count = np.bincount(bins)
        mean = np.bincount(bins, weights=y) / np.maximum(count, 1)
        explained += float(count @ (mean - y.mean()) ** 2)
        total += float(((y - y.mean()) ** 2).sum())
    return explained / total if total > 0 else 0.0
