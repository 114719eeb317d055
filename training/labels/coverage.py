"""What a log's evidence covers, where it disagrees, how far it can be believed, and what it supports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import polars as pl
from scipy.stats import beta

from features.diffs.verdicts import SAME_LEVELS
from training.labels.kinds import KINDS, MIN_LABELLED, PAIRS
from training.labels.noise import RerunNoise, rerun_noise
from training.labels.reliability import NAMES, Reliability, combine, estimate
from training.labels.resolve import SHADOW, gather, is_pair, named, shadowed

if TYPE_CHECKING:
    from pathlib import Path

    from training.log import AppendCount

CONFIDENCE = 0.95
WORTH_CERTIFYING = 0.05  # worse by this much is what one would still sign
_NEVER_BAD = [name for name, kind in KINDS.items() if kind.bad == 0.5]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests one kind of evidence speaks of, at one level and from one source."""

    kind: str
    level: str
    source: str
    requests: int
    share: float
    good: int
    bad: int
    rate_good: float  # P(success) that its word stands for, at even odds
    rate_bad: float
    learned: bool  # from this log, or as stated


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests a candidate's answer was compared on with the reference's, at one level."""

    candidate: str
    reference: str
    level: str
    source: str
    requests: int
    share: float


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """Two kinds that spoke of the same requests: how often they said the same."""

    a: str
    b: str
    both: int
    agree: int


class Support(msgspec.Struct, frozen=True, kw_only=True):
    """What one candidate's labels are good for."""

    candidate: str
    labelled: int
    verdicts: int  # by a score, tests or a person
    bad: int  # of those, below one half
    at_most_bad: float | None  # upper 95 % limit of P(bad) by Clopper and Pearson
    pairs: int  # answers compared with another's
    same: int
    levels: dict[str, int]  # of the pairs


class LabelReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `samediff label` found."""

    log: str
    added: int
    known_already: int
    requests: int
    labelled: int
    unknown: int
    disagreeing: int
    coverage: list[Coverage]
    compared: list[Compared]
    clashes: list[Clash]
    support: list[Support]
    overlap: int  # requests on which reliabilities were learned; 0 = as stated
    base_rate: float | None
    noise: RerunNoise | None
    shadow_labels: int  # of answers that other candidates gave to these requests
    without_value: int  # outcomes that compare or tell, and leave success open
    unmatched: int  # outcomes with a value about requests, sessions or tasks that the log doesn't hold
    verdict: str


def report_on(log: Path, requests: pl.DataFrame, outcomes: pl.DataFrame, count: AppendCount) -> LabelReport:
    """The report on a log's requests and outcomes, by the same labels that training takes."""
    outcomes = named(outcomes)
    keyed = requests.select("request_id", "session_id", "task_id", "candidate").with_row_index("row")
    evidence = gather(keyed, outcomes)
    reliability = estimate(evidence)
    labels = combine(evidence, reliability)
    others = shadowed(requests, outcomes, reliability)
    labelled = keyed.join(labels, on="row", how="inner")
    support = _support(pl.concat([labelled, others], how="diagonal"), outcomes)
    scores = evidence.filter(pl.col("kind") == "score").select("row", success="v")
    return LabelReport(
        log=str(log),
        added=count.added,
        known_already=count.duplicates,
        requests=len(requests),
        labelled=len(labelled),
        unknown=len(requests) - len(labelled),
        disagreeing=int(labelled["disagree"].sum()),
        coverage=_coverage(evidence, len(requests), reliability),
        compared=_compared(outcomes, len(requests)),
        clashes=_clashes(evidence),
        support=support,
        overlap=reliability.overlap,
        base_rate=reliability.base if reliability.overlap else None,
        noise=rerun_noise(keyed.join(scores, on="row", how="inner")),
        shadow_labels=len(others),
        without_value=outcomes["value"].null_count(),
        unmatched=_unmatched(requests, outcomes),
        verdict=_verdict(support),
    )


def _coverage(evidence: pl.DataFrame, n: int, reliability: Reliability) -> list[Coverage]:
    """A line for each kind, level and source, the widest first."""
    counted = (
        evidence.group_by("kind", "level", "source")
        .agg(
            requests=pl.col("row").n_unique(),
            good=((pl.col("v") >= 0.5) | pl.col("kind").is_in(_NEVER_BAD)).sum(),
            rows=pl.len(),
        )
        .sort("requests", "kind", "level", "source", descending=[True, False, False, False])
    )
    rates = dict(zip(NAMES, reliability.rates, strict=True))
    return [
        Coverage(
            kind=row["kind"],
            level=row["level"],
            source=row["source"],
            requests=row["requests"],
            share=row["requests"] / n,
            good=row["good"],
            bad=row["rows"] - row["good"],
            rate_good=rates[row["kind"]][1],
            rate_bad=rates[row["kind"]][0],
            learned=row["kind"] in reliability.learned,
        )
        for row in counted.iter_rows(named=True)
    ]


