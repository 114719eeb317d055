"""The official SDKs as judges: what a client reads of an answer, and how an error looks to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from features.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from features.wire.types import Dialect

TIMEOUT_S = 30.0
# What reading an answer that is none ends in, inside the SDKs or behind them.
_STUMBLES = (ValueError, RuntimeError, AssertionError, AttributeError, TypeError, IndexError, KeyError)


class Read(NamedTuple):
    """What a client has read; `error` says what the SDK raised."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()  # (name, arguments)
    stop: str | None = None
    usage: tuple[int, int, int] | None = None  # whole prompt, of it cached, output
    error: str | None = None
    status: int | None = None
    retry_after: str | None = None
    message: str = ""


class Judges:
    """Both SDKs, set to one gateway; they don't retry, so each case is one request."""

    def __init__(self, url: str, key: str) -> None:
        try:
            import anthropic
            import openai
        except ImportError as error:
            raise MissingExtra(str(error.name), "conformance") from error
        self._openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=TIMEOUT_S)
        self._anthropic = anthropic.AsyncAnthropic(
            base_url=url, api_key=key, max_retries=0, timeout=TIMEOUT_S
        )
        self._errors = (openai.OpenAIError, anthropic.AnthropicError)
        self._readers: dict[Dialect, Callable[..., Awaitable[Read]]] = {
            "openai_chat": self._chat,
            "anthropic_messages": self._messages,
            "openai_responses": self._responses,
        }

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()
        await self._anthropic.close()

    async def ask(
        self,
        dialect: Dialect,
        body: dict[str, Any],
        headers: dict[str, str] | None = None,
        *,
        loose: bool = False,
    ) -> Read:
        """Send a request through its SDK; whatever the SDK raises is told, not raised."""
        import httpx2

        try:
            return await self._readers[dialect](body, headers, loose=loose)
        except (*self._errors, *_STUMBLES, httpx2.HTTPError) as error:
            answer = getattr(error, "response", None)
            headers_got = {} if answer is None else answer.headers
            return Read(
                error=type(error).__name__,
                status=getattr(error, "status_code", None),
                retry_after=headers_got.get("retry-after"),
                message=str(error)[:200],
            )

    async def _chat(self, body: dict[str, Any], headers: dict[str, str], *, loose: bool) -> Read:
        del loose  # this SDK hands arguments on as text
        create: Any = self._openai.chat.completions.create
        given, more = _apart(body, _CHAT_FIELDS)
        answer = await create(**given, extra_body=more, extra_headers=headers)
        if not body.get("stream"):
            message, usage = answer.choices[0].message, answer.usage
            calls = tuple((c.function.name, c.function.arguments) for c in message.tool_calls or ())
            stop = _CHAT_STOPS.get(answer.choices[0].finish_reason, answer.choices[0].finish_reason)
            return Read(message.content or "", calls, stop, _chat_usage(usage))
        text: list[str] = []
        made: dict[int, list[str]] = {}
        stop, usage = None, None
        async for chunk in answer:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text.append(choice.delta.content or "")
                stop = choice.finish_reason or stop
                for call in choice.delta.tool_calls or ():
                    known = made.setdefault(call.index, ["", ""])
                    known[0] += call.function.name or ""
                    known[1] += call.function.arguments or ""
        calls = tuple((name, arguments) for name, arguments in made.values())
        return Read("".join(text), calls, _CHAT_STOPS.get(stop or "", stop), _chat_usage(usage))

    async def _messages(self, body: dict[str, Any], headers: dict[str, str], *, loose: bool) -> Read:
        given, more = _apart(body, _MESSAGES_FIELDS)
        options: dict[str, Any] = {**given, "extra_body": more, "extra_headers": headers}
        streamed = options.pop("stream", False)
        if not streamed:
            return _message(await self._anthropic.messages.create(**options))
        made: dict[int, list[str]] = {}
        if loose:
            text, stop, usage = "", None, None
            async for event in await self._anthropic.messages.create(**options, stream=True):
                _raw_call(event, made)
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    text += event.delta.text
                if event.type == "message_delta":
                    stop, usage = event.delta.stop_reason, _messages_usage(event.usage)
            return Read(text, _pairs(made), _MESSAGES_STOPS.get(stop or "", stop), usage)
        async with self._anthropic.messages.stream(**options) as stream:
            async for event in stream:
                _raw_call(event, made)
            read = _message(await stream.get_final_message())
        grown = zip(_pairs(made), read.calls, strict=True)  # some calls come whole, and never grow
        return read._replace(calls=tuple(raw if raw[1] else whole for raw, whole in grown))

    async def _responses(self, body: dict[str, Any], headers: dict[str, str], *, loose: bool) -> Read:
        given, more = _apart(body, _RESPONSES_FIELDS)
        options: dict[str, Any] = {**given, "extra_body": more, "extra_headers": headers}
        if not options.pop("stream", False):
            return _response(await self._openai.responses.create(**options))
        if loose:
            last: Any = None
            async for event in await self._openai.responses.create(**options, stream=True):
                last = event
        else:
            async with self._openai.responses.stream(**options) as stream:
                async for event in stream:
                    last = event
        if last.type == "error":
            return Read(error="error event", message=str(last.message))
        if last.type == "response.failed":
            return Read(error="response.failed", message=str(last.response.error))
        if last.type not in ("response.completed", "response.incomplete"):
            return Read(error="no terminal event")
        return _response(last.response)


