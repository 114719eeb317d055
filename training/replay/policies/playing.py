"""Policies as they are played through all parts of a log, and judged by what they would have answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.logged.parts import Parts
from training.replay.policies.entries import Sums
from training.replay.quality.quoted import Quality

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.replay.cost.budget import Budget
    from training.replay.cost.world import World, Worlds
    from training.replay.policies.entries import Entry, Take
    from training.replay.quality.judge import Judge
    from training.replay.quality.matrix import MatrixJudge

    How = Callable[[World, np.ndarray | None], Take]

UNKNOWN_OF_TWO = "its answer depends on two candidates at once, which a log of single answers doesn't know"


class Play(NamedTuple):
    """A policy to be played: its name, and what it comes to in a part, some calls (n,) being refused."""

    name: str
    how: How
    role: str = "policy"
    said: str | Callable[[], str] | None = None  # what can be said once it has been played is called then


def play_all(worlds: Worlds, plays: Sequence[Play], told: Callable[[], None]) -> list[Entry]:
    """Play policies through all parts, and say after each that it is through."""
    refused = None if worlds.budget is None else _refused(worlds, worlds.budget, plays)
    sums = [Sums(many=worlds.parts.many) for _ in plays]
    for world in worlds.each():
        for i, play in enumerate(plays):
            sums[i].add(play.how(world, None if refused is None else refused[i][world.part]))
            told()
    found = []
    for i, (total, play) in enumerate(zip(sums, plays, strict=True)):
        said = play.said() if callable(play.said) else play.said
        entry = total.entry(play.name, worlds.arms, play.role, said)
        if refused is not None:
            entry.turned_away = refused[i].__getitem__
        found.append(entry)
    return found


def _refused(worlds: Worlds, budget: Budget, plays: Sequence[Play]) -> list[Parts[np.ndarray]]:
    """Which calls of each policy the budget refuses, part by part: it is spent in the order of the log."""
    many = worlds.parts.many
    paid: list[Parts[np.ndarray]] = [Parts(many=many) for _ in plays]
    for world in worlds.each():
        for i, play in enumerate(plays):
            paid[i].add(play.how(world, None).call_usd)
    found = []
    for usd in paid:
        every = list(usd)
        over = budget.refused(np.concatenate(every))
        ends = np.cumsum([len(part) for part in every])
        found.append(Parts(np.split(over, ends[:-1]), many=many))
    return found


def judged(judge: Judge | MatrixJudge, entries: Sequence[Entry], calls: int) -> list[Quality]:
    """Quality of each entry; what it has already, where outcomes gave it that."""
    asked = [e for e in entries if e.target is not None and not e.quality.supported]
    targets = [e.target for e in asked if e.target is not None]
    found = judge.every(targets, [e.total / max(calls, 1) for e in asked])
    answers = {id(entry): said for entry, said in zip(asked, found, strict=True)}
    return [
        entry.quality if entry.quality.supported else answers.get(id(entry), Quality(why=UNKNOWN_OF_TWO))
        for entry in entries
    ]