def _compared(outcomes: pl.DataFrame, n: int) -> list[Compared]:
    """A line for each candidate beside a reference, the reference itself included, and each level."""
    counted = (
        outcomes.filter(is_pair())
        .group_by("candidate", "reference", "level", "source")
        .agg(requests=pl.col("request_id").n_unique())
        .sort("candidate", "reference", "source", "requests", descending=[False, False, False, True])
    )
    return [Compared(**row, share=row["requests"] / n) for row in counted.iter_rows(named=True)]


def _clashes(evidence: pl.DataFrame) -> list[Clash]:
    """Every two kinds that meet on a request and could have said the opposite, the most often met first."""
    said = evidence.select("row", "kind", good=(pl.col("v") >= 0.5) | pl.col("kind").is_in(_NEVER_BAD))
    said = said.group_by("row", "kind").agg(pl.col("good").mean() >= 0.5)
    met = (
        said.join(said, on="row", suffix="_b")
        .filter(pl.col("kind") < pl.col("kind_b"))
        .group_by("kind", "kind_b")
        .agg(both=pl.len(), agree=(pl.col("good") == pl.col("good_b")).sum())
        .sort("both", "kind", "kind_b", descending=[True, False, False])
    )
    return [Clash(a=a, b=b, both=both, agree=agree) for a, b, both, agree in met.iter_rows()]


def _support(labelled: pl.DataFrame, outcomes: pl.DataFrame) -> list[Support]:
    """What each candidate's labels support; whoever has the most verdicts first."""
    verdict = pl.col("verdict")
    by_candidate = labelled.group_by("candidate").agg(
        labelled=pl.len(), verdicts=verdict.sum(), bad=(verdict & (pl.col("value") < 0.5)).sum()
    )
    compared = pl.col("source").is_in([SHADOW, PAIRS]) & pl.col("candidate").ne_missing(pl.col("reference"))
    pairs = (
        outcomes.filter(compared)
        .group_by("candidate")
        .agg(pairs=pl.len(), same=pl.col("level").is_in(SAME_LEVELS).sum())
    )
    by_level: dict[str, dict[str, int]] = {}
    counts = outcomes.filter(compared).group_by("candidate", "level").len().sort("candidate", "level")
    for candidate, level, n in counts.iter_rows():
        by_level.setdefault(candidate, {})[level] = n
    joined = (
        by_candidate.join(pairs, on="candidate", how="full", coalesce=True)
        .with_columns(pl.exclude("candidate").fill_null(0))
        .drop_nulls("candidate")
        .sort("verdicts", "labelled", "candidate", descending=[True, True, False])
    )
    return [
        Support(
            **row,
            at_most_bad=upper_limit(row["bad"], row["verdicts"]),
            levels=by_level.get(row["candidate"], {}),
        )
        for row in joined.iter_rows(named=True)
    ]


def upper_limit(bad: int, n: int, confidence: float = CONFIDENCE) -> float | None:
    """One-sided Clopper–Pearson limit of a rate with `bad` of `n`; None of nothing."""
    if n == 0:
        return None
    return 1.0 if bad >= n else float(beta.ppf(confidence, bad + 1, n - bad))


def clean_needed(at_most: float = WORTH_CERTIFYING, confidence: float = CONFIDENCE) -> int:
    """How many verdicts without a bad one certify a rate of at most `at_most`."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - at_most))


def _unmatched(requests: pl.DataFrame, outcomes: pl.DataFrame) -> int:
    """Outcomes with a value whose most exact name the log doesn't hold."""
    told = outcomes.filter(pl.col("value").is_not_null() & (pl.col("source") != SHADOW)).select(
        "request_id", "session_id", "task_id"
    )
    by_request = pl.col("request_id").is_not_null()
    by_session = ~by_request & pl.col("session_id").is_not_null()
    known = (
        pl.when(by_request)
        .then(pl.col("request_id").is_in(requests["request_id"].implode()))
        .when(by_session)
        .then(pl.col("session_id").is_in(requests["session_id"].implode()))
        .otherwise(pl.col("task_id").is_in(requests["task_id"].drop_nulls().implode()).fill_null(value=False))
    )
    return len(told.filter(~known))


def _verdict(support: list[Support]) -> str:
    """What all of it supports, in one sentence."""
    verdicts = sum(line.verdicts for line in support)
    if verdicts < MIN_LABELLED:
        return (
            f"nothing to train on yet: {verdicts} answers with a verdict of tests, a person or a score, "
            f"{MIN_LABELLED} are the least; let agents run tests, or post to /v1/outcomes"
        )
    able = [line for line in support if (line.at_most_bad or 1.0) <= WORTH_CERTIFYING]
    if able:
        return "enough to certify: " + ", ".join(
            f"{line.candidate} (at most {line.at_most_bad:.1%} bad, {line.verdicts} verdicts)"
            for line in able
        )
    return (
        f"{verdicts} verdicts: enough to train on; no candidate can be certified at {WORTH_CERTIFYING:.0%} "
        f"yet, which takes {clean_needed()} verdicts without a bad one, or more with some"
    )
