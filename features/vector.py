"""The ordered feature list and its hash: one definition per feature, at two speeds.

`featurize(one)` serves a request, `featurize(frame)` a batch; both run the same `project` over a matrix of
facts, so one row equals many rows by construction, and a property test holds it to that.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from features.facts import Facts
from features.sessionkind import CLIENTS, KINDS

if TYPE_CHECKING:
    import polars as pl

Scale = Literal["value", "log"]

FACT_NAMES: tuple[str, ...] = Facts.__struct_fields__
_FACT_INDEX = {name: i for i, name in enumerate(FACT_NAMES)}

# Facts that cannot grow: flags, ranks and shares. All others are counts, sizes and durations without a bound,
# taken on a log scale; a tree does not care, a linear part does.
_BOUNDED_FACTS = frozenset(
    (
        *("stream", "tool_choice_forced", "thinking", "effort", "json_schema", "provider_bound"),
        *("cache_shared_share", "is_subagent", "in_tool_loop", "last_tool_error", "last_tests_passed"),
        *("text_traceback", "text_diff", "text_non_ascii_share"),
        *("lang_python", "lang_javascript", "lang_jvm", "lang_c", "lang_go_rust", "lang_sql", "lang_shell"),
        *("verb_fix", "verb_add", "verb_explain", "verb_test", "verb_refactor"),
        *("schema_odd_types", "tools_named_max", "tools_named_mean"),
        *(f"client_{name}" for name in CLIENTS),
        *(f"kind_{name}" for name in KINDS),
    )
)
# What a request often leaves unknown; `featurize_one` is as right about what isn't here, and slower.
_OFTEN_UNKNOWN = (
    *("max_output_tokens", "thinking", "effort", "context_tokens_est", "context_tokens_last", "turn"),
    *("cache_shared_bytes", "cache_shared_share", "cache_age_ms", "is_subagent", "last_tool_error"),
    *("last_tests_passed", "last_tests_failed_count", "last_result_bytes"),
)
_LIMIT = 1e30  # far above any fact and within float32, so that no absurd value becomes an infinity


class Feature(NamedTuple):
    """One feature: its name, the fact it is made of, and how that fact is scaled or what it is divided by."""

    name: str
    fact: str
    scale: Scale = "value"
    per: str | None = None  # divide by this fact, at least 1


SCALAR_FEATURES: tuple[Feature, ...] = (
    *(Feature(n, n, "value" if n in _BOUNDED_FACTS else "log") for n in FACT_NAMES),
    Feature("tool_error_rate", "n_tool_errors", per="n_assistant_messages"),
    Feature("repeat_rate", "repeated_actions", per="n_assistant_messages"),
    Feature("calls_edit_rate", "calls_edit", per="n_assistant_messages"),
    Feature("calls_shell_rate", "calls_shell", per="n_assistant_messages"),
    Feature("text_identifier_rate", "text_identifiers", per="text_lines"),
    Feature("system_share", "system_bytes", per="body_bytes"),
    Feature("tools_share", "tools_bytes", per="body_bytes"),
)

# `project` takes the facts in another order: those as they are, those to be logged, the numerators and the
# divisors of the ratios; each has the least value that it may have there.
_VALUES = [i for i, f in enumerate(SCALAR_FEATURES) if f.scale == "value" and not f.per]
_LOGS = [i for i, f in enumerate(SCALAR_FEATURES) if f.scale == "log"]
_RATIOS = [i for i, f in enumerate(SCALAR_FEATURES) if f.per]
_MADE = [*_VALUES, *_LOGS, *_RATIOS]
_TAKEN = np.array(
    [_FACT_INDEX[SCALAR_FEATURES[i].fact] for i in _MADE]
    + [_FACT_INDEX[f.per] for f in SCALAR_FEATURES if f.per]
)
# As rows of a matrix, and the limit too: on one request's row, numpy then has nothing to broadcast.
_LEAST = np.repeat([-_LIMIT, 0.0, -_LIMIT, 1.0], [len(_VALUES), len(_LOGS), len(_RATIOS), len(_RATIOS)])[None]
_MOST = np.full_like(_LEAST, _LIMIT)
_LOGGED = slice(len(_VALUES), len(_VALUES) + len(_LOGS))
_DIVIDED, _DIVISORS = slice(_LOGGED.stop, len(_MADE)), slice(len(_MADE), None)
_PLACE = np.argsort(_MADE)

_NAN = float("nan")
_MAYBE_UNKNOWN = [_FACT_INDEX[name] for name in _OFTEN_UNKNOWN]
_PACKED = struct.Struct(f"{len(FACT_NAMES)}d").pack


def feature_names(embedding_dim: int) -> tuple[str, ...]:
    """Names of all columns of the vector, in order: the scalar features, then the embedding's dimensions."""
    return (*(f.name for f in SCALAR_FEATURES), *(f"emb_{i:03d}" for i in range(embedding_dim)))


