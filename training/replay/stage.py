"""A replay's stage: a log, its candidates, prices, caches and beliefs, set up as the log itself had them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from models.bundle import Bundle
from router.catalog import Catalog
from router.offline import bundle_folder
from training.progress import track
from training.replay.cost.bills import billed_calls
from training.replay.cost.budget import budget_of
from training.replay.cost.caches import Tally, caches_of, fare_of, tally_of
from training.replay.cost.pricing import clock_of, priced_at
from training.replay.cost.rates import listed, own_rates, rates_of
from training.replay.cost.world import World, Worlds, of_parts
from training.replay.logged import lengths
from training.replay.logged.arms import Arms, arms_of, barred, excluded, spoken
from training.replay.logged.beliefs import beliefs_of
from training.replay.logged.parts import Parts
from training.replay.logged.plan import plan
from training.replay.logged.receipts import moved, read_served
from training.replay.quality.evidence import Evidence, evidence_of, held_by, reference_of, was_drawn
from training.replay.quality.judge import Judge
from training.replay.quality.matrix import Matrix, MatrixJudge, matrix_of, staged
from training.replay.quality.samples import samples_of
from training.replay.reading import Reading, read_log

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from router.gateway.settings import Settings
    from training.replay.logged.lengths import Sizes
    from training.replay.options import Options
    from training.replay.quality.clusters import Clusters


class Stage(NamedTuple):
    """Worlds with what they were made of."""

    reading: Reading
    worlds: Worlds
    catalog: Catalog
    bundle: Bundle
    evidence: Parts[Evidence]
    barred: np.ndarray
    lengths: dict[str, str]
    doubts: np.ndarray  # (k,) relative errors of these lengths
    matrix: Matrix | None = None
    clusters: Clusters | None = None  # that intervals are over; None: sessions

    @property
    def exact(self) -> bool:
        """Whether what each answer cost, and how good it was, is told by the log."""
        return self.matrix is not None and self.worlds.at(0).known is not None

    def judge(self, sessions: np.ndarray | None = None) -> Judge | MatrixJudge:
        """Who tells quality in these sessions (S,) bool, or in all: by the outcomes where all are known."""
        groups = None if self.clusters is None else self.clusters.code
        if self.matrix is None:
            return Judge(self.evidence, sessions, groups)
        return MatrixJudge(self.matrix, self.worlds.at(0).reference, sessions, groups)


class _Sums(NamedTuple):
    """What is known of the whole log once all parts have been looked at."""

    sizes: Sizes
    tally: Tally
    usd: np.ndarray  # (k,) by list price, of what each arm answered
    drawn: bool


def set_up(log: Path, options: Options, settings: Settings, named: Iterable[str] = ()) -> Stage:
    """Read the log and set up its worlds at its own prices and caches; `named` candidates are arms, too."""
    catalog = Catalog.load(settings.catalog)
    bundle = Bundle.load(bundle_folder(settings))
    reading = read_log(log, plan(log, options), (catalog, bundle, options))
    arms = arms_of(reading.census, catalog, bundle, options, tuple(dict.fromkeys([*reading.named, *named])))
    evidence, sums = _looked_at(reading, arms)
    if sums.drawn:
        evidence = evidence.map(held_by)
    worlds: Parts[World] = Parts(many=reading.calls.many)
    receipts = bundle.digest, tuple(catalog.aliases)
    how = np.zeros((len(arms.arms), len(lengths.HOW)), dtype=np.int64)
    for part in track(range(len(reading.calls)), "beliefs", len(reading.calls)):
        world, said = _world(reading, part, (arms, sums), (bundle, options), receipts)
        worlds.add(world)
        how += said
    doubts = lengths.doubts_of(sums.sizes, (world.beliefs for world in worlds))
    gone = barred(arms, options)
    return Stage(
        reading, of_parts(worlds, arms), catalog, bundle, evidence, gone, lengths.in_words(how, arms), doubts
    )


def _looked_at(reading: Reading, arms: Arms) -> tuple[Parts[Evidence], _Sums]:
    """The evidence of each part, and the sums over all of them."""
    evidence: Parts[Evidence] = Parts(many=reading.calls.many)
    samples, answers = samples_of(reading.slices[0].log), lengths.answers_of(reading.slices[0].log)
    found: _Sums | None = None
    for at, calls in enumerate(reading.calls):
        mine = arms.of(calls)
        told = evidence_of(
            reading.slices[at], calls, mine, reading.receipts[at], reading.types, samples=samples
        )
        evidence.add(told)
        usd = np.nan_to_num(listed(calls, own_rates(calls)))
        own = _Sums(
            lengths.with_shadows(lengths.sizes_of(calls, mine, reading.types), calls, mine, answers),
            tally_of(calls, mine, caches_of(calls, mine, reading.kinds)),
            np.bincount(mine.logged, weights=usd, minlength=len(arms.arms)),
            was_drawn(told),
        )
        found = (
            own
            if found is None
            else _Sums(
                found.sizes.plus(own.sizes),
                found.tally.plus(own.tally),
                found.usd + own.usd,
                found.drawn or own.drawn,
            )
        )
    assert found is not None
    return evidence, found


def _world(
    reading: Reading,
    part: int,
    known: tuple[Arms, _Sums],
    about: tuple[Bundle, Options],
    receipts: tuple[str, tuple[str, ...]],
) -> tuple[World, np.ndarray]:
    """One part's world, and by what the lengths of its answers were told (k, 4)."""
    (arms, sums), (bundle, options) = known, about
    calls, slice_ = reading.calls[part], reading.slices[part]
    mine = arms.of(calls)
    tokens = lengths.prompts(calls, mine, sums.sizes)
    served = read_served(slice_, calls, mine, receipts) if len(reading.receipts[part].frame) else None
    beliefs = moved(beliefs_of(slice_.requests, calls, mine, bundle), served)
    output, how = lengths.lengths_of(calls, mine, beliefs, sums.sizes, own_bundle=bundle.kind == "trained")
    caches = caches_of(calls, mine, reading.kinds)
    world = World(
        calls=calls,
        arms=mine,
        tokens=tokens,
        output=output,
        rates=rates_of(calls, mine, tokens),
        ahead=rates_of(calls, mine, lengths.lengths_ahead(tokens, beliefs)),
        caches=caches,
        fares=fare_of(sums.tally, caches.rules),
        beliefs=beliefs,
        excluded=excluded(calls, mine, tokens) | spoken(calls, mine),
        reference=reference_of(
            calls, mine, reading.receipts[part], options.reference, int(sums.usd.argmax())
        ),
        draw=_draws(calls.frame["request_id"].to_list()),
        scale=np.ones(calls.sessions),
        part=part,
        served=served,
    )
    return world, how


