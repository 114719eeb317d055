"""The truth of a made-up team: how often each arm succeeds, at which kind of task, and luck."""

from __future__ import annotations

import msgspec
import numpy as np

from features.errors import BadInput
from training.calibrate import logit, sigmoid

KINDS = ("fix", "test", "refactor", "explain", "feature")
# From strong and dear to weak and cheap; success at the mean of all kinds.
ARMS: dict[str, float] = {
    "claude-opus-4-6": 0.90,
    "claude-sonnet-4-6": 0.87,
    "gpt-5-codex": 0.86,
    "gpt-5-mini": 0.78,
    "claude-haiku-4-5": 0.74,
}


class World(msgspec.Struct, frozen=True, kw_only=True):
    """How a made-up team's requests come out. Spreads are standard deviations in log-odds."""

    arms: dict[str, float] = msgspec.field(
        default_factory=ARMS.copy
    )  # mean success of each, the first being the reference
    kinds: tuple[str, ...] = KINDS
    kind_spread: float = 0.8  # between kinds, for all arms alike
    cell_spread: float = 0.5  # of an arm at a kind
    request_spread: float = 1.2  # between requests of a kind, for all arms alike: what no table can know
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


def cells(world: World) -> np.ndarray:
    """Log-odds (k, kinds) of each arm at each kind, a typical request in a typical repository."""
    rng = np.random.default_rng([world.seed, 1])
    means = logit(np.array(list(world.arms.values())))
    kind = rng.normal(0, world.kind_spread, len(world.kinds))
    odds: np.ndarray = (
        means[:, None] + kind[None, :] + rng.normal(0, world.cell_spread, (len(means), len(kind)))
    )
    return odds


def success(world: World, kind: np.ndarray, repo: np.ndarray, age: np.ndarray, seed: int) -> np.ndarray:
    """True P(success) (n, k) of requests of kinds and repositories (n,), at `age` (n,) in 0..1 of the log."""
    n = len(kind)
    rng = np.random.default_rng([world.seed, 2, seed])
    of_repo = np.random.default_rng([world.seed, 3]).normal(0, world.repo_spread, world.repos)
    odds = cells(world)[:, kind].T + of_repo[repo][:, None] + rng.normal(0, world.request_spread, n)[:, None]
    odds[:, 1:] += world.drift * age[:, None]
    p: np.ndarray = sigmoid(odds)
    return p
