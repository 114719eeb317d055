"""The log as examples: requests joined to labels, grouped so that nothing leaks, split by group and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import polars as pl

from features.errors import BadInput
from features.names import candidate_name
from features.sessionkind import kind_name
from features.vector import featurize_frame
from router.catalog import Catalog
from router.describe import descriptor_of
from router.drift import DRIFT_FLAG
from router.prices import rates
from training.audit import Oddities, audited
from training.fit import Examples
from training.imputed import imputed
from training.labels import resolve
from training.labels.kinds import MIN_LABELLED
from training.sessions import left

if TYPE_CHECKING:
    from models.descriptors import Descriptor
    from training.log import LogStore

MIN_REPOSITORIES = 5  # fewer can't be held out from each other
HOLDOUT_SHARE = 0.2
MIN_OF_KIND = 20  # labelled rows
KIND_PREFIX = "call:"  # before a kind of call that stands in for a task type

_COLUMNS = (
    *("request_id", "session_id", "parent_session_id", "task_id", "task_type", "repo", "tenant", "ts_ms"),
    *("candidate", "model_served", "model_requested", "effort", "output_tokens", "flags"),
    *("reasoning_tokens", "reasoning_in_output"),
    *("facts", "embedding", "encoder_digest"),
)


class DatasetCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the log became examples.

    requests = labelled + unlabelled + one_sided + no_candidate + other_encoder + drifted.
    """

    requests: int
    labelled: int
    unlabelled: int
    one_sided: int  # no verdict: what spoke could only say one thing, or spoke both ways alike
    no_candidate: int
    other_encoder: int
    without_embedding: int
    candidates: int
    groups: int
    grouped_by: str
    by_level: dict[str, int]
    imputed_output_tokens: list[
        str
    ]  # candidates whose counts were filled in, so that nothing is learned of them
    odd: Oddities = Oddities()
    typed_by: str = "told"  # "kind": no request tells a task type, so the kind of its call stands in
    types: dict[str, int] = {}  # labelled requests of each task type
    drifted: int = 0  # answered by another version than was to be served
    censored_requests: int = 0  # whose session may have run on after the log: calls and turns left unknown


class Dataset(NamedTuple):
    """Examples in time order, and what was left out."""

    examples: Examples
    ts_ms: np.ndarray  # (n,) int64
    counts: DatasetCounts


class Labelled(NamedTuple):
    """Requests with a verdict, in time order, and what was left out."""

    rows: pl.DataFrame
    requests: int
    unlabelled: int
    one_sided: int
    no_candidate: int
    other_encoder: int
    drifted: int
    censored: int
    odd: Oddities


def load_dataset(log: LogStore, encoder_digest: str | None, embedding_dim: int) -> Dataset:
    """Labelled examples of a log, with features under the given encoder.

    Rows embedded by another encoder are left out and counted; rows without an embedding stay, their
    embedding unknown (NaN). Raises BadInput when too few labelled rows are left, or none can be told apart.
    """
    return featurized(labelled_rows(log, encoder_digest), embedding_dim)


def labelled_rows(log: LogStore, encoder_digest: str | None) -> Labelled:
    """Requests of a log joined to their labels, those embedded by another encoder left out; see above."""
    requests = log.scan("request").select(_COLUMNS).collect()
    to_come = left(requests)
    requests = requests.with_columns(
        candidate=candidates_of(requests), calls_left=to_come.calls, turns_left=to_come.turns
    ).with_columns(whole_output())
    labelled = pl.concat([requests, resolve(requests, log.scan("outcome").collect())], how="horizontal")
    drifted = pl.col("flags").list.contains(DRIFT_FLAG).fill_null(value=False)
    kept = labelled.filter(~drifted)
    named = kept.filter(pl.col("candidate").is_not_null())
    evident = named.filter(pl.col("value").is_not_null())
    # Learning from rows that one only hears of when they went one way would learn that all of them do.
    known = evident.filter(pl.col("target").is_not_null())
    ours = pl.col("encoder_digest").is_null() | (pl.col("encoder_digest") == (encoder_digest or ""))
    rows = known.filter(ours).sort("ts_ms", "request_id")
    if len(rows) < MIN_LABELLED:
        raise BadInput(
            f"{log.path}: {len(rows)} labelled requests of {len(requests)}, at least {MIN_LABELLED} are "
            "needed; ingest a table with a `success` column, or post outcomes to /v1/outcomes"
        )
    rows, odd = audited(log.path, rows)
    return Labelled(
        rows,
        requests=len(requests),
        unlabelled=len(named) - len(evident),
        one_sided=len(evident) - len(known),
        no_candidate=len(kept) - len(named),
        other_encoder=len(known) - len(rows),
        drifted=len(labelled) - len(kept),
        censored=to_come.censored,
        odd=odd,
    )


