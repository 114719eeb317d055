"""Outcome files to the rows that are scored and fitted on, with costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import BadInput, MissingExtra
from training.evaluate.answers import with_answers
from training.evaluate.cost import with_cost
from training.evaluate.read import read_rows
from training.evaluate.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from training.evaluate.matrix import Matrix
    from training.evaluate.options import Notes, Options


def load(path: Path, options: Options, notes: Notes) -> tuple[pl.DataFrame, dict[str, Any], str | None]:
    """Rows of the file, and of --test's behind them, with cost, `part` (0 fitted on, 1 scored) and `answer`.

    Also the counts of rows read and refused, and the column of the groups, None for a group per task.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise MissingExtra("polars", "train") from error
    rows, counts = read_rows(path, options, notes)
    rows = with_cost(rows.with_columns(part=pl.lit(0)), notes)
    if options.test is not None:
        other, other_counts = read_rows(options.test, options, notes)
        other = with_cost(other.with_columns(part=pl.lit(1)), notes)
        rows, counts = _joined(rows, other, notes), {**counts, "test": other_counts}
    group = options.group or ("group" if "group" in rows.columns else None)
    return with_answers(rows, notes), counts, group


def _joined(rows: pl.DataFrame, other: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Both files' rows: models of both only, and no training task that is also a test task."""
    import polars as pl

    both = set(rows["model"]) & set(other["model"])
    if len(both) < 2:
        raise BadInput("the two files have fewer than two models in common")
    gone = (set(rows["model"]) | set(other["model"])) - both
    notes.add(
        "models_of_one_file",
        len(gone),
        f"{counted(len(gone), 'model is', 'models are')} in one of the two files only: left out",
    )
    twice = rows.join(other.select("task_id").unique(), on="task_id", how="semi")["task_id"].n_unique()
    notes.add(
        "tasks_in_both",
        twice,
        f"{counted(twice, 'task is', 'tasks are')} in both files: scored, not fitted on",
    )
    rows = rows.join(other.select("task_id").unique(), on="task_id", how="anti")
    if rows.is_empty():
        raise BadInput("every task of the first file is also in --test; nothing is left to fit on")
    joined: pl.DataFrame = pl.concat([rows, other], how="diagonal_relaxed").filter(
        pl.col("model").is_in(list(both))
    )
    return joined


def foldable(matrix: Matrix, group: str | None, options: Options, notes: Notes) -> tuple[Matrix, str | None]:
    """Fall back to one group per task where the default group column holds a single value."""
    if options.group is None and group and len(np.unique(matrix.group)) < 2 and len(matrix.tasks) > 1:
        notes.add(
            "one_group", len(matrix.tasks), f"column {group} holds a single value: grouped by task_id instead"
        )
        return matrix._replace(group=np.arange(len(matrix.tasks))), None
    return matrix, group
