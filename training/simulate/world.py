"""The truth of a made-up team: how often each arm succeeds, at which kind of task, and luck."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from features.errors import BadInput
from training.calibrate import logit, sigmoid

# Task types, by the names that the prior knows them.
KINDS = ("bug_fixing", "test_generation", "code_refactoring", "data_science", "code_generation")
# From strong and dear to weak and cheap; success at the mean of all kinds. These five are what the alias
# `auto-prior` of the catalogue can call in the dialect of the made-up clients.
ARMS: dict[str, float] = {
    "claude-opus-4-6": 0.90,
    "claude-sonnet-4-6": 0.87,
    "kimi-k2.5": 0.82,
    "glm-5": 0.79,
    "minimax-m2.7": 0.74,
}
_MOST_DRIFT = 20


class World(msgspec.Struct, frozen=True, kw_only=True):
    """How a made-up team's requests come out. Spreads are standard deviations in log-odds."""

    arms: dict[str, float] = msgspec.field(
        default_factory=ARMS.copy
    )  # mean success of each, the first being the reference
    kinds: tuple[str, ...] = KINDS
    kind_spread: float = 0.8  # between kinds, for all arms alike
    cell_spread: float = 0.5  # of an arm at a kind
    size_spread: float = 0.4  # by the length of what is asked, for all arms alike: the longer, the harder
    request_spread: float = 1.2  # between requests of a kind, for all arms alike: what nothing foretells
    repo_spread: float = 0.4  # between repositories, for all arms alike
    repos: int = 8
    drift: float = 0.0  # log-odds that the arms but the reference gain over the log's whole time
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a world that can't be."""
        if len(self.arms) < 2:
            raise BadInput("a world needs two arms at least: --arms NAME=0.9,NAME=0.8")
        off = [name for name, mean in self.arms.items() if not 0 < mean < 1]
        if off:
            raise BadInput(f"arm {off[0]}: its mean success must lie between 0 and 1")
        if not abs(self.drift) <= _MOST_DRIFT:
            raise BadInput(f"drift is in log-odds, from -{_MOST_DRIFT} to {_MOST_DRIFT}")
        if self.repos < 1 or self.seed < 0:
            raise BadInput("a world needs one repository at least, and a seed of 0 or more")


class Asks(NamedTuple):
    """What is asked, n times."""

    kind: np.ndarray  # (n,) int
    repo: np.ndarray  # (n,) int
    age: np.ndarray  # (n,) in 0..1 of the log
    size: np.ndarray  # (n,) length, in standard deviations of its logarithm


def cells(world: World) -> np.ndarray:
    """Log-odds (k, kinds) of each arm at each kind, a typical request in a typical repository."""
    rng = np.random.default_rng([world.seed, 1])
    means = logit(np.array(list(world.arms.values())))
    kind = rng.normal(0, world.kind_spread, len(world.kinds))
    odds: np.ndarray = (
        means[:, None] + kind[None, :] + rng.normal(0, world.cell_spread, (len(means), len(kind)))
    )
    return odds


def success(world: World, asks: Asks, seed: int) -> np.ndarray:
    """True P(success) (n, k) of what is asked; another seed is other luck."""
    n = len(asks.kind)
    rng = np.random.default_rng([world.seed, 2, seed])
    of_repo = np.random.default_rng([world.seed, 3]).normal(0, world.repo_spread, world.repos)
    shared = of_repo[asks.repo] - world.size_spread * asks.size + rng.normal(0, world.request_spread, n)
    odds = cells(world)[:, asks.kind].T + shared[:, None]
    odds[:, 1:] += world.drift * asks.age[:, None]
    p: np.ndarray = sigmoid(odds)
    return p