def _raw_call(event: Any, made: dict[int, list[str]]) -> None:
    if event.type == "content_block_start" and event.content_block.type == "tool_use":
        made[event.index] = [event.content_block.name, ""]
    elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
        made.get(event.index, ["", ""])[1] += event.delta.partial_json  # but for the provider's own tools


def _pairs(made: dict[int, list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, arguments) for name, arguments in made.values())


def _message(message: Any) -> Read:
    text = "".join(block.text for block in message.content if block.type == "text")
    uses = [block for block in message.content if block.type == "tool_use"]
    calls = tuple((block.name, json.dumps(block.input)) for block in uses)
    stop = _MESSAGES_STOPS.get(message.stop_reason, message.stop_reason)
    return Read(text, calls, stop, _messages_usage(message.usage))


def _response(response: Any) -> Read:
    calls = tuple((i.name, i.arguments) for i in response.output if i.type == "function_call")
    stop = "tools" if calls else "end"
    if response.status == "incomplete":
        stop = {"max_output_tokens": "length"}.get(response.incomplete_details.reason, "refusal")
    usage = response.usage
    told = None
    if usage is not None:
        told = (usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens)
    return Read(response.output_text, calls, stop, told)


_CHAT_STOPS = {"stop": "end", "tool_calls": "tools", "length": "length"}
_MESSAGES_STOPS = {"end_turn": "end", "tool_use": "tools", "max_tokens": "length"}


def _chat_usage(usage: Any) -> tuple[int, int, int] | None:
    if usage is None:
        return None
    inside = usage.prompt_tokens_details
    return usage.prompt_tokens, (inside.cached_tokens or 0) if inside else 0, usage.completion_tokens


def _messages_usage(usage: Any) -> tuple[int, int, int]:
    cached = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    return (usage.input_tokens or 0) + cached + written, cached, usage.output_tokens


_CHAT_FIELDS = (
    "model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls",
    "response_format", "max_completion_tokens",
)  # fmt: skip
_MESSAGES_FIELDS = (
    "model", "messages", "max_tokens", "stream", "tools", "tool_choice", "output_config",
)  # fmt: skip
_RESPONSES_FIELDS = (
    "model", "input", "store", "stream", "tools", "tool_choice", "parallel_tool_calls", "text",
    "max_output_tokens",
)  # fmt: skip


def _apart(body: dict[str, Any], known: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A body as the SDK's own arguments and the rest."""
    return {k: v for k, v in body.items() if k in known}, {k: v for k, v in body.items() if k not in known}
