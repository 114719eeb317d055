"""Requests of one dialect as another's: what is said stays said, or is refused, or is named as lost."""

import json

import pytest

from features.errors import BadInput
from features.wire import parse_request
from router.gateway.translate import Target, Untranslatable, translate
from router.gateway.translate.talk import Names
from router.gateway.translate.translation import refuse_ours

DIALECTS = ("openai_chat", "anthropic_messages", "openai_responses")
PAIRS = [(client, upstream) for client in DIALECTS for upstream in DIALECTS if client != upstream]
SCHEMA = {
    "type": "object",
    "properties": {"zeta": {"type": "string"}, "alpha": {"type": "string"}},
    "required": ["zeta", "alpha"],
    "additionalProperties": False,
}
PNG = "iVBORw0KGgo="

TALKS = {
    "openai_chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            },
            {
                "role": "assistant",
                "content": "I will.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "sh", "arguments": '{"zeta":"1","alpha":"2"}'},
                    },
                    {"id": "call_2", "type": "function", "function": {"name": "sh", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {"role": "tool", "tool_call_id": "call_2", "content": "two"},
            {"role": "user", "content": "Go on"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "sh", "description": "Run", "parameters": SCHEMA}}
        ],
        "max_completion_tokens": 99,
    },
    "anthropic_messages": {
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I will."},
                    {"type": "tool_use", "id": "call_1", "name": "sh", "input": {"zeta": "1", "alpha": "2"}},
                    {"type": "tool_use", "id": "call_2", "name": "sh", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_2",
                        "content": [{"type": "text", "text": "two"}],
                    },
                    {"type": "text", "text": "Go on"},
                ],
            },
        ],
        "tools": [{"name": "sh", "description": "Run", "input_schema": SCHEMA}],
        "max_tokens": 99,
    },
    "openai_responses": {
        "instructions": "Be brief.",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                ],
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I will."}]},
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "sh",
                "arguments": '{"zeta":"1","alpha":"2"}',
            },
            {"type": "function_call", "call_id": "call_2", "name": "sh", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "one"},
            {
                "type": "function_call_output",
                "call_id": "call_2",
                "output": [{"type": "input_text", "text": "two"}],
            },
            {"role": "user", "content": "Go on"},
        ],
        "tools": [{"type": "function", "name": "sh", "description": "Run", "parameters": SCHEMA}],
        "max_output_tokens": 99,
        "store": False,
    },
}
SELLERS = {"openai_chat": "zai", "anthropic_messages": "anthropic", "openai_responses": "openai"}
MODELS = {"openai_chat": "glm-5", "anthropic_messages": "claude-opus-5-5", "openai_responses": "gpt-6.1-sol"}


def said(client, upstream, **more):
    """(body that goes out, what was lost) of the conversation above with fields laid over it."""
    body = {"model": "auto", **TALKS[client], **more}
    body = {key: value for key, value in body.items() if value is not ...}
    target = Target(upstream, SELLERS[upstream], MODELS[upstream])
    made = translate(client, json.dumps(body).encode(), target, "req_1", 0)
    return json.loads(made.body), made.lost


def heard(dialect, body):
    """What a request says: speakers, texts, calls and results in order."""
    request = parse_request(dialect, json.dumps(body).encode())
    flat = [
        (part.kind, json.loads(part.text) if part.kind == "tool_call" else part.text, part.name, part.call_id)
        for message in request.messages
        for part in message.parts
        if part.kind != "image"
    ]
    images = sum(part.kind == "image" for message in request.messages for part in message.parts)
    return flat, images, [tool.name for tool in request.tools], request.max_output_tokens


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_conversation_says_the_same_in_every_dialect(client, upstream) -> None:
    body, lost = said(client, upstream)
    assert heard(upstream, body) == heard(client, {"model": "auto", **TALKS[client]})
    assert lost == ()
    assert body["model"] == MODELS[upstream]
    assert body.get("store") is (False if upstream == "openai_responses" else None)
    schema = json.dumps(SCHEMA["properties"])
    assert schema in json.dumps(body)  # a schema's order is the order in which models answer


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_there_and_back_is_where_it_began(client, upstream) -> None:
    there, _ = said(client, upstream)
    target = Target(client, SELLERS[client], MODELS[client])
    back = json.loads(translate(upstream, json.dumps(there).encode(), target, "req_1", 0).body)
    assert heard(client, back) == heard(client, {"model": "auto", **TALKS[client]})


