"""Answers as rows for the heads after the answer: beside the reference's diff, or out of a log.

A log tells *same* and *not the same* of shadow pairs alone: two logged answers whose digests differ may still
be the same diff, and rows heard of only when they went one way teach nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import polars as pl

from features.answerfacts import AFTER_NAMES, EDIT_NAMES, AnswerFacts, after_vector, totals_of
from features.diffs.judge import judge
from features.diffs.verdicts import ORDER
from features.editfacts import facts_of_edit
from features.facts import Facts
from features.names import candidate_name
from training.after.rows import AfterRows
from training.dataset import candidates_of
from training.labels import resolve
from training.labels.kinds import PAIRS
from training.labels.resolve import is_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from features.diffs.edits import Edit
    from training.log import LogStore

_LEVELS = ORDER[:-1]  # what a judge says; "unknown" is no row
_SAME = ORDER[: ORDER.index("L3")]
_COLUMNS = (
    *("request_id", "session_id", "parent_session_id", "task_id", "repo", "harness", "source", "ts_ms"),
    *("candidate", "model_served", "model_requested", "effort", "facts", "answer"),
)


class Request(NamedTuple):
    """One request that several candidates answered: its group, the reference's edit, theirs by candidate."""

    group: str
    reference: Edit
    answers: Mapping[str, Edit]


def same_as_reference(request: Request) -> dict[str, float]:
    """Whether each candidate's edit is the reference's diff at L0 to L2: 1 or 0, NaN where unknown."""
    found = {}
    for candidate, edit in request.answers.items():
        level = judge(request.reference, edit).level
        found[candidate] = float("nan") if level == "unknown" else float(level in _SAME)
    return found


def rows_of_diffs(
    requests: Sequence[Request],
    target: Sequence[Mapping[str, float]],
    others: Sequence[Mapping[str, Sequence[str]]] | None = None,
) -> AfterRows:
    """Every answer with its `target` by request and candidate, nothing being known of its run.

    `others` names, likewise, whose answers each may be compared with; then those with none are left out.
    """
    facts, known, names, groups = [], [], [], []
    for number, request in enumerate(requests):
        for candidate, edit in request.answers.items():
            beside = [] if others is None else [request.answers[n] for n in others[number].get(candidate, ())]
            if others is None or beside:
                facts.append(facts_of_edit(edit, beside))
                known.append(target[number][candidate])
                names.append(candidate)
                groups.append(request.group)
    features = after_vector(facts, [None] * len(facts))[:, : len(EDIT_NAMES)]
    unknown = np.full(len(facts), np.nan)
    return AfterRows(features, EDIT_NAMES, np.array(known), unknown, np.array(names), np.array(groups))


def rows_of_log(log: LogStore) -> dict[str, AfterRows]:
    """Judged answers of a log by question: "same" as the reference's diff, and "success".

    Answers whose facts the log doesn't hold (an older log, or `log.prompts` = "none") are no rows.
    """
    outcomes = log.scan("outcome").collect()
    asked = outcomes.filter(is_pair())["request_id"].unique()
    known = pl.col("answer").is_not_null() | pl.col("request_id").is_in(asked.implode())
    requests = log.scan("request").select(_COLUMNS).filter(known).collect()
    requests = requests.with_columns(
        candidate=candidates_of(requests),
        group=pl.coalesce("repo", "task_id", "parent_session_id", "session_id"),
    )
    requests = requests.with_columns(resolve(requests, outcomes)["target"])
    answered = requests.filter(pl.col("answer").is_not_null(), pl.col("candidate").is_not_null())
    calls = answered.filter(pl.col("source") == "shadow")
    own = answered.filter(pl.col("source") != "shadow")
    success = own.with_columns(reference_target=pl.lit(None, pl.Float64)).filter(
        pl.col("target").is_not_null()
    )
    return {"same": _rows(_pairs(requests, calls, outcomes), "same"), "success": _rows(success, "target")}


def _pairs(requests: pl.DataFrame, calls: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """One row for each answer that a judge held against the reference's, with what was known when it came."""
    judged = outcomes.filter(
        is_pair(),
        pl.col("candidate") != pl.col("reference"),
        pl.col("level").is_in(_LEVELS),
        pl.col("source") != PAIRS,
    )
    told = judged.select(
        "request_id",
        call=pl.Series([_call(detail) for detail in judged["detail"]], dtype=pl.String),
        candidate=_named(judged["candidate"]),
        reference=_named(judged["reference"]),
        same=pl.col("level").is_in(_SAME).cast(pl.Float64),
    )
    answers = calls.sort("ts_ms").select(
        "answer", call=pl.col("request_id").str.replace(r"_\d+$", "")
    )  # a call asked again counts as it came last
    asked = requests.select(
        "request_id", "group", "harness", "facts", own="candidate", own_target="target"
    ).unique("request_id", keep="first", maintain_order=True)
    return (
        told.join(answers.unique("call", keep="last"), on="call", how="inner", maintain_order="left")
        .join(asked, on="request_id", how="inner", maintain_order="left")
        .with_columns(reference_target=pl.when(pl.col("own") == pl.col("reference")).then("own_target"))
    )


def _named(names: pl.Series) -> pl.Series:
    return pl.Series([candidate_name(name) for name in names], dtype=pl.String)


class _Detail(msgspec.Struct):
    call: str = ""


def _call(detail: str | None) -> str:
    """The shadow call that an outcome is about."""
    try:
        return msgspec.json.decode(detail or "{}", type=_Detail).call
    except msgspec.DecodeError:
        return ""


def _rows(frame: pl.DataFrame, target: str) -> AfterRows:
    answers = [AnswerFacts(**plain) for plain in frame["answer"]]
    runs = [None if plain is None else totals_of(Facts(**plain)) for plain in frame["facts"]]
    return AfterRows(
        after_vector(answers, runs),
        AFTER_NAMES,
        frame[target].cast(pl.Float64).to_numpy(),
        frame["reference_target"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        frame["candidate"].to_numpy(),
        frame["group"].to_numpy(),
        frame["harness"].fill_null("").to_numpy(),
    )
