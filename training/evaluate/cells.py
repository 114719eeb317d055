"""From rows to one cell per (task, model), complete: what is averaged or left out is counted and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.errors import BadInput
from training.evaluate.read import RUN_COLUMNS
from training.evaluate.words import counted

if TYPE_CHECKING:
    import polars as pl

    from training.evaluate.options import Notes

MIN_ROWS = 5  # of a model, below which nothing can be said of it
_MEASURES = ("output_tokens", "price_in", "price_out")


def complete_cells(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """One row for each task and model that are kept, every task having every model.

    Columns task_id, model, success, cost and the measures that there are, null where unknown, and `answer`
    where rows have it; BadInput where two models aren't left.
    """
    return _complete(_priced_only(_one_row_each(_without_rare(rows, notes), notes), notes), notes)


def _without_rare(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Leave out models of which too little is known; at least two must remain."""
    import polars as pl

    counts = rows.group_by("model").len().sort("model")
    rare = counts.filter(pl.col("len") < MIN_ROWS)
    left = len(counts) - len(rare)
    if left < 2:
        said = f"{left} of {len(counts)} models with at least {MIN_ROWS} rows"
        said = f"only one model ({counts['model'][0]})" if len(counts) == 1 else said
        raise BadInput(f"the outcomes hold {said}; a choice needs two: give a row per (task, model)")
    note = f"fewer than {MIN_ROWS} rows, left out: {', '.join(rare['model'].to_list()[:8])}"
    notes.add("rare_models", len(rare), note)
    return rows.join(rare, on="model", how="anti")


def _one_row_each(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Average repeated (task, model) rows; say how many there are, how many disagree and why."""
    import polars as pl

    runs = [c for c in RUN_COLUMNS if c in rows.columns]
    absent = [pl.lit(None, dtype=pl.Float64).alias(c) for c in _MEASURES if c not in rows.columns]
    one = pl.when(pl.col("answer").n_unique() == 1).then(pl.col("answer").first())
    answer = [one.alias("answer")] if "answer" in rows.columns else []
    cells = (
        rows.with_columns(absent)
        .group_by("task_id", "model", maintain_order=True)
        .agg(
            pl.len().alias("_n"),
            (pl.col("success").max() - pl.col("success").min()).alias("_spread"),
            pl.col("success", "cost", *_MEASURES).mean(),
            *(pl.col(c).n_unique().alias(f"_{c}") for c in runs),
            *answer,
        )
    )
    repeated = cells.filter(pl.col("_n") > 1)
    differ = repeated.filter(pl.col("_spread") > 0)
    telling = [c for c in runs if len(repeated) and (repeated[f"_{c}"] > 1).any()]
    hint = (
        f"; they differ in {', '.join(telling)} (choose with --where {telling[0]}=VALUE)" if telling else ""
    )
    several = counted(len(repeated), "(task, model) pair has", "(task, model) pairs have")
    notes.add("repeated_rows", len(repeated), f"{several} several rows: averaged{hint}")
    of = f"of the {counted(len(repeated), 'repeated (task, model) pair')}"
    note = f"{counted(len(differ), f'{of} disagrees', f'{of} disagree')} on success"
    notes.add("disagreeing_rows", len(differ), note)
    return cells.select("task_id", "model", "success", "cost", *_MEASURES, *(["answer"] if answer else []))


def _priced_only(cells: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Leave out models without any cost where others have one: money can't be weighed against an unknown."""
    import polars as pl

    known = cells.group_by("model").agg(pl.col("cost").is_not_null().any(), pl.col("success").mean())
    unknown = known.filter(~pl.col("cost")).sort("success", "model", descending=True)
    if not len(unknown) or len(known) - len(unknown) < 2:
        return cells
    best = f"{unknown['model'][0]} (success {unknown['success'][0]:.3f})"
    note = f"{counted(len(unknown), 'model')} without any cost or price left out, the best of them {best}"
    notes.add("models_without_cost", len(unknown), f"{note}; give cost_usd or price_in and price_out")
    return cells.join(unknown.select("model"), on="model", how="anti")


def _complete(cells: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Keep the largest full block of tasks × models, models taken in order of coverage."""
    import polars as pl

    coverage = cells.group_by("model").len().sort(["len", "model"], descending=[True, False])
    n_tasks, n_models = cells["task_id"].n_unique(), len(coverage)
    if len(cells) == n_tasks * n_models:
        return cells
    rank = coverage.with_row_index("_rank").select("model", "_rank")
    # The first k models all ran a task iff its models of rank below k are k: the r-th of them has rank r.
    ranked = cells.select("task_id", "model").join(rank, on="model").sort("_rank")
    in_row = ranked.with_columns(_have=pl.int_range(pl.len()).over("task_id")).filter(
        pl.col("_have") == pl.col("_rank")
    )
    full = in_row.group_by("_rank").agg(pl.len().alias("tasks")).filter(pl.col("_rank") >= 1)
    best = full.sort(pl.col("tasks") * (pl.col("_rank") + 1), "_rank", descending=True)
    if best.is_empty():
        raise BadInput("no task was run by two models: give outcomes of several models on the same tasks")
    keep = int(best["_rank"][0]) + 1
    chosen = cells.join(coverage.head(keep).select("model"), on="model", how="semi")
    whole = chosen.group_by("task_id").len().filter(pl.col("len") == keep)
    dropped = coverage.tail(n_models - keep)["model"].to_list()
    more = f" and {len(dropped) - 6} more" if len(dropped) > 6 else ""
    without = f", without {', '.join(dropped[:6])}{more}" if dropped else ""
    note = (
        f"scored on the {len(whole)} of {n_tasks} tasks that all of {keep} of {n_models} models ran{without}"
    )
    notes.add(
        "incomplete_matrix", n_tasks - len(whole) + len(dropped), f"not every model ran every task: {note}"
    )
    return chosen.join(whole.select("task_id"), on="task_id", how="semi", maintain_order="left")