CHOICES = {
    "openai_chat": {
        "any": "required",
        "none": "none",
        "named": {"type": "function", "function": {"name": "sh"}},
    },
    "anthropic_messages": {
        "any": {"type": "any"},
        "none": {"type": "none"},
        "named": {"type": "tool", "name": "sh"},
    },
    "openai_responses": {"any": "required", "none": "none", "named": {"type": "function", "name": "sh"}},
}


@pytest.mark.parametrize("choice", ["any", "none", "named"])
@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_forced_choice_stays_one(client, upstream, choice) -> None:
    body, _ = said(client, upstream, tool_choice=CHOICES[client][choice])
    assert body["tool_choice"] == CHOICES[upstream][choice]


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_one_call_at_a_time_stays_one(client, upstream) -> None:
    own = {"parallel_tool_calls": False}
    if client == "anthropic_messages":
        own = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    body, _ = said(client, upstream, **own)
    if upstream == "anthropic_messages":
        assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    else:
        assert body["parallel_tool_calls"] is False


FORMATS = {
    "openai_chat": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        }
    },
    "anthropic_messages": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "openai_responses": {
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
    },
}


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_schema_for_the_answer_is_kept(client, upstream) -> None:
    body, lost = said(client, upstream, **FORMATS[client])
    assert {key: body[key] for key in FORMATS[upstream]} == FORMATS[upstream]
    assert lost == ()


EFFORTS = {
    "openai_chat": {"reasoning_effort": "high"},
    "anthropic_messages": {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}},
    "openai_responses": {"reasoning": {"effort": "high"}},
}


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_an_effort_is_kept(client, upstream) -> None:
    body, _ = said(client, upstream, **EFFORTS[client])
    assert {key: body[key] for key in EFFORTS[upstream]} == EFFORTS[upstream]


def test_models_that_think_by_a_budget_get_one() -> None:
    body = {
        "model": "auto",
        **TALKS["openai_chat"],
        "reasoning_effort": "low",
        "max_completion_tokens": 9_000,
    }
    body["messages"] = body["messages"][:2]
    for provider, model in (("zai", "glm-5"), ("anthropic", "claude-haiku-4-5")):
        target = Target("anthropic_messages", provider, model)
        made = json.loads(translate("openai_chat", json.dumps(body).encode(), target, "r", 0).body)
        assert made["thinking"] == {"type": "enabled", "budget_tokens": 2_048}
    looped = {**body, "messages": TALKS["openai_chat"]["messages"][:-1]}
    made = translate("openai_chat", json.dumps(looped).encode(), target, "r", 0)
    assert "thinking" not in json.loads(made.body)  # the turn that the loop began with has none to show
    assert made.lost == ("reasoning",)


@pytest.mark.parametrize(
    ("client", "more", "says"),
    [
        ("openai_chat", {"n": 2}, "n:"),
        ("openai_chat", {"logprobs": True}, "logprobs"),
        ("openai_chat", {"modalities": ["text", "audio"]}, "modalities"),
        (
            "openai_chat",
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input_audio",
        ),
        ("openai_responses", {"previous_response_id": "resp_1"}, "send the whole conversation"),
        ("openai_responses", {"conversation": "conv_1"}, "conversation"),
        ("openai_responses", {"prompt": {"id": "p"}}, "prompt"),
        ("openai_responses", {"background": True}, "background"),
        ("openai_responses", {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ("openai_responses", {"tool_choice": {"type": "web_search"}}, "tool_choice"),
        (
            "openai_responses",
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "picture",
        ),
        ("anthropic_messages", {"container": "c"}, "container"),
        ("anthropic_messages", {"tool_choice": {"type": "tool", "name": "gone"}}, "tool_choice"),
        (
            "anthropic_messages",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            },
            "document",
        ),
    ],
)
def test_what_no_other_dialect_can_say_is_refused_in_one_line(client, more, says) -> None:
    upstream = "openai_chat" if client == "anthropic_messages" else "anthropic_messages"
    with pytest.raises(Untranslatable, match=says) as refused:
        said(client, upstream, **more)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("client", "upstream", "more", "lost"),
    [
        ("openai_chat", "anthropic_messages", {"seed": 7, "logit_bias": {"1": 2}}, ("logit_bias", "seed")),
        ("openai_chat", "anthropic_messages", {"temperature": 0.2}, ("temperature",)),
        ("openai_chat", "openai_responses", {"stop": ["X"]}, ("stop",)),
        (
            "anthropic_messages",
            "openai_chat",
            {"top_k": 3, "metadata": {"user_id": "u"}},
            ("metadata", "top_k"),
        ),
        (
            "anthropic_messages",
            "openai_responses",
            {"tools": [{"type": "web_search_20260209", "name": "w"}]},
            ("tools.web_search_20260209",),
        ),
        (
            "openai_responses",
            "anthropic_messages",
            {"tools": [{"type": "web_search"}]},
            ("tools.web_search",),
        ),
        ("openai_responses", "openai_chat", {"include": ["x"], "new_field": 1}, ("include", "new_field")),
        (
            "openai_chat",
            "anthropic_messages",
            {"response_format": {"type": "json_object"}},
            ("response_format json_object - asked for in words",),
        ),
    ],
)
def test_what_is_left_out_is_named(client, upstream, more, lost) -> None:
    assert said(client, upstream, **more)[1] == lost