def whole_output() -> pl.Expr:
    """Output tokens as they are billed: reasoning that a harness counts apart is output too."""
    apart = pl.col("reasoning_in_output").not_().fill_null(value=False)
    added = pl.when(apart).then(pl.col("reasoning_tokens").fill_null(0)).otherwise(0)
    return (pl.col("output_tokens") + added).alias("output_tokens")


def featurized(labelled: Labelled, embedding_dim: int) -> Dataset:
    """Labelled rows as examples; figures that were filled in teach nothing and are named."""
    rows, typed_by = _typed(labelled.rows)
    grouped_by, group = _groups(rows)
    filled_in = imputed(rows, "output_tokens", "candidate", "task_type")["candidate"].to_list()
    runs = (
        pl.col("flags").list.contains("run_totals").fill_null(value=False)
    )  # their tokens are of many calls
    measured = ~pl.col("candidate").is_in(filled_in) & ~runs
    rows = rows.with_columns(
        *(pl.when(measured).then(name).alias(name) for name in ("output_tokens", "reasoning_tokens")),
        *(pl.when(~runs).then(name).alias(name) for name in ("calls_left", "turns_left")),
    )
    candidates = rows["candidate"].unique().sort().to_list()
    prices = {c: price_pair(c) for c in candidates}
    counts = DatasetCounts(
        requests=labelled.requests,
        labelled=len(rows),
        unlabelled=labelled.unlabelled,
        one_sided=labelled.one_sided,
        no_candidate=labelled.no_candidate,
        other_encoder=labelled.other_encoder,
        drifted=labelled.drifted,
        without_embedding=rows["embedding"].null_count(),
        candidates=len(candidates),
        groups=group.n_unique(),
        grouped_by=grouped_by,
        by_level=dict(rows.group_by("level").len().sort("level").iter_rows()),
        imputed_output_tokens=filled_in,
        odd=msgspec.structs.replace(labelled.odd, unpriced=sorted(c for c, p in prices.items() if None in p)),
        typed_by=typed_by,
        types=dict(rows.drop_nulls("task_type").group_by("task_type").len().sort("task_type").iter_rows()),
        censored_requests=labelled.censored,
    )
    examples = Examples(
        features=_features(rows, embedding_dim),
        candidate=rows["candidate"].to_numpy(),
        task_type=rows["task_type"].fill_null("").to_numpy(),
        success=rows["target"].to_numpy().astype(np.float64),
        output_tokens=_floats(rows["output_tokens"]),
        reasoning_tokens=_floats(rows["reasoning_tokens"]),
        calls_left=_floats(rows["calls_left"]),
        turns_left=_floats(rows["turns_left"]),
        group=group.to_numpy(),
        prices=prices,
        descriptors=described(candidates),
        types_by=typed_by,
        task=rows["task_id"].fill_null("").to_numpy(),
    )
    return Dataset(examples, rows["ts_ms"].to_numpy(), counts)


