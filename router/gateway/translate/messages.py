"""Anthropic Messages requests: read into the neutral form, and written from it."""

from __future__ import annotations

import re
from typing import Any

from features.wire import plain
from router.gateway.translate.chat import OF_CACHES, sampling
from router.gateway.translate.parts import textual
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
    arguments_of,
    plain_id,
    strict_enough,
)

_READ = frozenset(
    {
        "model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice", "thinking",
        "output_config", "output_format", "temperature", "top_p", "stop_sequences", "cache_control",
        "container", "mcp_servers",
    }
)  # fmt: skip
_BLOCKS = {
    kind: frozenset({"type", "cache_control", *keys.split()})
    for kind, keys in {
        "text": "text",
        "image": "source",
        "document": "source title",
        "tool_use": "id name input",
        "tool_result": "tool_use_id content is_error",
        "thinking": "thinking",
        "search_result": "content",
    }.items()
}
_TOOL = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})
BILLING = "x-anthropic-billing-header:"  # Claude Code's note to its own seller; nobody else's business
DEFAULT_LIMIT = 32_000  # output tokens where neither the client nor the catalogue says; the dialect wants one
JSON_PLEASE = "Answer with one JSON object and nothing else."


def read(body: dict[str, Any]) -> Talk:
    """Read a request; Untranslatable for what no other dialect has."""
    talk = Talk()
    for key in ("container", "mcp_servers"):
        if body.get(key):
            raise Untranslatable(f"{key}: kept by the provider, and can't be had from another")
    _system(talk, body.get("system"))
    _tools(talk, body)
    for i, message in enumerate(plain.objects_only(body["messages"], "messages")):
        talk.unread("messages", message, frozenset({"role", "content"}))
        role = plain.role_of(message.get("role"), f"messages[{i}]")
        pieces = _pieces(talk, message.get("content"))
        talk.say(role if role in ("system", "assistant") else "user", pieces)
    talk.marked = talk.marked or "cache_control" in body
    talk.limit = plain.count(body.get("max_tokens"))
    talk.temperature, talk.top_p = body.get("temperature"), body.get("top_p")
    talk.stop = [s for s in body.get("stop_sequences") or () if isinstance(s, str)]
    talk.stream = body.get("stream") is True
    _thinking(talk, body)
    config = plain.child(body, "output_config")
    wanted = plain.child(config, "format") or plain.child(body, "output_format")
    if wanted.get("type") == "json_schema":
        schema = plain.child(wanted, "schema")
        talk.schema = Schema(plain.string(wanted.get("name")) or "answer", schema, strict_enough(schema))
    talk.lose(*(f"output_config.{key}" for key in sorted(config.keys() - {"effort", "format"})))
    talk.lose(*sorted(key for key in body.keys() - _READ if body[key] is not None))
    return talk


def _system(talk: Talk, system: Any) -> None:
    blocks = [{"text": system}] if isinstance(system, str) else plain.objects(system)
    for block in blocks:
        text = plain.flatten(block.get("text"))
        talk.unread("system.text", block, _BLOCKS["text"])
        talk.marked = talk.marked or block.get("cache_control") is not None
        if text.startswith(BILLING):
            talk.lose("billing header")
        elif text:
            talk.system.append(text)


_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 32_000}


def _thinking(talk: Talk, body: dict[str, Any]) -> None:
    thinking = plain.child(body, "thinking")
    talk.unread("thinking", thinking, frozenset({"type", "budget_tokens"}))
    if kind := plain.string(thinking.get("type")):
        talk.thinks = kind != "disabled"
    talk.effort = plain.string(plain.child(body, "output_config").get("effort"))
    budget = plain.count(thinking.get("budget_tokens"))
    if talk.effort is None and talk.thinks and budget is not None:
        at_most = (name for name in ("low", "medium", "high") if budget <= _BUDGETS[name])
        talk.effort = next(at_most, "high")


def _tools(talk: Talk, body: dict[str, Any]) -> None:
    for tool in plain.objects(body.get("tools")):
        if tool.get("type") not in (None, "custom"):  # a tool of Anthropic's own making
            talk.lose(f"tools.{tool['type']}")
            continue
        talk.marked = talk.marked or tool.get("cache_control") is not None
        talk.unread("tools", tool, _TOOL)
        strict = tool.get("strict")
        talk.tools.append(
            ToolDef(
                talk.names.plain(str(tool.get("name"))),
                plain.string(tool.get("description")),
                plain.mapping(tool.get("input_schema")) or {"type": "object", "properties": {}},
                strict if isinstance(strict, bool) else None,
            )
        )
    choice = plain.child(body, "tool_choice")
    if choice.get("disable_parallel_tool_use") is True:
        talk.parallel = False
    kind = choice.get("type")
    if kind == "tool":
        talk.forced = talk.names.plain(str(choice.get("name")))
    elif kind in ("auto", "none", "any"):
        talk.choice = "required" if kind == "any" else kind


