"""Who serves a made-up log: the decider of the settings, and an alias of the arms whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.errors import BadInput
from models.bundle import Bundle
from router import prices
from router.catalog import Alias, Catalog
from router.decide import Decider
from router.gateway.sessions import Sessions
from router.offline import bundle_folder
from router.policy import parse_policy
from training.simulate.play import Team
from training.simulate.providers import Tokens
from training.simulate.talk import DIALECT

if TYPE_CHECKING:
    from router.gateway.settings import Settings
    from training.simulate.traffic import Traffic
    from training.simulate.world import World

REMEMBERED = 64  # sessions are played one after the other
OWN_ALIAS = "auto"  # laid over the catalogue's where none of its aliases is of these very arms


def new_team(world: World, traffic: Traffic, settings: Settings, policy: str) -> Team:
    """A team whose gateway has seen nothing yet; BadInput for an arm or a policy that can't be served."""
    prices.use(settings.prices)
    catalog, alias = _with_alias(Catalog.load(settings.catalog), tuple(world.arms))
    decider = Decider(Bundle.load(bundle_folder(settings)), catalog, parse_policy(policy))
    strange = {decider.policy.candidate, *decider.policy.weights} - {None, *world.arms}
    if strange:
        raise BadInput(f"policy {policy!r}: {min(map(str, strange))} is no arm here; see --arms")
    return Team(decider, alias, tuple(world.arms), Tokens(world.seed), traffic, Sessions(REMEMBERED))


def _with_alias(catalog: Catalog, arms: tuple[str, ...]) -> tuple[Catalog, str]:
    """The catalogue and the alias whose clients can be sent to these arms, and to no other."""
    for arm in arms:
        if arm not in catalog.candidates:
            raise BadInput(f"arm {arm}: no candidate of the catalogue; add it there, or see its names")
        if not catalog.deployments_of(arm, DIALECT):
            raise BadInput(f"arm {arm}: isn't deployed in the dialect {DIALECT}, which made-up clients speak")
    for name, alias in catalog.aliases.items():
        spoken = {c for c in alias.candidates if catalog.deployments_of(c, DIALECT)}
        if spoken == set(arms) and alias.reference.get(DIALECT) == arms[0]:
            return catalog, name
    own = Alias(candidates=arms, reference={DIALECT: arms[0]})
    return catalog._replace(aliases={**catalog.aliases, OWN_ALIAS: own}), OWN_ALIAS
