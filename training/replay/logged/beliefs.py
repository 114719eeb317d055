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

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.descriptors import Prices
    from training.replay.logged.arms import Arm, Arms
    from training.replay.logged.calls import Book

BATCH = 20_000  # calls whose features are in memory
MIN_CALLS = 30  # of a candidate in the log, before the lengths of its answers speak for it
EARLY, ROUNDS = 6, 20  # turns told apart at the beginning of a session; rounds of fitting
HALF_A_MONTH_MS = 15 * 86_400_000
HOW = ("the bundle", "their answers in the log", "their shadow answers", "as long as logged")
RATIOS = (0.1, 10.0)  # of two candidates' answers; what lies beyond is no belief


class Beliefs(NamedTuple):
    """Beliefs (n, k) float32, NaN unknown."""

    p: np.ndarray  # success
    spread: np.ndarray  # width of its 90 % interval
    output: np.ndarray  # tokens
    turns: np.ndarray  # of the session after this one
    low: np.ndarray  # where that interval of success begins


def beliefs_of(requests: pl.LazyFrame, book: Book, arms: Arms, bundle: Bundle) -> Beliefs:
    """Ask the bundle about every call of a part, in batches of its `requests`.

    A vector made by another encoder is unknown to it.
    """
    k = len(arms.arms)
    found = Beliefs(*(np.full((book.n, k), np.nan, dtype=np.float32) for _ in Beliefs._fields))
    rows = book.frame.select("request_id").with_row_index("row_")
    wanted = ("request_id", "facts", "embedding", "encoder_digest", "task_type")
    for batch in requests.select(*wanted).collect_batches(chunk_size=BATCH, maintain_order=True):
        played = batch.join(rows, on="request_id", how="inner", maintain_order="left")
        if len(played):
            _believe(found, played["row_"].to_numpy().astype(np.int64), played, bundle, (arms, book))
    return found


def _believe(
    found: Beliefs,
    rows: np.ndarray,
    batch: pl.DataFrame,
    bundle: Bundle,
    about: tuple[Arms, Book],
) -> None:
    """Fill in the beliefs of one batch: a candidate is known under the effort asked for."""
    arms, book = about
    learned = Learned(bundle.profiles.values())
    features = _features(batch, bundle)
    types = batch["task_type"].to_list()
    effort = book.fact("effort")[rows]
    months = book.ts_ms[rows].astype("datetime64[ms]").astype("datetime64[M]")
    for (asked, month), same in _alike(effort, months).items():
        middle = int(month.astype("datetime64[ms]").astype(np.int64)) + HALF_A_MONTH_MS
        views = [_view(arm, learned, asked, middle) for arm in arms.arms]
        out = predict_many(bundle, features[same], views, [types[i] for i in same])
        at = rows[same]
        found.p[at], found.spread[at] = out.p_success, out.p_success_high - out.p_success_low
        found.low[at] = out.p_success_low
        found.output[at], found.turns[at] = out.output_tokens, out.turns_left


def _alike(effort: np.ndarray, months: np.ndarray) -> dict[tuple[float | None, np.datetime64], np.ndarray]:
    """Calls (m,) of one effort in one month: whom nothing was learned of is known by the prices of then."""
    found: dict[tuple[float | None, np.datetime64], np.ndarray] = {}
    for asked in np.unique(effort):
        mine = np.isnan(effort) if np.isnan(asked) else effort == asked
        said = None if np.isnan(asked) else float(asked)
        found |= {
            (said, month): np.flatnonzero(mine & (months == month)) for month in np.unique(months[mine])
        }
    return found


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


class Sizes(NamedTuple):
    """Sums over a log's calls that tell how long prompts and answers are: f families, k arms, m kinds.

    A kind of calls is the type of task, whether they answer a tool loop, and how early in the session.
    """

    families: np.ndarray  # (3, f): calls whose bytes are known, those bytes, and their tokens
    calls: np.ndarray  # (k, m)
    output: np.ndarray  # (k, m) tokens
    square: np.ndarray  # (k, m) tokens²
    asked: np.ndarray  # (k,) how many of the calls were shadow calls
    types: np.ndarray  # names of the task types, sorted

    def plus(self, other: Sizes) -> Sizes:
        """The sums of both."""
        return self._replace(
            families=self.families + other.families,
            calls=self.calls + other.calls,
            output=self.output + other.output,
            square=self.square + other.square,
            asked=self.asked + other.asked,
        )


def types_of(book: Book) -> np.ndarray:
    """Task type (n,) of every call, "" unknown."""
    found: np.ndarray = book.frame["task_type"].fill_null("").to_numpy()
    return found


