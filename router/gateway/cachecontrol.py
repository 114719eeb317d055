"""Cache control for clients that do without: markers, or a key that keeps each end user's cache apart.

Nothing is added for a client that asks for caching in any way itself, below the length that is cached, or
more than the provider's rules let in; `cache_control = false` in samediff.toml sends every body as it came.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from router.gateway.breakpoints import breakpoints
from router.gateway.splice import Insert

if TYPE_CHECKING:
    from features.cache import CacheRules
    from features.wire.head import Head
    from router.catalog import Deployment
    from router.cost import Asked

BREAKPOINTS = "breakpoints"


class Added(NamedTuple):
    """What is put into a body, and the name of what it is: BREAKPOINTS, or the field; None is nothing."""

    kind: str | None = None
    inserts: tuple[Insert, ...] = ()


class Prompt(NamedTuple):
    """A body on its way to a deployment, as far as its cache goes."""

    body: bytes
    head: Head
    tokens: int  # estimated
    bucket: str  # whose cache it is, see `bucket_of`


def added(prompt: Prompt, deployment: Deployment, rules: CacheRules | None, asked: Asked) -> Added:
    """What to put into a body that its client doesn't ask to be cached."""
    if rules is None or asked.marked or prompt.tokens < rules.floor_tokens:
        return Added()
    if deployment.dialect == "anthropic_messages":
        if not asked.ours or rules.automatic or not rules.marks_max:
            return Added()
        lookback = rules.lookback_blocks or 1
        markers = breakpoints(prompt.body, prompt.head, most=rules.marks_max, lookback=lookback)
        return (
            Added(BREAKPOINTS, tuple(part for marker in markers for part in marker)) if markers else Added()
        )
    if rules.bucket is None or rules.bucket in prompt.head.values:
        return Added()
    named = msgspec.json.encode(rules.bucket) + b":" + msgspec.json.encode(prompt.bucket) + b","
    return Added(rules.bucket, (Insert(prompt.body.index(b"{") + 1, named),))


def bucket_of(tenant: str | None, user: str | None, session: str) -> str:
    """Name an end user's bucket, or where none is known the session's; no name goes out as it is."""
    who = f"user|{user}" if user else f"session|{session}"
    digest = hashlib.sha256(f"{tenant or ''}|{who}".encode("utf-8", "surrogatepass"))
    return f"samediff-{digest.hexdigest()[:24]}"
