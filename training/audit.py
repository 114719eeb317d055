"""What labelled rows hold that would spoil learning: refused in one line, or set right and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_CANDIDATES = 1_000  # more are ids in the wrong column; a table of them would fill the memory
MAX_TASK_TYPES = 256  # the most frequent; a type of a few rows says nothing of its own
FEW_ROWS = 20  # a candidate with fewer is believed to be about what its likes are
NAMED = 5  # examples in a message


class Oddities(msgspec.Struct, frozen=True, kw_only=True):
    """What was found odd, and learned from all the same."""

    folded_task_types: int = 0  # rare ones, whose rows count as of no known type
    folded_rows: int = 0
    repeated_pairs: int = 0  # (task, candidate) pairs with several labelled requests
    disagreeing_pairs: int = 0  # of these, whose labels differ: reruns flip, or a table was joined twice
    few_rows: dict[str, int] = {}  # candidates with under FEW_ROWS rows, and how many
    unpriced: list[str] = []  # candidates of no published price: their cost is unknown


def audited(place: object, rows: pl.DataFrame) -> tuple[pl.DataFrame, Oddities]:
    """Labelled rows fit to be learned from, and what was odd about them.

    Reads `candidate`, `task_id`, `task_type` and `target`. Raises BadInput where all labels say the same, or
    where there are too many candidates for them to be models.
    """
    count = rows["candidate"].n_unique()
    if count > MAX_CANDIDATES:
        raise BadInput(
            f"{place}: {count:,} different models, at most {MAX_CANDIDATES:,}; that looks like ids: "
            "ingest again with `--map model=COLUMN`"
        )
    targets = rows["target"]
    if targets.n_unique() == 1:
        what = {1.0: "a success", 0.0: "a failure"}.get(targets[0], f"{targets[0]:g}")
        raise BadInput(
            f"{place}: all {len(rows):,} labels say {what}, which tells no candidate from another; ingest "
            "outcomes that went the other way too, as a table's `success` or through /v1/outcomes"
        )
    by_size = (
        rows.drop_nulls("task_type").group_by("task_type").len().sort("len", "task_type", descending=True)
    )
    rare = by_size[MAX_TASK_TYPES:]
    kept = rows
    if len(rare):
        known = ~pl.col("task_type").is_in(rare["task_type"].implode())
        kept = rows.with_columns(task_type=pl.when(known).then("task_type"))
    pairs = (
        rows.drop_nulls("task_id")
        .group_by("task_id", "candidate")
        .agg(pl.len(), said=pl.col("target").n_unique())
    ).filter(pl.col("len") > 1)
    sizes = rows.group_by("candidate").len().filter(pl.col("len") < FEW_ROWS).sort("candidate")
    return kept, Oddities(
        folded_task_types=len(rare),
        folded_rows=int(rare["len"].sum()),
        repeated_pairs=len(pairs),
        disagreeing_pairs=len(pairs.filter(pl.col("said") > 1)),
        few_rows=dict(sizes.iter_rows()),
    )


def described(odd: Oddities) -> Iterator[str]:
    """A line for each kind of oddity, for people."""
    if odd.folded_task_types:
        yield (
            f"! {odd.folded_task_types:,} rare task types ({odd.folded_rows:,} rows) count as unknown: "
            f"the {MAX_TASK_TYPES} most frequent are learned"
        )
    if odd.disagreeing_pairs:
        yield (
            f"! {odd.disagreeing_pairs:,} of {odd.repeated_pairs:,} (task, model) pairs of several requests "
            "have labels that disagree: each counts as it is; was a table joined twice?"
        )
    if odd.few_rows:
        rows = [f"{name} ({n})" for name, n in odd.few_rows.items()]
        yield f"! under {FEW_ROWS} rows, so believed to be about like the others: {_some(rows)}"
    if odd.unpriced:
        yield (
            f"! no price is known of {_some(odd.unpriced)}: what a call would cost can't be told, so `auto` "
            "doesn't choose them"
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
