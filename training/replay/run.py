"""The whole replay: the bill first, then every policy in the same world, then what the numbers support."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from router import prices
from training.replay.cost.bills import bills_of
from training.replay.cost.budget import parse_budget
from training.replay.cost.caches import parse_cache
from training.replay.cost.factors import doubts, factors_of
from training.replay.cost.pricing import check_prices, left_alone, version_at
from training.replay.cost.reproduction import reproduce
from training.replay.logged.plan import naming_damage
from training.replay.options import check
from training.replay.policies.lineup import Asked, entries_of
from training.replay.policies.playing import judged
from training.replay.policies.specs import parse_specs
from training.replay.quality.by_session import watched
from training.replay.quality.clusters import check_cluster, clusters_of
from training.replay.quality.estimates import every_estimate
from training.replay.quality.judge import Judge
from training.replay.report.advise import advise
from training.replay.report.caveats import caveats_of
from training.replay.report.comparisons import Field, set_beside
from training.replay.report.groups import check_group, in_groups
from training.replay.report.result import Result
from training.replay.report.routes import calibration_of, routes_of
from training.replay.report.rows import Over, pairs_of, rows_of
from training.replay.stage import as_asked, as_matrix, set_up

if TYPE_CHECKING:
    from pathlib import Path

    from router.gateway.settings import Settings
    from training.replay.cost.reproduction import Reproduction
    from training.replay.options import Options
    from training.replay.policies.entries import Entry
    from training.replay.stage import Stage


def run(log: Path, options: Options, settings: Settings) -> Result:
    """Answer for one log; BadInput, one line, for what can't be played."""
    started = time.monotonic()
    check(options)
    check_cluster(options.cluster_by)
    check_group(options.group_by)
    parse_cache(options.cache)
    parse_budget(options.budget)
    prices.use(settings.prices)
    check_prices(options.prices)
    asked = Asked(log, parse_specs(options.policies), options, settings)
    with naming_damage(log):
        result = _answered(log, asked)
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _answered(log: Path, asked: Asked) -> Result:
    """The bill, and if it is met everything else."""
    options, settings = asked.options, asked.settings
    named = [name for spec in asked.specs for name in spec.named]
    stage = set_up(log, options, settings, named)
    bills = bills_of(log, stage.worlds)
    worlds = stage.worlds._replace(scale=bills.scale)
    stage = stage._replace(worlds=worlds._replace(factors=factors_of(worlds, bills, stage.reading.unpriced)))
    played = as_matrix(stage)
    met = reproduce(stage.worlds, bills, stage.reading.left_out, known=played.matrix is not None)
    result = _first(log, met, stage)
    if met.ok:
        _told(result, played._replace(worlds=as_asked(played.worlds, options)), asked)
    return result


def _told(result: Result, stage: Stage, asked: Asked) -> None:
    """Play everything, and write down what came of it."""
    options = asked.options
    over = Over(clusters_of(stage.worlds, options.cluster_by), stage.worlds.factors, options, stage.doubts)
    stage = stage._replace(clusters=over.clusters)
    result.clustered_by, result.clusters = over.clusters.by, over.clusters.many
    entries = entries_of(stage, asked)
    judge = stage.judge()
    for entry, said in zip(entries, judged(judge, entries, stage.worlds.n), strict=True):
        entry.quality = said
    base = "logged" if stage.matrix is None else "reference"
    result.policies = rows_of(entries, base, over, stage.worlds.n)
    if options.group_by is not None:
        in_groups(result.policies, entries, stage, options.group_by)
    if options.estimates and isinstance(judge, Judge):
        known = {
            entry.name: (entry.target, entry.quality)
            for entry in entries
            if entry.target is not None and entry.role != "logged"
        }
        told = every_estimate(judge, known)
        for row in result.policies:
            row.estimates = told.get(row.name, [])
    pairs = pairs_of(entries, over)
    today = next(row for row in result.policies if row.name == base)
    set_beside(result.policies, Field.of(result.policies, today, pairs), pairs)
    advice = advise(result.policies, base, pairs)
    result.recommendation, result.advised = advice.sentence, advice.policy
    if advice.policy is not None and _learned(advice.policy, stage):
        result.recommendation += " If its bundle was trained on these rows, that flatters it."
    result.price_version = version_at(options.prices)
    result.caveats = [doubt for spec in asked.specs if (doubt := spec.doubt)]
    result.caveats += left_alone(options.prices, stage.worlds.arms)
    if stage.worlds.factors is not None:
        result.caveats += doubts(stage.worlds.factors, stage.worlds)
    result.caveats += caveats_of(stage, result, options)
    result.frontier = [entry.name for entry in entries if entry.role == "sweep"]
    result.routes = routes_of(stage.worlds, _named(entries, base), _shown(entries, asked))
    result.calibration = calibration_of(stage.worlds)
    # a matrix isn't watched: its sessions are of one candidate
    seen = None if stage.matrix is not None else watched(stage.worlds, over.clusters)
    result.watch = None if seen is None else seen._asdict()


def _learned(policy: str, stage: Stage) -> bool:
    """Whether a bundle, the prior or one's own, chose on rows whose outcomes are known, as training's are."""
    known = stage.matrix is not None or any(part.labels[0].any() for part in stage.evidence)
    return (
        known and policy not in ("logged", "reference") and not policy.startswith(("pin:", "mix:", "cascade"))
    )


def _named(entries: list[Entry], name: str) -> Entry:
    return next(entry for entry in entries if entry.name == name)


def _shown(entries: list[Entry], asked: Asked) -> Entry:
    """The policy whose route is told: the first that was asked for, else the learned one."""
    return _named(entries, asked.specs[0].name if asked.specs else "learned")


def _first(log: Path, check: Reproduction, stage: Stage) -> Result:
    """The reproduction, which stands alone where it fails."""
    names = stage.worlds.arms.names
    free, labels = 0, np.zeros((2, len(names)))
    for part in stage.evidence:
        free += int((~part.bandit.locked).sum())
        labels += part.labels
    return Result(
        log=str(log),
        billed_usd=check.billed_usd,
        recorded_usd=check.recorded_usd,
        replayed_usd=check.replayed_usd,
        relative_error=check.relative_error,
        relative_error_ci=check.relative_error_ci,
        explained_relative_error=check.explained_relative_error,
        counted_relative_error=check.counted_relative_error,
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
        calls_apart=check.calls_apart,
        calls_apart_recorded_usd=check.calls_apart_recorded_usd,
        calls_apart_listed_usd=check.calls_apart_listed_usd,
        free_decisions=free,
        decided=stage.reading.decided,
        labelled=int(labels[0].sum()),
        reference=names[stage.worlds.reference],
        arms=list(names),
        labels_by_arm={n: (float(s / c), int(c)) for n, c, s in zip(names, *labels, strict=True) if c},
        output_tokens_by=stage.lengths,
        price_version=prices.PRICE_VERSION,
    )
