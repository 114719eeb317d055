"""What a reader of the answer has to know, in plain words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.cost.world import kept
from training.replay.policies.controls import NEVER
from training.replay.quality.bootstrap import FEWEST
from training.replay.quality.clusters import NOUNS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.replay.cost.world import World, Worlds
    from training.replay.logged.parts import Parts
    from training.replay.logged.receipts import Served
    from training.replay.options import Options
    from training.replay.quality.evidence import Evidence
    from training.replay.report.result import Result
    from training.replay.stage import Stage

SKEWED = 40  # sessions; below, intervals of lognormal costs hold about 91 %


def caveats_of(stage: Stage, result: Result, options: Options) -> Iterator[str]:
    """Lines that hold for this log and this question."""
    yield from _of_receipts(stage.worlds)
    matrix = stage.matrix
    if matrix is not None:
        yield (
            f"this log is an outcome matrix: {matrix.n:,} tasks that every candidate answered, so "
            f"quality is known, not estimated, and savings are beside the reference "
            f"({matrix.dropped:,} tasks that not all answered are left out)"
        )
    else:
        yield from _of_estimates(stage, result)
    if result.row("best_single") is None:
        yield (
            "no best single pin as a control: it is chosen on a held-out half of the sessions, where the "
            "quality of no pin is known; mixes are of cheapest and reference"
        )
    if matrix is None:
        yield "no oracle as a bound: it would take every candidate's answer to each call, the log has one"
    yield "conversations are held as logged: another candidate may have taken more turns, or other ones"
    if matrix is None:
        yield from _of_calls(stage)
    believed = [name for name, how in stage.lengths.items() if how == "the bundle"]
    if believed and matrix is None:
        yield (
            f"how long answers of {_some(believed)} are is believed by the bundle: too few of them are in "
            "the log, shadow answers included, to tell; how far beliefs miss is in their intervals of cost"
        )
    guessed = [name for name, how in stage.lengths.items() if how == "as long as logged"]
    if guessed:
        yield f"answers of {_some(guessed)} are taken as long as the logged ones: nothing says otherwise"
    if not (stage.reading.decided or matrix):
        yield "tool loops are told by the call before, as no receipts of ours are in the log"
    yield from _of_learned(stage, result)
    if options.budget is not None:
        yield (
            "quality is of answered calls only; those that the budget refuses are counted beside it, cost "
            "nothing and save nothing: what refuses more than today isn't advised"
        )
    together, sessions = _at_once(stage), stage.worlds.sessions
    if together and matrix is None:
        yield f"{together:,} of {sessions:,} sessions overlap in time: their caches are kept apart"
    yield from _of_clusters(stage)


def _of_clusters(stage: Stage) -> Iterator[str]:
    """What few clusters do to intervals, and which sessions are in none."""
    assert stage.clusters is not None
    by, _, many, unnamed = stage.clusters
    nouns = NOUNS[by]
    if unnamed:
        yield f"{unnamed:,} of {stage.worlds.sessions:,} sessions name no {by}: each is one of its own"
    if many < 2:
        yield f"one {by}: no interval can be told"
    elif many < FEWEST:
        yield f"{many} {nouns}: {FEWEST} are needed for an interval over {nouns}, so none is told"
    elif many < SKEWED:
        yield f"{many} {nouns}: intervals of cost may miss one time in ten where a few cost the most"


def _of_calls(stage: Stage) -> Iterator[str]:
    """What is known of the calls' caches, and who can't serve them."""
    names, runs, silent = stage.worlds.arms.names, 0, 0
    doubts: Counter[str] = Counter()
    for world in stage.worlds.each():
        doubts.update(world.calls.doubts)
        runs += int(world.calls.run.sum())
        silent += int((world.caches.silent & ~world.calls.run).sum())
    for what, rows in doubts.items():
        yield f"{rows:,} rows tell of {what}: they are played as they stand; see where the log is from"
    if runs:
        yield (
            f"{runs:,} rows sum up whole runs: nothing inside them is simulated, on their own "
            "candidate their counts stand, on others the log's mean share of cached tokens does"
        )
    if silent:
        yield f"{silent:,} calls are of sessions whose log tells of no cache: none is assumed"
    apart = [n for n, share in zip(names, stage.worlds.never, strict=True) if share > NEVER]
    if apart:
        yield f"{_some(apart)} can't serve most calls (another dialect, tools, context): not played alone"


def _of_learned(stage: Stage, result: Result) -> Iterator[str]:
    """What the learned policy was learned from."""
    if stage.bundle.kind == "prior":
        named = ", ".join(source.name for source in stage.bundle.manifest.trained_on)
        yield (
            "the learned policy runs on the prior that ships: nothing was learned from your logs yet; on the "
            f"rows that it was made of ({named}) its figures flatter it"
        )
    elif result.labelled:
        yield "a bundle trained on these very calls is flattered by them: replay later ones (--since)"


def _at_once(stage: Stage) -> int:
    """How many sessions begin before one that began earlier has ended."""
    begun, ended = stage.reading.begun_ms, stage.reading.ended_ms
    order = np.argsort(begun, kind="stable")
    latest = np.maximum.accumulate(ended[order])[:-1]
    return int((begun[order][1:] < latest).sum())


def _of_estimates(stage: Stage, result: Result) -> Iterator[str]:
    seen = _Seen.of(stage.evidence)
    if seen.impossible:
        yield f"{seen.impossible:,} receipts have chances that don't sum to 1: nothing is weighed by them"
    if not seen.told:
        yield (
            f"no {'usable ' if seen.impossible else ''}propensities in the log: cost is told in full, "
            "quality only of what was logged itself and by shadow pairs"
        )
    elif seen.told < seen.free:
        yield f"{seen.free - seen.told:,} of {seen.free:,} free decisions have no propensities"
    names = stage.worlds.arms.names
    answered, labelled = (np.flatnonzero(count) for count in (seen.answered, seen.labelled))
    if not len(labelled):
        yield "no outcomes: nothing is known of quality; run `samediff label`, or post outcomes"
    elif len(labelled) == 1 and len(answered) > 1:
        yield f"outcomes are of {names[int(labelled[0])]} alone: nothing is known of the others"
    if len(answered) == 1:
        yield f"one candidate answered everything ({names[int(answered[0])]})"
    if seen.untold[0]:
        yield (
            f"{seen.untold[0]:,} shadow pairs have no known outcome ({seen.untold[1]:,} of them the same "
            "diff): a diff alone tells no quality, as most right ones differ; tests of those answers "
            'or feedback on them do (outcomes of source "shadow" that name request, candidate and '
            "reference). A share of the same diffs as right answers bounds success from below; that bound "
            "isn't given"
        )
    if seen.lost:
        yield (
            f"{seen.lost:,} shadow pairs don't say how likely they were drawn, from above 0 to 1, "
            "and can't be used"
        )
    if seen.astray:
        yield (
            f"{seen.astray:,} shadow pairs don't say which run asked them (`run` in their detail, its seed "
            "first), where another may have asked the same: how likely they were asked isn't known, and they "
            "can't be used"
        )
    if seen.held:
        yield (
            f"{seen.held:,} decisions were sure (chance 1: a session keeps what it drew) and are in no "
            f"estimate: quality is of the {result.free_decisions:,} that were not; shadow calls tell of more"
        )
    locked = result.calls - result.free_decisions - seen.held
    if locked > 0:
        yield f"{locked:,} of {result.calls:,} calls were locked (a tool loop, bound state): in no estimate"


def _of_receipts(worlds: Worlds) -> Iterator[str]:
    """What receipts tell beside the request, with counts."""
    n, counts = worlds.n, np.zeros(6, dtype=np.int64)
    for world in worlds.parts:
        if world.served is not None:
            counts += _receipt_counts(world, world.served, worlds.able)
    pinned, free, offsets, foreign, retried, broken = counts.tolist()
    if pinned:
        yield (
            f"{pinned:,} of {n:,} calls named their model: no served policy moves these, so here they stay; "
            "--as-auto plays them as if they had asked for auto"
        )
    if free:
        yield f"{free:,} of {n:,} calls named their model, and are played as if they had asked for auto"
    if foreign:
        yield f"{foreign:,} calls were served with a repository's offset of another bundle: not applied"
    if offsets:
        yield f"{offsets:,} calls are decided with their repository's offset as it was served"
    if retried or broken:
        yield (
            f"how often answers break off (known of {retried:,} calls) or call tools in vain ({broken:,}) is "
            "as it was seen along the logged route"
        )


def _receipt_counts(world: World, told: Served, able: np.ndarray | None) -> np.ndarray:
    """Calls (6,): pins held and not, offsets of this bundle and not, and what is known of their answers."""
    stay = kept(world, told, able)
    which = (
        *(stay, told.pinned & ~stay, np.isfinite(told.log_odds) & ~told.foreign, told.foreign),
        *(np.isfinite(told.retry).any(axis=1), (np.nan_to_num(told.broken) > 0).any(axis=1)),
    )
    return np.array([int(one.sum()) for one in which])


class _Seen(NamedTuple):
    """What there is of evidence in all parts."""

    free: int
    told: int  # of these with chances
    held: int
    lost: int  # pairs without a chance
    astray: int  # pairs with one, but of no known sample
    impossible: int  # receipts whose chances don't sum to 1
    paired: bool
    untold: np.ndarray  # (2,) pairs without a known outcome, those of the same diff
    answered: np.ndarray  # (k,) calls
    labelled: np.ndarray  # (k,) free decisions with an outcome

    @classmethod
    def of(cls, evidence: Parts[Evidence]) -> _Seen:
        found = [cls._of_part(part) for part in evidence]
        return cls(*(sum(column[1:], column[0]) for column in zip(*found, strict=True)))

    @classmethod
    def _of_part(cls, part: Evidence) -> _Seen:
        log, free, k = part.bandit, ~part.bandit.locked, len(part.bandit.arms)
        told = np.isfinite(log.propensity).all(axis=1) & free
        known = np.isfinite(log.reward) & free
        return cls(
            int(free.sum()),
            int(told.sum()),
            0 if part.held is None else int(part.held.sum()),
            part.pairs_without_chance,
            part.astray,
            part.impossible,
            log.paired is not None,
            np.zeros(2, dtype=int) if part.untold is None else part.untold,
            np.bincount(log.action, minlength=k),
            np.bincount(log.action[known], minlength=k),
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
