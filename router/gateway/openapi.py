"""What can be asked of the gateway, as OpenAPI 3.1: data, put together when somebody first asks for it.

A body is described as far as samediff reads it; whatever else its dialect holds is passed on untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from features.records import DecisionRecord
from features.wire.head import MAX_KEYS
from features.wire.plain import MAX_MESSAGES, MAX_TOOLS
from router.dialects import DIALECTS
from router.gateway.call import TAGS
from router.gateway.idempotency import MAX_KEY
from router.gateway.outcomes import outcome_schema
from router.gateway.protocol import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from router.gateway.service import Gateway

_JSON, _SSE = "application/json", "text/event-stream"
_REF = "#/components/{}/{}"
_SAID = {  # status -> when samediff itself answers with it
    400: "The body is not JSON, is nested too deeply, has a key twice, or lacks or misuses a field; the "
    "message names the key.",
    404: "The model is neither an alias nor known to the catalogue in this dialect.",
    405: "The path is there, the method isn't; `allow` lists those that are.",
    408: "The body stopped coming.",
    409: "What a retry repeats came to nothing, or its Idempotency-Key is still busy: ask again.",
    413: "The body is over the limit.",
    415: "The body is packed; it is never unpacked, so send it as it is.",
    422: "The Idempotency-Key came with another request before.",
    429: "Every deployment that may answer is at its limit; `retry-after` says when it may not be.",
    500: "samediff failed on this request.",
    502: "No provider could be reached, or it broke off or sent nonsense.",
    503: "The model is known, but none of its deployments can be called: a key is missing, say.",
    504: "The provider did not answer in time.",
}
_PROVIDERS = "An error of the provider's, passed on with its status; in its own words, or in the dialect's."
_ASKED = (400, 405, 408, 413, 415, 500)  # of all that take a body
_ANSWERED = (*_ASKED, 404, 409, 422, 429, 502, 503, 504)


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": _REF.format(kind, name)}


def _object(properties: Mapping[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required), **more}


def _or_null(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}


_CONTENT = {
    "type": ["string", "array", "null"],
    "description": "Text, or the blocks of the dialect; a block samediff doesn't know is passed on.",
}
_MESSAGE = _object({"role": {"type": "string"}, "content": _CONTENT}, "role")
_MESSAGES = {"type": "array", "items": _MESSAGE, "maxItems": MAX_MESSAGES}
_TOOLS = _or_null("array", items={"type": "object"}, maxItems=MAX_TOOLS)
_COUNT = _or_null("integer", minimum=0, maximum=2**53)
_MODEL = {
    "type": "string",
    "description": "An alias such as `auto`, which is routed; a candidate's name, which is a pin; or any "
    "name that an endpoint of the catalogue passes through.",
}
_SHARED = {"model": _MODEL, "stream": _or_null("boolean"), "tools": _TOOLS}
_HI = [{"role": "user", "content": "Fix the failing test in app.py"}]


def _request(properties: Mapping[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return _object({**_SHARED, **properties}, "model", *required, maxProperties=MAX_KEYS, **more)


_ITEMS = {
    "description": "Text or items. Without `type`, or of type message, an item has a role.",
    "maxItems": MAX_MESSAGES,
    "items": {
        "type": "object",
        "if": _object({"type": {"type": "string", "not": {"enum": ["", "message"]}}}, "type"),
        "else": _MESSAGE,
    },
}
_INPUT = {"input": {"type": ["string", "array"], **_ITEMS}}
_EARLIER = {"previous_response_id": {"type": "string", "minLength": 1}}
_NOT_NULL = {"not": {"type": "null"}}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "ChatRequest": _request(
        {"messages": _MESSAGES, "max_tokens": _COUNT, "max_completion_tokens": _COUNT, "functions": _TOOLS},
        "messages",
        examples=[{"model": "auto", "messages": _HI}],
    ),
    "MessagesRequest": _request(
        {"messages": _MESSAGES, "max_tokens": _COUNT, "system": _CONTENT},
        "messages",
        examples=[{"model": "auto", "max_tokens": 512, "messages": _HI}],
    ),
    "ResponsesRequest": _request(
        {
            "input": {"type": ["string", "array", "null"], **_ITEMS},
            "instructions": {"type": ["string", "array", "null"], **_ITEMS},
            "max_output_tokens": _COUNT,
        },
        anyOf=[
            _object(_INPUT, "input"),  # or what may stand for it
            _object(_EARLIER, "previous_response_id"),
            *(_object({key: _NOT_NULL}, key) for key in ("prompt", "conversation")),
        ],
        examples=[{"model": "auto", "input": "Fix the failing test in app.py"}],
    ),
    "Answer": {
        "type": "object",
        "description": "The dialect's own answer, as its provider gave it or translated from another.",
    },
    "OpenAIError": _object(
        {
            "error": _object(
                {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": _or_null("string"),
                    "code": _or_null("string"),
                },
                "message",
                "type",
            )
        },
        "error",
    ),
    "AnthropicError": _object(
        {
            "type": {"const": "error"},
            "error": _object({"type": {"type": "string"}, "message": {"type": "string"}}, "type", "message"),
            "request_id": {"type": "string"},
        },
        "type",
        "error",
    ),
}
_TOKENS = _object({"input_tokens": {"type": "integer", "minimum": 0}}, "input_tokens")
_READY = _object(
    {
        "ready": {"type": "boolean"},
        "journal": {"type": "boolean", "description": "whether it can be written"},
        "bundle": {"type": "string"},
        "bundle_kind": {"enum": ["prior", "trained"]},
        "bundle_refused": _or_null("string"),
        "catalog": {"type": "string"},
        "policy": {"type": "string"},
    },
    "ready",
)
_MADE = {"id": {"type": "string"}, "created": {"type": "integer"}, "created_at": {"type": "string"}}
_ROW = _object(_MADE, "id", description="As OpenAI writes it; with anthropic-version, as Anthropic.")
_LISTED = _object({"data": {"type": "array", "items": _ROW}}, "data")
_KEY = {"type": "string", "minLength": 1, "maxLength": MAX_KEY}
_OWN = {
    "x-samediff-request-id": "Names this request in the journal, and in POST /v1/outcomes.",
    "x-samediff-candidate": "Who answers; empty where nobody was asked.",
    "x-samediff-deployment": "Where.",
    "x-samediff-policy": "By whose choice; `pin:` where the client asked for this very model.",
}


def _header(name: str, says: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": says, "schema": dict(schema)}


_TAGGED = [_header(name, f"Kept as `{field}` of the request.", {}) for name, field in TAGS.items()]
_AGAIN = _header("Idempotency-Key", "A second request with it joins the first or is given its answer.", _KEY)


def _response(says: str, schema: Mapping[str, Any], *types: str, headers: bool = False) -> dict[str, Any]:
    named = {name: {"description": text, "schema": {"type": "string"}} for name, text in _OWN.items()}
    body = {kind: {"schema": dict(schema)} for kind in types or (_JSON,)}
    return {"description": says, "content": body, **({"headers": named} if headers else {})}


def _errors(shape: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    schema = _ref("schemas", shape)
    return {str(status): _response(_SAID[status], schema) for status in sorted(statuses)}


def _asking(
    named: str, schema: Mapping[str, Any], answers: Mapping[str, Any], parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    about = f"{named} A body over the limit is refused as soon as that is seen."
    body = {"required": True, "description": about, "content": {_JSON: {"schema": dict(schema)}}}
    return {"summary": named, "requestBody": body, "responses": dict(answers), "parameters": parameters}


def _answering(named: str, request: str, error: str) -> dict[str, Any]:
    """An endpoint that decides and passes on: what goes to a provider needs the client's key, or ours."""
    told = _response("The answer, or its events.", {}, _JSON, _SSE, headers=True)
    told["content"] = {_JSON: {"schema": _ref("schemas", "Answer")}, _SSE: {}}
    passed = {status: _response(_PROVIDERS, {}) for status in ("4XX", "5XX")}
    answers = {"200": told, **_errors(error, _ANSWERED), **passed}
    return {
        **_asking(named, _ref("schemas", request), answers, [_AGAIN, *_TAGGED]),
        "security": [{"bearer": []}, {"x-api-key": []}, {}],
    }


