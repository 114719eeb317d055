"""The structure of tools offered: counts alike in every dialect, and whether the task names a tool."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import toolschema
from features.toolschema import OFFERED_NAMES, Shapes, ToolShape, offered_values, shape_of, works
from features.wire import parse_request
from features.wire.types import Tool

SCHEMA = {
    "type": "object",
    "required": ["where"],
    "properties": {
        "where": {"type": "object", "properties": {"city": {"type": "string", "enum": ["a", "b"]}}},
        "days": {"type": "array", "items": {"type": "integer", "default": 3}},
    },
}
SHAPE = ToolShape(*(2, 1, 1, 1, 1, 1, 2, 4), types=frozenset(("object", "string", "array", "integer")))


@pytest.mark.parametrize(
    ("dialect", "tool"),
    [
        ("openai_chat", {"function": {"name": "get_weather", "description": "said", "parameters": SCHEMA}}),
        ("openai_responses", {"name": "get_weather", "description": "said", "parameters": SCHEMA}),
        ("anthropic_messages", {"name": "get_weather", "description": "said", "input_schema": SCHEMA}),
    ],
)
def test_dialects_agree(dialect, tool):
    key = "input" if dialect == "openai_responses" else "messages"
    body = {"model": "m", key: [{"role": "user", "content": "x"}], "tools": [{"type": "function", **tool}]}
    (read,) = parse_request(dialect, msgspec.json.encode(body)).tools
    assert read.shape == SHAPE


@pytest.mark.parametrize("odd", [b"[]", b"{", b'{"parameters": 3}', b'{"parameters": {"properties": []}}'])
def test_what_is_no_definition_has_no_parameters(odd):
    assert shape_of(odd) == ToolShape()


def test_a_hostile_definition_is_cut_off():
    deep: dict = {"type": "string"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    wide = {"type": "object", "properties": {f"p{i}": {"type": f"t{i}"} for i in range(50_000)}}
    assert shape_of({"parameters": deep}).depth <= 13
    assert len(shape_of({"parameters": wide}).types) <= 2_001


def test_shapes_are_remembered_by_digest():
    shapes = Shapes()
    assert shapes.of(1, {"parameters": SCHEMA}) is shapes.of(1, b"not read again")


def test_whether_the_text_names_a_tool():
    tools = (
        Tool(name="get_weather", shape=SHAPE),
        Tool(name="sendMail", shape=ToolShape(types=frozenset(["hashmap"]))),
    )
    facts = dict(zip(OFFERED_NAMES, offered_values(tools, ["What is the weather? Get it."]), strict=True))
    assert (facts["tools_named_max"], facts["tools_named_mean"]) == (1.0, 0.5)
    assert (facts["schema_params"], facts["schema_odd_types"], facts["schema_types"]) == (2.0, 1.0, 5.0)
    assert offered_values((), ["x"]) == (0.0,) * len(facts)


@given(
    st.text(st.characters() | st.sampled_from("aB1_ .İK")), st.lists(st.text("ab1K", min_size=1, max_size=2))
)
def test_words_are_runs_of_letters_or_of_digits(said, names):
    tools = tuple(Tool(name=name) for name in names)
    words = set(re.findall("[a-z]+|[0-9]+", said.lower()))
    shares = []
    for name in names:
        own = set(re.findall("[a-z]+|[0-9]+", re.sub("(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()))
        shares.append(len(own & words) / len(own))
    expected = (max(shares), sum(shares) / len(shares)) if names else (0.0, 0.0)
    assert offered_values(tools, [said])[-2:] == expected


def test_what_an_agent_works_with_is_known_behind_a_server_s_prefix_too():
    assert works((Tool(name="look"), Tool(name="mcp__box__bash")))
    assert not works((Tool(name="look"), Tool(name="get_weather")))
    assert not works(())


def test_sets_of_tools_are_remembered_within_bytes_whatever_their_names(monkeypatch):
    memory, largest = 2**16, 2**14
    monkeypatch.setattr(toolschema, "_KEPT_BYTES", memory)
    monkeypatch.setattr(toolschema, "_LARGEST", largest)
    for kept in (toolschema._schemas, toolschema._offers):
        monkeypatch.setattr(kept, "_bytes", 0)
        kept.clear()

    def ask(n, size):
        tools = tuple(Tool(name=f"get{n}_{i}_of_a_b", digest=1000 * n + i + 1) for i in range(size))
        assert offered_values(tools, [f"of {n} {i}" for i in range(3)])[-2] >= 0.4
        return tools

    few = ask(0, 2)
    assert toolschema._offer(few) is toolschema._offer(few)
    said = len(toolschema._said)
    vast = ask(1, 100)
    assert toolschema._offer(vast) is not toolschema._offer(vast)
    assert (len(toolschema._said), len(toolschema._schemas)) == (said, 1)
    for n in range(2, 200):
        ask(n, 8)
        for kept in (toolschema._schemas.values(), [o.schema for o in toolschema._offers.values()]):
            assert sum(schema.held for schema in kept) <= memory
    assert len(toolschema._schemas) > 1


def test_a_definition_of_many_types_is_not_remembered():
    shapes = Shapes()
    wide = {"parameters": {"properties": {f"p{i}": {"type": f"t{i}"} for i in range(100)}}}
    assert len(shapes.of(1, wide).types) == 100
    assert not shapes


def test_what_is_remembered_of_texts_is_of_their_tools_alone():
    for names in (("read_file", "run_tests"), ("send_mail", "mail_tests", "tests")):
        tools = tuple(Tool(name=name, digest=len(name)) for name in names)
        first, again = (
            offered_values(tools, ["run the tests and mail"]),
            offered_values(tools, ["run the tests and mail"]),
        )
        unknown = tuple(Tool(name=name) for name in names)
        assert first == again == offered_values(unknown, ["run the tests and mail"])
