"""The dense outcome matrix: one row per task, one column per model, every cell known or left out aloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from training.evaluate.cells import complete_cells
from training.evaluate.read import CATEGORY_COLUMNS
from training.evaluate.suspect import flag
from training.evaluate.words import counted

if TYPE_CHECKING:
    import polars as pl

    from training.evaluate.evidence import Evidence
    from training.evaluate.options import Notes


class Matrix(NamedTuple):
    """Outcomes of n tasks × m models; `tasks` holds what is known of a task before any model answers."""

    tasks: pl.DataFrame  # n rows: task_id, part, group, category, prompt, tools_json, n_tools, input_tokens …
    models: list[str]
    success: np.ndarray  # (n, m) in 0..1
    cost: np.ndarray  # (n, m) USD, NaN unknown
    output_tokens: np.ndarray  # (n, m), NaN unknown
    prices: dict[str, tuple[float | None, float | None]]  # USD per million tokens, in and out
    group: np.ndarray  # (n,) int, tasks of one group stay together
    category: np.ndarray  # (n,) str, "" unknown
    category_column: str | None
    answer: np.ndarray | None = None  # (n, m) int, equal in a row where answers are the same; -1 unknown
    evidence: Evidence | None = None  # of each run, where --evidence names some

    @property
    def priced(self) -> bool:
        """Whether the cost of the models is known, so that money can be weighed at all."""
        return bool(np.isfinite(self.cost).any(axis=0).all())


def build(rows: pl.DataFrame, group_column: str | None, extras: tuple[str, ...], notes: Notes) -> Matrix:
    """Make the matrix of usable rows (with `cost` and `part`); BadInput where two models aren't left."""
    import polars as pl

    rows, category_column = _with_category(rows, notes)
    flag(rows, notes)
    cells = complete_cells(rows, notes)
    ids = cells["task_id"].unique(maintain_order=True)
    models = cells["model"].unique().sort().to_list()
    tasks = _tasks(rows, ids, group_column, extras, notes)
    cells = cells.join(pl.DataFrame({"task_id": ids, "_at": range(len(ids))}), on="task_id").sort(
        "_at", "model"
    )
    shape = (len(ids), len(models))
    return Matrix(
        tasks=tasks,
        models=models,
        success=cells["success"].to_numpy().reshape(shape),
        cost=cells["cost"].fill_null(float("nan")).to_numpy().reshape(shape),
        output_tokens=cells["output_tokens"].fill_null(float("nan")).to_numpy().reshape(shape),
        prices=_prices(cells, models),
        group=_merge_equal_prompts(tasks, notes),
        category=tasks["category"].fill_null("").to_numpy().astype(str),
        category_column=category_column,
        answer=_codes(cells).reshape(shape) if "answer" in cells.columns else None,
    )


def _codes(cells: pl.DataFrame) -> np.ndarray:
    """Each answer as a number; -1 where it isn't known."""
    import polars as pl

    codes: np.ndarray = cells["answer"].rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()
    return codes


