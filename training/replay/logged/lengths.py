"""What shadow answers tell of the length of answers, and how far from the truth the lengths told may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import stdtrit

from features.names import candidate_name
from training.labels.resolve import SHADOW
from training.log import LogStore
from training.replay.logged.beliefs import MIN_CALLS, Sizes, families_of, kinds_of_task, usual_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from training.replay.logged.arms import Arms
    from training.replay.logged.beliefs import Beliefs
    from training.replay.logged.calls import Book

# Spread (of logarithms) of how wordy candidates are beside what is believed of them, and how many candidates
# that guess counts as; the log's own served candidates outvote it.
GUESSED, GUESSES = 0.5, 2
_Z = 1.959964
_SHADOWED = r"^shadow/[^/]+/(.+)$"  # the session of a shadow call names the request that was asked again


def answers_of(log: Path) -> pl.DataFrame:
    """Shadow answers of a log: `request_id` asked again, `candidate`, tokens of `prompt` and `output`."""
    parts = ("input_tokens_uncached", "cached_tokens", "cache_write_tokens")
    return (
        LogStore(log)
        .scan("request")
        .filter(
            (pl.col("source") == SHADOW)
            & pl.col("status").is_in(["ok", "truncated"])
            & (pl.col("output_tokens") > 0)
        )
        .select(
            pl.col("session_id").str.extract(_SHADOWED).alias("request_id"),
            "candidate",
            prompt=pl.sum_horizontal(parts).cast(pl.Float64),
            output=pl.col("output_tokens").cast(pl.Float64),
        )
        .drop_nulls()
        .collect()
    )


def with_shadows(sizes: Sizes, book: Book, arms: Arms, answers: pl.DataFrame) -> Sizes:
    """The sums of a part, and those of shadow answers to its calls: each is of the kind of the call asked."""
    rows = book.frame.select("request_id").with_row_index("row_")
    mine = answers.join(rows, on="request_id", how="inner")
    found = {name: arms.find(candidate_name(name)) for name in mine["candidate"].unique()}
    at = np.array([-1 if (i := found[name]) is None else i for name in mine["candidate"]], dtype=np.int64)
    known = at >= 0
    arm, row = at[known], mine["row_"].to_numpy().astype(np.int64)[known]
    output, prompt = (mine[name].to_numpy()[known] for name in ("output", "prompt"))
    k, kinds = sizes.calls.shape
    cell = arm * kinds + kinds_of_task(book, sizes.types)[row]
    family, count = families_of(arms)
    size = book.fact("body_bytes")[row]
    told = np.isfinite(size) & (prompt > 0)
    weights = np.ones(int(told.sum())), size[told], prompt[told]
    of_family = family[arm[told]]
    asked = np.bincount(cell, minlength=k * kinds).reshape(k, kinds).astype(float)
    return sizes.plus(
        Sizes(
            np.stack([np.bincount(of_family, weight, count) for weight in weights]),
            asked,
            np.bincount(cell, output, k * kinds).reshape(k, kinds),
            np.bincount(cell, output**2, k * kinds).reshape(k, kinds),
            asked.sum(axis=1),
            sizes.types,
        )
    )


def doubts_of(sizes: Sizes, beliefs: Iterable[Beliefs]) -> np.ndarray:
    """Relative standard error (k,) of how long each arm's answers to others' calls are.

    Where its own answers told it, it is theirs; else it is what the beliefs miss by on the candidates that
    the log tells of, each beside the others, on logarithms and by Student as these are few.
    """
    enough = sizes.calls.sum(axis=1) >= MIN_CALLS
    mean = usual_lengths(sizes)
    enough &= mean > 0
    of_kind = sizes.output.sum(axis=0) / np.maximum(mean @ sizes.calls, 1e-9)
    fit = mean[:, None] * of_kind[None, :]
    off = (sizes.square - 2 * fit * sizes.output + sizes.calls * fit**2).sum(axis=1)
    own = np.sqrt(np.maximum(off, 0.0)) / np.maximum((sizes.calls * fit).sum(axis=1), 1e-9)
    return np.where(enough, own, _missed(mean, enough, beliefs))


def _missed(mean: np.ndarray, enough: np.ndarray, beliefs: Iterable[Beliefs]) -> float:
    """What beliefs of lengths miss by on arms that the log tells of, as a standard error of one more arm."""
    logs = np.zeros((2, len(mean)))
    for part in beliefs:
        output = part.output.astype(np.float64)  # sums are the log's, however it is cut
        told = np.log(np.where(output > 0, output, np.nan))
        logs += np.isfinite(told).sum(axis=0), np.nansum(told, axis=0)
    known = enough & (logs[0] > 0)
    many = int(known.sum())
    apart = logs[1][known] / logs[0][known] - np.log(mean[known])
    free = max(many - 1, 0) + GUESSES
    square = (GUESSES * GUESSED**2 + float(((apart - apart.mean()) ** 2).sum() if many else 0.0)) / free
    student = float(stdtrit(free, 0.975)) / _Z
    return student * float(np.sqrt(square * (1 + 1 / max(many, 1))))


def felt(wrote: np.ndarray | None, doubts: np.ndarray | None, clusters: int) -> np.ndarray | float:
    """What is added to the USD (C,) of so many `clusters` so that sums drawn again vary by these doubts, too.

    It adds up to nothing, and is the same for all policies that an arm's answers are in.
    """
    if wrote is None or doubts is None or clusters < 2:
        return 0.0
    total = np.zeros(clusters)
    for arm in np.flatnonzero(wrote * doubts):
        some = np.random.default_rng([int(arm), clusters]).normal(size=clusters)
        some -= some.mean()
        total += wrote[arm] * doubts[arm] * some / np.sqrt((some**2).sum())
    return total
