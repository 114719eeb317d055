"""What a bundle believes of every call on every candidate; features are read from disk batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.names import candidate_name
from features.vector import featurize_frame
from models.batch import predict_many
from models.bundle import CandidateView
from router import prices
from router.arms import Learned
from router.describe import descriptor_of
from router.outlook import GROWTH_TOKENS
from training.log import LogStore
from training.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle import Bundle
    from models.descriptors import Prices
    from training.replay.arms import Arm, Arms
    from training.replay.book import Book

BATCH = 20_000  # calls whose features are in memory
MIN_CALLS = 30  # of a candidate in the log, before the lengths of its answers speak for it


class Beliefs(NamedTuple):
    """Beliefs (n, k) float32, NaN unknown."""

    p: np.ndarray  # success
    spread: np.ndarray  # width of its 90 % interval
    output: np.ndarray  # tokens
    turns: np.ndarray  # of the session after this one


def beliefs_of(log: Path, book: Book, arms: Arms, bundle: Bundle) -> Beliefs:
    """Ask the bundle about every call, in batches; a vector made by another encoder is unknown to it."""
    k = len(arms.arms)
    found = Beliefs(*(np.full((book.n, k), np.nan, dtype=np.float32) for _ in Beliefs._fields))
    place = book.frame["place"].to_numpy()
    row_of = np.full(int(place.max()) + 1, -1, dtype=np.int64)
    row_of[place] = np.arange(book.n)
    learned = Learned(bundle.profiles.values())
    scan = LogStore(log).scan("request").select("facts", "embedding", "encoder_digest", "task_type")
    start = 0
    with Progress("beliefs", book.n) as progress:
        for batch in scan.collect_batches(chunk_size=BATCH, maintain_order=True):
            ours = row_of[start : start + len(batch)]
            start += len(batch)
            ours = np.append(ours, np.full(len(batch) - len(ours), -1))
            played = batch.filter(pl.Series(ours >= 0))
            if len(played):
                _believe(found, ours[ours >= 0], played, bundle, (arms, learned, book))
                progress.advance(len(played))
    return found


def _believe(
    found: Beliefs,
    rows: np.ndarray,
    batch: pl.DataFrame,
    bundle: Bundle,
    about: tuple[Arms, Learned, Book],
) -> None:
    """Fill in the beliefs of one batch, efforts apart: a candidate is known under the effort asked for."""
    arms, learned, book = about
    features = _features(batch, bundle)
    types = batch["task_type"].to_list()
    effort = book.fact("effort")[rows]
    for asked in np.unique(effort):
        same = np.flatnonzero(np.isnan(effort) if np.isnan(asked) else effort == asked)
        said = None if np.isnan(asked) else float(asked)
        middle = int(book.ts_ms[rows[same[len(same) // 2]]])
        views = [_view(arm, learned, said, middle) for arm in arms.arms]
        out = predict_many(bundle, features[same], views, [types[i] for i in same])
        at = rows[same]
        found.p[at], found.spread[at] = out.p_success, out.p_success_high - out.p_success_low
        found.output[at], found.turns[at] = out.output_tokens, out.turns_left


def _features(batch: pl.DataFrame, bundle: Bundle) -> np.ndarray:
    """Features (m, d) float32 of a batch, as the bundle wants them."""
    scalars = featurize_frame(batch, embedding=None)
    dim = bundle.manifest.embedding_dim
    if not dim:
        return scalars
    matrix = np.full((len(batch), dim), np.nan, dtype=np.float32)
    own = pl.col("embedding").is_not_null() & (pl.col("embedding").list.len() == dim)
    own &= pl.col("encoder_digest").is_null() | (pl.col("encoder_digest") == bundle.manifest.encoder_digest)
    known = batch.select(own.fill_null(value=False))["embedding"].to_numpy()
    if known.any():
        vectors = batch.filter(pl.Series(known))["embedding"].explode().to_numpy()
        matrix[known] = vectors.reshape(-1, dim)
    return np.concatenate([scalars, matrix], axis=1)


def _view(arm: Arm, learned: Learned, effort: float | None, ts_ms: int) -> CandidateView:
    """Describe an arm to the bundle, as `router.arms.view` does at a decision."""
    known = learned.name(arm.name, arm.model, effort)
    rates = prices.rates(arm.model, arm.provider, ts_ms)
    pair: Prices = (None, None) if rates is None else (float(rates.input), float(rates.output))
    unseen = not learned.knows(known)
    said = descriptor_of(candidate_name(arm.name, effort), pair, arm.row) if unseen else None
    return CandidateView(known, pair[0], pair[1], said)


def lengths(book: Book, arms: Arms, beliefs: Beliefs) -> tuple[np.ndarray, dict[str, str]]:
    """Output tokens of every call on every arm (n, k), and in words how each arm's were told.

    What was logged stays. Another arm's answer is the logged one times what the bundle says of the two; where
    it says nothing, times the ratio of their mean answers in the log; without enough of those, as long.
    """
    rows, k = np.arange(book.n), len(arms.arms)
    calls = np.bincount(arms.logged, minlength=k)
    mean = np.bincount(arms.logged, weights=book.output, minlength=k) / np.maximum(calls, 1)
    own = beliefs.output[rows, arms.logged]
    out = np.repeat(book.output[:, None], k, axis=1)
    how: dict[str, str] = {}
    for i, arm in enumerate(arms.arms):
        ratio = beliefs.output[:, i] / own
        by_bundle = np.isfinite(ratio) & (own > 0)
        enough = (calls >= MIN_CALLS) & (mean > 0)
        by_log = np.where(
            enough[arms.logged] & bool(enough[i]), mean[i] / np.maximum(mean[arms.logged], 1), 1.0
        )
        others = arms.logged != i
        out[:, i] *= np.where(others, np.where(by_bundle, ratio, by_log), 1.0)
        words = {
            "the bundle": (others & by_bundle).sum(),
            "the log's mean answers": (others & ~by_bundle & enough[arms.logged] & bool(enough[i])).sum(),
            "as long as logged": (others & ~by_bundle & ~(enough[arms.logged] & bool(enough[i]))).sum(),
        }
        how[arm.name] = max(words, key=lambda word: words[word]) if others.any() else "as logged"
    return out, how


def prompts(book: Book, arms: Arms) -> np.ndarray:
    """Prompt tokens of every call on every arm (n, k): the log's count, by how finely each family cuts."""
    ratio = np.array([arm.bytes_per_token for arm in arms.arms])
    found: np.ndarray = book.prompt[:, None] * (ratio[arms.logged][:, None] / ratio[None, :])
    return found


def lengths_ahead(tokens: np.ndarray, beliefs: Beliefs) -> np.ndarray:
    """Prompts (n, k) halfway through the turns to come."""
    found: np.ndarray = np.round(tokens) + np.round(GROWTH_TOKENS * np.nan_to_num(beliefs.turns) / 2)
    return found
