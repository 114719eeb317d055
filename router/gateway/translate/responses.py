"""Responses requests: read into the neutral form, and written from it."""

from __future__ import annotations

from typing import Any

from features.wire import plain
from router.gateway.translate.chat import ALIKE, effort_said, keep_only, sampling
from router.gateway.translate.parts import file_part, image_part, text_of, textual
from router.gateway.translate.talk import (
    Call,
    File,
    Image,
    Piece,
    Result,
    Schema,
    Talk,
    Target,
    Text,
    Thought,
    ToolDef,
    Turn,
    Untranslatable,
    freeform_schema,
    json_text,
    plain_id,
)

_READ = frozenset(
    {
        "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens",
        "temperature", "top_p", "stream", "reasoning", "text", "store", "background",
    }
)  # fmt: skip
_ITEMS = {
    kind: frozenset({"type", "id", "status", *keys.split()})  # id and status are of the answer that it was in
    for kind, keys in {
        "message": "role content",
        "function_call": "call_id name namespace arguments",
        "custom_tool_call": "call_id name namespace input",
        "function_call_output": "call_id output",
        "custom_tool_call_output": "call_id output",
        "reasoning": "content summary encrypted_content",
    }.items()
}
_TEXT = frozenset({"type", "text", "refusal"})
_IMAGE = frozenset({"type", "image_url", "detail"})
_FILE = frozenset({"type", "filename", "file_data", "file_url"})
_TOOLS = {
    "namespace": frozenset({"type", "name", "description", "tools"}),
    "function": frozenset({"type", "name", "description", "parameters", "strict"}),
    "custom": frozenset({"type", "name", "description", "format"}),
}
_KEPT = ("previous_response_id", "conversation", "prompt")  # kept by the provider that has them


def read(body: dict[str, Any]) -> Talk:
    """Read a request; Untranslatable for what no other dialect has."""
    talk = Talk()
    for key in _KEPT:
        if body.get(key) is not None:
            raise Untranslatable(f"{key}: kept by the provider that has it; send the whole conversation")
    if body.get("background"):
        raise Untranslatable("background: answers can't be fetched later in another dialect")
    if text := text_of(body.get("instructions")):
        talk.system.append(text)
    _tools(talk, body)
    items = body.get("input")
    if isinstance(items, str):
        talk.say("user", [Text(items)])
    else:
        for item in plain.objects_only(items or [], "input"):
            _item(talk, item)
    _choice(talk, body)
    said = plain.child(body, "text")
    talk.alike = {key: body[key] for key in ALIKE if body.get(key) is not None}
    if said.get("verbosity") is not None:
        talk.alike["verbosity"] = said["verbosity"]
    talk.marked = "prompt_cache_key" in talk.alike
    talk.limit = plain.count(body.get("max_output_tokens"))
    talk.temperature, talk.top_p = body.get("temperature"), body.get("top_p")
    talk.stream = body.get("stream") is True
    talk.effort = plain.string(plain.child(body, "reasoning").get("effort"))
    talk.unread("reasoning", plain.child(body, "reasoning"), frozenset({"effort"}))
    talk.unread("text", said, frozenset({"format", "verbosity"}))
    talk.thinks = None if talk.effort is None else talk.effort != "none"
    talk.schema = _schema(plain.child(said, "format"))
    unread = body.keys() - _READ - set(ALIKE)
    talk.lose(*sorted(key for key in unread if body[key] not in (None, False, [], {})))
    return talk


def _schema(wanted: dict[str, Any]) -> Schema | None:
    if wanted.get("type") == "json_object":
        return Schema("answer", None)
    if wanted.get("type") != "json_schema":
        return None
    strict = wanted.get("strict")
    return Schema(
        plain.string(wanted.get("name")) or "answer",
        plain.child(wanted, "schema"),
        strict if isinstance(strict, bool) else None,
        plain.string(wanted.get("description")),
    )


def _tools(talk: Talk, body: dict[str, Any]) -> None:
    for tool in plain.objects(body.get("tools")):
        if tool.get("type") == "namespace":
            talk.unread("tools.namespace", tool, _TOOLS["namespace"])
            for inner in plain.objects(tool.get("tools")):
                _tool_def(talk, inner, plain.string(tool.get("name")))
        else:
            _tool_def(talk, tool, None)


