"""Promotion and rollback: which bundle is in force in a store, and `champion` in the registry."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from features.errors import BadInput
from models.store import Store
from models.tryout import try_out
from training.registry import CHALLENGER, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import RenderableType


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force now, and what was before."""

    store: str
    digest: str
    before: str | None
    version: str | None = None  # of the registered model, where the registry knows it
    version_known: bool | None = None  # whether it does; null: without MLflow


def promote(store: str, bundle: Path | None, version: str | None, registry: Registry | None) -> InForce:
    """Put a bundle in force: a folder's, a registered version's, or else the challenger.

    The bundle is verified and copied first, the alias `champion` moves next and the pointer last: whoever
    follows the store never sees a bundle that isn't whole, and the same command after a kill goes on.
    """
    found = None
    if bundle is None:
        if registry is None:
            raise BadInput("without MLflow there is no challenger; name a bundle with --bundle FOLDER")
        found = registry.version(version or CHALLENGER)
        if found is None:
            wanted = f"no version {version}" if version else "no challenger"
            raise BadInput(
                f"MLflow at {registry.shown}: {wanted}; train first, name the place where the training was "
                "recorded with MLFLOW_TRACKING_URI, or a bundle with --bundle"
            )
        bundle = registry.bundle(found)
    place = Store(store)
    digest = place.add(bundle)
    return _in_force(place, digest, registry, back=False)


def rollback(store: str, registry: Registry | None) -> InForce:
    """Put what was in force before in force again."""
    place = Store(store)
    pointer = place.pointer()
    if pointer is None or not pointer.before:
        raise BadInput(f"{store}: nothing was in force before; there is nowhere to roll back to")
    return _in_force(place, pointer.before[0], registry, back=True)


def _in_force(place: Store, digest: str, registry: Registry | None, *, back: bool) -> InForce:
    try_out(place.load(digest))
    found = None if registry is None else registry.of_digest(digest)
    now_ms = time.time_ns() // 1_000_000
    if registry is not None:
        registry.crown(found, f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC")
    pointer = place.back(now_ms) if back else place.point(digest, now_ms)
    return InForce(
        store=place.place,
        digest=pointer.digest,
        before=next(iter(pointer.before), None),
        version=None if found is None else found.number,
        version_known=None if registry is None else found is not None,
    )


def render(result: InForce) -> Iterator[RenderableType]:
    """What is in force now and what was before, for people."""
    before = "nothing was before it" if result.before is None else f"before it {result.before[:12]}"
    yield f"[green]in force[/] {result.digest[:12]} at {result.store}; {before}"
    if result.version is not None:
        yield f"version {result.version} is the champion in MLflow"
    elif result.version_known is not None:
        yield "it is no version of MLflow's, so nothing is champion there"
