"""A provider's error as a client may see it: no page, and nothing of an account that isn't the client's own.

What a provider says of the client's own key is the client's own affair and goes on as it came. Of an account
of ours it may hold a key's end or a name: a refusal of the account is told in our words (the journal has the
provider's for it, by the request's id), and in any other error what looks like a credential is masked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from router.gateway.errors import error_body

if TYPE_CHECKING:
    from features.wire.types import Dialect
    from router.gateway.attempts import Target
    from router.gateway.connections import Answer

HTML = "text/html"
MASK = b"***"
_OF_THE_ACCOUNT = frozenset({401, 402})
_LIKE_A_KEY = re.compile(
    rb"\b(?:sk|pk|rk|gsk|xai|key|org|proj|acct|user|nvapi)[-_](?=[\w*.-]*[\d*])[\w*.-]{4,}"  # ids, keys
    rb"|[\w.-]*\*{3,}[\w*.-]*"  # what somebody else has masked, but for its end
    rb"|[\w.+-]+@[\w-]+\.[\w.-]*\w"  # e-mail addresses
    rb"|\bAIza[\w-]{20,}|\beyJ[\w-]+\.[\w.-]+",
    re.ASCII,
)
_SHORTEST = 8  # of a key; what is shorter stands in any text


def shielded(answer: Answer, body: bytes, target: Target, dialect: Dialect, request_id: str) -> bytes | None:
    """The error body in place of a provider's; None where that goes on as it came."""
    status, headers = answer.status, answer.headers
    plain = headers.get("content-encoding", "identity") == "identity"
    said = None
    if target.ours and status in _OF_THE_ACCOUNT:
        said = f"the provider refuses the gateway's own account at {target.deployment.id} (status {status})"
    elif headers.get("content-type", "").startswith(HTML):
        said = f"the provider answered {status} with HTML"
    elif target.ours and not plain:
        said = f"the provider answered {status}"
    if said is not None:
        return msgspec.json.encode(error_body(dialect, status, said, request_id))
    if not target.ours:
        return None
    masked = _LIKE_A_KEY.sub(MASK, _without(body, answer.sent.key))
    return None if masked == body else masked


def _without(body: bytes, key: str | None) -> bytes:
    """A body without the key that was sent, word for word."""
    return body if key is None or len(key) < _SHORTEST else body.replace(key.encode(), MASK)
