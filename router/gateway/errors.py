"""Errors as the client's own dialect writes them; never a traceback, a key or a prompt."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from features.errors import BadInput
from router.given import Unavailable, UnknownModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from features.wire.types import Dialect


class TooLarge(BadInput):
    """The request body is over the limit."""


class Refused(BadInput):
    """A request that can't be taken as it is; each kind has its own status."""

    status = 400


class Packed(Refused):
    """The body comes compressed, and isn't unpacked: it may be of any size."""

    status = 415


class Stalled(BadInput):
    """The client stopped in the middle of its request."""


ErrorKind = Literal[
    "connect", "dropped", "timeout", "at_limit", "refused", "hedge_lost", "odd_status", "html", "not_json"
]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


class UpstreamError(Exception):
    """A provider could not be reached or didn't answer; `kind` is for metrics, the text for clients."""

    def __init__(self, status: int, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


# status -> error type in the OpenAI dialects, in Messages
_TYPES: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("invalid_request_error", "authentication_error"),
    402: ("insufficient_quota", "billing_error"),
    404: ("invalid_request_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    408: ("invalid_request_error", "timeout_error"),
    409: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "invalid_request_error"),
    422: ("invalid_request_error", "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_error"),
    431: ("invalid_request_error", "invalid_request_error"),
    502: ("server_error", "api_error"),
    503: ("server_error", "overloaded_error"),
    504: ("server_error", "timeout_error"),
}
_CODES = {404: "model_not_found", 413: "request_too_large", 502: "upstream_failed", 504: "upstream_timeout"}


# What is said where nothing came of asking a provider.
_SAID: dict[str, tuple[int, str]] = {
    "timeout": (504, "the provider did not answer in time"),
    "connect": (502, "the provider can't be reached"),
    "dropped": (502, "the provider broke the connection"),
    "odd_status": (502, "the provider answered with a redirect or a status that is none"),
    "html": (502, "the provider answered with HTML"),
    "not_json": (502, "the provider's answer is not JSON"),
    "at_limit": (429, "every deployment that may answer this is at its limit; ask again later"),
    "refused": (400, "a header of the request can't be passed on as it came"),
}


def said_of(kind: str, status: int | None) -> tuple[int, str]:
    """Status and words for a client of which no deployment had an answer that could be passed on."""
    known = _SAID.get(kind)
    return known or (status or 502, f"the provider answered {status or 502}, and so did all that were asked")


def status_of(error: BadInput) -> int:
    """HTTP status of an input error."""
    if isinstance(error, Refused):
        return error.status
    known = {UnknownModel: 404, Stalled: 408, TooLarge: 413, Unavailable: 503}
    return next((status for kind, status in known.items() if isinstance(error, kind)), 400)


def dialect_at(path: str) -> Dialect:
    """The dialect of who asks at a path; what belongs to none is answered as OpenAI does."""
    return "anthropic_messages" if path.startswith("/v1/messages") else "openai_chat"


def id_header(dialect: Dialect) -> str:
    """Header in which clients of a dialect look for the id of a request that failed."""
    return "request-id" if dialect == "anthropic_messages" else "x-request-id"


def error_body(
    dialect: Dialect, status: int, message: str, request_id: str, *, path: bool = False
) -> dict[str, Any]:
    """Build the error object of a dialect; `path` says that not the model is unknown but the path."""
    openai, anthropic = _TYPES.get(status, ("server_error", "api_error"))
    if dialect == "anthropic_messages":
        return {
            "type": "error",
            "error": {"type": anthropic, "message": message},
            "request_id": request_id,
        }
    return {
        "error": {
            "message": message,
            "type": openai,
            "param": None,
            "code": None if path else _CODES.get(status),
        }
    }


def error_response(
    dialect: Dialect,
    status: int,
    message: str,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    *,
    path: bool = False,
) -> Response:
    """Answer with an error in the dialect."""
    body = msgspec.json.encode(error_body(dialect, status, message, request_id, path=path))
    own = {"x-samediff-request-id": request_id, id_header(dialect): request_id, **(headers or {})}
    return Response(body, status, own, media_type="application/json")


def last_words(dialect: Dialect, status: int, message: str) -> bytes:
    """An error as it goes over the wire, for who can't be answered by an endpoint and is hung up on."""
    answer = error_response(dialect, status, message, f"req_{uuid.uuid4().hex}", {"connection": "close"})
    head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    return first.encode() + head + b"\r\n" + answer.body


async def not_served(request: Request, error: Exception) -> Response:
    """Answer a path or a method that isn't served, in the dialect of the path."""
    assert isinstance(error, HTTPException)
    dialect = dialect_at("/v1/messages" if "anthropic-version" in request.headers else request.url.path)
    said = "nothing is served at this path"
    if request.url.path.startswith(("/v1/responses/", "/v1/conversations")):
        said += ": no answer and no conversation is kept here, only at the provider that has it"
    if error.status_code == 405:
        said = f"this path takes {(error.headers or {}).get('Allow', 'another method')} only"
    request_id = f"req_{uuid.uuid4().hex}"
    return error_response(dialect, error.status_code, said, request_id, error.headers, path=True)


LAST = 2**31 - 1  # a number that goes up from whatever the events before it had


def error_event(dialect: Dialect, message: str, request_id: str) -> bytes:
    """Build the event that tells the reader of a stream that it broke off; it begins on a fresh line."""
    body = error_body(dialect, 502, message, request_id)
    if dialect == "openai_responses":
        # Documented flat, seen nested: some readers look for the one, some for the other, and for a number.
        body = {**body["error"], "type": "error", "sequence_number": LAST, "error": body["error"]}
    event = b"" if dialect == "openai_chat" else b"event: error\n"
    return b"\n\n" + event + b"data: " + msgspec.json.encode(body) + b"\n\n"
