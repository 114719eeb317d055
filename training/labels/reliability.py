"""Evidence combined: each kind's word in log-odds, stated beforehand or learned from where kinds overlap.

Dawid and Skene (1979) by EM: what is true is hidden, each kind is right with a rate of its own. A silent kind
says nothing, so silence is never held against an answer. With too little overlap the stated rates stand.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from training.calibrate import logit, sigmoid
from training.labels.kinds import ANCHOR, KINDS, VERDICTS

NAMES = tuple(KINDS)
_FAMILIES = tuple(dict.fromkeys(kind.family for kind in KINDS.values()))
_FAMILY = np.array([_FAMILIES.index(kind.family) for kind in KINDS.values()])
MIN_OVERLAP = 100  # rows on which a kind can be held against others
STATED_COUNT = 20.0  # rows that a stated rate counts for against what the log shows
STATED = tuple((kind.bad, kind.good) for kind in KINDS.values())
_VERDICTS = [NAMES.index(name) for name in VERDICTS]
_SWEEPS = 200
_BOUND = 12.0
_EVEN = 1e-9  # as near to even odds is no verdict


class Reliability(NamedTuple):
    """How right each kind is: P(success) at even odds if it says (bad, good), in the order of NAMES."""

    rates: tuple[tuple[float, float], ...] = STATED
    base: float = 0.5  # P(success) before any word
    overlap: int = 0  # rows on which they were learned; 0 = as stated
    learned: tuple[str, ...] = ()  # kinds that the log had something to say about


def combine(evidence: pl.DataFrame, reliability: Reliability) -> pl.DataFrame:
    """Evidence to labels, a line for each `row` that has any; the order of the evidence doesn't matter.

    A score is the definition of success and stands as it is. Otherwise log-odds add up, of each family the
    strongest word for and the strongest against, since words of one family repeat each other.
    """
    lines = evidence.sort("row", "kind", "source", "v")
    kind, v = _codes(lines)
    words = _words(kind, v, reliability)
    rows, where = np.unique(lines["row"].to_numpy(), return_inverse=True)
    value = sigmoid(_sum(where, kind, words, len(rows)) + float(logit(np.array(reliability.base))))
    anchor = kind == NAMES.index(ANCHOR)
    scored = np.bincount(where, anchor, len(rows))
    score = np.bincount(where, np.where(anchor, v, 0.0), len(rows)) / np.maximum(scored, 1)
    value = np.where(scored > 0, score, value)
    for_it, against = _any(where, _verdict(kind, v, words) > 0), _any(where, _verdict(kind, v, words) < 0)
    told = lines.with_columns(strength=pl.Series(np.where(anchor, np.inf, np.abs(words))))
    best = (
        told.sort("row", "strength", "ts_ms", "outcome_id", descending=[False, True, True, True])
        .group_by("row", maintain_order=True)
        .agg(
            pl.col("level").first(),
            label_source=pl.col("source").first(),
            label_ms=pl.col("ts_ms").first(),
            kinds=pl.col("kind").unique().sort(),
            verdict=pl.col("kind").is_in(list(VERDICTS)).any(),
        )
    )
    target = np.where(scored > 0, score, np.where(value > 0.5, 1.0, 0.0))
    told_apart = (scored > 0) | (np.abs(value - 0.5) > _EVEN)
    return best.with_columns(
        value=pl.Series(value),
        disagree=pl.Series(for_it & against),
        target=pl.when(pl.col("verdict") & pl.Series(told_apart)).then(pl.Series(target)),
    )


def estimate(evidence: pl.DataFrame, min_overlap: int = MIN_OVERLAP) -> Reliability:
    """How right each kind is, learned where it can be held against a score, or against tests and a person.

    Tests and persons themselves need scores: two witnesses alone can't tell who of them errs. The rows are
    chosen whether or not the kind spoke there: what only ever says bad would otherwise be compared with rows
    that are bad already.
    """
    kind, v = _codes(evidence)
    rows, where = np.unique(evidence["row"].to_numpy(), return_inverse=True)
    judged, usable = _judged(where, kind, len(rows))
    overlap = len(np.unique(where[usable]))
    if overlap < min_overlap:
        return Reliability()
    verdict = np.bincount(where, np.isin(kind, _VERDICTS), len(rows)) > 0
    current = Reliability()
    for _ in range(_SWEEPS):
        p = _posterior(where, kind, v, current)
        rates = tuple(_rate(place, (where, kind, v, p), judged) for place in range(len(NAMES)))
        base = float((p[verdict].sum() + 0.5 * STATED_COUNT) / (verdict.sum() + STATED_COUNT))
        moved = float(np.abs(np.array(rates) - np.array(current.rates)).max())
        current = Reliability(rates=rates, base=base)
        if moved < 1e-5:
            break
    n = np.bincount(kind[usable], minlength=len(NAMES))
    learned = tuple(name for name, seen in zip(NAMES, n, strict=True) if seen)
    return current._replace(overlap=overlap, learned=learned)


def overlap_of(evidence: pl.DataFrame) -> int:
    """On how many rows a kind can be held against others; with under MIN_OVERLAP nothing is learned."""
    rows, where = np.unique(evidence["row"].to_numpy(), return_inverse=True)
    return len(np.unique(where[_judged(where, _codes(evidence)[0], len(rows))[1]]))


def _judged(where: np.ndarray, kind: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Which families (rows, families) can be held against others where, and which lines (n,) are of those."""
    spoken = np.zeros((rows, len(_FAMILIES)), bool)
    spoken[where, _FAMILY[kind]] = True
    scored = spoken[:, _FAMILIES.index("score")]
    weighty = spoken[:, _FAMILIES.index("tests")] & spoken[:, _FAMILIES.index("person")]
    own = np.array([family in ("tests", "person") for family in _FAMILIES])
    judged = scored[:, None] | (weighty[:, None] & ~own)
    return judged, judged[where, _FAMILY[kind]] & (kind != NAMES.index(ANCHOR))


