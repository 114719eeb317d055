"""The feature list: one row equals many rows bit for bit, and the list is frozen by its digest."""

import math

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import vector
from features.facts import Facts
from features.records import polars_schema
from features.vector import FACT_NAMES, SCALAR_FEATURES, feature_hash, feature_names, featurize

DIM = 3
FACTS_DTYPE = pl.Struct(polars_schema(Facts))
extremes = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, 1e308, -1e308, 2**53 + 1.0])
values = st.none() | st.floats() | extremes
facts = st.fixed_dictionaries({}, optional=dict.fromkeys(FACT_NAMES, values)).map(lambda d: Facts(**d))
few_facts = st.dictionaries(st.sampled_from(FACT_NAMES), values, max_size=8).map(lambda d: Facts(**d))
embeddings = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=DIM, max_size=DIM)


def frame_of(rows, vectors=None):
    plain = [{name: getattr(row, name) for name in FACT_NAMES} for row in rows]
    columns = {"facts": pl.Series(plain, dtype=FACTS_DTYPE)}
    if vectors is not None:
        columns["embedding"] = pl.Series(vectors, dtype=pl.List(pl.Float32))
    return pl.DataFrame(columns)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(few_facts | facts, embeddings), min_size=1, max_size=4))
def test_one_row_is_many_rows(rows):
    many = featurize(frame_of([f for f, _ in rows], [e for _, e in rows]), "embedding")
    assert many.shape == (len(rows), len(feature_names(DIM)))
    assert many.dtype == np.float32
    for i, (one, embedding) in enumerate(rows):
        row = featurize(one, np.array(embedding, dtype=np.float32))
        assert row.tobytes() == many[i : i + 1].tobytes()
    scalars = featurize(frame_of([f for f, _ in rows]))
    assert scalars.tobytes() == many[:, : len(SCALAR_FEATURES)].tobytes()


@settings(max_examples=60, deadline=None)
@given(few_facts | facts)
def test_unknown_is_nan_and_nothing_is_infinite(one):
    row = dict(zip(feature_names(0), featurize(one)[0], strict=True))
    for name in FACT_NAMES:
        value = getattr(one, name)
        assert math.isnan(row[name]) == (value is None or math.isnan(value))
    assert not any(math.isinf(value) for value in row.values())


def test_columns_that_are_missing_or_in_another_order():
    frame = pl.DataFrame({"facts": [{"n_tools": 3.0, "body_bytes": 7.0, "not_a_fact": 1.0}]})
    assert featurize(frame).tobytes() == featurize(Facts(body_bytes=7.0, n_tools=3.0)).tobytes()


def test_an_empty_frame():
    assert featurize(frame_of([])).shape == (0, len(SCALAR_FEATURES))
    assert featurize(frame_of([], []), "embedding").shape == (0, len(SCALAR_FEATURES))


def test_a_row_without_an_embedding_is_unknown():
    scalars = len(SCALAR_FEATURES)
    rows = featurize(frame_of([Facts(), Facts()], [None, [1.0, 2.0, 3.0]]), "embedding")
    assert np.isnan(rows[0, scalars:]).all()
    assert rows[1, scalars:].tolist() == [1, 2, 3]


def test_scales():
    row = dict(
        zip(
            feature_names(0), featurize(Facts(body_bytes=99.0, effort=5.0, n_tool_errors=6.0))[0], strict=True
        )
    )
    assert row["body_bytes"] == pytest.approx(math.log(100))
    assert row["effort"] == 5
    rate = featurize(Facts(n_tool_errors=6.0, n_assistant_messages=4.0))[0]
    assert rate[feature_names(0).index("tool_error_rate")] == 1.5


def test_bounded_facts_are_facts():
    assert frozenset(FACT_NAMES) >= vector._BOUNDED_FACTS


def test_the_list_is_frozen():
    """Whoever changes a feature changes this digest, and with it refuses every bundle trained before."""
    assert feature_hash(0, None) == "d154b372d78e38d5"
    assert len(set(feature_names(64))) == len(feature_names(64))


def test_the_hash_follows_every_part_of_the_definition(monkeypatch):
    before = feature_hash(0, None)
    assert len({before, feature_hash(1, None), feature_hash(0, "encoder")}) == 3
    last = SCALAR_FEATURES[-1]
    changes = (
        (*SCALAR_FEATURES[:-1], last._replace(name="renamed")),
        (*SCALAR_FEATURES[:-1], last._replace(fact="turn")),
        (*SCALAR_FEATURES[:-1], last._replace(scale="log")),
        (*SCALAR_FEATURES[:-1], last._replace(per=None)),
        SCALAR_FEATURES[::-1],
    )
    for changed in changes:
        monkeypatch.setattr(vector, "SCALAR_FEATURES", changed)
        assert feature_hash(0, None) != before


def test_facts_survive_the_log():
    one = Facts(body_bytes=7.0, turn=0.0)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Facts) == one
