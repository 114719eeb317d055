"""Request bodies out of the log: can one be asked again without side effects, and what is sent when it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.diffs.calls import edit_of_calls, edit_of_text
from features.errors import BadInput
from features.tools import tool_kind
from features.wire import parse_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.diffs.edits import Edit
    from features.wire.types import Dialect, WireRequest, WireResponse

# Types of tools that the client runs; any other type runs at the provider, with effects and costs of its own.
_CLIENT_TOOLS = (
    *("function", "custom", "local_shell", "apply_patch"),
    *("bash_", "text_editor_", "computer", "memory_"),
)
_BOUND_KEYS = ("previous_response_id", "conversation", "prompt", "container")
_PROVIDER_TOOLS = ("mcp_servers", "web_search_options")
# Left out of what is sent: what asks for a dearer tier or a second answer, names a person or a session, keeps
# the answer at the provider, or needs a header that the log doesn't hold.
_NOT_SENT = (
    *("service_tier", "speed", "n", "metadata", "user", "safety_identifier", "prompt_cache_key"),
    *("store", "background", "stream", "stream_options", "context_management", "prompt_cache_retention"),
)
_MAX_TOKENS: dict[Dialect, str] = {
    "anthropic_messages": "max_tokens",
    "openai_responses": "max_output_tokens",
}
_AFTER_THINKING = 1024  # tokens that a thinking budget leaves for the answer at least

# Finish reasons of answers that ended at a limit.
CUT = frozenset({"length", "max_tokens", "incomplete", "max_output_tokens"})
BOUND = "bound to its provider: signed thinking, or state that is kept there"
HOSTED = "offers tools that its provider runs"
REGION = "asks for a region"
UNREADABLE = "a body that can't be read"


class Answer(NamedTuple):
    """What an answer does: tool calls as (name, arguments), and its text where it calls nothing."""

    calls: Sequence[tuple[str, str]]
    text: str = ""

    @property
    def edit(self) -> Edit:
        """The edit it makes; one without files if it makes none."""
        if self.calls:
            return edit_of_calls(self.calls)
        edit = edit_of_text(self.text)
        return edit if edit.files else edit_of_calls(())


def read_body(dialect: Dialect, text: str) -> tuple[WireRequest | None, dict[str, Any], str | None]:
    """A logged body as a request and as plain JSON, with the reason why it must not be asked again."""
    raw = text.encode("utf-8", "surrogatepass")
    try:
        request = parse_request(dialect, raw)
        body: dict[str, Any] = msgspec.json.decode(raw)
    except (BadInput, msgspec.DecodeError, UnicodeDecodeError):
        return None, {}, UNREADABLE
    return request, body, _forbidden(request, body, raw)


def _forbidden(request: WireRequest, body: dict[str, Any], raw: bytes) -> str | None:
    if any(body.get(key) is not None for key in _BOUND_KEYS) or b'"item_reference"' in raw:
        return BOUND
    if any(part.signed for message in request.messages for part in message.parts):
        return BOUND
    if b'"file_id"' in raw:  # as a key; in a text its quotes are escaped
        return BOUND
    if any(body.get(key) for key in _PROVIDER_TOOLS) or not all(map(_is_clients, body.get("tools") or ())):
        return HOSTED
    return REGION if body.get("inference_geo") else None


def _is_clients(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return kind is None or (isinstance(kind, str) and kind.startswith(_CLIENT_TOOLS))


def output_limit(request: WireRequest, body: dict[str, Any], ceiling: int) -> int:
    """Output tokens that an answer may take: the client's own limit, at most the ceiling.

    A thinking budget stands inside the limit, so it can lift it above the ceiling.
    """
    own = request.max_output_tokens
    limit = ceiling if own is None else min(own, ceiling)
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if isinstance(budget, int) and budget >= limit:
        return budget + _AFTER_THINKING if own is None else min(own, budget + _AFTER_THINKING)
    return limit


def body_to_send(body: dict[str, Any], dialect: Dialect, model: str, limit: int, *, newer: bool) -> bytes:
    """The body for a deployment: another model, a bounded answer in one piece, nothing kept.

    `newer`: Chat Completions counts reasoning in `max_completion_tokens`, as OpenAI does.
    """
    sent = {key: value for key, value in body.items() if key not in _NOT_SENT}
    sent["model"] = model
    if dialect == "openai_chat":
        sent.pop("max_tokens", None)
        sent.pop("max_completion_tokens", None)
        sent["max_completion_tokens" if newer else "max_tokens"] = limit
    else:
        sent[_MAX_TOKENS[dialect]] = limit
    if dialect == "openai_responses":
        sent["store"] = False  # the default is to keep it
    return msgspec.json.encode(sent)


def logged_answer(response_text: str | None, tools_called: Sequence[str] | None) -> Answer | None:
    """The answer as the log keeps it: the parts' texts, a line each, arguments of calls as JSON among them.

    None unless every call's arguments can be told from the text around them.
    """
    if response_text is None or tools_called is None:
        return None
    if not tools_called:
        return Answer((), response_text)
    found = [line for line in response_text.split("\n") if line.startswith("{") and _is_object(line)]
    if len(found) != len(tools_called):
        return None
    return Answer(list(zip(tools_called, found, strict=True)))


def _is_object(line: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False


def edits(answer: Answer | None, response_text: str | None, tools_called: Sequence[str] | None) -> bool:
    """Whether a logged answer edits: by its calls where they are kept, else by the names of its tools."""
    if answer is not None:
        edit = answer.edit
        return bool(edit.files or edit.problem)
    named = any(tool_kind(name) == "edit" for name in tools_called or ())
    return named or "*** Begin Patch" in (response_text or "")


def answer_of(response: WireResponse) -> Answer:
    """What a fresh answer does."""
    calls = [(part.name or "", part.text) for part in response.parts if part.kind == "tool_call"]
    text = "" if calls else "\n".join(part.text for part in response.parts if part.kind == "text")
    return Answer(calls, text)
