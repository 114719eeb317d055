"""The splice: the model changes, every other byte stays; a key given twice is refused."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInput
from features.wire.head import read_head
from router.gateway.splice import with_model

text = st.text(max_size=20)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        text,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
bodies = st.dictionaries(text, values, max_size=6).flatmap(
    lambda rest: st.tuples(st.permutations([*rest.items(), ("model", "auto")]), st.sampled_from([None, 2]))
)


@given(bodies, text)
def test_only_the_model_changes(body, model) -> None:
    items, indent = body
    plain = dict(items) | {"model": 'a"u\\to'}
    raw = json.dumps(plain, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    head = read_head(raw)
    assert head.model == plain["model"]
    out = b"".join(with_model(raw, head, model))
    assert out[: head.start] == raw[: head.start]
    assert out.endswith(raw[head.end :])
    assert msgspec.json.decode(out) == plain | {"model": model}


def test_a_model_in_a_schema_or_message_is_not_the_model() -> None:
    raw = b'{"tools":[{"model":"x"}],"messages":[{"content":"\\"model\\":\\"y\\""}], "model" : "auto" }'
    assert b"".join(with_model(raw, read_head(raw), "z")) == raw.replace(b'"auto"', b'"z"')


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","x":1,"model":"b"}',
        b'{"x":1,"model":"a","x":[{"model":"q"}]}',
        b'{"x":"}","x":1,"model":"a"}',
        b'{"model":"a","mod\\u0065l":"b"}',
    ],
)
def test_a_key_given_twice_is_refused(raw) -> None:
    with pytest.raises(BadInput, match="a key twice"):
        read_head(raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not a JSON object"),
        (b"hello", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b'{"messages":[]}', "lacks 'model'"),
        (b'{"model":7}', "must be a string"),
        (b'{"model":"a"', "not a JSON object"),
        (b'\xff{"model":"a"}', "not a JSON object"),
    ],
)
def test_bad_bodies_are_refused_in_one_line(raw, said) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        read_head(raw)
    assert "\n" not in str(refused.value)
