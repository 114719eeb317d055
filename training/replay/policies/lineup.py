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
from training.replay.logged.beliefs import beliefs_of
from training.replay.policies import controls, exact
from training.replay.policies.choices import Certified, certified_by
from training.replay.policies.entries import Entry, halves
from training.replay.policies.playing import Play, play_all
from training.replay.policies.specs import DEFAULT_LEARNED, Spec
from training.replay.policies.walk import AS_SERVED, Manner
from training.replay.quality.matrix import MatrixJudge

if TYPE_CHECKING:
    from pathlib import Path

    from router.gateway.settings import Settings
    from router.policy import Policy
    from training.replay.cost.world import World
    from training.replay.logged.arms import Arms
    from training.replay.options import Options
    from training.replay.policies.entries import Take
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
    worlds, options = stage.worlds, asked.options
    router = router_usd(stage, options)
    pins = controls.pins(worlds, stage.barred)
    learned = controls.learned(*_held(parse_policy(_learned(asked.settings)), stage, stage.bundle))
    named = [] if stage.exact else [controls.logged()]
    given = [_asked_for(stage, spec, asked) for spec in asked.specs]
    sweep = _sweep(parse_policy(_learned(asked.settings))) if options.frontier else []
    plays = [*named, controls.reference(worlds), *learned, *pins, *sweep]
    plays += [play for play in given if isinstance(play, Play)]
    with Progress("policies", (len(plays) + 3) * len(worlds.parts)) as progress:
        played = dict(zip(plays, play_all(worlds, plays, progress.advance), strict=True))
        alone = {p.name.removeprefix("pin:"): e for p in pins if np.isfinite((e := played[p]).usd).all()}
        if not alone:
            raise BadInput("--without takes every candidate away that has a price")
        entries = [played[one] if isinstance(one, Play) else one for one in given]
        of_learned, swept = [played[play] for play in learned], _once(sweep, played)
        for entry in (*of_learned, *swept):
            entry.router_usd = router
        for entry, spec in zip(entries, asked.specs, strict=True):
            entry.router_usd = router if spec.policy is not None and spec.policy.kind == "learned" else 0.0
        beside = _controls(stage, alone, (of_learned[0], played[plays[len(named)]]), options, progress)
    first = played[named[0]] if named else _logged(stage)
    found = [first, *entries, *of_learned, *beside]
    names = {entry.name for entry in entries}
    found += [entry for entry in (*(played[pin] for pin in pins), *swept) if entry.name not in names]
    return [*found, exact.oracle(*_known(stage))] if stage.exact else found


def _learned(settings: Settings) -> str:
    """The policy that the settings serve, if it is a learned one."""
    return settings.policy if parse_policy(settings.policy).kind == "learned" else DEFAULT_LEARNED


def _known(stage: Stage) -> tuple[World, MatrixJudge]:
    """The one part of a matrix, and who judges it."""
    assert stage.matrix is not None
    world = stage.worlds.at(0)
    judge = stage.judge()
    assert isinstance(judge, MatrixJudge)
    return world, judge


def _logged(stage: Stage) -> Entry:
    assert stage.matrix is not None
    world, judge = _known(stage)
    return exact.logged(world, stage.matrix, judge)


def _controls(
    stage: Stage, alone: dict[str, Entry], beside: tuple[Entry, Entry], options: Options, progress: Progress
) -> list[Entry]:
    """What every answer stands beside; the learned policy and the reference are played already."""
    worlds, (learned, reference) = stage.worlds, beside
    half = halves(worlds.sessions, options.seed)
    judges = stage.judge(half), stage.judge(~half)
    weak = min(alone.values(), key=lambda entry: entry.total).name.removeprefix("pin:")
    pair = worlds.arms.at(weak, "cascade"), worlds.reference
    steps = None if pair[0] == pair[1] else _cascade(stage, pair, options.check_noise, "cascade")
    asked = {
        "best": controls.best_single(worlds, alone, judges, options.seed),
        "cheap": controls.cheapest(worlds, alone, options.seed),
        "steps": steps if isinstance(steps, Play) else None,
    }
    plays = {key: play for key, play in asked.items() if play is not None}
    played = dict(zip(plays, play_all(worlds, list(plays.values()), progress.advance), strict=True))
    best, cheap = played.get("best"), played["cheap"]
    mix = controls.random_mix(worlds, (cheap, best or reference), learned.total)
    last = played.get("steps", steps if isinstance(steps, Entry) else None)
    if last is not None:
        last.role = "control"
    return [entry for entry in (reference, best, cheap, mix, last) if entry is not None]