def _typed(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """The rows with a task type: as told or, where none ever is, the kind of the call; and which it was.

    A kind of fewer than MIN_OF_KIND rows is no type; nor is the only one.
    """
    if rows["task_type"].null_count() < len(rows):
        return rows, "told"
    kinds = [None if f is None else kind_name(f) for f in rows["facts"].to_list()]
    named = rows.with_columns(
        task_type=pl.Series([kind and f"{KIND_PREFIX}{kind}" for kind in kinds], dtype=pl.String)
    )
    often = named.group_by("task_type").len().filter(pl.col("len") >= MIN_OF_KIND).drop_nulls()["task_type"]
    if len(often) < 2:
        return rows, "told"
    kept = pl.when(pl.col("task_type").is_in(often.implode())).then("task_type")
    return named.with_columns(task_type=kept), "kind"


def _floats(column: pl.Series) -> np.ndarray:
    """A numeric column as float64 (n,), NaN unknown."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def candidates_of(requests: pl.DataFrame) -> pl.Series:
    """The candidate of each request, under one name for all ways of writing it; null where none is told.

    What was asked for tells more than what a provider says it served, but an alias of ours is no candidate.
    """
    aliases = list(Catalog.load().aliases)
    asked = pl.when(~pl.col("model_requested").is_in(aliases)).then("model_requested")
    told = requests.select(model=pl.coalesce("candidate", asked, "model_served"), effort="effort")
    names = {pair: None if pair[0] is None else candidate_name(*pair) for pair in told.unique().iter_rows()}
    return pl.Series([names[pair] for pair in told.iter_rows()], dtype=pl.String)


def price_pair(candidate: str) -> tuple[float | None, float | None]:
    """USD per million input and output tokens of a candidate today, None where no price is published."""
    found = rates(candidate.split("@")[0])
    if found is None:
        return None, None
    return tuple(None if rate is None else float(rate) for rate in (found.input, found.output))  # type: ignore[return-value]


def described(candidates: list[str]) -> dict[str, Descriptor]:
    """Descriptors of candidates as serving forms them; their probe is in the log itself."""
    rows = {candidate_name(name): row for name, row in Catalog.load().candidates.items()}
    found = {c: descriptor_of(c, price_pair(c), rows.get(candidate_name(c))) for c in candidates}
    return {c: msgspec.structs.replace(d, probe=()) for c, d in found.items()}


def _groups(rows: pl.DataFrame) -> tuple[str, pl.Series]:
    """What must not be torn apart: the repository where there are enough, else the task or session."""
    if rows["repo"].n_unique() >= MIN_REPOSITORIES and rows["repo"].null_count() == 0:
        return "repo", rows["repo"]
    whole = pl.coalesce("task_id", "parent_session_id", "session_id")  # a sub-agent belongs to its session
    return "task", rows.select(group=whole)["group"]


def _features(rows: pl.DataFrame, embedding_dim: int) -> np.ndarray:
    """Feature matrix (n, d) float32; an absent embedding is NaN in every dimension."""
    scalars = featurize_frame(rows, embedding=None)
    if not embedding_dim:
        return scalars
    unknown = [float("nan")] * embedding_dim
    embedded = rows["embedding"].to_list()
    matrix = np.array([unknown if e is None else e for e in embedded], dtype=np.float32)
    matrix[~np.isfinite(matrix)] = np.nan
    return np.concatenate([scalars, matrix], axis=1)


def holdout_mask(group: np.ndarray, ts_ms: np.ndarray, share: float = HOLDOUT_SHARE) -> np.ndarray:
    """Boolean (n,): the newest groups, by the time of their last row, that hold at least `share` of the rows.

    Whole groups only, so no session, task or repository stands on both sides. Two at least where two stay, or
    there is no interval over groups.
    """
    frame = pl.DataFrame({"group": group, "ts_ms": ts_ms})
    by_time = (
        frame.group_by("group")
        .agg(pl.col("ts_ms").max(), rows=pl.len())
        .sort("ts_ms", "group", descending=True)
    )
    enough = pl.col("rows").cum_sum() - pl.col("rows") >= share * len(group)
    least = 2 if len(by_time) >= 4 else 1
    held = by_time.filter(~enough | (pl.int_range(pl.len()) < least))["group"]
    if len(held) == len(by_time):  # one group only: nothing can be held out
        return np.zeros(len(group), dtype=bool)
    return frame["group"].is_in(held.implode()).to_numpy()
