"""The requests of the kit, in each dialect, and what of them must have reached the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from features.wire import parse_request, plain
from router.conformance.provider import mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from features.wire.types import Dialect
    from router.conformance.case import Case

SCHEMA = {
    "type": "object",
    "properties": {"zeta": {"type": "integer"}, "alpha": {"type": "integer"}},
    "required": ["zeta", "alpha"],
    "additionalProperties": False,
}
TOOLS = {
    "sh": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]},
    "read": {"type": "object", "properties": {"path": {"type": "string"}}},
}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
BETA = "conformance-2026-11-21"
UNKNOWN = "x_conformance_unknown"


def request(case: Case, dialect: Dialect, model: str) -> dict[str, Any]:
    """The request of a case: its mark in the prompt, tools where it calls some, and what it must say."""
    body = _BODIES[dialect](mark(case), model, tools=bool(case.calls) or case.request in _WITH_TOOLS)
    if case.stream:
        body["stream"] = True
        if dialect == "openai_chat":
            body["stream_options"] = {"include_usage": True}
    if case.request is not None:
        if say := _SAYING[dialect].get(case.request):
            say(body)
        if case.request == "unknown":
            body[UNKNOWN] = {"kept": [1, 2]}
    return body


_WITH_TOOLS = ("tools", "forced", "alone", "results")


def _chat(words: str, model: str, *, tools: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": words}]}
    if tools:
        body["tools"] = [
            {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}
            for name, schema in TOOLS.items()
        ]
    return body


def _messages(words: str, model: str, *, tools: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "max_tokens": 4_096}
    body["messages"] = [{"role": "user", "content": words}]
    if tools:
        body["tools"] = [
            {"name": name, "description": name, "input_schema": schema} for name, schema in TOOLS.items()
        ]
    return body


def _responses(words: str, model: str, *, tools: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "store": False, "input": [{"role": "user", "content": words}]}
    if tools:
        body["tools"] = [
            {"type": "function", "name": name, "description": name, "parameters": schema, "strict": False}
            for name, schema in TOOLS.items()
        ]
    return body


_BODIES = {"openai_chat": _chat, "anthropic_messages": _messages, "openai_responses": _responses}


def _chat_results(body: dict[str, Any]) -> None:
    function = {"name": "sh", "arguments": '{"cmd":"ls"}'}
    calls = [{"id": f"call_{i}", "type": "function", "function": function} for i in range(2)]
    results = [{"role": "tool", "tool_call_id": f"call_{i}", "content": f"result {i}"} for i in range(2)]
    body["messages"] += [{"role": "assistant", "content": None, "tool_calls": calls}, *results]


def _messages_results(body: dict[str, Any]) -> None:
    ids = [f"call_{i}" for i in range(2)]
    calls = [{"type": "tool_use", "id": i, "name": "sh", "input": {"cmd": "ls"}} for i in ids]
    results = [{"type": "tool_result", "tool_use_id": i, "content": f"result {n}"} for n, i in enumerate(ids)]
    body["messages"] += [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]


def _responses_results(body: dict[str, Any]) -> None:
    ids = [f"call_{i}" for i in range(2)]
    call = {"type": "function_call", "name": "sh", "arguments": '{"cmd":"ls"}'}
    body["input"] += [{**call, "call_id": i} for i in ids]
    body["input"] += [
        {"type": "function_call_output", "call_id": i, "output": f"result {n}"} for n, i in enumerate(ids)
    ]


def _image(body: dict[str, Any], key: str, kind: str, image: dict[str, Any]) -> None:
    words = body[key][0]["content"]
    body[key][0]["content"] = [{"type": kind, "text": words}, image]


_ADDRESS = f"data:image/png;base64,{PNG}"
_SAYING: dict[Dialect, dict[str, Callable[[dict[str, Any]], None]]] = {
    "openai_chat": {
        "forced": lambda b: b.update(tool_choice={"type": "function", "function": {"name": "sh"}}),
        "alone": lambda b: b.update(parallel_tool_calls=False),
        "results": _chat_results,
        "image": lambda b: _image(
            b, "messages", "text", {"type": "image_url", "image_url": {"url": _ADDRESS}}
        ),
        "schema": lambda b: b.update(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            }
        ),
        "limit": lambda b: b.update(max_completion_tokens=321),
    },
    "anthropic_messages": {
        "forced": lambda b: b.update(tool_choice={"type": "tool", "name": "sh"}),
        "alone": lambda b: b.update(tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
        "results": _messages_results,
        "image": lambda b: _image(
            b,
            "messages",
            "text",
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
        "schema": lambda b: b.update(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
        "limit": lambda b: b.update(max_tokens=321),
    },
    "openai_responses": {
        "forced": lambda b: b.update(tool_choice={"type": "function", "name": "sh"}),
        "alone": lambda b: b.update(parallel_tool_calls=False),
        "results": _responses_results,
        "image": lambda b: _image(
            b, "input", "input_text", {"type": "input_image", "image_url": _ADDRESS, "detail": "auto"}
        ),
        "schema": lambda b: b.update(
            text={"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
        ),
        "limit": lambda b: b.update(max_output_tokens=321),
    },
}


def arrived(what: str, client: Dialect, got: tuple[Dialect, dict[str, Any], dict[str, str]]) -> str | None:
    """What is wrong with the request that the provider got; None if it says what it must."""
    dialect, body, headers = got
    same = dialect == client
    if what == "unknown":
        kept = body.get(UNKNOWN) == {"kept": [1, 2]}
        return "the unknown field did not arrive" if same and not kept else None
    if what == "beta":
        kept = BETA in headers.get("anthropic-beta", "") or BETA in headers.get("openai-beta", "")
        return "the beta header did not arrive" if same and not kept else None
    return None if _CHECKS[what](dialect, body) else f"it reached the provider as {_shown(body)}"


def _shown(body: dict[str, Any]) -> str:
    left_out = ("messages", "input", "tools")
    return ", ".join(f"{key}={str(body[key])[:60]}" for key in body if key not in left_out)


def _forced(_: Dialect, body: dict[str, Any]) -> bool:
    choice = plain.mapping(body.get("tool_choice"))
    return (choice.get("name") or plain.child(choice, "function").get("name")) == "sh"


def _alone(_: Dialect, body: dict[str, Any]) -> bool:
    choice = plain.mapping(body.get("tool_choice"))
    return body.get("parallel_tool_calls") is False or choice.get("disable_parallel_tool_use") is True


def _tools(dialect: Dialect, body: dict[str, Any]) -> bool:
    request = parse_request(dialect, _json(body))
    return [tool.name for tool in request.tools] == list(TOOLS) and '"cmd"' in _json(body).decode()


def _results(dialect: Dialect, body: dict[str, Any]) -> bool:
    parts = [p for m in parse_request(dialect, _json(body)).messages for p in m.parts]
    said = [(p.call_id, p.text) for p in parts if p.kind == "tool_result"]
    calls = [p.call_id for p in parts if p.kind == "tool_call"]
    return calls == ["call_0", "call_1"] and said == [("call_0", "result 0"), ("call_1", "result 1")]


def _picture(dialect: Dialect, body: dict[str, Any]) -> bool:
    parts = [p for m in parse_request(dialect, _json(body)).messages for p in m.parts]
    return PNG in _json(body).decode() and any(p.kind == "image" for p in parts)


def _schema(dialect: Dialect, body: dict[str, Any]) -> bool:
    text = _json(body).decode()
    return parse_request(dialect, _json(body)).json_schema and 0 < text.find('"zeta"') < text.find('"alpha"')


def _json(body: dict[str, Any]) -> bytes:
    return msgspec.json.encode(body)


_CHECKS: dict[str, Callable[[Dialect, dict[str, Any]], bool]] = {
    "tools": _tools,
    "forced": _forced,
    "alone": _alone,
    "results": _results,
    "image": _picture,
    "schema": _schema,
    "limit": lambda dialect, body: parse_request(dialect, _json(body)).max_output_tokens == 321,
}
