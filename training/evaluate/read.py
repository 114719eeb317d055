"""An outcome matrix as its file has it: read, renamed, filtered, checked row by row; refusals are counted."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from features.errors import BadInput
from training.evaluate.answers import ANSWER_COLUMNS
from training.evaluate.evidence import demand
from training.evaluate.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from training.evaluate.options import Notes, Options

REQUIRED = ("task_id", "model", "success")
# The task type is the first of these that is there and the same for all rows of a task.
CATEGORY_COLUMNS = ("category", "task_type", "dimension", "task_name", "scenario")
# What often tells two runs of the same (task, model) apart; only used to say so.
RUN_COLUMNS = (
    "benchmark",
    "suite",
    "split",
    "harness",
    "agent_version",
    "prompt_label",
    "sample_id",
    "run",
    "seed",
)
NUMBERS = (
    *("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
    *("cost_usd", "price_in", "price_out", "n_tools", "api_calls", "n_turns", "latency_ms", "latency_s"),
)
TEXTS = ("task_id", "model", "prompt", "group", "tools_json", "error_type", *CATEGORY_COLUMNS, *RUN_COLUMNS)
# Known only after the answer: never a feature, whatever the user says.
AFTER_THE_ANSWER = (
    *("success", "output_tokens", "cached_tokens", "cache_write_tokens", "cost_usd", "model"),
    *("error_type", "api_calls", "n_turns", "score", "passed", "submitted", "exit_status", "patch"),
)


def read_rows(path: Path, options: Options, notes: Notes) -> tuple[pl.DataFrame, dict[str, object]]:
    """Rows of an outcome file that can be used, and {read, kept, refused: {reason: n}}.

    Raises BadInput in one line for a file that can't be read or lacks a column.
    """
    import polars as pl

    frame = _filter(_rename(_scan(path), options.maps, path), options.where, path)
    names = frame.collect_schema().names()
    _demand(path, names, options)
    frame = _of_models(frame, options.models, path)
    _demand_texts(path, frame)
    schema = frame.collect_schema()
    answers = [c for c in ANSWER_COLUMNS if schema.get(c) == pl.String]
    asked = (*options.features, *options.evidence, *filter(None, [options.group]))
    wanted = dict.fromkeys((*REQUIRED, *NUMBERS, *TEXTS, *answers, *asked))
    try:
        rows = frame.select(c for c in wanted if c in names).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path}: can't be read ({_first_line(error)}); give a Parquet or CSV file") from None
    if rows.is_empty():
        raise BadInput(
            f"{path}: no rows"
            + (" are left by --where" if options.where or options.models else "; an empty table")
        )
    return _usable(rows, path, notes)


def _scan(path: Path) -> pl.LazyFrame:
    import polars as pl

    if not path.is_file():
        raise BadInput(
            f"{path}: no such file" if not path.exists() else f"{path}: not a file; give one Parquet or CSV"
        )
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: the file is empty")
    with path.open("rb") as file:
        head = file.read(4)
    parquet = head == b"PAR1"
    if head[:1] in (b"{", b"["):  # as CSV its first line would be a header made of somebody's prompt
        raise BadInput(f"{path}: JSON isn't read here; give a Parquet or CSV file")
    try:
        if parquet or path.suffix in {".parquet", ".pq"}:
            frame = pl.scan_parquet(path, glob=False)
        else:
            separator = "\t" if path.name.removesuffix(".gz").endswith(".tsv") else ","
            frame = pl.scan_csv(path, separator=separator, infer_schema_length=None, glob=False)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path}: can't be read ({_first_line(error)}); give a Parquet or CSV file") from None
    return frame


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _rename(frame: pl.LazyFrame, maps: tuple[str, ...], path: Path) -> pl.LazyFrame:
    """Apply --map ours=theirs; a column of ours that stood there before makes way."""
    for pair in maps:
        ours, equals, theirs = pair.partition("=")
        names = frame.collect_schema().names()
        if not equals or not ours or theirs not in names:
            raise BadInput(
                f"--map {pair}: expected ours=theirs with a column of {path}, which has: {', '.join(names)}"
            )
        if ours != theirs:
            frame = frame.drop(ours, strict=False).rename({theirs: ours})
    return frame


def _filter(frame: pl.LazyFrame, where: tuple[str, ...], path: Path) -> pl.LazyFrame:
    """Apply --where column=value or column!=value, compared as text."""
    import polars as pl

    for condition in where:
        column, equals, value = condition.partition("=")
        unequal = column.endswith("!")
        column = column.removesuffix("!")
        names = frame.collect_schema().names()
        if not equals or column not in names:
            raise BadInput(
                f"--where {condition}: expected column=value, with a column of {path}: {', '.join(names)}"
            )
        same = pl.col(column).cast(pl.String).eq_missing(pl.lit(value))
        frame = frame.filter(~same if unequal else same)
    return frame


def _of_models(frame: pl.LazyFrame, asked: tuple[str, ...], path: Path) -> pl.LazyFrame:
    """Apply --models: names or patterns (* and ?) to keep, or to leave out with "!" before them."""
    import polars as pl

    if not asked:
        return frame
    try:
        column = frame.select(pl.col("model").cast(pl.String).unique()).collect()["model"]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path}: can't be read ({_first_line(error)}); give a Parquet or CSV file") from None
    names = column.drop_nulls().sort().to_list()
    hits = {name: fnmatch.filter(names, name.removeprefix("!")) for name in asked}
    for name, found in hits.items():
        if not found:
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            raise BadInput(f"--models {name}: no such model in {path}, which has: {shown}")
    keep = {m for name, found in hits.items() for m in found if not name.startswith("!")} or set(names)
    keep -= {m for name, found in hits.items() for m in found if name.startswith("!")}
    return frame.filter(pl.col("model").cast(pl.String).is_in(sorted(keep)))


def _demand_texts(path: Path, frame: pl.LazyFrame) -> None:
    """Refuse, in one line, a column that is read as text but holds lists, structs or durations."""
    import polars as pl

    for name, dtype in frame.collect_schema().items():
        if name in TEXTS and (dtype.is_nested() or dtype in (pl.Duration, pl.Object)):
            raise BadInput(
                f"{path}: column {name} holds {dtype}, a text is needed; leave it out or map another"
            )


def _demand(path: Path, names: list[str], options: Options) -> None:
    """Refuse, in one line, a table without a column that is required or asked for."""
    missing = [c for c in REQUIRED if c not in names]
    if missing:
        has = f"{path}: lacks {', '.join(missing)}; it has: {', '.join(names)}"
        raise BadInput(f"{has} (rename with --map {missing[0]}=COLUMN)")
    if options.group and options.group not in names:
        raise BadInput(f"{path}: --group {options.group}: no such column; it has: {', '.join(names)}")
    for name in options.features:
        if name not in names:
            raise BadInput(f"{path}: --features {name}: no such column; it has: {', '.join(names)}")
        if name in AFTER_THE_ANSWER or name.startswith(("success", "latency", "elapsed")):
            raise BadInput(f"--features {name}: known only after the answer, so it can't choose who answers")
    demand(options.evidence, names, path)


def _usable(rows: pl.DataFrame, path: Path, notes: Notes) -> tuple[pl.DataFrame, dict[str, object]]:
    """Cast the columns that we know and refuse rows without a task, a model or a success between 0 and 1."""
    import polars as pl

    texts = [pl.col(c).cast(pl.String) for c in TEXTS if c in rows.columns]
    numbers = [pl.col(c).cast(pl.Float64, strict=False) for c in (*NUMBERS, "success") if c in rows.columns]
    rows = rows.with_columns(*texts, *numbers)
    success = pl.col("success")
    reasons = {
        "no task_id": pl.col("task_id").is_null() | (pl.col("task_id") == ""),
        "no model": pl.col("model").is_null() | (pl.col("model") == ""),
        "success is null or no number": success.is_null() | success.is_nan(),
        "success outside 0..1": ~success.is_between(0, 1),
    }
    reason = pl.coalesce(*(pl.when(bad).then(pl.lit(why)) for why, bad in reasons.items()))
    rows = rows.with_columns(_reason=reason)
    refused = dict(
        rows.filter(pl.col("_reason").is_not_null()).group_by("_reason").len().sort("_reason").rows()
    )
    kept = rows.filter(pl.col("_reason").is_null()).drop("_reason")
    for why, count in refused.items():
        notes.add(
            "refused_rows", count, f"{count} of {counted(len(rows), 'row')} of {path.name} refused: {why}"
        )
    if kept.is_empty():
        raise BadInput(f"{path}: none of its {counted(len(rows), 'row')} can be used: {', '.join(refused)}")
    return kept, {"read": len(rows), "kept": len(kept), "refused": refused}
