"""The whole replay: the bill first, then every policy in the same world, then what the numbers support."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from features.errors import BadInput
from models.bundle import Bundle
from router import prices
from router.offline import bundle_folder
from router.policy import parse_policy
from training.replay import controls
from training.replay.advise import advise
from training.replay.beliefs import beliefs_of
from training.replay.entries import Entry, entry_of
from training.replay.quality import Judge, Quality
from training.replay.reproduce import bills_of, reproduce
from training.replay.result import Result
from training.replay.rows import rows_of
from training.replay.specs import DEFAULT_LEARNED, Spec, parse_specs
from training.replay.stage import Stage, as_asked, set_up
from training.replay.walk import constant, walk
from training.replay.world import play

if TYPE_CHECKING:
    from pathlib import Path

    from router.gateway.settings import Settings
    from router.policy import Policy
    from training.replay.arms import Arms
    from training.replay.options import Options
    from training.replay.reproduce import Reproduction

SWEEP = (0.0, 0.01, 0.05, 0.1, 0.2)  # max_loss of the frontier
CORE_HOUR_USD = 0.05
DECIDE_MS = 1.0  # of a decision, where no receipt says it


def run(log: Path, options: Options, settings: Settings) -> Result:
    """Answer for one log; BadInput, one line, for what can't be played."""
    started = time.monotonic()
    prices.use(settings.prices)
    specs = parse_specs(options.policies)
    stage = set_up(log, options, settings, specs)
    bills = bills_of(log, stage.world)
    world = stage.world._replace(scale=bills.scale)
    check, _ = reproduce(world, bills)
    result = _first(log, check, stage)
    if check.ok:
        stage = stage._replace(world=as_asked(world, options))
        entries = _entries(log, stage, specs, options, settings)
        _judged(stage, entries)
        result.policies = rows_of(entries, options)
        advice = advise(result.policies)
        result.recommendation, result.advised = advice.sentence, advice.policy
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _entries(log: Path, stage: Stage, specs: list[Spec], options: Options, settings: Settings) -> list[Entry]:
    """Everything that is played, the logged policy first."""
    world = stage.world
    logged = entry_of("logged", play(world, world.arms.logged), world.arms, "logged", "as it was")
    alone = controls.pins(world, stage.barred)
    reference = controls.reference(world)
    judged = _halves(stage, options)
    best = controls.best_single(world, alone, judged, options.seed)
    cheap = controls.cheapest(world, alone, options.seed)
    default = settings.policy if parse_policy(settings.policy).kind == "learned" else DEFAULT_LEARNED
    learned = controls.learned(world, parse_policy(default))
    played = [_asked_for(log, stage, spec, options, settings) for spec in specs]
    router = _router_usd(stage, options)
    for entry in (*learned.values(), *(e for e, s in zip(played, specs, strict=True) if _routes(s))):
        entry.router_usd = router
    dear = best or reference
    mix = controls.random_mix(world, (cheap, dear), learned["learned"].total)
    arms = world.arms
    weak = min(alone.values(), key=lambda entry: entry.total).name.removeprefix("pin:")
    strong = arms.names[int(np.bincount(world.reference).argmax())]
    pair = arms.at(weak, "cascade"), arms.at(strong, "cascade")
    steps = [] if weak == strong else [controls.cascade(world, pair, options.check_noise, "cascade")]
    for entry in steps:
        entry.role = "control"
    sweep = _swept(stage, options, router)
    found = [logged, *played, *learned.values(), reference, best, cheap, mix, *steps, *alone.values(), *sweep]
    return [entry for entry in found if entry is not None]


def _routes(spec: Spec) -> bool:
    return spec.policy is not None and spec.policy.kind == "learned"


