"""Which version each deployment says it serves: one that may not be, or that is new, is an event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from router.drift import drift

if TYPE_CHECKING:
    from router.catalogrows import Deployment
    from router.drift import Drift

_LOG = logging.getLogger("samediff")
MAX_DEPLOYMENTS = 4096  # clients may invent models, and providers versions
MAX_NAME = 200  # characters of a version


class Served:
    """The last version of each deployment; each change is said once."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._said: set[tuple[str, str]] = set()
        self._agreed: dict[str, tuple[Deployment, str]] = {}  # with these there is nothing to compare again

    def note(self, deployment: Deployment, served: str | None) -> Drift | None:
        """Compare what was served with what was to be, and with what was served before."""
        if not served:
            return None
        before = self._agreed.get(deployment.id)
        if before is not None and before[0] is deployment and before[1] == served:
            return None
        if len(self._last) > MAX_DEPLOYMENTS or len(self._said) > MAX_DEPLOYMENTS:
            self._last.clear()
            self._said.clear()
            self._agreed.clear()
        found = drift(deployment, served, self._last.get(deployment.id))
        served = served[:MAX_NAME]
        self._last[deployment.id] = served
        if found is None:
            self._agreed[deployment.id] = (deployment, served)
        else:
            self._agreed.pop(deployment.id, None)
        if found is not None and (deployment.id, served) not in self._said:
            self._said.add((deployment.id, served))
            _LOG.warning("%s serves %s instead of %s (%s)", deployment.id, served, found.expected, found.kind)
        return found
