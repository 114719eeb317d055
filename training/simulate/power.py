"""What a log can prove: the half-width of the estimate by its size, its exploration, agreement and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from training.estimators.bandit import Bandit
from training.estimators.estimate import estimate
from training.estimators.model import table_model
from training.simulate.world import Asks, World, success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from training.simulate.traffic import Traffic

SIZES = (2_000, 20_000, 200_000)
EPSILONS = (0.0, 0.02, 0.1, 0.3)
AGREEMENTS = (0.1, 0.5, 0.9)
MANY = 20  # runs from which on their spread is worth showing
_Z = 1.959964


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """One size of log. `half_width` is the median over the runs that had an answer; null where none had."""

    decisions: int
    calls: int  # of a log with so many free decisions
    epsilon: float
    agreement: float  # of what the target would do with what the logger would
    pairs: float  # share of decisions asked again of all arms
    half_width: float | None
    seen: float | None  # 1.96 standard deviations of the estimates; null of fewer than MANY of them
    ess: float
    refused: float  # share of runs
    why: str | None = None


class Cell(NamedTuple):
    """What a log is like, and a target."""

    decisions: int
    epsilon: float  # chance that any arm is tried instead of the kind's own
    agreement: float
    pairs: float


def power(
    world: World,
    traffic: Traffic,
    sizes: Sequence[int] = SIZES,
    *,
    runs: int = 5,
    session: int = 1,
    told: Callable[[int, int], None] | None = None,
) -> list[Power]:
    """Half-widths over sizes, epsilons and agreements, without and with pairs; `told` hears i of n."""
    shares = sorted({0.0, traffic.pairs})
    grid = [Cell(n, e, a, p) for n in sizes for e in EPSILONS for a in AGREEMENTS for p in shares]
    found = []
    for i, cell in enumerate(grid):
        found.append(of_cell(world, traffic, cell, runs=runs, session=session))
        if told is not None:
            told(i + 1, len(grid))
    return found


def of_cell(world: World, traffic: Traffic, cell: Cell, *, runs: int, session: int) -> Power:
    """What so many logs of one kind come to."""
    answers = []
    for run in range(runs):
        log, target, kind = bandit(world, traffic, cell, session=session, seed=run)
        answers.append(estimate(log, target, table_model(log, kind), seed=run))
    quoted = [q for a in answers if (q := a.quality) is not None and q.quality_ci is not None]
    widths = [(q.quality_ci[1] - q.quality_ci[0]) / 2 for q in quoted if q.quality_ci is not None]
    values = [q.quality for q in quoted if q.quality is not None]
    spread = float(np.std(values, ddof=1)) if len(values) >= MANY else None
    return Power(
        decisions=cell.decisions,
        calls=round(cell.decisions * traffic.turns),
        epsilon=cell.epsilon,
        agreement=cell.agreement,
        pairs=cell.pairs,
        half_width=float(np.median(widths)) if widths else None,
        seen=None if spread is None else _Z * spread,
        ess=float(np.median([a.support.ess for a in answers])),
        refused=1 - len(widths) / runs,
        why=next((a.refused for a in answers if a.refused), None),
    )


def bandit(
    world: World, traffic: Traffic, cell: Cell, *, session: int, seed: int
) -> tuple[Bandit, np.ndarray, np.ndarray]:
    """A log of free decisions, a target (n, k), and kinds (n,). Outcomes are told as `traffic` has it."""
    n = cell.decisions
    rng = np.random.default_rng([world.seed, 4, seed, n])
    k = len(world.arms)
    sessions = -(-n // session)
    kind = np.repeat(rng.integers(0, len(world.kinds), sessions), session)[:n]
    repo = np.repeat(rng.integers(0, world.repos, sessions), session)[:n]
    p = success(world, Asks(kind, repo, np.arange(n) / n, rng.normal(size=n)), seed)
    greedy = kind % k
    other = (greedy + 1 + rng.integers(0, k - 1, n)) % k
    wanted = np.where(rng.random(n) < cell.agreement, greedy, other)
    chances = np.full((n, k), cell.epsilon / k)
    chances[np.arange(n), greedy] += 1 - cell.epsilon
    action = np.where(rng.random(n) < cell.epsilon, rng.integers(0, k, n), greedy)
    good = rng.random((n, k)) < p
    asked = rng.random(n) < cell.pairs
    answers = (good != (rng.random((n, k)) < traffic.noise)).astype(float)
    paired = np.where(asked[:, None], answers, np.nan)
    paired[np.arange(n), action] = np.nan
    hushed = ~good[np.arange(n), action] & (rng.random(n) < traffic.silent_failures)
    heard = (rng.random(n) < traffic.labelled) & ~hushed
    silent = np.isfinite(paired) & (rng.random((n, k)) >= traffic.pairs_tested)
    paired[silent] = np.nan
    log = Bandit(
        tuple(world.arms),
        action,
        np.where(heard, answers[np.arange(n), action], np.nan),
        chances,
        np.repeat(np.arange(sessions), session)[:n],
        np.zeros(n, dtype=bool),
        paired if cell.pairs else None,
        np.full((n, k), cell.pairs) if cell.pairs else None,
        silent=silent if cell.pairs else None,
    )
    return log, np.eye(k)[wanted], kind


def render(found: Sequence[Power], traffic: Traffic) -> Iterator[RenderableType]:
    """One table for each size of log, and what its words mean."""
    from rich.table import Table

    for size in dict.fromkeys(f.decisions for f in found):
        mine = [f for f in found if f.decisions == size]
        calls = f"{size:,} free decisions, as of about {mine[0].calls:,} calls"
        table = Table(title=f"{calls}: 95 % half-width in points")
        table.add_column("explores", justify="right")
        columns = list(dict.fromkeys((f.agreement, f.pairs) for f in mine))
        for agreement, pairs in columns:
            beside = f", {pairs:.0%} pairs" if pairs else ""
            table.add_column(f"agrees {agreement:.0%}{beside}", justify="right")
        for epsilon in dict.fromkeys(f.epsilon for f in mine):
            row = {(f.agreement, f.pairs): f for f in mine if f.epsilon == epsilon}
            table.add_row(f"{epsilon:.0%}", *(_said(row[c]) for c in columns))
        yield table
    yield "explores: chance that the router tries any arm (its `explore=`)"
    yield "agrees: how often the policy asked about does what the router would"
    tested = f"{traffic.pairs_tested:.0%} of these answers are tested"
    yield f"pairs: share of the decisions that all other arms are asked, too; {tested}"
    yield f"free decisions: the first call of each ask; of its {traffic.turns:g} calls the rest are locked"
    yield f"the outcomes of {traffic.labelled:.0%} are told, {traffic.noise:.0%} of them wrongly"
    if traffic.silent_failures:
        hushed = f"{traffic.silent_failures:.0%} of the failures are hushed up"
        yield f"{hushed}: a bias, which no half-width shows"
    if any(f.seen is not None for f in found):
        yield "in brackets: 1.96 times the spread of the estimates over the runs, which is what it should be"
    yield "refused: the log holds too little of that policy; see --json for why"


def _said(found: Power) -> str:
    if found.half_width is None:
        return "refused"
    seen = "" if found.seen is None else f" ({100 * found.seen:.1f})"
    return f"±{100 * found.half_width:.1f}{seen}"
