"""Outcomes to labels: for each answer the probability its evidence supports, with level, source and time.

"Unknown" is a value: an answer without evidence keeps a null label and is counted, never read as a failure;
and a diff that isn't the same says nothing at all.
"""

from __future__ import annotations

import polars as pl

from features.diffs.verdicts import COMPARED, SAME_LEVELS
from features.names import candidate_name
from training.labels.detail import similarity, weak
from training.labels.kinds import DERIVED, PAIRS
from training.labels.reliability import Reliability, combine, estimate

LABEL_COLUMNS = ("value", "level", "label_source", "label_ms", "kinds", "disagree", "verdict", "target")
SHADOW = "shadow"

# How an outcome may name what it is about, most exact first; it is about its most exact name only. A task
# needs its candidate too, because the same task is often tried by several.
_KEYS: tuple[tuple[str, ...], ...] = (("request_id",), ("session_id",), ("task_id", "candidate"))


def resolve(
    requests: pl.DataFrame, outcomes: pl.DataFrame, reliability: Reliability | None = None
) -> pl.DataFrame:
    """Labels in the order of `requests`.

    Columns: `value` (0..1 or null), `level`, `label_source` and `label_ms` of the strongest evidence, the
    `kinds` that spoke, whether they `disagree`, whether a `verdict` is among them (a kind that could have
    said the opposite), and `target`, what to train on: a score as it is, else the verdict; null without one,
    or at even odds. (The probability itself as a target draws every candidate to the mean, docs/FINDINGS.md.)
    Of one kind and source the most exact way of naming counts, then the latest. Outcomes
    without a value say nothing. `reliability` defaults to what these outcomes show of their own kinds.
    """
    keyed = requests.select("request_id", "session_id", "task_id", "candidate").with_row_index("row")
    evidence = gather(keyed, outcomes)
    labels = combine(evidence, reliability or estimate(evidence))
    return keyed.select("row").join(labels, on="row", how="left", maintain_order="left").select(LABEL_COLUMNS)


def shadowed(
    requests: pl.DataFrame, outcomes: pl.DataFrame, reliability: Reliability | None = None
) -> pl.DataFrame:
    """Labels of answers that other candidates gave to logged requests: `request_id`, `candidate`, the label.

    They come from paired outcomes, which name a request, the candidate that was tried, and the reference.
    """
    outcomes = named(outcomes)
    asked = named(requests.select("request_id", "candidate")).rename({"candidate": "own"})
    keyed = (
        outcomes.filter(is_pair() & (pl.col("candidate") != pl.col("reference")))
        .select("request_id", "candidate")
        .unique(maintain_order=True)
        .join(asked, on="request_id", how="inner", maintain_order="left")
        .filter(pl.col("candidate").ne_missing(pl.col("own")))
        .select("request_id", "candidate")
        .with_row_index("row")
    )
    theirs = _spoken(outcomes).filter("paired")
    evidence = _joined(keyed, theirs, ("request_id", "candidate"), 0).select(_EVIDENCE)
    labels = combine(evidence, reliability or Reliability())
    return keyed.join(labels, on="row", how="inner", maintain_order="left").select(
        "request_id", "candidate", *LABEL_COLUMNS
    )


_EVIDENCE = ("row", "kind", "source", "level", "v", "ts_ms", "how", "outcome_id")


def gather(keyed: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Evidence about the rows of `keyed` (`row` and what names it): one line for each kind and source.

    `v` is how much it says for success, 0..1; of a likeness it is the similarity.
    """
    spoken = _spoken(named(outcomes))
    own = named(keyed.select("row", "request_id", "session_id", "task_id", "candidate"))
    # A pair is about the candidate that it names, not about whoever answered the request.
    pairs = _joined(own, spoken.filter("paired"), ("request_id", "candidate"), 0)
    rest = spoken.filter(~pl.col("paired"))
    found = [pairs.select(_EVIDENCE)]
    for how, key in enumerate(_KEYS):
        unnamed = [pl.col(column).is_null() for earlier in _KEYS[:how] for column in earlier[:1]]
        mine = rest.filter(*unnamed) if unnamed else rest
        found.append(_joined(own, mine, key, how).select(_EVIDENCE))
    return (
        pl.concat(found)
        .sort("how", "ts_ms", "outcome_id", descending=[False, True, True])
        .unique(["row", "kind", "source"], keep="first", maintain_order=True)
        .sort("row", "kind", "source")
    )


def named(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the one name of each candidate in `candidate` and `reference`."""
    for column in ("candidate", "reference"):
        if column in frame.columns:
            names = {said: candidate_name(said) for said in frame[column].drop_nulls().unique()}
            frame = frame.with_columns(
                pl.col(column).replace_strict(names, default=None, return_dtype=pl.String)
            )
    return frame


def _joined(keyed: pl.DataFrame, spoken: pl.DataFrame, key: tuple[str, ...], how: int) -> pl.DataFrame:
    """Every outcome beside every row that it is about."""
    told = spoken.drop_nulls(list(key)).select(
        *key, "kind", "source", "level", "v", "ts_ms", "outcome_id", how=pl.lit(how, pl.Int8)
    )
    return keyed.select("row", *key).join(told, on=list(key), how="inner")


def is_pair() -> pl.Expr:
    """Whether an outcome compares two candidates' answers to one request."""
    named = pl.col("request_id").is_not_null() & pl.col("candidate").is_not_null()
    return named & pl.col("reference").is_not_null()


def compares() -> pl.Expr:
    """Whether an outcome says how like another diff an answer is: heard only where it went right.

    Beside a verdict it can but raise it, so that no mean of labels that hold it is unbiased.
    """
    return pl.col("level").is_in(COMPARED).fill_null(value=False)


def _spoken(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The outcomes that say something, with `kind`, `v` and whether they are `paired`."""
    level, value = pl.col("level"), pl.col("value")
    known = value.is_not_null() & value.is_between(0.0, 1.0)  # NaN isn't
    compared = level.is_in(COMPARED) | pl.col("source").is_in([SHADOW, PAIRS])
    same = level.is_in(SAME_LEVELS)
    kind = (
        pl.when(pl.col("source").is_in(list(DERIVED)))
        .then(pl.when(known).then("source"))
        .when(is_pair() & (pl.col("candidate") == pl.col("reference")))
        .then(pl.lit(None, pl.String))  # the reference against itself: how often it repeats itself, no label
        .when(same & weak())
        .then(pl.lit("same_lines"))
        .when(same & pl.col("reference").is_not_null())
        .then(pl.lit("same"))
        .when(same)
        .then(pl.lit("agreement"))
        .when(level == "L3")
        .then(pl.lit("similar"))
        .when(level.is_in(["tests", "L4"]) & known)
        .then(pl.lit("tests"))
        .when((level == "score") & known)
        .then(pl.lit("score"))
        .when(~compared & known)  # a value without a level is somebody's word
        .then(pl.lit("feedback"))
    )
    v = (
        pl.when(same)
        .then(1.0)
        .when(level == "L3")
        .then(pl.coalesce(pl.when(known).then(value), similarity()).clip(0.0, 1.0))
        .when(pl.col("source").is_in(list(DERIVED)))
        .then((value >= 0.5).cast(pl.Float64))
        .otherwise(value)
    )
    told = outcomes.with_columns(kind=kind, v=v, paired=is_pair() & compared)
    return told.filter(pl.col("kind").is_not_null() & pl.col("v").is_not_null())
