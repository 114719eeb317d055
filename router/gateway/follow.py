"""Following a store's pointer: a new bundle is loaded and tried aside, then swapped in between two requests.

What doesn't verify or can't decide is left alone, said once and counted; the last good bundle goes on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from features.errors import SamediffError
from models.tryout import try_out
from router.decide import Decider

if TYPE_CHECKING:
    from models.store import Pointer, Store
    from router.gateway.service import Gateway

_log = logging.getLogger("samediff")


class Follower:
    """Keeps a gateway on what its store has in force."""

    def __init__(self, gateway: Gateway, store: Store, every_s: float) -> None:
        self._gateway = gateway
        self._store = store
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look; the loop must be running."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._every_s)
                await self.look()
        except Exception:
            self._gateway.refused = "the store is followed no longer: restart to take a new bundle"
            _log.exception("following has ended by a fault of ours; %s", self._gateway.refused)
            raise

    async def look(self) -> None:
        """Look once, and swap if another bundle is in force; never raises for what a store may hold."""
        wanted = ""
        try:
            pointer: Pointer | None = await asyncio.to_thread(self._store.pointer)
            if pointer is None or pointer.digest == self._gateway.decider.bundle.digest:
                self._gateway.refused = None
                return
            wanted = pointer.digest
            decider = await asyncio.to_thread(self._load, wanted)
        except (SamediffError, OSError) as error:
            self._refuse(wanted, str(error))
            return
        self._gateway.refused = None
        self._gateway.swap(decider)
        self._gateway.metrics.add("samediff_bundle_swaps_total")
        _log.warning("bundle %s is in force now", wanted[:12])

    def _load(self, digest: str) -> Decider:
        """A decider on another bundle that has decided once for every alias. Runs aside of the loop."""
        bundle = self._store.load(digest)
        try_out(bundle)
        now = self._gateway.decider
        decider = Decider(bundle, now.catalog, now.policy, environ=self._gateway.environ, ratios=now.ratios)
        self._gateway.warm_up(decider)
        return decider

    def _refuse(self, digest: str, why: str) -> None:
        """Say once what is wrong with what is in force; `/readyz` and the page go on saying it."""
        gateway, said = self._gateway, f"bundle {digest[:12]} is not taken: {why}" if digest else why
        if gateway.refused == said:
            return
        gateway.refused = said
        gateway.metrics.add("samediff_bundle_refused_total")
        _log.error("%s; %s goes on", said, gateway.decider.bundle.digest[:12])