def _pieces(talk: Talk, content: Any) -> list[Piece]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    pieces: list[Piece] = []
    for block in plain.objects(content):
        talk.marked = talk.marked or block.get("cache_control") is not None
        piece = _piece(talk, block, str(block.get("type")))
        if piece is not None and (not isinstance(piece, Text) or piece.text):
            pieces.append(piece)
    return pieces


def _piece(talk: Talk, block: dict[str, Any], kind: str) -> Piece | None:
    """One content block; None where it is left out, which is noted."""
    talk.unread(f"content.{kind}", block, _BLOCKS.get(kind, frozenset(block)))
    match kind:
        case "text":
            return Text(plain.flatten(block.get("text")))
        case "image":
            return _image(plain.child(block, "source"))
        case "document":
            return _document(talk, block, plain.child(block, "source"))
        case "tool_use":
            name = talk.names.plain(str(block.get("name")))
            return Call(plain_id(str(block.get("id"))), name, plain.compact_json(block.get("input")) or "{}")
        case "tool_result":
            parts = textual(_pieces(talk, block.get("content")))
            return Result(plain_id(str(block.get("tool_use_id"))), parts, block.get("is_error") is True)
        case "thinking":
            return Thought(plain.flatten(block.get("thinking"))) if block.get("thinking") else None
        case "search_result":
            return Text(_words(talk, block.get("content")))
    talk.lose(f"content.{kind}")
    return None


def _image(source: dict[str, Any]) -> Image:
    if source.get("type") == "base64":
        return Image(None, str(source.get("media_type")), str(source.get("data")))
    if source.get("type") == "url":
        return Image(str(source.get("url")))
    raise Untranslatable("a picture kept by its provider can't be sent to another")


def _words(talk: Talk, content: Any) -> str:
    """The text of blocks of which only that is carried."""
    for block in plain.objects(content):
        kind = str(block.get("type"))
        talk.lose(*([f"content.{kind}"] if kind != "text" else []))
        talk.unread("content.text", block if kind == "text" else {}, _BLOCKS["text"])
    return plain.flatten(content)


def _document(talk: Talk, block: dict[str, Any], source: dict[str, Any]) -> Piece:
    name = plain.string(block.get("title")) or "document.pdf"
    match source.get("type"):
        case "base64":
            return File(name, None, str(source.get("media_type")), str(source.get("data")))
        case "url":
            return File(name, str(source.get("url")))
        case "text":
            return Text(plain.flatten(source.get("data")))
        case "content":
            return Text(_words(talk, source.get("content")))
    raise Untranslatable("a document kept by its provider can't be sent to another; send it inline")


def write(talk: Talk, target: Target) -> dict[str, Any]:
    """Write a request."""
    limit = talk.limit or target.max_output_tokens or DEFAULT_LIMIT
    body: dict[str, Any] = {"model": target.model, "max_tokens": limit}
    system = list(talk.system)
    if talk.schema is not None and talk.schema.schema is None:
        system.append(JSON_PLEASE)
        talk.lose("response_format json_object - asked for in words")
    if system:
        body["system"] = "\n\n".join(system)
    body["messages"] = _turns(talk)
    tools = [_tool(tool) for tool in talk.tools] or _called(talk)
    if tools:
        body["tools"] = tools
    if choice := _choice(talk):
        body["tool_choice"] = choice
    if talk.stream:
        body["stream"] = True
    body |= _reasoning(talk, target, limit)
    if talk.schema is not None and talk.schema.schema is not None:
        talk.lose(*(["format.description"] if talk.schema.description else []))
        formatted = {"format": {"type": "json_schema", "schema": talk.schema.schema}}
        body["output_config"] = {**body.get("output_config", {}), **formatted}
    if stop := [sequence for sequence in talk.stop if sequence.strip()]:
        body["stop_sequences"] = stop
    if (talk.marked or target.cached) and target.provider == "anthropic":
        body["cache_control"] = {"type": "ephemeral"}
    body |= sampling(talk, target)
    talk.lose(*(key for key in talk.alike if key not in OF_CACHES))
    if any(tool.strict for tool in talk.tools):
        talk.lose("tools.strict")  # schemas that the one dialect takes strictly the other may refuse
    return body