def _getting(named: str, answers: Mapping[str, Any]) -> dict[str, Any]:
    method = {"405": _response(_SAID[405], _ref("schemas", "OpenAIError"))}
    return {"get": {"summary": named, "responses": {**answers, **method}}}


def _model(names: Sequence[str]) -> dict[str, Any]:
    """One model by a name that is listed."""
    either = {"anyOf": [_ref("schemas", "OpenAIError"), _ref("schemas", "AnthropicError")]}
    told = {"200": _response("It is there.", _ROW), "404": _response(_SAID[404], either)}
    named = {"type": "string", "enum": list(names)}
    asked = {"name": "name", "in": "path", "required": True, "schema": named}
    version = _header("anthropic-version", "Then the answer is in Anthropic's shape.", {"type": "string"})
    made = _getting("One of the names.", told)
    made["get"]["parameters"] = [asked, version]
    return made


def _paths(names: Sequence[str]) -> dict[str, Any]:
    """Every path that is served."""
    anything = {"anyOf": [_ref("schemas", f"{name}Request") for name in ("Chat", "Messages", "Responses")]}
    outcome = _ref("schemas", "Outcome")
    several = {"anyOf": [outcome, {"type": "array", "items": outcome}]}
    accepted = _object({"accepted": {"type": "integer", "minimum": 0}}, "accepted")
    named = {"name": "dialect", "in": "query", "schema": {"enum": list(DIALECTS)}, "required": False}
    counted = _answering("Count tokens.", "MessagesRequest", "AnthropicError")
    counted["responses"]["200"] = _response("The count.", _TOKENS, headers=True)
    counted["parameters"] = []
    receipt = _response("The receipt.", _ref("schemas", "DecisionRecord"), headers=True)
    decided = {"200": receipt, **_errors("OpenAIError", (*_ASKED, 404, 503))}
    for status in ("400", "404", "503"):  # in the dialect that was asked in
        decided[status]["content"][_JSON]["schema"] = {
            "anyOf": [_ref("schemas", "OpenAIError"), _ref("schemas", "AnthropicError")]
        }
    taken = {"202": _response("They are in the journal.", accepted), **_errors("OpenAIError", (*_ASKED, 503))}
    page = _response("A page for people.", {"type": "string"}, "text/html")
    text = {"type": "string"}
    return {
        "/v1/chat/completions": {"post": _answering("Chat Completions.", "ChatRequest", "OpenAIError")},
        "/v1/messages": {"post": _answering("Messages.", "MessagesRequest", "AnthropicError")},
        "/v1/messages/count_tokens": {"post": counted},
        "/v1/responses": {"post": _answering("Responses.", "ResponsesRequest", "OpenAIError")},
        "/v1/route": {"post": _asking("Decide and call nobody.", anything, decided, [named, *_TAGGED])},
        "/v1/outcomes": {"post": _asking("Say what became of requests.", several, taken, [])},
        "/v1/models": _getting("Aliases and candidates.", {"200": _response("The names.", _LISTED)}),
        "/v1/models/{name}": _model(names),
        "/healthz": _getting("The process answers.", {"200": _response("It does.", text, "text/plain")}),
        "/readyz": _getting(
            "Requests can be served.",
            {"200": _response("They can.", _READY), "503": _response("They can't.", _READY)},
        ),
        "/metrics": _getting("For Prometheus.", {"200": _response("Counts.", text, "text/plain")}),
        "/openapi.json": _getting("This document.", {"200": _response("It.", {"type": "object"})}),
        "/": _getting("The dashboard.", {"200": page}),
    }