def test_a_seller_gets_no_note_to_another_seller() -> None:
    note = "x-anthropic-billing-header: cc_version=1;"
    body, lost = said("anthropic_messages", "openai_chat", system=[{"type": "text", "text": note}])
    assert note not in json.dumps(body)
    assert lost == ("billing header",)


def test_reasoning_goes_back_only_to_sellers_that_have_a_place_for_it() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho", "reasoning_content": "hm"},
    ]
    responses, lost = said("openai_chat", "openai_responses", messages=messages)
    assert "hm" not in json.dumps(responses)
    assert lost == ("reasoning of earlier turns",)
    thought = {"type": "reasoning", "id": "x", "summary": [{"type": "summary_text", "text": "hm"}]}
    chat, lost = said(
        "openai_responses", "openai_chat", input=[thought, {"role": "assistant", "content": "Ho"}]
    )
    assert chat["messages"][1] == {"role": "assistant", "content": "Ho", "reasoning_content": "hm"}
    assert lost == ()


def test_a_picture_in_a_result_is_shown_where_results_are_text() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    result = {"type": "tool_result", "tool_use_id": "call_1", "is_error": True, "content": [picture]}
    messages = [*TALKS["anthropic_messages"]["messages"][:2], {"role": "user", "content": [result]}]
    chat, _ = said("anthropic_messages", "openai_chat", messages=messages)
    assert chat["messages"][-2] == {"role": "tool", "tool_call_id": "call_1", "content": "Error: (see below)"}
    assert chat["messages"][-1]["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    responses, _ = said("anthropic_messages", "openai_responses", messages=messages)
    assert [block["type"] for block in responses["input"][-1]["output"]] == ["input_text", "input_image"]


def test_late_instructions_stay_where_they_were_said() -> None:
    late = [*TALKS["openai_chat"]["messages"], {"role": "developer", "content": "Stop soon"}]
    messages, _ = said("openai_chat", "anthropic_messages", messages=late)
    assert messages["system"] == "Be brief."
    assert "Stop soon" in messages["messages"][-1]["content"][-1]["text"]
    responses, _ = said("openai_chat", "openai_responses", messages=late)
    assert responses["input"][-1]["role"] == "developer"


def test_a_conversation_without_its_tools_is_taken_by_the_dialect_that_wants_them() -> None:
    body, _ = said("openai_chat", "anthropic_messages", tools=...)
    assert body["tools"] == [{"name": "sh", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_sellers_get_the_limit_and_the_cache_they_ask_for() -> None:
    body, _ = said("openai_chat", "anthropic_messages", max_completion_tokens=..., prompt_cache_key="k")
    assert body["max_tokens"] == 32_000
    assert body["cache_control"] == {"type": "ephemeral"}
    assert "max_tokens" in said("anthropic_messages", "openai_chat")[0]
    target = Target("openai_chat", "openai", "gpt-6.1-sol")
    raw = json.dumps({"model": "auto", **TALKS["anthropic_messages"], "stream": True}).encode()
    openai = json.loads(translate("anthropic_messages", raw, target, "r", 0).body)
    assert openai["max_completion_tokens"] == 99
    assert openai["stream_options"] == {"include_usage": True}


def test_tools_of_a_namespace_and_long_names_come_back_as_the_clients_own() -> None:
    names = Names()
    assert names.plain("f", "multi__") == "multi__f"
    assert names.own("multi__f") == ("f", "multi__", False)
    long = "mcp.server/" + "x" * 90
    assert len(names.plain(long)) == 64
    assert names.own(names.plain(long)).name == long
    assert names.own("never offered").name == "never offered"
    inner = {
        "type": "namespace",
        "name": "multi",
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
    }
    body, _ = said("openai_responses", "openai_chat", tools=[inner])
    assert [tool["function"]["name"] for tool in body["tools"]] == ["multi__f"]


def test_an_answer_that_nobody_kept_is_not_gone_on_from() -> None:
    refuse_ours("resp_123")
    with pytest.raises(BadInput, match="send the whole conversation"):
        refuse_ours("resp_samediff_x")