def _with_category(rows: pl.DataFrame, notes: Notes) -> tuple[pl.DataFrame, str | None]:
    """Name `category` the first known task-type column that is the same for all rows of a task."""
    import polars as pl

    for name in CATEGORY_COLUMNS:
        if name not in rows.columns:
            continue
        kinds = rows[name].n_unique()
        many = kinds > max(2, len(rows) // 20)
        said = f"{name} has {counted(kinds, 'value')} on {counted(len(rows), 'row')}"
        notes.add("many_task_types", kinds if many else 0, f"{said}: too many to be a task type, so left out")
        if kinds > 1 and not many:
            constant = rows.group_by("task_id").agg(pl.col(name).n_unique())[name].max()
            if constant == 1:
                return rows.with_columns(pl.col(name).alias("category")), name
    return rows.with_columns(category=pl.lit(None, dtype=pl.String)), None


def _tasks(
    rows: pl.DataFrame, ids: pl.Series, group_column: str | None, extras: tuple[str, ...], notes: Notes
) -> pl.DataFrame:
    """One row per task of what is known beforehand; a feature that varies within a task is refused."""
    import polars as pl

    firsts = [c for c in ("prompt", "tools_json", "n_tools") if c in rows.columns]
    columns = dict.fromkeys([*firsts, *extras])
    table = (
        rows.join(pl.DataFrame({"task_id": ids}), on="task_id", how="semi")
        .group_by("task_id")
        .agg(
            pl.col("part", "category").first(),
            _group(group_column),
            *(pl.col(c).drop_nulls().first() for c in columns),
            *(
                pl.col(c).n_unique().alias(f"_n_{c}")
                for c in dict.fromkeys([*columns, *filter(None, [group_column])])
            ),
            *([_prompt_tokens(), _token_spread()] if "input_tokens" in rows.columns else []),
        )
    )
    for name in extras:
        varying = table.filter(pl.col(f"_n_{name}") > 1).height
        if varying:
            said = f"--features {name}: differs between the rows of one task ({counted(varying, 'task')})"
            raise BadInput(f"{said}, so it isn't known before the answer")
    if "prompt" in firsts:
        several = table.filter(pl.col("_n_prompt") > 1).height
        notes.add(
            "several_prompts",
            several,
            f"{counted(several, 'task has', 'tasks have')} more than one prompt; the first is used",
        )
    if group_column and (torn := table.filter(pl.col(f"_n_{group_column}") > 1).height):
        said = f"{counted(torn, 'task has', 'tasks have')} rows in several groups of {group_column}"
        notes.add("torn_groups", torn, f"{said}; the first is used")
    return pl.DataFrame({"task_id": ids}).join(table, on="task_id", maintain_order="left")


def _group(group_column: str | None) -> pl.Expr:
    import polars as pl

    if group_column is None or group_column == "task_id":
        return pl.col("task_id").first().alias("_group")
    name = pl.col(group_column).cast(pl.String).first()
    return name.fill_null(pl.lit("no ") + group_column).alias("_group")


def _prompt_tokens() -> pl.Expr:
    import polars as pl

    return pl.col("input_tokens").filter(pl.col("input_tokens") > 0).median().alias("prompt_tokens")


def _token_spread() -> pl.Expr:
    """Upper over lower quartile of the input tokens that different models report for one task."""
    import polars as pl

    positive = pl.col("input_tokens").filter(pl.col("input_tokens") > 0)
    return (positive.quantile(0.75) / positive.quantile(0.25)).alias("token_spread")


def _merge_equal_prompts(tasks: pl.DataFrame, notes: Notes) -> np.ndarray:
    """Group numbers (n,); groups that share a prompt word for word become one, so no fold has seen it."""
    names = tasks["_group"].to_list()
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    parent = list(range(len(number)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    prompts = tasks["prompt"].to_list() if "prompt" in tasks.columns else [None] * len(tasks)
    first: dict[str, int] = {}
    merged = 0
    for name, prompt in zip(names, prompts, strict=True):
        if prompt and prompt in first:
            a, b = root(first[prompt]), root(number[name])
            merged += a != b
            parent[b] = a
        elif prompt:
            first[prompt] = number[name]
    note = f"{counted(merged, 'group shares', 'groups share')} a prompt word for word with another"
    notes.add("equal_prompts", merged, f"{note}: kept in the same fold")
    return np.unique([root(number[name]) for name in names], return_inverse=True)[1]


def _prices(cells: pl.DataFrame, models: list[str]) -> dict[str, tuple[float | None, float | None]]:
    """USD per million tokens of each model: the table's own columns, else the published list."""
    import polars as pl

    from router.prices import rates

    own = {
        m: (i, o)
        for m, i, o in cells.group_by("model").agg(pl.col("price_in", "price_out").median()).iter_rows()
    }
    prices: dict[str, tuple[float | None, float | None]] = {}
    for model in models:
        listed = rates(model) if None in own[model] else None
        prices[model] = (float(listed.input), float(listed.output)) if listed else own[model]
    return prices
