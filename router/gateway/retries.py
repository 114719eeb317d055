"""How often a deployment's answers break off after they began: they are billed, and asked for again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

PRIOR_CALLS = 20.0  # what all deployments have seen weighs as much as this many answers of one's own
REMEMBERED = 1_000.0  # answers; then the older ones fade
DEPLOYMENTS = 1_024  # clients may name models that an endpoint accepts, each a deployment of its own


class _Seen(msgspec.Struct):
    broken: float = 0.0
    answers: float = 0.0

    def add(self, *, broken: bool) -> None:
        """One more answer, with the older ones fading once there are many."""
        if self.answers > REMEMBERED - 1:
            kept = (REMEMBERED - 1) / self.answers
            self.broken *= kept
            self.answers *= kept
        self.broken += broken
        self.answers += 1


class Retries:
    """Shares of broken answers by deployment, shrunk to the share of all."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._all = _Seen()
        self._rates: dict[str, float] | None = None

    def note(self, deployment: str, *, broken: bool) -> None:
        """Count an answer that came through or broke off; of one that a client left nothing is known."""
        seen = self._seen.pop(deployment, None) or _Seen()
        seen.add(broken=broken)
        self._seen[deployment] = seen
        while len(self._seen) > DEPLOYMENTS:
            del self._seen[next(iter(self._seen))]
        self._all.add(broken=broken)
        if self._all.broken or self._all.answers == 1:  # else they are all 0 still
            self._rates = None

    def swapped(self) -> None:
        """Another catalogue is in force: rates are to be looked up for its deployments."""
        self._rates = None

    def rates(self, deployments: Mapping[str, object]) -> Mapping[str, float] | None:
        """Share of answers that break off, by deployment; None before any was seen."""
        if not self._all.answers:
            return None
        if self._rates is None:
            pool = self._all.broken / self._all.answers
            self._rates = {name: self._rate(name, pool) for name in deployments}
        return self._rates

    def _rate(self, name: str, pool: float) -> float:
        seen = self._seen.get(name, _Seen())
        return (seen.broken + PRIOR_CALLS * pool) / (seen.answers + PRIOR_CALLS)
