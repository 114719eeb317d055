"""What a log can prove: the half-width of the estimate by its size, its exploration, agreement and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from training.estimators.bandit import Bandit
from training.estimators.estimate import estimate
from training.estimators.model import table_model
from training.simulate.world import Asks, World, success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

SIZES = (2_000, 20_000, 200_000)
EPSILONS = (0.0, 0.02, 0.1, 0.3)
AGREEMENTS = (0.1, 0.5, 0.9)
PAIRS = (0.0, 0.02)


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """One size of log. `half_width` is the median over the runs that had an answer; null where none had."""

    decisions: int
    epsilon: float
    agreement: float  # of what the target would do with what the logger would
    pairs: float  # share of decisions asked again of all arms
    half_width: float | None
    ess: float
    refused: float  # share of runs
    why: str | None = None


def power(
    world: World,
    sizes: Sequence[int] = SIZES,
    *,
    runs: int = 5,
    session: int = 1,
    told: Callable[[int, int], None] | None = None,
) -> list[Power]:
    """Half-widths over the grid of sizes, epsilons, agreements and shares of pairs; `told` hears i of n."""
    grid = [(n, e, a, p) for n in sizes for e in EPSILONS for a in AGREEMENTS for p in PAIRS]
    found = []
    for i, at in enumerate(grid):
        found.append(_one(world, at, runs, session))
        if told is not None:
            told(i + 1, len(grid))
    return found


def _one(world: World, at: tuple[int, float, float, float], runs: int, session: int) -> Power:
    decisions, epsilon, agreement, pairs = at
    answers = []
    for run in range(runs):
        log, target, kind = bandit(world, at, session=session, seed=run)
        answers.append(estimate(log, target, table_model(log, kind), seed=run))
    widths = [
        (a.quality.quality_ci[1] - a.quality.quality_ci[0]) / 2
        for a in answers
        if a.quality is not None and a.quality.quality_ci is not None
    ]
    return Power(
        decisions=decisions,
        epsilon=epsilon,
        agreement=agreement,
        pairs=pairs,
        half_width=float(np.median(widths)) if widths else None,
        ess=float(np.median([a.support.ess for a in answers])),
        refused=1 - len(widths) / runs,
        why=next((a.refused for a in answers if a.refused), None),
    )


def bandit(
    world: World, at: tuple[int, float, float, float], *, session: int, seed: int
) -> tuple[Bandit, np.ndarray, np.ndarray]:
    """A log of free decisions, a target (n, k), and kinds (n,): (decisions, epsilon, agreement, pairs)."""
    n, epsilon, agreement, pairs = at
    rng = np.random.default_rng([world.seed, 4, seed, n])
    k = len(world.arms)
    sessions = -(-n // session)
    kind = np.repeat(rng.integers(0, len(world.kinds), sessions), session)[:n]
    repo = np.repeat(rng.integers(0, world.repos, sessions), session)[:n]
    p = success(world, Asks(kind, repo, np.arange(n) / n, rng.normal(size=n)), seed)
    greedy = kind % k
    other = (greedy + 1 + rng.integers(0, k - 1, n)) % k
    wanted = np.where(rng.random(n) < agreement, greedy, other)
    chances = np.full((n, k), epsilon / k)
    chances[np.arange(n), greedy] += 1 - epsilon
    action = np.where(rng.random(n) < epsilon, rng.integers(0, k, n), greedy)
    answers = (rng.random((n, k)) < p).astype(float)
    asked = rng.random(n) < pairs
    paired = np.where(asked[:, None], answers, np.nan)
    paired[np.arange(n), action] = np.nan
    log = Bandit(
        tuple(world.arms),
        action,
        answers[np.arange(n), action],
        chances,
        np.repeat(np.arange(sessions), session)[:n],
        np.zeros(n, dtype=bool),
        paired if pairs else None,
        np.full((n, k), pairs) if pairs else None,
    )
    return log, np.eye(k)[wanted], kind


def render(found: Sequence[Power]) -> Iterator[RenderableType]:
    """One table for each size of log."""
    from rich.table import Table

    for size in dict.fromkeys(f.decisions for f in found):
        table = Table(title=f"{size:,} decisions: 95 % half-width in points, by exploration and agreement")
        table.add_column("epsilon", justify="right")
        mine = [f for f in found if f.decisions == size]
        columns = list(dict.fromkeys((f.agreement, f.pairs) for f in mine))
        for agreement, pairs in columns:
            beside = f", {pairs:.0%} pairs" if pairs else ""
            table.add_column(f"agrees {agreement:.0%}{beside}", justify="right")
        for epsilon in dict.fromkeys(f.epsilon for f in mine):
            row = {(f.agreement, f.pairs): f for f in mine if f.epsilon == epsilon}
            table.add_row(f"{epsilon:g}", *(_said(row[c]) for c in columns))
        yield table
    yield "refused: the log holds too little of that policy; see --json for why"


def _said(found: Power) -> str:
    return "refused" if found.half_width is None else f"±{100 * found.half_width:.1f}"
