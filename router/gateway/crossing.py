"""Requests that go to a provider of another dialect: what they become there, and which headers come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.errors import BadInput
from features.value import Value
from router.gateway.translate import Target, Translation, translate
from router.gateway.translate.translation import SSE, refuse_ours

if TYPE_CHECKING:
    from features.wire import WireRequest
    from router.catalog import Catalog, Deployment
    from router.gateway.translate import Whole

LOST_HEADER = "x-samediff-left-out"  # names what a translation couldn't say, and the model wasn't told
_IDS = (b"request-id", b"x-request-id")  # Anthropic's, OpenAI's
_OF_THE_BODY = (b"content-type", b"content-encoding")


class Crossing(Value, frozen=True):
    """A request that may go to other dialects: its body as the client wrote it, and who asks when."""

    request: WireRequest
    body: bytes
    request_id: str
    now_ms: int
    cached: bool  # ask for caching where the client doesn't


def cross(asked: Crossing, catalog: Catalog, deployment: Deployment) -> Translation | None:
    """The translation for a deployment, None where it speaks the client's dialect; or Untranslatable.

    BadInput for an answer that would have to be fetched later: nothing here knows who keeps it then.
    """
    if asked.request.background:
        raise BadInput("background: an answer can't be fetched later through samediff; ask for it without")
    if deployment.dialect == asked.request.dialect:
        refuse_ours(asked.request.previous_response_id)
        return None
    row = catalog.candidates.get(deployment.candidate)
    target = Target(
        deployment.dialect,
        deployment.provider,
        deployment.model,
        None if row is None else row.max_output_tokens,
        cached=asked.cached,
    )
    return translate(asked.request.dialect, asked.body, target, asked.request_id, asked.now_ms // 1000)


def returned(
    headers: list[tuple[bytes, bytes]], translation: Translation, whole: Whole | None
) -> list[tuple[bytes, bytes]]:
    """Headers of the answer for the client: what its body is now, and its own name for the request's id."""
    theirs, ours = _IDS if translation.client != "anthropic_messages" else _IDS[::-1]
    kept = retyped(headers, SSE if whole is None else whole.media_type)
    named = dict(kept)
    if ours not in named and theirs in named:
        kept.append((ours, named[theirs]))
    return kept


def retyped(headers: list[tuple[bytes, bytes]], media_type: str) -> list[tuple[bytes, bytes]]:
    """Headers of an answer whose body isn't the provider's any more."""
    kept = [(name, value) for name, value in headers if name not in _OF_THE_BODY]
    return [*kept, (b"content-type", media_type.encode())]
