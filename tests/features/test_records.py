"""The canonical log: records survive JSON and Parquet's types, and old ones are brought up to date."""

import typing
from decimal import Decimal

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.facts import Facts
from features.records import MIGRATIONS, RECORD_TYPES, SCHEMA_VERSION, migrate, polars_schema

SIMPLE = {
    str: st.text(max_size=8),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    Decimal: st.decimals(-(10**9), 10**9, places=12),
}
IN_LISTS = {int: st.integers(0, 2**64 - 1), float: st.floats(width=32, allow_nan=False, allow_infinity=False)}


def values(annotation):
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin is list:
        return st.lists(IN_LISTS[args[0]] if args[0] in IN_LISTS else values(args[0]), max_size=2)
    if args:  # Optional
        return st.none() | values(next(a for a in args if a is not type(None)))
    return SIMPLE[annotation] if annotation in SIMPLE else records(annotation)


def records(kind):
    """Any record: the required fields and a handful of the others."""
    hints = typing.get_type_hints(kind)
    needed = {f.name for f in msgspec.structs.fields(kind) if f.required}
    others = sorted(set(hints) - needed)
    few = st.lists(st.sampled_from(others), max_size=6, unique=True) if others else st.just([])
    return few.flatmap(
        lambda names: st.fixed_dictionaries({name: values(hints[name]) for name in [*sorted(needed), *names]})
    ).map(lambda fields: kind(**fields))


any_record = st.sampled_from(sorted(RECORD_TYPES)).flatmap(lambda k: records(RECORD_TYPES[k]))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_record)
def test_records_survive_json(record):
    encoded = msgspec.json.encode(record)
    assert msgspec.json.decode(encoded, type=type(record)) == record


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_record)
def test_records_survive_polars(record):
    plain = msgspec.to_builtins(record, builtin_types=(Decimal,))
    frame = pl.DataFrame([plain], schema=polars_schema(type(record)))
    assert frame.schema == polars_schema(type(record))
    back = {name: value for name, value in frame.row(0, named=True).items() if value is not None}
    assert msgspec.convert(prune(back), type(record)) == record


def prune(value):
    """Null is absent: what a record leaves out, a column holds as null."""
    if isinstance(value, dict):
        return {k: prune(v) for k, v in value.items() if v is not None}
    return [prune(v) for v in value] if isinstance(value, list) else value


def test_unknown_numbers_become_null_and_not_zero():
    assert (
        msgspec.json.encode(Facts(turn=float("nan"), body_bytes=float("inf")))
        == b'{"body_bytes":null,"turn":null}'
    )


def test_the_schema_version_counts_the_migrations():
    assert len(MIGRATIONS) + 1 == SCHEMA_VERSION


def test_migrations_run_in_order_from_the_version_of_the_record():
    steps = (
        lambda plain: {**plain, "trail": [*plain.get("trail", []), "1 to 2"]},
        lambda plain: {**plain, "trail": [*plain.get("trail", []), "2 to 3"]},
    )
    assert migrate({"schema_version": 1}, steps) == {"schema_version": 3, "trail": ["1 to 2", "2 to 3"]}
    assert migrate({"schema_version": 2}, steps) == {"schema_version": 3, "trail": ["2 to 3"]}
    assert migrate({"schema_version": 3}, steps) == {"schema_version": 3}
    assert migrate({"x": 1}, ()) == {"x": 1, "schema_version": 1}


@pytest.mark.parametrize("version", [0, -1, 4, 99])
def test_a_record_of_another_time_is_refused(version):
    with pytest.raises(ValueError, match="upgrade"):
        migrate({"schema_version": version}, (dict, dict))
