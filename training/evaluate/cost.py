"""The cost of each row in USD: recorded, else priced from tokens, else unknown (null), never 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.wire.types import Usage
from training.evaluate.words import counted

if TYPE_CHECKING:
    import polars as pl

    from training.evaluate.options import Notes

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")


def with_cost(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Add `cost` (USD, null = unknown) and `cost_from`: recorded, price columns, price table or unknown.

    A recorded cost of exactly 0 counts as missing, unless the table itself gives the model a price of 0.
    """
    import polars as pl

    needed = ("cost_usd", "price_in", "price_out", *_TOKENS)
    absent = [pl.lit(None, dtype=pl.Float64).alias(c) for c in needed]
    full = rows.with_columns(c for c in absent if c.meta.output_name() not in rows.columns)
    odd = full.select((pl.col("cost_usd").is_infinite() | (pl.col("cost_usd") < 0)).sum()).item()
    said = counted(odd, "row records", "rows record")
    notes.add("impossible_cost", odd, f"{said} a negative or infinite cost: taken as missing")
    full = full.with_columns(
        pl.when(pl.col(c).is_finite() & (pl.col(c) >= 0)).then(pl.col(c)) for c in needed
    )
    cost = pl.col("cost_usd")
    free = (pl.col("price_in") == 0) & (pl.col("price_out") == 0)
    zero = full.select(((cost == 0) & ~free.fill_null(value=False)).sum()).item()
    paid = f"{counted(zero, 'row records', 'rows record')} a cost of exactly 0 for a paid model"
    notes.add("zero_cost", zero, f"{paid}: taken as missing")
    recorded = pl.when((cost > 0) | ((cost == 0) & free)).then(cost)
    full = full.with_columns(recorded.alias("_recorded"), _from_columns().alias("_columns"))
    full = full.with_columns(_from_price_table(full).alias("_table"))
    known = {"_recorded": "recorded", "_columns": "price columns", "_table": "price table"}
    kinds = (pl.when(pl.col(c).is_not_null()).then(pl.lit(kind)) for c, kind in known.items())
    full = full.with_columns(cost=pl.coalesce(known.keys()), cost_from=pl.coalesce(*kinds, pl.lit("unknown")))
    unknown = full["cost"].null_count()
    of = f"of {counted(len(full), 'row')}"
    note = f"{counted(unknown, f'{of} has', f'{of} have')} no cost and no price: left out of cost figures"
    notes.add("unknown_cost", unknown, note)
    return full.drop(*known)


def _spent() -> pl.Expr:
    """Whether any token was counted: a call that reports none has an unknown cost, not none."""
    import polars as pl

    return (pl.col("input_tokens") > 0) | (pl.col("output_tokens") > 0)


def _from_columns() -> pl.Expr:
    import polars as pl

    dollars = (
        pl.col("input_tokens") * pl.col("price_in") + pl.col("output_tokens") * pl.col("price_out")
    ) / 1e6
    return pl.when(_spent() & (pl.col("cached_tokens").fill_null(0) == 0)).then(dollars)


def _from_price_table(rows: pl.DataFrame) -> pl.Series:
    """List prices for the rows that have tokens and no cost yet; null where no price is published.

    Cached tokens larger than the input anywhere mean that the input is counted without them.
    """
    import polars as pl

    from router.prices import price_usd

    need = (pl.col("_recorded").is_null() & pl.col("_columns").is_null() & _spent()).fill_null(value=False)
    columns = rows.select("model", *_TOKENS, need=need)
    apart = bool((rows["cached_tokens"] > rows["input_tokens"]).any())
    prices: list[float | None] = [None] * len(rows)
    for i in columns["need"].arg_true():
        model, fresh, out, cached, written = columns.row(i)[:5]
        if not apart and fresh is not None and cached is not None:
            fresh -= cached + (written or 0)
        usage = Usage(
            input_tokens_uncached=_count(fresh),
            output_tokens=_count(out),
            cached_tokens=_count(cached),
            cache_write_tokens=_count(written),
        )
        dollars = price_usd(model, None, usage)
        prices[i] = float(dollars) if dollars else None
    return pl.Series(prices, dtype=pl.Float64)


def _count(tokens: float | None) -> int | None:
    return None if tokens is None or tokens != tokens else round(tokens)