def _tool_def(talk: Talk, tool: dict[str, Any], namespace: str | None) -> None:
    kind, said = tool.get("type"), plain.string(tool.get("description"))
    if kind not in ("function", "custom"):
        talk.lose(f"tools.{kind}")
        return
    talk.unread("tools", tool, _TOOLS[kind])
    freeform = kind == "custom"
    name = talk.names.plain(str(tool.get("name")), namespace, freeform=freeform)
    if freeform:
        talk.tools.append(ToolDef(name, said, freeform_schema(said)))
        if tool.get("format"):
            talk.lose("tools.custom.format")
        return
    schema = plain.mapping(tool.get("parameters")) or {"type": "object", "properties": {}}
    strict = tool.get("strict")
    talk.tools.append(ToolDef(name, said, schema, strict if isinstance(strict, bool) else None))


def _choice(talk: Talk, body: dict[str, Any]) -> None:
    parallel = body.get("parallel_tool_calls")
    talk.parallel = parallel if isinstance(parallel, bool) else None
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        keep_only(talk, plain.objects(choice.get("tools")))
        choice = choice.get("mode")
    if isinstance(choice, dict):
        if choice.get("type") not in ("function", "custom"):
            raise Untranslatable("tool_choice: a tool of the provider's own can't be had from another")
        talk.forced = talk.names.plain(str(choice.get("name")), plain.string(choice.get("namespace")))
    elif choice in ("auto", "none", "required"):
        talk.choice = choice


def _item(talk: Talk, item: dict[str, Any]) -> None:
    kind = str(item.get("type") or "message")
    talk.unread(f"input.{kind}", item, _ITEMS.get(kind, frozenset(item)))
    if kind == "message":
        _message(talk, item)
    elif kind in ("function_call", "custom_tool_call"):
        freeform = kind == "custom_tool_call"
        space = plain.string(item.get("namespace"))
        name = talk.names.plain(str(item.get("name")), space, freeform=freeform)
        arguments = plain.compact_json(item.get("arguments")) or "{}"
        if freeform:
            arguments = json_text({"input": item.get("input") or ""})
        talk.say("assistant", [Call(plain_id(str(item.get("call_id"))), name, arguments)])
    elif kind in ("function_call_output", "custom_tool_call_output"):
        parts = textual(_pieces(talk, item.get("output")))
        failed = item.get("status") == "failed"
        talk.say("user", [Result(plain_id(str(item.get("call_id"))), parts, failed)])
    elif kind == "reasoning":
        thought = plain.flatten(item.get("content")) or plain.flatten(item.get("summary"))
        if thought:
            talk.say("assistant", [Thought(thought)])
        if item.get("encrypted_content"):
            talk.lose("encrypted reasoning of earlier turns")
    elif kind in ("item_reference", "compaction"):
        raise Untranslatable(f"input of type {kind}: kept by the provider that has it")
    else:
        talk.lose(f"input.{kind}")


def _message(talk: Talk, item: dict[str, Any]) -> None:
    role = plain.role_of(item.get("role"), "input")
    if role == "system":
        text = text_of(item.get("content"))
        for block in plain.objects(item.get("content")):
            talk.unread("content.text", block, _TEXT)
        if talk.turns:
            talk.say("system", [Text(text)] if text else [])
        elif text:
            talk.system.append(text)
    else:
        talk.say("assistant" if role == "assistant" else "user", _pieces(talk, item.get("content")))


def _pieces(talk: Talk, content: Any) -> list[Piece]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    pieces: list[Piece] = []
    for block in plain.objects(content):
        kind = block.get("type")
        if kind in ("input_text", "output_text", "text", "refusal"):
            pieces.append(Text(plain.flatten(block.get("text") or block.get("refusal"))))
            talk.unread("content.text", block, _TEXT)
        elif kind == "input_image":
            pieces.append(image_part(block.get("image_url"), block.get("detail")))
            talk.unread("content.image", block, _IMAGE)
        elif kind == "input_file":
            pieces.append(file_part(block))
            talk.unread("content.file", block, _FILE)
        else:
            raise Untranslatable(f"content of type {str(kind)[:40]!r} has no equal in another dialect")
    return [piece for piece in pieces if not isinstance(piece, Text) or piece.text]


