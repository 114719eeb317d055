"""What a reader of the answer has to know, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.replay.controls import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.replay.options import Options
    from training.replay.result import Result
    from training.replay.stage import Stage


def caveats_of(stage: Stage, result: Result, options: Options) -> Iterator[str]:
    """Lines that hold for this log and this question."""
    matrix = stage.matrix
    if matrix is not None:
        yield (
            f"this log is an outcome matrix: {matrix.n:,} tasks that every candidate answered, so "
            f"quality is known, not estimated, and savings are beside the reference "
            f"({matrix.dropped:,} tasks that not all answered are left out)"
        )
    else:
        yield from _of_estimates(stage, result)
    yield "conversations are held as logged: another candidate may have taken more turns, or other ones"
    if matrix is None:
        yield from _of_calls(stage)
    guessed = [name for name, how in stage.lengths.items() if how == "as long as logged"]
    if guessed:
        yield f"answers of {_some(guessed)} are taken as long as the logged ones: nothing says otherwise"
    if not (stage.decisions.frame.height or matrix):
        yield "tool loops are told by the call before, as no receipts of ours are in the log"
    yield from _of_learned(stage, result)
    if options.budget is not None:
        yield (
            "quality is of answered calls only; those that the budget refuses are counted beside it, cost "
            "nothing and save nothing: what refuses more than today isn't advised"
        )
    book, together = stage.world.book, _at_once(stage)
    if together and matrix is None:
        yield f"{together:,} of {book.sessions:,} sessions overlap in time: their caches are kept apart"
    if len(book.starts) - 1 < 2:
        yield "one session: no interval can be told"


def _of_calls(stage: Stage) -> Iterator[str]:
    """What is known of the calls' caches, and who can't serve them."""
    book, names = stage.world.book, stage.world.arms.names
    if book.run.any():
        yield (
            f"{int(book.run.sum()):,} rows sum up whole runs: nothing inside them is simulated, on their own "
            "candidate their counts stand, on others the log's mean share of cached tokens does"
        )
    silent = stage.world.caches.silent & ~book.run
    if silent.any():
        yield f"{int(silent.sum()):,} calls are of sessions whose log tells of no cache: none is assumed"
    apart = [n for n, share in zip(names, stage.world.excluded.mean(axis=0), strict=True) if share > NEVER]
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
    book = stage.world.book
    begun, ended = book.ts_ms[book.starts[:-1]], book.ts_ms[book.starts[1:] - 1]
    order = np.argsort(begun, kind="stable")
    latest = np.maximum.accumulate(ended[order])[:-1]
    return int((begun[order][1:] < latest).sum())


def _of_estimates(stage: Stage, result: Result) -> Iterator[str]:
    bandit = stage.evidence.bandit
    free = ~bandit.locked
    told = np.isfinite(bandit.propensity).all(axis=1) & free
    if not told.any():
        yield (
            "no propensities in the log: cost is told in full, quality only of what was logged itself and by "
            "shadow pairs"
        )
    elif told.sum() < free.sum():
        yield f"{int(free.sum() - told.sum()):,} of {int(free.sum()):,} free decisions have no propensities"
    known = np.isfinite(bandit.reward) & free
    if not known.any():
        yield "no outcomes: nothing is known of quality; run `samediff label`, or post outcomes"
    else:
        arms = np.unique(bandit.action[known])
        if len(arms) == 1 and len(np.unique(bandit.action)) > 1:
            yield f"outcomes are of {bandit.arms[int(arms[0])]} alone: nothing is known of the others"
    if len(np.unique(bandit.action)) == 1:
        yield f"one candidate answered everything ({bandit.arms[int(bandit.action[0])]})"
    if bandit.paired is None and stage.evidence.pairs_without_chance:
        lost = stage.evidence.pairs_without_chance
        yield f"{lost:,} shadow pairs don't say how likely they were drawn, and can't be used"
    held = stage.evidence.held
    if held:
        yield (
            f"{held:,} decisions were sure (chance 1: a session keeps what it drew) and are in no estimate: "
            f"quality is of the {result.free_decisions:,} that were not; shadow calls tell of more"
        )
    locked = result.calls - result.free_decisions - held
    if locked > 0:
        yield f"{locked:,} of {result.calls:,} calls were locked (a tool loop, bound state): in no estimate"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
