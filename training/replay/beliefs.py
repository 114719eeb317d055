"""What a bundle believes of every call on every candidate; features are read from disk batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.context import model_family
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
EARLY, ROUNDS = 6, 20  # turns told apart at the beginning of a session; rounds of fitting
RATIOS = (0.1, 10.0)  # of two candidates' answers; what lies beyond is no belief


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


def lengths(
    book: Book, arms: Arms, beliefs: Beliefs, *, own_bundle: bool
) -> tuple[np.ndarray, dict[str, str]]:
    """Output tokens of every call on every arm (n, k), and in words how each arm's were told.

    What was logged stays. Another arm's answer is the logged one times what a bundle of one's own says of the
    two; else times the ratio of their answers in the log, to calls alike; else by the prior; else as long.
    """
    rows, k = np.arange(book.n), len(arms.arms)
    calls = np.bincount(arms.logged, minlength=k)
    mean = _usual(book, arms)
    own = beliefs.output[rows, arms.logged]
    out = np.repeat(book.output[:, None], k, axis=1)
    enough = (calls >= MIN_CALLS) & (mean > 0)
    how: dict[str, str] = {}
    for i, arm in enumerate(arms.arms):
        with np.errstate(divide="ignore", invalid="ignore"):
            said = beliefs.output[:, i] / own
        by_bundle = np.isfinite(said) & (own > 0)
        by_log = enough[arms.logged] & bool(enough[i])
        by_bundle &= ~by_log | own_bundle
        of_log = mean[i] / np.maximum(mean[arms.logged], 1e-9)
        others = arms.logged != i
        ratio = np.where(by_bundle, np.clip(np.nan_to_num(said), *RATIOS), np.where(by_log, of_log, 1.0))
        out[:, i] *= np.where(others, ratio, 1.0)
        words = {
            "the bundle": int((others & by_bundle).sum()),
            "their answers in the log": int((others & ~by_bundle & by_log).sum()),
            "as long as logged": int((others & ~by_bundle & ~by_log).sum()),
        }
        how[arm.name] = max(words, key=lambda word: words[word]) if others.any() else "as logged"
    return out, how


def _usual(book: Book, arms: Arms) -> np.ndarray:
    """How long each arm's answers (k,) are beside others' to calls of the same kind, in any one unit.

    Answers are taken as arm × kind (type of task, tool loop, early or late in the session): Poisson's
    likelihood, by iterative proportional fitting, so that who gets the long tasks doesn't pass for wordy.
    """
    k = len(arms.arms)
    turn = np.arange(book.n) - book.starts[book.session]
    types = np.unique(book.frame["task_type"].fill_null("").to_numpy(), return_inverse=True)[1]
    loop = np.nan_to_num(book.fact("in_tool_loop")).astype(np.int64)
    kind = np.unique((types * 2 + loop) * EARLY + np.minimum(turn, EARLY - 1), return_inverse=True)[1]
    of_arm, of_kind = np.ones(k), np.ones(int(kind.max()) + 1)
    for _ in range(ROUNDS):
        expected = np.bincount(kind, weights=of_arm[arms.logged], minlength=len(of_kind))
        of_kind = np.bincount(kind, weights=book.output, minlength=len(of_kind)) / np.maximum(expected, 1e-9)
        expected = np.bincount(arms.logged, weights=of_kind[kind], minlength=k)
        of_arm = np.bincount(arms.logged, weights=book.output, minlength=k) / np.maximum(expected, 1e-9)
    return of_arm


def prompts(book: Book, arms: Arms) -> np.ndarray:
    """Prompt tokens of every call on every arm (n, k): the log's count, by how finely each family cuts.

    Bytes per token are those that the log itself shows of a family's calls, else the usual ones.
    """
    known = np.isfinite(book.fact("body_bytes")) & (book.prompt > 0) & ~book.run
    families, of_arm = np.unique([model_family(arm.model) for arm in arms.arms], return_inverse=True)
    family = of_arm[arms.logged[known]]
    calls = np.bincount(family, minlength=len(families))
    size = np.bincount(family, weights=book.fact("body_bytes")[known], minlength=len(families))
    tokens = np.bincount(family, weights=book.prompt[known], minlength=len(families))
    usual = np.array([arm.bytes_per_token for arm in arms.arms])
    enough = calls >= MIN_CALLS
    ratio = np.where(enough[of_arm], (size / np.maximum(tokens, 1))[of_arm], usual)
    found: np.ndarray = book.prompt[:, None] * (ratio[arms.logged][:, None] / ratio[None, :])
    return found


def lengths_ahead(tokens: np.ndarray, beliefs: Beliefs) -> np.ndarray:
    """Prompts (n, k) halfway through the turns to come."""
    found: np.ndarray = np.round(tokens) + np.round(GROWTH_TOKENS * np.nan_to_num(beliefs.turns) / 2)
    return found