def _draws(ids: list[str]) -> np.ndarray:
    """The number in 0..1 that a decision on each request id draws, as served."""
    import xxhash

    return np.array([(xxhash.xxh3_64_intdigest(i.encode()) >> 1) / 2**63 for i in ids])


def as_matrix(stage: Stage) -> Stage:
    """The stage of an outcome matrix, if the log is one, which is billed as its sessions are scaled."""
    if len(stage.worlds.parts) > 1:
        return stage
    world = stage.worlds.at(0)
    matrix = matrix_of(world.calls, world.arms, billed_calls(world))
    if matrix is None:
        return stage
    worlds = of_parts(Parts([staged(world._replace(served=None), matrix)]), stage.worlds.arms)
    return stage._replace(worlds=worlds, matrix=matrix, barred=stage.barred | ~matrix.arms)


def as_asked(worlds: Worlds, options: Options) -> Worlds:
    """The worlds as the question has them: other prices, other caches, candidates gone."""
    gone = barred(worlds.arms, options)
    references = {int(arm) for world in worlds.each() for arm in np.unique(world.reference)}
    if any(gone[arm] for arm in references):
        raise BadInput("--without takes the reference away: name another one with --reference")
    budget = budget_of(options.budget, (world.calls for world in worlds.each()))
    changes = gone.any() or options.cache != "on" or options.prices is not None
    if changes:
        with priced_at(options.prices):
            worlds = worlds.changed(lambda world: _asked(world, options, gone))
    return worlds._replace(budget=budget, able=None if options.as_auto else ~gone)


def _asked(world: World, options: Options, gone: np.ndarray) -> World:
    world = world._replace(excluded=world.excluded | gone[None, :])
    if options.cache != "on":
        world = world._replace(caches=caches_of(world.calls, world.arms, world.caches.kinds, options.cache))
    if options.prices is not None:
        clock = clock_of(options.prices)
        ahead = lengths.lengths_ahead(world.tokens, world.beliefs)
        rates = (rates_of(world.calls, world.arms, sizes, clock) for sizes in (world.tokens, ahead))
        world = world._replace(rates=next(rates), ahead=next(rates), known=None)
    return world