def write(talk: Talk, target: Target) -> dict[str, Any]:
    """Write a request; nothing is kept by the provider."""
    body: dict[str, Any] = {"model": target.model, "store": False}
    if talk.system:
        body["instructions"] = "\n\n".join(talk.system)
    body["input"] = [item for turn in talk.turns for item in _items(talk, turn)]
    if talk.limit is not None:
        body["max_output_tokens"] = max(16, talk.limit)  # the dialect's least
    if talk.stream:
        body["stream"] = True
    if talk.tools:
        body["tools"] = [_tool(tool) for tool in talk.tools]
        if talk.forced is not None:
            body["tool_choice"] = {"type": "function", "name": talk.forced}
        elif talk.choice is not None:
            body["tool_choice"] = talk.choice
        if talk.parallel is not None:
            body["parallel_tool_calls"] = talk.parallel
    if effort_said(talk):
        body["reasoning"] = {"effort": talk.effort}
    text = _format(talk.schema) | {k: v for k, v in talk.alike.items() if k == "verbosity"}
    if text:
        body["text"] = text
    if talk.stop:
        talk.lose("stop")
    shared = {key: value for key, value in talk.alike.items() if key != "verbosity"}
    return body | sampling(talk, target) | shared


def _format(schema: Schema | None) -> dict[str, Any]:
    if schema is None:
        return {}
    if schema.schema is None:
        return {"format": {"type": "json_object"}}
    said = {"name": schema.name, "schema": schema.schema, "strict": schema.strict or False}
    if schema.description:
        said["description"] = schema.description
    return {"format": {"type": "json_schema", **said}}


def _tool(tool: ToolDef) -> dict[str, Any]:
    said = {"type": "function", "name": tool.name, "description": tool.description}
    told = {key: value for key, value in said.items() if value is not None}
    return {**told, "parameters": tool.schema, "strict": tool.strict or False}


def _items(talk: Talk, turn: Turn) -> list[dict[str, Any]]:
    """The items of a turn; what is said in a row is one message."""
    items: list[dict[str, Any]] = []
    for piece in turn.pieces:
        if isinstance(piece, Thought):
            talk.lose("reasoning of earlier turns")  # the dialect takes back none but its own
        elif isinstance(piece, Call):
            call = {"call_id": piece.id, "name": piece.name, "arguments": piece.arguments}
            items.append({"type": "function_call", **call})
        elif isinstance(piece, Result):
            items.append({"type": "function_call_output", "call_id": piece.call_id, "output": _output(piece)})
        else:
            block = _block(piece, "output_text" if turn.role == "assistant" else "input_text")
            role = "developer" if turn.role == "system" else turn.role
            if items and items[-1]["type"] == "message":
                items[-1]["content"].append(block)
            else:
                items.append({"type": "message", "role": role, "content": [block]})
    return items


def _output(result: Result) -> str | list[dict[str, Any]]:
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    text = "\n".join(texts)
    if result.failed and not text.lower().startswith(("error", "<tool_use_error")):
        text = f"Error: {text}"
    if len(texts) == len(result.parts):
        return text
    shown = [_block(part, "input_text") for part in result.parts if not isinstance(part, Text)]
    return [{"type": "input_text", "text": text}, *shown] if text else shown


def _block(piece: Text | Image | File, text_kind: str) -> dict[str, Any]:
    if isinstance(piece, Text):
        return {"type": text_kind, "text": piece.text}
    if isinstance(piece, Image):
        return {"type": "input_image", "image_url": piece.address, "detail": piece.detail or "auto"}
    if piece.url:
        return {"type": "input_file", "file_url": piece.url}
    data = f"data:{piece.media_type or 'application/pdf'};base64,{piece.data}"
    return {"type": "input_file", "filename": piece.name, "file_data": data}
