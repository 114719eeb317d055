"""What a candidate asks for beside its model: a service tier or a speed, put into the body as a field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from router.gateway.splice import Insert

if TYPE_CHECKING:
    from features.wire.head import Head
    from router.catalogrows import Deployment


def asked_for(body: bytes, head: Head, deployment: Deployment) -> tuple[Insert, ...]:
    """Fields to be put in front of a body's first one; a client that sets one itself has its way."""
    if not deployment.asks:
        return ()
    missing = [(key, value) for key, value in deployment.asks if key not in head.values]
    if not missing:
        return ()
    fields = b"".join(msgspec.json.encode(k) + b":" + msgspec.json.encode(v) + b"," for k, v in missing)
    return (Insert(body.index(b"{") + 1, fields),)