def feature_hash(embedding_dim: int, encoder_digest: str | None) -> str:
    """Digest of the ordered list, every definition in it and the encoder; a bundle is bound to it."""
    definition = msgspec.json.encode([list(SCALAR_FEATURES), embedding_dim, encoder_digest])
    return hashlib.sha256(definition).hexdigest()[:16]


def project(facts: np.ndarray) -> np.ndarray:
    """Facts matrix (n, len(FACT_NAMES)) float64 -> scalar features (n, len(SCALAR_FEATURES)) float32.

    Rounded to float32 here, once, because the exported trees compare in float32. NaN stays NaN; what is
    infinite or absurd is cut to ±1e30, and a negative size counts as 0.
    """
    # np.clip costs a request three times as much.
    taken: np.ndarray = np.minimum(np.maximum(facts.take(_TAKEN, axis=1), _LEAST), _MOST)
    logs, ratios = taken[:, _LOGGED], taken[:, _DIVIDED]
    np.log1p(logs, out=logs)
    np.divide(ratios, taken[:, _DIVISORS], out=ratios)
    return taken.take(_PLACE, axis=1).astype(np.float32)


def _with_embedding(scalars: np.ndarray, embedding: np.ndarray | None) -> np.ndarray:
    return scalars if embedding is None else np.concatenate((scalars, embedding), axis=1, dtype=np.float32)


def featurize_one(facts: Facts, embedding: np.ndarray | None = None) -> np.ndarray:
    """Facts of one request and its embedding (d,) -> features (1, n_features) float32; unknown is NaN."""
    return _with_embedding(project(_row(facts)), None if embedding is None else embedding[None, :])


def _row(facts: Facts) -> np.ndarray:
    """Facts of one request as a matrix (1, len(FACT_NAMES)) float64; None becomes NaN."""
    # np.array of the tuple takes 1.2 to 1.7 times as long.
    values = [*msgspec.structs.astuple(facts)]
    for i in _MAYBE_UNKNOWN:
        if values[i] is None:
            values[i] = _NAN
    try:
        packed = _PACKED(*values)
    except struct.error:
        packed = _PACKED(*[_NAN if value is None else value for value in values])
    return np.frombuffer(packed)[None]


def featurize_frame(frame: pl.DataFrame, embedding: str | None = "embedding") -> np.ndarray:
    """Frame with a struct column `facts` and a list column of embeddings -> features (n, n_features)."""
    rows = facts_matrix(frame)
    if embedding is None or embedding not in frame.columns:
        return project(rows)
    return _with_embedding(project(rows), _embeddings(frame[embedding]))


def _embeddings(column: pl.Series) -> np.ndarray:
    """A list column as float32 (n, d); a row without an embedding is unknown, so NaN."""
    import polars as pl

    lists = column.cast(pl.List(pl.Float32))
    known = lists.drop_nulls()
    if known.is_empty():
        return np.empty((len(column), 0), dtype=np.float32)
    width = len(known[0])
    matrix = np.full((len(column), width), np.nan, dtype=np.float32)
    matrix[lists.is_not_null().to_numpy()] = known.explode().to_numpy().reshape(len(known), width)
    return matrix


def featurize(source: Facts | pl.DataFrame, embedding: Any = None) -> np.ndarray:
    """Features of one request's facts or of a whole frame; shape (n, n_features) float32.

    For facts, `embedding` is a vector (d,); for a frame, the name of its embedding column, or None for none.
    """
    if isinstance(source, Facts):
        return featurize_one(source, embedding)
    return featurize_frame(source, embedding)


def facts_matrix(frame: pl.DataFrame) -> np.ndarray:
    """The struct column `facts` of a frame as float64 (n, len(FACT_NAMES)); null and absent are NaN."""
    import polars as pl

    facts = frame["facts"].struct.unnest()
    missing = [pl.lit(None, dtype=pl.Float64).alias(n) for n in FACT_NAMES if n not in facts.columns]
    ordered = facts.with_columns(missing).select(pl.col(n).cast(pl.Float64) for n in FACT_NAMES)
    return ordered.fill_null(float("nan")).to_numpy().reshape(len(frame), len(FACT_NAMES))
