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

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.descriptors import Prices
    from training.replay.logged.arms import Arm, Arms
    from training.replay.logged.calls import Calls

BATCH = 20_000  # calls whose features are in memory
HALF_A_MONTH_MS = 15 * 86_400_000


class Beliefs(NamedTuple):
    """Beliefs (n, k) float32, NaN unknown."""

    p: np.ndarray  # success
    spread: np.ndarray  # width of its 90 % interval
    output: np.ndarray  # tokens
    turns: np.ndarray  # of the session after this one
    low: np.ndarray  # where that interval of success begins


def beliefs_of(requests: pl.LazyFrame, calls: Calls, arms: Arms, bundle: Bundle) -> Beliefs:
    """Ask the bundle about every call of a part, in batches of its `requests`.

    A vector made by another encoder is unknown to it.
    """
    k = len(arms.arms)
    found = Beliefs(*(np.full((calls.n, k), np.nan, dtype=np.float32) for _ in Beliefs._fields))
    rows = calls.frame.select("request_id").with_row_index("row_")
    wanted = ("request_id", "facts", "embedding", "encoder_digest", "task_type")
    for batch in requests.select(*wanted).collect_batches(chunk_size=BATCH, maintain_order=True):
        played = batch.join(rows, on="request_id", how="inner", maintain_order="left")
        if len(played):
            _believe(found, played["row_"].to_numpy().astype(np.int64), played, bundle, (arms, calls))
    return found


def _believe(
    found: Beliefs,
    rows: np.ndarray,
    batch: pl.DataFrame,
    bundle: Bundle,
    about: tuple[Arms, Calls],
) -> None:
    """Fill in the beliefs of one batch: a candidate is known under the effort asked for."""
    arms, calls = about
    learned = Learned(bundle.profiles.values(), {})  # asked for names alone
    features = _features(batch, bundle)
    types = batch["task_type"].to_list()
    effort = calls.fact("effort")[rows]
    months = calls.ts_ms[rows].astype("datetime64[ms]").astype("datetime64[M]")
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
    """Describe an arm to the bundle, as `router.arms.Learned.views` does at a decision."""
    known = learned.name(arm.name, arm.model, effort)
    rates = prices.rates(arm.model, arm.provider, ts_ms)
    pair: Prices = (None, None) if rates is None else (float(rates.input), float(rates.output))
    unseen = not learned.knows(known)
    said = descriptor_of(candidate_name(arm.name, effort), pair, arm.row) if unseen else None
    return CandidateView(known, pair[0], pair[1], said)