def _cascade(stage: Stage, pair: tuple[int, int], noise: float, name: str) -> Play | Entry:
    """A checked first answer, else the second's; where outcomes are known, by these."""
    if not stage.exact:
        return controls.cascade(stage.worlds, pair, noise, name)
    world, judge = _known(stage)
    assert world.known is not None
    quality, asked = exact.cascaded(judge, pair, noise)
    first, second = (world.known[:, arm] for arm in pair)
    names = [world.arms.names[arm] for arm in pair]
    usd = first + asked * second
    budget = stage.worlds.budget
    refused = np.zeros(len(usd), dtype=bool) if budget is None else budget.refused(usd)
    usd = np.where(refused, 0.0, usd)
    calls = 1 + float(asked.mean())
    return Entry(
        name=name,
        usd=usd,
        parts=dict.fromkeys(exact.PARTS, 0.0) | {"output": float(usd.sum())},
        share={names[0]: 1 / calls, names[1]: float(asked.mean()) / calls},
        quality=quality,
        refused=int(refused.sum()),
        said=f"{names[0]}, checked (wrong {noise:.0%} of the time), {asked.mean():.0%} again by {names[1]}",
    )


def _asked_for(stage: Stage, spec: Spec, asked: Asked) -> Play | Entry:
    """What --policy names, to be played."""
    arms = stage.worlds.arms
    where = f"--policy {spec.name}"
    for name in spec.named:
        if stage.barred[arms.at(name, where)]:
            why = "--without takes it away" if asked.options.without else "it didn't answer all tasks"
            raise BadInput(f"{where}: {name} can't be played: {why}")
    if spec.cascade:
        pair = arms.at(spec.cascade[0], where), arms.at(spec.cascade[1], where)
        return _cascade(stage, pair, asked.options.check_noise, spec.name)
    assert spec.policy is not None
    policy = spec.policy
    if policy.kind == "pin" and policy.candidate is not None and not policy.explore:
        return controls.pinned(spec.name, arms.at(policy.candidate, where), "policy")
    if spec.bundle is None:
        played, certified = _held(_known_by(policy, arms, where), stage, stage.bundle)
        return controls.walked(spec.name, played, Manner(certified=certified))
    bundle = Bundle.load(bundle_folder(asked.settings.having(bundle=spec.bundle)))
    played, certified = _held(_known_by(policy, arms, where), stage, bundle)
    found = controls.walked(spec.name, played, Manner(certified=certified))

    def how(world: World, refused: np.ndarray | None) -> Take:
        own = beliefs_of(stage.reading.slices[world.part].requests, world.calls, arms, bundle)
        return found.how(world._replace(beliefs=own), refused)

    return found._replace(how=how)


def _held(policy: Policy, stage: Stage, bundle: Bundle) -> tuple[Policy, Certified | None]:
    """The policy as its bundle's certificate lets it be played, as `Decider` does."""
    found = held(policy, bundle.manifest)
    if found.certificate is None:
        return found.policy, None
    return found.policy, certified_by(found.certificate, stage.worlds.arms)


def _known_by(policy: Policy, arms: Arms, where: str) -> Policy:
    """The policy with its candidates under the names of the arms."""
    weights = {arms.names[arms.at(name, where)]: w for name, w in policy.weights.items()}
    candidate = policy.candidate and arms.names[arms.at(policy.candidate, where)]
    return replace(policy, weights=weights, candidate=candidate)


def _sweep(served: Policy) -> list[Play]:
    """The learned policy at other losses, else as it is served: the frontier. A certificate has no loss."""
    kept = replace(served, certified=None, risk=0.0)
    return [
        controls.walked(f"learned:max_loss={loss:g}", replace(kept, max_loss=loss), AS_SERVED, "sweep")
        for loss in SWEEP
    ]


def _once(sweep: list[Play], played: dict[Play, Entry]) -> list[Entry]:
    """What was swept, each route once."""
    found: list[Entry] = []
    for loss, play in zip(SWEEP, sweep, strict=False):
        entry = played[play]
        entry.knob = loss
        if not any(entry.total == other.total and entry.share == other.share for other in found):
            found.append(entry)
    return found


def router_usd(stage: Stage, options: Options) -> float:
    """What deciding every call costs."""
    if options.router_usd is not None:
        return options.router_usd * stage.worlds.n
    told = stage.reading.decide_ms
    each = DECIDE_MS if told is None else told
    return each / 3.6e6 * CORE_HOUR_USD * stage.worlds.n