def _codes(evidence: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Kind (n,) as a place in NAMES, and v (n,)."""
    places = {name: place for place, name in enumerate(NAMES)}
    kind = evidence["kind"].replace_strict(places, return_dtype=pl.Int64).to_numpy()
    return kind, evidence["v"].to_numpy().astype(np.float64)


def _words(kind: np.ndarray, v: np.ndarray, reliability: Reliability) -> np.ndarray:
    """Log-odds (n,) of each line of evidence at even odds."""
    rates = np.array(reliability.rates)[kind]
    words: np.ndarray = np.clip(logit(v * rates[:, 1] + (1 - v) * rates[:, 0]), -_BOUND, _BOUND)
    return words


def _verdict(kind: np.ndarray, v: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The sign (n,) of what a line says; a score in the middle says neither."""
    said: np.ndarray = np.sign(np.where(kind == NAMES.index(ANCHOR), v - 0.5, words).round(9))
    return said


def _sum(where: np.ndarray, kind: np.ndarray, words: np.ndarray, n: int) -> np.ndarray:
    """Log-odds (n,) of each row: of each family the strongest word for, and the strongest against."""
    best, worst = np.zeros((2, n, len(_FAMILIES)))
    np.maximum.at(best, (where, _FAMILY[kind]), words)
    np.minimum.at(worst, (where, _FAMILY[kind]), words)
    total: np.ndarray = best.sum(axis=1) + worst.sum(axis=1)
    return total


def _any(where: np.ndarray, mask: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.bincount(where, mask, where.max(initial=-1) + 1) > 0
    return found


def _posterior(where: np.ndarray, kind: np.ndarray, v: np.ndarray, current: Reliability) -> np.ndarray:
    """P(success) (rows,) by all the words; a score is what it is."""
    n = int(where.max()) + 1
    p = sigmoid(_sum(where, kind, _words(kind, v, current), n) + float(logit(np.array(current.base))))
    anchor = kind == NAMES.index(ANCHOR)
    scored = np.bincount(where, anchor, n)
    score = np.bincount(where, np.where(anchor, v, 0.0), n) / np.maximum(scored, 1)
    return np.where(scored > 0, score, p)


def _rate(
    place: int, lines: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], judged: np.ndarray
) -> tuple[float, float]:
    """One kind's (bad, good) by the posterior of its judged rows, drawn to the stated ones."""
    where, kind, v, p = lines
    stated = STATED[place]
    rows = judged[:, _FAMILY[place]]
    if NAMES[place] == ANCHOR or not rows.any():
        return stated
    prior = float(logit(np.array((p[rows].sum() + 0.5) / (rows.sum() + 1.0))))
    mine = (kind == place) & rows[where]
    pair = []
    for good, told in ((0, 1 - v[mine]), (1, v[mine])):
        if stated[good] == 0.5:  # it can't say this
            pair.append(0.5)
            continue
        drawn = float(sigmoid(np.array(logit(np.array(stated[good])) + prior)))
        right = (float(told @ p[where[mine]]) + STATED_COUNT * drawn) / (told.sum() + STATED_COUNT)
        rate = float(sigmoid(logit(np.array(right)) - prior))
        pair.append(max(rate, 0.5) if good else min(rate, 0.5))
    return pair[0], pair[1]