def _asked_for(log: Path, stage: Stage, spec: Spec, options: Options, settings: Settings) -> Entry:
    """Play what --policy names."""
    world, arms = stage.world, stage.world.arms
    where = f"--policy {spec.name}"
    if spec.cascade:
        pair = arms.at(spec.cascade[0], where), arms.at(spec.cascade[1], where)
        return controls.cascade(world, pair, options.check_noise, spec.name)
    assert spec.policy is not None
    for name in spec.named:
        if stage.barred[arms.at(name, where)]:
            raise BadInput(f"{where}: --without takes {name} away")
    if spec.bundle is not None:
        bundle = Bundle.load(bundle_folder(settings.having(bundle=spec.bundle)))
        world = world._replace(beliefs=beliefs_of(log, world.book, arms, bundle))
    policy = spec.policy
    if policy.kind == "pin" and policy.candidate is not None and not policy.explore:
        return entry_of(spec.name, constant(world, arms.at(policy.candidate, where)), arms)
    return entry_of(spec.name, walk(world, _known_by(policy, arms, where)), arms)


def _known_by(policy: Policy, arms: Arms, where: str) -> Policy:
    """The policy with its candidates under the names of the arms."""
    weights = {arms.names[arms.at(name, where)]: w for name, w in policy.weights.items()}
    candidate = policy.candidate and arms.names[arms.at(policy.candidate, where)]
    return replace(policy, weights=weights, candidate=candidate)


def _swept(stage: Stage, options: Options, router: float) -> list[Entry]:
    """The learned policy at other losses: the frontier."""
    if not options.frontier:
        return []
    found: list[Entry] = []
    for loss in SWEEP:
        policy = parse_policy(f"learned:max_loss={loss:g}")
        entry = entry_of(policy.name, walk(stage.world, policy), stage.world.arms, "sweep")
        entry.knob, entry.router_usd = loss, router
        if not any(entry.total == other.total and entry.share == other.share for other in found):
            found.append(entry)
    return found


def _router_usd(stage: Stage, options: Options) -> float:
    """What deciding every call costs."""
    if options.router_usd is not None:
        return options.router_usd * stage.world.book.n
    told = stage.decisions.frame["decide_ms"].drop_nulls()
    each = float(told.mean()) if len(told) else DECIDE_MS  # type: ignore[arg-type]  # a float column's
    return each / 3.6e6 * CORE_HOUR_USD * stage.world.book.n


def _halves(stage: Stage, options: Options) -> tuple[Judge, Judge]:
    """Judges of the two halves of the sessions."""
    from training.replay.entries import halves

    half = halves(stage.world.book.sessions, options.seed)[stage.world.book.session]
    return Judge(stage.evidence, half), Judge(stage.evidence, ~half)


def _judged(stage: Stage, entries: list[Entry]) -> None:
    """Estimate the quality of every entry."""
    judge = Judge(stage.evidence)
    n = stage.world.book.n
    for entry in entries:
        if entry.target is None:
            entry.quality = Quality(why=controls.unknown_of_cascade())
        elif entry.role == "logged":
            entry.quality = judge.of(stage.world.arms.logged)
        else:
            entry.quality = judge.of(entry.target, entry.total / max(n, 1))


def _first(log: Path, check: Reproduction, stage: Stage) -> Result:
    """The reproduction, which stands alone where it fails."""
    world, evidence = stage.world, stage.evidence
    names = world.arms.names
    return Result(
        log=str(log),
        billed_usd=check.billed_usd,
        recorded_usd=check.recorded_usd,
        replayed_usd=check.replayed_usd,
        relative_error=check.relative_error,
        relative_error_ci=check.relative_error_ci,
        explained_relative_error=check.explained_relative_error,
        session_median_error=check.session_median_error,
        cached_tokens_billed=check.cached_tokens_billed,
        cached_tokens_replayed=check.cached_tokens_replayed,
        reproduction=check.status,
        reproduction_says=check.says,
        reasons=check.reasons,
        left_out=check.left_out,
        sessions=check.sessions,
        calls=check.calls,
        whole_runs=check.whole_runs,
        free_decisions=int((~evidence.bandit.locked).sum()),
        decided=evidence.decided,
        labelled=int(np.isfinite(world.book.reward).sum()),
        reference=names[int(np.bincount(world.reference).argmax())],
        arms=list(names),
        labels_by_arm=evidence.by_arm,
        output_tokens_by=stage.lengths,
        price_version=prices.PRICE_VERSION,
    )
