"""The truth beside a made-up log: what every policy would have got, and cost along its own caches."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from training.simulate.play import good_at, play, told
from training.simulate.providers import Provider, usd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from features.wire import Usage
    from router.catalog import Deployment
    from training.simulate.play import Served, Team
    from training.simulate.traffic import Ask, Script

_PLACE = Decimal("1e-12")


class Truth(msgspec.Struct, kw_only=True):
    """What a policy truly gets. Quality is of asks: their first call is the one that is decided freely."""

    name: str
    quality: float  # mean P(success)
    quality_told: float | None  # what the outcomes that are heard would say on average, their faults in it
    cost_usd: Decimal | None  # of all turns; null where an arm has no price
    asks: int
    turns: int
    share: dict[str, float]  # of the asks


class Tally:
    """Adds up one policy's asks and turns."""

    def __init__(self, name: str, arms: tuple[str, ...]) -> None:
        self.name = name
        self._arms = arms
        self._sum = self._good = self._heard = 0.0
        self._usd: Decimal | None = Decimal(0)
        self._turns = 0
        self._taken = np.zeros(len(arms), dtype=np.int64)

    def ask(self, ask: Ask, arm: int, team: Team) -> None:
        """An arm takes an ask."""
        p, traffic = float(ask.p[arm]), team.traffic
        good, bad = p * traffic.labelled, (1 - p) * traffic.labelled * (1 - traffic.silent_failures)
        self._sum += p
        self._good += good * (1 - traffic.noise) + bad * traffic.noise
        self._heard += good + bad
        self._taken[arm] += 1

    def turn(self, cost: Decimal | None) -> None:
        """A turn is billed."""
        self._usd = None if self._usd is None or cost is None else self._usd + cost
        self._turns += 1

    def truth(self) -> Truth:
        """What it comes to."""
        asks = int(self._taken.sum())
        return Truth(
            name=self.name,
            quality=self._sum / max(asks, 1),
            quality_told=self._good / self._heard if self._heard else None,
            cost_usd=None if self._usd is None else self._usd.quantize(_PLACE),
            asks=asks,
            turns=self._turns,
            share={a: n / max(asks, 1) for a, n in zip(self._arms, self._taken.tolist(), strict=True)},
        )


class Route(NamedTuple):
    """A policy that names an arm for each ask, whatever the prompts."""

    tally: Tally
    arm: Callable[[Script, int], int]


def routes(team: Team, seed: int) -> list[Route]:
    """Every arm alone, any arm by chance, and the arm that truly is best for each ask."""
    k = len(team.arms)

    def by_chance(script: Script, at: int) -> int:
        return int(np.random.default_rng([seed, 12, script.number, at]).integers(0, k))

    made = [Route(Tally(f"pin:{name}", team.arms), _always(arm)) for arm, name in enumerate(team.arms)]
    made.append(Route(Tally("uniform", team.arms), by_chance))
    made.append(Route(Tally("oracle", team.arms), lambda script, at: int(script.asks[at].p.argmax())))
    return made


def _always(arm: int) -> Callable[[Script, int], int]:
    return lambda _script, _at: arm


class Witness:
    """Sees every session of a log as it is made, and works out what other policies would have got."""

    def __init__(self, team: Team, deployments: dict[str, Deployment], seed: int) -> None:
        self._team = team
        self._deployments = [deployments[name] for name in team.arms]
        self.logged = Tally("logged", team.arms)
        self._routes = routes(team, seed)
        self._others: list[tuple[Tally, Team]] = []

    def add_policy(self, name: str, team: Team) -> None:
        """Let another decider answer the same sessions, too."""
        self._others.append((Tally(name, team.arms), team))

    def see(self, script: Script, served: Sequence[Served]) -> list[dict[str, Any]]:
        """One session as it was served; returns a row for each ask and arm, as the outcome matrix has it."""
        _count(self.logged, self._team, script, served)
        for tally, team in self._others:
            _count(tally, team, script, list(play(team, script)))
        rows: list[dict[str, Any]] = []
        for route in self._routes:
            arms = [route.arm(script, at) for at in range(len(script.asks))]
            billed = self._billed(script, served, arms)
            for at, arm in enumerate(arms):
                route.tally.ask(script.asks[at], arm, self._team)
                for _, cost in billed[at]:
                    route.tally.turn(cost)
                if route.tally.name.startswith("pin:"):
                    rows.append(self._row(script, at, arm, billed[at], served))
        return rows

    def truths(self) -> list[Truth]:
        """All policies, the logged one first."""
        tallies = [self.logged, *(t for t, _ in self._others), *(r.tally for r in self._routes)]
        return [tally.truth() for tally in tallies]

    def _billed(
        self, script: Script, served: Sequence[Served], arms: list[int]
    ) -> list[list[tuple[Usage, Decimal | None]]]:
        """Usage and cost of each turn, by ask, with an arm for each ask."""
        provider = Provider(self._team.tokens)
        billed: list[list[tuple[Usage, Decimal | None]]] = [[] for _ in script.asks]
        for turn in served:
            deployment = self._deployments[arms[turn.ask]]
            usage = provider.answer(deployment, turn.sent)
            billed[turn.ask].append((usage, usd(deployment, usage, turn.sent.now_ms)))
        return billed

    def _row(
        self,
        script: Script,
        at: int,
        arm: int,
        billed: list[tuple[Usage, Decimal | None]],
        served: Sequence[Served],
    ) -> dict[str, Any]:
        ask = script.asks[at]
        first = next(turn.call.receipt.request_id for turn in served if turn.ask == at)
        costs = [cost for _, cost in billed]
        return {
            "task_id": f"{script.session_id}/{at}",
            "request_id": first,
            "session_id": script.session_id,
            "group": script.repo,
            "category": ask.kind,
            "model": self._team.arms[arm],
            "success": float(good_at(ask, arm)),
            "p_success": float(ask.p[arm]),
            "told": told(ask, arm, self._team.traffic),
            "input_tokens": sum(
                (u.input_tokens_uncached or 0) + (u.cached_tokens or 0) + (u.cache_write_tokens or 0)
                for u, _ in billed
            ),
            "cached_tokens": sum(u.cached_tokens or 0 for u, _ in billed),
            "output_tokens": sum(u.output_tokens or 0 for u, _ in billed),
            "cost_usd": None if None in costs else float(sum(c for c in costs if c is not None)),
        }


def _count(tally: Tally, team: Team, script: Script, served: Sequence[Served]) -> None:
    for turn in served:
        if turn.said.first:
            tally.ask(script.asks[turn.ask], team.arms.index(turn.call.receipt.chosen), team)
        tally.turn(usd(turn.call.deployment, turn.usage, turn.said.now_ms))
