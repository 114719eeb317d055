"""Is what a provider says it served what the catalogue says runs there? Pure."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple

from features.cache.rules import plain_name
from router.catalogrows import SNAPSHOT

if TYPE_CHECKING:
    from router.catalogrows import Deployment

# In the log's record of a call: training leaves these out,
DRIFT_FLAG = "served_another_model"
ALLOWED_FLAG = "served_another_model_allowed"  # and these in, as the catalogue says `train = true`


class Drift(NamedTuple):
    """What was to be served and what the provider reports instead."""

    kind: Literal["model", "checkpoint", "moved"]
    expected: str
    served: str


def drift(deployment: Deployment, served: str | None, before: str | None = None) -> Drift | None:
    """Compare the model a provider reports with its deployment; None where they agree or nothing is reported.

    "model": another model. "checkpoint": another snapshot than the pinned one, or one out of the range that
    the catalogue accepts. "moved": a floating name serves another snapshot than `before`, the last reported.
    """
    versions = deployment.versions
    if not served or any(fnmatchcase(served, pattern) for pattern in versions.accept):
        return None
    if plain_name(served) != plain_name(deployment.model):
        return Drift("model", deployment.model, served)
    now = _checkpoint(served)
    day = _day(now)
    covered = None if day is None else versions.covers(day)
    if covered is not None:
        return None if covered else Drift("checkpoint", str(versions), served)
    if deployment.checkpoint is not None:
        pinned = deployment.checkpoint.replace("-", "")
        named = now is not None or deployment.checkpoint in served  # a pin may be no date
        same = now == pinned or deployment.checkpoint in served
        return Drift("checkpoint", deployment.checkpoint, served) if named and not same else None
    last = _checkpoint(before) if before else None
    return Drift("moved", before or "", served) if last and now and last != now else None


def _day(checkpoint: str | None) -> date | None:
    try:
        return None if checkpoint is None else date.fromisoformat(checkpoint)
    except ValueError:  # eight digits that are no date
        return None


def _checkpoint(name: str) -> str | None:
    found = SNAPSHOT.search(name.strip())
    return found[1].replace("-", "") if found else None
