"""Policies on an outcome matrix, exact as each answer's cost and outcome are known: all, oracle, cascade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.replay.policies.entries import Entry

if TYPE_CHECKING:
    from training.replay.cost.world import World
    from training.replay.quality.matrix import Matrix, MatrixJudge
    from training.replay.quality.quoted import Quality

PARTS = ("fresh", "cached", "written", "output", "cold")


def logged(world: World, matrix: Matrix, judge: MatrixJudge) -> Entry:
    """All that was asked, of every candidate, as it was billed."""
    assert world.known is not None
    usd = np.nansum(world.known, axis=1)
    share = {name: 1.0 for name, there in zip(world.arms.names, matrix.arms, strict=True) if there}
    count = sum(share.values())
    return Entry(
        name="logged",
        usd=usd,
        parts=dict.fromkeys(PARTS, 0.0) | {"output": float(usd.sum())},
        share={name: part / count for name, part in share.items()},
        role="logged",
        said="every task by every candidate",
        quality=judge.quoted(np.nanmean(judge.reward, axis=1)),
    )


def oracle(world: World, judge: MatrixJudge) -> Entry:
    """The best outcome of each task at its least cost: a bound that no policy reaches."""
    assert world.known is not None
    best = np.nanmax(judge.reward, axis=1)
    right = judge.reward == best[:, None]
    route = np.nanargmin(np.where(right, world.known, np.inf), axis=1)
    usd = world.known[np.arange(len(route)), route]
    calls = np.bincount(route, minlength=len(world.arms.arms)) / len(route)
    return Entry(
        name="oracle",
        usd=usd,
        parts=dict.fromkeys(PARTS, 0.0) | {"output": float(usd.sum())},
        share={n: float(part) for n, part in zip(world.arms.names, calls, strict=True) if part},
        target=lambda _: route,
        role="bound",
        said="the cheapest of those that did best on each task; nobody can know it beforehand",
    )


def cascaded(judge: MatrixJudge, pair: tuple[int, int], noise: float) -> tuple[Quality, np.ndarray]:
    """Quality of a checked first answer, else the second's; and how often (T,) the second is asked."""
    first, second = (np.nan_to_num(judge.reward[:, arm]) for arm in pair)
    asked = first * noise + (1 - first) * (1 - noise)
    kept = first * (1 - noise)
    return judge.quoted(kept + asked * second), asked
