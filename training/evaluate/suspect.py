"""What public matrices hide: imputed constants, calls that never happened, broken runs; flagged, kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.evaluate.words import counted

if TYPE_CHECKING:
    import polars as pl

    from training.evaluate.options import Notes

_BROKEN_SHARE = 0.4  # one kind of error on this share of a model's rows, and …
_BLOCK = 20  # rows of one model with one answer length
_BROKEN_RATIO = 4.0  # … this many times its median share over models


def flag(rows: pl.DataFrame, notes: Notes) -> None:
    """Add a warning for each kind of suspect row, with counts and the models concerned."""
    _constants(rows, notes)
    _empty_calls(rows, notes)
    _broken_runs(rows, notes)
    _failed_blocks(rows, notes)
    _one_outcome(rows, notes)


def _names(models: list[str]) -> str:
    return ", ".join(models[:4]) + (f" and {len(models) - 4} more" if len(models) > 4 else "")


def _one_outcome(rows: pl.DataFrame, notes: Notes) -> None:
    """All rows of one outcome, or of a model: nothing can be learned of it."""
    import polars as pl

    ends = rows.group_by("model").agg(pl.len(), pl.col("success").min().alias("low"), pl.col("success").max())
    if rows["success"].n_unique() == 1:
        value = f"{rows['success'][0]:g}"
        notes.add("one_outcome", len(rows), f"every success is {value}: no model is better than another here")
        return
    same = ends.filter((pl.col("low") == pl.col("success")) & (pl.col("len") >= _BLOCK)).sort("model")
    note = f"every success of {_names(same['model'].to_list())} is the same: a run that broke?"
    notes.add("one_outcome_models", int(same["len"].sum()), note)


def _constants(rows: pl.DataFrame, notes: Notes) -> None:
    """Costs or token counts with few distinct values: one constant per task type, or below half the rows."""
    from training.imputed import imputed, repeated

    for column in ("cost_usd", "output_tokens"):
        if column not in rows.columns:
            continue
        filled_in = imputed(rows, column, "model", "category")
        names = filled_in["model"].to_list()
        note = (
            f"{column} of {_names(names)}: about one constant per task type, so imputed rather than measured"
        )
        notes.add(f"imputed_{column}", int(filled_in["len"].sum()), note)
        if column == "cost_usd":
            rest = repeated(rows, column, "model").join(filled_in, on="model", how="anti")
            names = rest["model"].to_list()
            note = f"{column} of {_names(names)} repeats: fewer distinct values than half the rows"
            notes.add(f"repeated_{column}", int(rest["len"].sum()), note)


def _empty_calls(rows: pl.DataFrame, notes: Notes) -> None:
    """Rows of runs that made no call or used no token, whatever their score."""
    import polars as pl

    for column in ("input_tokens", "output_tokens", "api_calls", "n_turns", "latency_ms", "latency_s"):
        if column in rows.columns:
            empty = rows.filter(pl.col(column) <= 0)
            names = empty["model"].unique().sort().to_list()
            found = f"{counted(len(empty), 'row')} with {column} ≤ 0 ({_names(names)})"
            note = f"{found}: no real call behind the score"
            notes.add(f"zero_{column}", len(empty), note)


def _broken_runs(rows: pl.DataFrame, notes: Notes) -> None:
    """Models of whose answers a large share failed with one kind of error that is rare for the others."""
    import polars as pl

    if "error_type" not in rows.columns:
        return
    kind = pl.col("error_type").str.split(":").list.last()
    shares = (
        rows.with_columns(kind=kind)
        .pivot("kind", index="model", values="success", aggregate_function="len")
        .fill_null(0)
        .join(rows.group_by("model").len(), on="model")
    )
    broken: dict[str, int] = {}
    for name in shares.columns:
        if name in ("model", "len", "null"):
            continue
        share = shares[name] / shares["len"]
        usual = max(float(share.median() or 0.0), 0.01)  # type: ignore[arg-type]
        bad = shares.filter((share >= _BROKEN_SHARE) & (share >= _BROKEN_RATIO * usual))
        broken |= dict(zip(bad["model"], bad[name], strict=True))
    note = (
        f"{_names(sorted(broken))}: mostly one kind of error that is rare elsewhere, so probably broken runs"
    )
    notes.add("broken_runs", sum(broken.values()), f"{note} (leave out with --where model!=NAME)")


def _failed_blocks(rows: pl.DataFrame, notes: Notes) -> None:
    """Many rows of one model with one and the same answer length, all of them scored 0: no answer came."""
    import polars as pl

    if "output_tokens" not in rows.columns:
        return
    blocks = (
        rows.filter(pl.col("output_tokens") > 0)
        .group_by("model", "output_tokens")
        .agg(pl.len(), pl.col("success").max())
        .filter((pl.col("len") >= _BLOCK) & (pl.col("success") == 0))
    )
    names = blocks["model"].unique().sort().to_list()
    note = f"{_names(names)}: blocks of rows with one answer length, all scored 0, so probably failed calls"
    notes.add("failed_blocks", int(blocks["len"].sum()), note)
