"""Is what a provider says it served what the catalogue says runs there? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from features.cache.rules import plain_name
from router.catalogrows import SNAPSHOT

if TYPE_CHECKING:
    from router.catalogrows import Deployment

DRIFT_FLAG = "served_another_model"  # in the log's record of the call


class Drift(NamedTuple):
    """What was to be served and what the provider reports instead."""

    kind: Literal["model", "checkpoint", "moved"]
    expected: str
    served: str


def drift(deployment: Deployment, served: str | None, before: str | None = None) -> Drift | None:
    """Compare the model a provider reports with its deployment; None where they agree or nothing is reported.

    "model": another model. "checkpoint": another snapshot than the pinned one. "moved": a floating name
    serves another snapshot than `before`, the last one reported.
    """
    if not served:
        return None
    if plain_name(served) != plain_name(deployment.model):
        return Drift("model", deployment.model, served)
    now = _checkpoint(served)
    if deployment.checkpoint is not None:
        pinned = deployment.checkpoint.replace("-", "")
        named = now is not None or deployment.checkpoint in served  # a pin may be no date
        same = now == pinned or deployment.checkpoint in served
        return Drift("checkpoint", deployment.checkpoint, served) if named and not same else None
    last = _checkpoint(before) if before else None
    return Drift("moved", before or "", served) if last and now and last != now else None


def _checkpoint(name: str) -> str | None:
    found = SNAPSHOT.search(name.strip())
    return found[1].replace("-", "") if found else None