def _tool(tool: ToolDef) -> dict[str, Any]:
    said = {"name": tool.name, "description": tool.description, "input_schema": _object(tool.schema)}
    return {key: value for key, value in said.items() if value is not None}


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    """The dialect wants the type said."""
    return schema if schema.get("type") == "object" else {**schema, "type": "object"}


def _called(talk: Talk) -> list[dict[str, Any]]:
    """Tools of calls in a conversation that offers none any more: the dialect wants them defined."""
    names = dict.fromkeys(p.name for turn in talk.turns for p in turn.pieces if isinstance(p, Call))
    return [{"name": name, "input_schema": {"type": "object"}} for name in names]


def _choice(talk: Talk) -> dict[str, Any] | None:
    if not talk.tools:
        return {"type": "none"} if _called(talk) else None
    alone = {"disable_parallel_tool_use": True} if talk.parallel is False else {}
    if talk.forced is not None:
        return {"type": "tool", "name": talk.forced, **alone}
    if talk.choice is None and not alone:
        return None
    kinds = {"required": "any", "none": "none"}
    kind = kinds.get(talk.choice or "auto", "auto")
    return {"type": kind, **(alone if kind != "none" else {})}


_OLDER = re.compile(r"claude-(?:3|haiku-4-5|sonnet-4-[05]|sonnet-4-2025|opus-4-[015]|opus-4-2025)")
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}


def _reasoning(talk: Talk, target: Target, limit: int) -> dict[str, Any]:
    """Thinking and effort: newer models of Anthropic's think by effort, all others by a budget of tokens."""
    wanted = talk.thinks is True or talk.effort not in (None, "none")
    if not wanted:
        return {}
    if talk.forced is not None or talk.choice == "required":  # the dialect refuses both together
        talk.lose("reasoning beside a forced tool")
        return {}
    effort = talk.effort or "medium"
    if target.provider == "anthropic" and not _OLDER.search(target.model):
        told = _EFFORTS.get(effort, "medium")
        if told != effort:
            talk.lose(f"effort {effort} - sent as {told}")
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": told}}
    budget = min(_BUDGETS.get(effort, 8_192), limit - 1)
    if budget < _BUDGETS["minimal"] or (target.provider == "anthropic" and talk.in_tool_loop):
        talk.lose("reasoning")  # too little room for it, or a loop that it should have begun with
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _turns(talk: Talk) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in talk.turns:
        role = "assistant" if turn.role == "assistant" else "user"
        blocks = _blocks(talk, turn)
        if not blocks:
            continue
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    for message in messages:  # the results of calls come first, whatever was said beside them
        message["content"].sort(key=lambda block: block["type"] != "tool_result")
    return messages


def _blocks(talk: Talk, turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for piece in turn.pieces:
        if isinstance(piece, Thought):
            talk.lose("reasoning of earlier turns")  # the dialect takes none without its maker's signature
        elif isinstance(piece, Text) and turn.role == "system":
            blocks.append({"type": "text", "text": f"<system-reminder>\n{piece.text}\n</system-reminder>"})
        else:
            blocks.append(_block(talk, piece))
    return blocks


def _block(talk: Talk, piece: Text | Image | File | Call | Result) -> dict[str, Any]:
    if isinstance(piece, Text):
        return {"type": "text", "text": piece.text}
    if isinstance(piece, Call):
        arguments = arguments_of(piece.arguments)
        if arguments is None:
            talk.lose("arguments of an earlier call that are no JSON object")
            arguments = {"arguments": piece.arguments}
        return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": arguments}
    if isinstance(piece, Result):
        content = [_block(talk, part) for part in piece.parts if not isinstance(part, Text) or part.text]
        only = content[0]["text"] if len(content) == 1 and content[0]["type"] == "text" else content
        failed = {"is_error": True} if piece.failed else {}
        return {"type": "tool_result", "tool_use_id": piece.call_id, "content": only or "", **failed}
    kind = "image" if isinstance(piece, Image) else "document"
    if isinstance(piece, Image) and piece.detail not in (None, "auto"):
        talk.lose("image.detail")
    title = {"title": piece.name} if isinstance(piece, File) else {}
    if piece.url:
        return {"type": kind, "source": {"type": "url", "url": piece.url}, **title}
    source = {"type": "base64", "media_type": piece.media_type, "data": piece.data}
    return {"type": kind, "source": source, **title}
