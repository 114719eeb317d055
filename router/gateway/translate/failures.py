"""A provider's error in the words of the client's dialect: the same status, the nearest type, its message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from features.wire import plain

if TYPE_CHECKING:
    from features.wire.types import Dialect

# status -> type in the OpenAI dialects, its code, type in Messages
_WORDS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "invalid_request_error"),
    401: ("authentication_error", "invalid_api_key", "authentication_error"),
    402: ("insufficient_quota", "insufficient_quota", "billing_error"),
    403: ("permission_error", None, "permission_error"),
    404: ("invalid_request_error", "model_not_found", "not_found_error"),
    408: ("invalid_request_error", None, "timeout_error"),
    413: ("invalid_request_error", "request_too_large", "request_too_large"),
    422: ("invalid_request_error", None, "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_exceeded", "rate_limit_error"),
    500: ("server_error", "server_error", "api_error"),
    502: ("server_error", "upstream_failed", "api_error"),
    503: ("server_error", "server_is_overloaded", "overloaded_error"),
    504: ("server_error", "upstream_timeout", "timeout_error"),
    529: ("server_error", "server_is_overloaded", "overloaded_error"),
}
_BY_TYPE = {
    "overloaded_error": 529,
    "server_is_overloaded": 529,
    "slow_down": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 402,
    "billing_error": 402,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "timeout_error": 504,
}
# How each side says that a prompt is longer than the window: clients look for it, and shorten theirs.
_LONG_CODE, _LONG_WORDS = "context_length_exceeded", "prompt is too long"


def status_of_type(kind: str) -> int:
    """Status that an error of this type would have had, had it come before the answer."""
    return _BY_TYPE.get(kind, 500)


def failure(dialect: Dialect, status: int, message: str, request_id: str) -> dict[str, Any]:
    """The error object of a dialect."""
    known = _WORDS.get(status) or _WORDS[400 if status < 500 else 500]
    openai, code, anthropic = known
    long = _LONG_WORDS in message.lower() or _LONG_CODE in message
    if dialect == "anthropic_messages":
        if long and _LONG_WORDS not in message.lower():
            message = f"{_LONG_WORDS}: {message}"
        error = {"type": anthropic, "message": message}
        return {"type": "error", "error": error, "request_id": request_id}
    return {
        "error": {"message": message, "type": openai, "param": None, "code": _LONG_CODE if long else code}
    }


def said_by(body: bytes, status: int) -> str:
    """The message in a provider's error body, whatever its dialect."""
    error = (plain.decode_event(body) or {}).get("error")
    said = error if isinstance(error, str) else plain.string(plain.mapping(error).get("message"))
    if not said:
        return f"the provider answered with status {status} and no error that its dialect knows"
    code = plain.string(plain.mapping(error).get("code"))
    return f"{said} ({_LONG_CODE})" if code == _LONG_CODE and _LONG_CODE not in said else said


def client_status(dialect: Dialect, status: int) -> int:
    """The status for a client: 529 is Anthropic's own and unknown to the others' clients."""
    return 503 if status == 529 and dialect != "anthropic_messages" else status


def encode(value: dict[str, Any]) -> bytes:
    """JSON bytes."""
    return msgspec.json.encode(value)
