"""Who is played: the logged policy, what was asked for, the learned one in its manners, and the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from features.errors import BadInput
from models.bundle import Bundle
from router.certified import held
from router.offline import bundle_folder
from router.policy import parse_policy
from training.progress import Progress
from training.replay import controls
from training.replay import matrix as of_matrix
from training.replay.beliefs import beliefs_of
from training.replay.choices import Certified, certified_by
from training.replay.entries import Entry, entry_of, halves
from training.replay.matrix import MatrixJudge
from training.replay.specs import DEFAULT_LEARNED, Spec
from training.replay.walk import Manner, constant, walk
from training.replay.world import play

if TYPE_CHECKING:
    from pathlib import Path

    from router.gateway.settings import Settings
    from router.policy import Policy
    from training.replay.arms import Arms
    from training.replay.options import Options
    from training.replay.stage import Stage

SWEEP = (0.0, 0.01, 0.05, 0.1, 0.2)  # max_loss of the frontier
CORE_HOUR_USD = 0.05
DECIDE_MS = 1.0  # of a decision, where no receipt says it


class Asked(NamedTuple):
    """The question: which log, which policies, with which options and settings."""

    log: Path
    specs: list[Spec]
    options: Options
    settings: Settings


def entries_of(stage: Stage, asked: Asked) -> list[Entry]:
    """Everything that is played, the logged policy first."""
    world, options = stage.world, asked.options
    router = router_usd(stage, options)
    with Progress("policies", len(asked.specs) + len(world.arms.arms) + len(SWEEP) + 5) as progress:
        alone = controls.pins(world, stage.barred, progress.advance)
        if not alone:
            raise BadInput("--without takes every candidate away that has a price")
        learned = controls.learned(world, *_held(parse_policy(_learned(asked.settings)), stage, stage.bundle))
        progress.advance(len(learned))
        named = [_asked_for(stage, spec, asked) for spec in asked.specs]
        for entry in (*named[1:], *(learned.values() if named else ())):
            entry.played = None  # a route is told of the first alone
        progress.advance(len(named))
        sweep = _swept(stage, progress) if options.frontier else []
    for entry in (*learned.values(), *sweep):
        entry.router_usd = router
    for entry, spec in zip(named, asked.specs, strict=True):
        entry.router_usd = router if spec.policy is not None and spec.policy.kind == "learned" else 0.0
    found = [_logged(stage), *named, *learned.values(), *_controls(stage, alone, learned["learned"], options)]
    asked_for = {entry.name for entry in named}
    found += [entry for entry in (*alone.values(), *sweep) if entry.name not in asked_for]
    return (
        found
        if stage.matrix is None
        else [*found, of_matrix.oracle(world, MatrixJudge(stage.matrix, world.reference))]
    )


def _learned(settings: Settings) -> str:
    """The policy that the settings serve, if it is a learned one."""
    return settings.policy if parse_policy(settings.policy).kind == "learned" else DEFAULT_LEARNED


def _logged(stage: Stage) -> Entry:
    world = stage.world
    if stage.matrix is not None and world.known is not None:
        return of_matrix.logged(world, stage.matrix, MatrixJudge(stage.matrix, world.reference))
    return entry_of("logged", play(world, world.arms.logged), world.arms, "logged", "as it was")


def _controls(stage: Stage, alone: dict[str, Entry], learned: Entry, options: Options) -> list[Entry]:
    """What every answer stands beside."""
    world = stage.world
    reference = controls.reference(world)
    half = halves(world.book.sessions, options.seed)[world.book.session]
    judges = stage.court.judge(half), stage.court.judge(~half)
    best = controls.best_single(world, alone, judges, options.seed)
    cheap = controls.cheapest(world, alone, options.seed)
    mix = controls.random_mix(world, (cheap, best or reference), learned.total)
    weak = min(alone.values(), key=lambda entry: entry.total).name.removeprefix("pin:")
    pair = world.arms.at(weak, "cascade"), int(np.bincount(world.reference).argmax())
    steps = None if pair[0] == pair[1] else _cascade(stage, pair, options.check_noise, "cascade")
    if steps is not None:
        steps.role = "control"
    return [entry for entry in (reference, best, cheap, mix, steps) if entry is not None]


def _cascade(stage: Stage, pair: tuple[int, int], noise: float, name: str) -> Entry:
    """A checked first answer, else the second's; where outcomes are known, by these."""
    if stage.matrix is None or stage.world.known is None:
        return controls.cascade(stage.world, pair, noise, name)
    world = stage.world
    quality, asked = of_matrix.cascaded(MatrixJudge(stage.matrix, world.reference), pair, noise)
    first, second = (stage.world.known[:, arm] for arm in pair)
    names = [world.arms.names[arm] for arm in pair]
    usd = first + asked * second
    refused = np.zeros(len(usd), dtype=bool) if world.budget is None else world.budget.refused(usd)
    usd = np.where(refused, 0.0, usd)
    calls = 1 + float(asked.mean())
    return Entry(
        name=name,
        usd=usd,
        parts=dict.fromkeys(of_matrix.PARTS, 0.0) | {"output": float(usd.sum())},
        share={names[0]: 1 / calls, names[1]: float(asked.mean()) / calls},
        quality=quality,
        refused=int(refused.sum()),
        said=f"{names[0]}, checked (wrong {noise:.0%} of the time), {asked.mean():.0%} again by {names[1]}",
    )