def document(max_body_mib: float, names: Sequence[str]) -> dict[str, Any]:
    """Build the document; its limits are those that are in force, `names` the models that are listed."""
    _, records = msgspec.json.schema_components(
        [DecisionRecord], ref_template=_REF.format("schemas", "{name}")
    )
    about = (
        f"A request's body may have {max_body_mib:g} MiB, its head {HEAD_BYTES // 1024} KiB; a longer head, "
        "or one that takes too long, is answered with 431 or 408 and an empty body. samediff asks for no key "
        "of its own: a client's key goes on to the provider whose dialect it speaks where the catalogue lets "
        "keys through, and is replaced by one of the gateway's elsewhere; a provider's refusal of a key is "
        "passed on."
    )
    keys = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    schemas = {**_SCHEMAS, **records, "Outcome": outcome_schema()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "samediff", "version": "1", "description": about},
        "paths": _paths(names),
        "components": {"schemas": schemas, "securitySchemes": keys},
    }


def openapi(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Make GET /openapi.json."""
    made: list[bytes] = []

    async def endpoint(_: Request) -> Response:
        if not made:
            catalog = gateway.decider.catalog
            names = (*catalog.aliases, *catalog.candidates)
            made.append(msgspec.json.encode(document(gateway.settings.max_body_mib, names)))
        return Response(made[0], media_type=_JSON)

    return endpoint
