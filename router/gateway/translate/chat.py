"""Chat Completions requests: read into the neutral form, and written from it."""

from __future__ import annotations

from typing import Any

from features.wire import plain
from router.gateway.translate.parts import (
    file_part,
    image_part,
    text_of,
    textual,
)
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
        "model", "messages", "tools", "functions", "tool_choice", "function_call", "parallel_tool_calls",
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "stream", "stream_options",
        "reasoning_effort", "reasoning", "response_format", "n", "logprobs", "modalities", "audio",
    }
)  # fmt: skip
_TEXT = frozenset({"type", "text", "refusal", "cache_control"})
_SAID = frozenset({"role", "content"})
_MESSAGES = {
    "system": _SAID,
    "user": _SAID,
    "tool": _SAID | {"tool_call_id", "name"},
    "assistant": _SAID
    | {"refusal", "tool_calls", "function_call", "reasoning", "reasoning_content", "reasoning_details"},
}
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})
ALIKE = ("metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "verbosity")
OF_CACHES = ("prompt_cache_key", "prompt_cache_retention")  # they change what it costs, and nothing else


def read(body: dict[str, Any]) -> Talk:
    """Read a request; Untranslatable for what no other dialect has."""
    talk = Talk()
    if (body.get("n") or 1) != 1:
        raise Untranslatable("n: several answers to one request can't be had in another dialect")
    for key in ("logprobs", "audio"):
        if body.get(key):
            raise Untranslatable(f"{key}: can't be had in another dialect")
    if body.get("modalities") not in (None, ["text"]):
        raise Untranslatable("modalities: only text can be had in another dialect")
    for i, message in enumerate(plain.objects_only(body["messages"], "messages")):
        _message(talk, message, i)
    _tools(talk, body)
    _choice(talk, body)
    talk.alike = {key: body[key] for key in ALIKE if body.get(key) is not None}
    talk.marked = "prompt_cache_key" in talk.alike or "cache_control" in body
    talk.limit = plain.count(body.get("max_completion_tokens")) or plain.count(body.get("max_tokens"))
    talk.temperature, talk.top_p = body.get("temperature"), body.get("top_p")
    stop = body.get("stop")
    talk.stop = [stop] if isinstance(stop, str) else [s for s in stop or () if isinstance(s, str)]
    talk.stream = body.get("stream") is True
    effort = body.get("reasoning_effort") or plain.child(body, "reasoning").get("effort")
    talk.effort = plain.string(effort)
    talk.thinks = None if talk.effort is None else talk.effort != "none"
    talk.unread("reasoning", plain.child(body, "reasoning"), frozenset({"effort"}))
    talk.schema = _schema(plain.child(body, "response_format"))
    unread = body.keys() - _READ - set(ALIKE)
    talk.lose(*sorted(key for key in unread if body[key] not in (None, False)))
    return talk


def _schema(wanted: dict[str, Any]) -> Schema | None:
    if wanted.get("type") == "json_object":
        return Schema("answer", None)
    if wanted.get("type") != "json_schema":
        return None
    said = plain.child(wanted, "json_schema")
    strict = said.get("strict")
    return Schema(
        plain.string(said.get("name")) or "answer",
        plain.child(said, "schema"),
        strict if isinstance(strict, bool) else None,
        plain.string(said.get("description")),
    )


def _tools(talk: Talk, body: dict[str, Any]) -> None:
    for tool in plain.objects(body.get("tools")):
        kind = tool.get("type", "function")
        if kind in ("custom", "function"):
            talk.unread("tools", tool, frozenset({"type", kind, "cache_control"}))
        if kind == "custom":
            inner = plain.child(tool, "custom")
            name = talk.names.plain(str(inner.get("name")), freeform=True)
            said = plain.string(inner.get("description"))
            talk.tools.append(ToolDef(name, said, freeform_schema(said)))
            if inner.get("format"):
                talk.lose("tools.custom.format")
        elif kind == "function":
            _function(talk, plain.child(tool, "function"))
        else:
            talk.lose(f"tools.{kind}")
    for function in plain.objects(body.get("functions")):
        _function(talk, function)


def _function(talk: Talk, function: dict[str, Any]) -> None:
    strict = function.get("strict")
    talk.unread("tools.function", function, _FUNCTION)
    talk.tools.append(
        ToolDef(
            talk.names.plain(str(function.get("name"))),
            plain.string(function.get("description")),
            plain.mapping(function.get("parameters")) or {"type": "object", "properties": {}},
            strict if isinstance(strict, bool) else None,
        )
    )


def _choice(talk: Talk, body: dict[str, Any]) -> None:
    """What must be called; a choice among some of the tools leaves only those."""
    choice = body.get("tool_choice", body.get("function_call"))
    parallel = body.get("parallel_tool_calls")
    talk.parallel = parallel if isinstance(parallel, bool) else None
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = plain.mapping(choice.get("allowed_tools") or choice)
        keep_only(talk, plain.objects(allowed.get("tools")))
        choice = allowed.get("mode")
    if isinstance(choice, dict):
        named = choice.get("function") or choice.get("custom") or choice
        talk.forced = talk.names.plain(str(plain.mapping(named).get("name")))
    elif choice in ("auto", "none", "required"):
        talk.choice = choice
    elif choice is not None:
        talk.lose("tool_choice")


def keep_only(talk: Talk, allowed: list[dict[str, Any]]) -> None:
    """Leave the tools that a choice allows."""
    said = (tool.get("function") or tool.get("custom") or tool for tool in allowed)
    names = {talk.names.plain(str(plain.mapping(tool).get("name"))) for tool in said}
    talk.tools = [tool for tool in talk.tools if tool.name in names]


def _message(talk: Talk, message: dict[str, Any], i: int) -> None:
    role = plain.role_of(message.get("role"), f"messages[{i}]")
    content = message.get("content")
    talk.unread("messages", message, _MESSAGES[role])
    if role == "system":
        for block in plain.objects(content):
            talk.unread("content.text", block, _TEXT)
        text = text_of(content)
        if talk.turns:
            talk.say("system", [Text(text)])
        elif text:
            talk.system.append(text)
    elif role == "tool":
        call_id = plain_id(str(message.get("tool_call_id") or message.get("name") or ""))
        talk.say("user", [Result(call_id, textual(_pieces(talk, content)))])
    elif role == "user":
        talk.say("user", _pieces(talk, content))
    else:
        thought = plain.string(message.get("reasoning_content")) or plain.string(message.get("reasoning"))
        said: list[Piece] = [Thought(thought)] if thought else []
        if message.get("reasoning_details"):  # a seller's own form of it, as a rule signed or encrypted
            talk.lose("details of earlier reasoning")
        said += _pieces(talk, content)
        if refusal := plain.string(message.get("refusal")):
            said.append(Text(refusal))
        talk.say("assistant", [*said, *_calls(talk, message)])


def _calls(talk: Talk, message: dict[str, Any]) -> list[Piece]:
    calls: list[Piece] = []
    for call in plain.objects(message.get("tool_calls")):
        call_id = plain_id(str(call.get("id") or ""))
        talk.unread("tool_calls", call, frozenset({"type", "id", "index", "function", "custom"}))
        if isinstance(custom := call.get("custom"), dict):
            name = talk.names.plain(str(custom.get("name")), freeform=True)
            calls.append(Call(call_id, name, json_text({"input": custom.get("input") or ""})))
            talk.unread("tool_calls.custom", custom, frozenset({"name", "input"}))
            continue
        function = plain.child(call, "function")
        talk.unread("tool_calls.function", function, frozenset({"name", "arguments"}))
        name = talk.names.plain(str(function.get("name")))
        calls.append(Call(call_id, name, plain.compact_json(function.get("arguments")) or "{}"))
    if isinstance(legacy := message.get("function_call"), dict):
        name = str(legacy.get("name"))
        arguments = plain.compact_json(legacy.get("arguments")) or "{}"
        calls.append(Call(plain_id(name), talk.names.plain(name), arguments))
    return calls


def _pieces(talk: Talk, content: Any) -> list[Piece]:
    """The pieces of a message's content; text is kept, and what isn't known is noted."""
    if isinstance(content, str):
        return [Text(content)] if content else []
    pieces: list[Piece] = []
    for block in content or ():
        if isinstance(block, str):
            pieces.append(Text(block))
            continue
        kind = plain.mapping(block).get("type")
        if kind in ("text", "input_text", "output_text", "refusal"):
            pieces.append(Text(plain.flatten(block.get("text") or block.get("refusal"))))
            talk.marked = talk.marked or "cache_control" in block
            talk.unread("content.text", block, _TEXT)
        elif kind == "image_url":
            image = plain.mapping(block.get("image_url"))
            pieces.append(image_part(image.get("url") or block["image_url"], image.get("detail")))
            talk.unread("content.image_url", block, frozenset({"type", "image_url", "cache_control"}))
            talk.unread("image_url", image, frozenset({"url", "detail"}))
        elif kind == "file":
            file = plain.child(block, "file")
            pieces.append(file_part(file))
            talk.unread("content.file", block, frozenset({"type", "file", "cache_control"}))
            talk.unread("file", file, frozenset({"filename", "file_data", "file_url"}))
        else:
            raise Untranslatable(f"content of type {str(kind)[:40]!r} has no equal in another dialect")
    return [piece for piece in pieces if not isinstance(piece, Text) or piece.text]


# Sellers whose models want their reasoning handed back; OpenAI's dialect proper has no place for it.
_NO_REASONING = frozenset({"openai", "azure"})


def write(talk: Talk, target: Target) -> dict[str, Any]:
    """Write a request."""
    openai = target.provider in _NO_REASONING
    messages: list[dict[str, Any]] = []
    if talk.system:
        messages.append({"role": "system", "content": "\n\n".join(talk.system)})
    for turn in talk.turns:
        messages += _turn(talk, turn, reasoning=not openai)
    body: dict[str, Any] = {"model": target.model, "messages": messages}
    if talk.limit is not None:
        body["max_completion_tokens" if openai else "max_tokens"] = talk.limit
    if talk.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if talk.tools:
        body |= _offer(talk)
    body |= {"reasoning_effort": talk.effort} if effort_said(talk) else {}
    if talk.schema is not None:
        body["response_format"] = _format(talk.schema)
    body |= sampling(talk, target)
    if talk.stop:
        body["stop"] = talk.stop[:4]
        if len(talk.stop) > len(body["stop"]):
            talk.lose("stop beyond the fourth")
    kept = {key: value for key, value in talk.alike.items() if openai or key == "user"}
    talk.lose(*(key for key in talk.alike if key not in kept and key not in OF_CACHES))
    return body | kept


def effort_said(talk: Talk) -> bool:
    """Whether an effort is said; what is left to the provider instead is noted."""
    if talk.effort == "none" or (talk.effort is None and talk.thinks is not None):
        talk.lose("reasoning_effort none" if talk.effort else "thinking")
    return talk.effort not in (None, "none")


def _offer(talk: Talk) -> dict[str, Any]:
    """The tools and how they may be called."""
    offer: dict[str, Any] = {"tools": [_tool(tool) for tool in talk.tools]}
    if talk.forced is not None:
        offer["tool_choice"] = {"type": "function", "function": {"name": talk.forced}}
    elif talk.choice is not None:
        offer["tool_choice"] = talk.choice
    if talk.parallel is not None:
        offer["parallel_tool_calls"] = talk.parallel
    return offer


def sampling(talk: Talk, target: Target) -> dict[str, Any]:
    """Temperature and top_p, where the model takes them: newer ones refuse the request over them."""
    given = {"temperature": talk.temperature, "top_p": talk.top_p}
    told = {name: value for name, value in given.items() if value is not None}
    if told and (
        target.provider == "anthropic" or (target.provider == "openai" and "gpt-4" not in target.model)
    ):
        talk.lose(*told)
        return {}
    if target.dialect == "anthropic_messages" and told.get("temperature", 0) > 1:
        talk.lose("temperature over 1")
        told["temperature"] = 1
    return told


def _format(schema: Schema) -> dict[str, Any]:
    if schema.schema is None:
        return {"type": "json_object"}
    said = {"name": schema.name, "schema": schema.schema, "strict": schema.strict}
    if schema.description:
        said["description"] = schema.description
    return {"type": "json_schema", "json_schema": {k: v for k, v in said.items() if v is not None}}


def _tool(tool: ToolDef) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _turn(talk: Talk, turn: Turn, *, reasoning: bool) -> list[dict[str, Any]]:
    """The messages of a turn: results first, each its own, then what was said beside them."""
    if turn.role == "assistant":
        return [_assistant(talk, turn.pieces, reasoning=reasoning)]
    messages: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for piece in turn.pieces:
        if isinstance(piece, Result):
            text = "\n".join(part.text for part in piece.parts if isinstance(part, Text))
            shown = [part for part in piece.parts if not isinstance(part, Text)]
            if shown and not text:
                text = "(see below)"
            failed = piece.failed and not text.lower().startswith(("error", "<tool_use_error"))
            text = f"Error: {text}" if failed else text
            messages.append({"role": "tool", "tool_call_id": piece.call_id, "content": text})
            if shown:
                said.append({"type": "text", "text": f"Of the result of {piece.call_id}:"})
                said += [_block(part) for part in shown]
        elif isinstance(piece, Text | Image | File):
            said.append(_block(piece))
        else:
            talk.lose("calls or reasoning in the user's name")
    if said:
        only = said[0]["text"] if len(said) == 1 and said[0]["type"] == "text" else said
        messages.append({"role": turn.role, "content": only})
    return messages


def _block(piece: Text | Image | File) -> dict[str, Any]:
    if isinstance(piece, Text):
        return {"type": "text", "text": piece.text}
    if isinstance(piece, Image):
        detail = {} if piece.detail is None else {"detail": piece.detail}
        return {"type": "image_url", "image_url": {"url": piece.address, **detail}}
    if piece.data is None:
        raise Untranslatable("a document at an address can't be said in openai_chat; send it inline")
    data = f"data:{piece.media_type or 'application/pdf'};base64,{piece.data}"
    return {"type": "file", "file": {"filename": piece.name, "file_data": data}}


_UNSAID: dict[type, str] = {Image: "image", File: "document", Result: "tool_result"}  # in an answer


def _assistant(talk: Talk, pieces: list[Piece], *, reasoning: bool) -> dict[str, Any]:
    talk.lose(*(f"content.{_UNSAID[type(piece)]}" for piece in pieces if type(piece) in _UNSAID))
    text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    thoughts = "\n".join(piece.text for piece in pieces if isinstance(piece, Thought))
    if thoughts and reasoning:
        message["reasoning_content"] = thoughts
    elif thoughts:
        talk.lose("reasoning of earlier turns")
    calls = [
        {"id": piece.id, "type": "function", "function": {"name": piece.name, "arguments": piece.arguments}}
        for piece in pieces
        if isinstance(piece, Call)
    ]
    if calls:
        message["tool_calls"] = calls
    elif not text:
        message["content"] = ""
    return message