def _asked_for(stage: Stage, spec: Spec, asked: Asked) -> Entry:
    """Play what --policy names."""
    world, arms = stage.world, stage.world.arms
    where = f"--policy {spec.name}"
    for name in spec.named:
        if stage.barred[arms.at(name, where)]:
            why = "--without takes it away" if asked.options.without else "it didn't answer all tasks"
            raise BadInput(f"{where}: {name} can't be played: {why}")
    if spec.cascade:
        pair = arms.at(spec.cascade[0], where), arms.at(spec.cascade[1], where)
        return _cascade(stage, pair, asked.options.check_noise, spec.name)
    assert spec.policy is not None
    bundle = stage.bundle
    if spec.bundle is not None:
        bundle = Bundle.load(bundle_folder(asked.settings.having(bundle=spec.bundle)))
        world = world._replace(beliefs=beliefs_of(asked.log, world.book, arms, bundle))
    policy = spec.policy
    if policy.kind == "pin" and policy.candidate is not None and not policy.explore:
        return entry_of(spec.name, constant(world, arms.at(policy.candidate, where)), arms)
    played, certified = _held(_known_by(policy, arms, where), stage, bundle)
    return entry_of(spec.name, walk(world, played, Manner(certified=certified)), arms)


def _held(policy: Policy, stage: Stage, bundle: Bundle) -> tuple[Policy, Certified | None]:
    """The policy as its bundle's certificate lets it be played, as `Decider` does."""
    found = held(policy, bundle.manifest)
    if found.certificate is None:
        return found.policy, None
    return found.policy, certified_by(found.certificate, stage.world.arms)


def _known_by(policy: Policy, arms: Arms, where: str) -> Policy:
    """The policy with its candidates under the names of the arms."""
    weights = {arms.names[arms.at(name, where)]: w for name, w in policy.weights.items()}
    candidate = policy.candidate and arms.names[arms.at(policy.candidate, where)]
    return replace(policy, weights=weights, candidate=candidate)


def _swept(stage: Stage, progress: Progress) -> list[Entry]:
    """The learned policy at other losses: the frontier, each route once."""
    found: list[Entry] = []
    for loss in SWEEP:
        policy = parse_policy(f"learned:max_loss={loss:g}")
        entry = entry_of(f"learned:max_loss={loss:g}", walk(stage.world, policy), stage.world.arms, "sweep")
        entry.knob = loss
        progress.advance()
        if not any(entry.total == other.total and entry.share == other.share for other in found):
            found.append(entry)
    return found


def router_usd(stage: Stage, options: Options) -> float:
    """What deciding every call costs."""
    if options.router_usd is not None:
        return options.router_usd * stage.world.book.n
    told = stage.decisions.frame["decide_ms"].drop_nulls()
    each = float(told.mean()) if len(told) else DECIDE_MS  # type: ignore[arg-type]  # a float column's
    return each / 3.6e6 * CORE_HOUR_USD * stage.world.book.n
