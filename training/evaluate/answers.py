"""Which answers to a task are the same, where the file tells: by digest, or by the diff judge for patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.evaluate.words import counted

if TYPE_CHECKING:
    import polars as pl

    from training.evaluate.options import Notes

# The first of these that is there as text decides.
ANSWER_COLUMNS = ("answer_digest", "fingerprint", "patch")


def with_answers(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Add `answer`: the same text for the same answer, null unknown; left out where no column tells."""
    import polars as pl

    name = next((c for c in ANSWER_COLUMNS if c in rows.columns and rows[c].null_count() < len(rows)), None)
    if name is None:
        return rows
    given = pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name))
    rows = rows.with_columns(answer=given)
    if name == "patch":
        texts = rows["answer"].drop_nulls().unique()
        digests = pl.DataFrame({"answer": texts, "_digest": [digest(text) for text in texts]})
        joined = rows.join(digests, on="answer", how="left", maintain_order="left")
        rows = joined.drop("answer").rename({"_digest": "answer"})
    unknown = rows["answer"].null_count()
    said = counted(unknown, f"of {counted(len(rows), 'row')} has", f"of {counted(len(rows), 'row')} have")
    notes.add("unknown_answer", unknown, f"{said} no answer in {name} that could agree with another")
    return rows


def digest(patch: str) -> str | None:
    """The diff judge's form of a patch, as a digest: equal where two patches are the same at L0, L1 or L2.

    Without the files themselves it is of the changed lines; None for what can't be read.
    """
    from features.diffs.fingerprint import fingerprint
    from features.diffs.patches import parse_patch

    levels = fingerprint(parse_patch(patch))
    return levels[-1] if levels else None