def sizes_of(book: Book, arms: Arms, types: np.ndarray) -> Sizes:
    """The sums of a part of a log of these task types."""
    known = np.isfinite(book.fact("body_bytes")) & (book.prompt > 0) & ~book.run
    family, count = families_of(arms)
    mine = family[arms.logged[known]]
    weights = np.ones(int(known.sum())), book.fact("body_bytes")[known], book.prompt[known]
    k, kinds = len(arms.arms), len(types) * 2 * EARLY
    cell = arms.logged * kinds + kinds_of_task(book, types)
    return Sizes(
        np.stack([np.bincount(mine, weight, count) for weight in weights]),
        np.bincount(cell, minlength=k * kinds).reshape(k, kinds).astype(float),
        np.bincount(cell, book.output, k * kinds).reshape(k, kinds),
        np.bincount(cell, book.output**2, k * kinds).reshape(k, kinds),
        np.zeros(k),
        types,
    )


def kinds_of_task(book: Book, types: np.ndarray) -> np.ndarray:
    """Kind (n,) of every call, as `Sizes` tells them apart."""
    turn = np.arange(book.n) - book.starts[book.session]
    loop = np.nan_to_num(book.fact("in_tool_loop")).astype(np.int64)
    of_type = np.searchsorted(types, types_of(book))
    found: np.ndarray = (of_type * 2 + loop) * EARLY + np.minimum(turn, EARLY - 1)
    return found


def families_of(arms: Arms) -> tuple[np.ndarray, int]:
    """Which family of models each arm (k,) is of, and how many there are."""
    names, of_arm = np.unique([model_family(arm.model) for arm in arms.arms], return_inverse=True)
    return of_arm, len(names)


def usual_lengths(sizes: Sizes) -> np.ndarray:
    """How long each arm's answers (k,) are beside others' to calls of the same kind, in any one unit.

    Answers are taken as arm × kind: Poisson's likelihood, by iterative proportional fitting, so that who gets
    the long tasks doesn't pass for wordy.
    """
    by_kind, by_arm = sizes.output.sum(axis=0), sizes.output.sum(axis=1)
    of_arm = np.ones(len(by_arm))
    for _ in range(ROUNDS):
        of_kind = by_kind / np.maximum(of_arm @ sizes.calls, 1e-9)
        of_arm = by_arm / np.maximum(sizes.calls @ of_kind, 1e-9)
    return of_arm


def lengths(
    book: Book, arms: Arms, beliefs: Beliefs, sizes: Sizes, *, own_bundle: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Output tokens of every call on every arm (n, k), and by which of HOW each arm's were told (k, 4).

    What was logged stays. Another arm's answer is the logged one times what a bundle of one's own says of the
    two; else times the ratio of their answers to calls alike in the log, shadow answers among them; else by
    the prior; else as long.
    """
    rows, k = np.arange(book.n), len(arms.arms)
    mean = usual_lengths(sizes)
    own = beliefs.output[rows, arms.logged]
    out = np.repeat(book.output[:, None], k, axis=1)
    enough = (sizes.calls.sum(axis=1) >= MIN_CALLS) & (mean > 0)
    own_few = sizes.calls.sum(axis=1) - sizes.asked < MIN_CALLS
    how = np.zeros((k, len(HOW)), dtype=np.int64)
    for i in range(k):
        with np.errstate(divide="ignore", invalid="ignore"):
            said = beliefs.output[:, i] / own
        by_bundle = np.isfinite(said) & (own > 0)
        by_log = enough[arms.logged] & bool(enough[i])
        by_bundle &= ~by_log | own_bundle
        of_log = mean[i] / np.maximum(mean[arms.logged], 1e-9)
        others = arms.logged != i
        ratio = np.where(by_bundle, np.clip(np.nan_to_num(said), *RATIOS), np.where(by_log, of_log, 1.0))
        out[:, i] *= np.where(others, ratio, 1.0)
        told = ~by_bundle & by_log
        ways = by_bundle, told & ~own_few[i], told & own_few[i], ~by_bundle & ~by_log
        how[i] = [int((others & way).sum()) for way in ways]
    return out, how


def in_words(how: np.ndarray, arms: Arms) -> dict[str, str]:
    """What told the length of most of each arm's answers."""
    said = (HOW[int(counts.argmax())] if counts.any() else "as logged" for counts in how)
    return dict(zip(arms.names, said, strict=True))


def prompts(book: Book, arms: Arms, sizes: Sizes) -> np.ndarray:
    """Prompt tokens of every call on every arm (n, k): the log's count, by how finely each family cuts.

    Bytes per token are those that the log itself shows of a family's calls, else the usual ones.
    """
    of_arm, _ = families_of(arms)
    calls, size, tokens = sizes.families
    usual = np.array([arm.bytes_per_token for arm in arms.arms])
    enough = calls >= MIN_CALLS
    ratio = np.where(enough[of_arm], (size / np.maximum(tokens, 1))[of_arm], usual)
    found: np.ndarray = book.prompt[:, None] * (ratio[arms.logged][:, None] / ratio[None, :])
    return found


def lengths_ahead(tokens: np.ndarray, beliefs: Beliefs) -> np.ndarray:
    """Prompts (n, k) halfway through the turns to come."""
    found: np.ndarray = np.round(tokens) + np.round(GROWTH_TOKENS * np.nan_to_num(beliefs.turns) / 2)
    return found
