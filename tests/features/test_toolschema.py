"""The structure of tools offered: counts alike in every dialect, and whether the task names a tool."""

import msgspec
import pytest

from features.toolschema import Shapes, ToolShape, offered_facts, shape_of
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
    facts = offered_facts(tools, "What is the weather? Get it.")
    assert (facts["tools_named_max"], facts["tools_named_mean"]) == (1.0, 0.5)
    assert (facts["schema_params"], facts["schema_odd_types"], facts["schema_types"]) == (2.0, 1.0, 5.0)
    assert set(offered_facts((), "x").values()) == {0.0}
    assert set(offered_facts((), "x")) == set(facts)
