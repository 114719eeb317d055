"""A log that is an outcome matrix: every task answered by every candidate, so that nothing need be estimated.

A task then is one decision whose cost and outcome are known for every arm; always-X and the oracle are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from training.estimators.estimate import interval
from training.replay.quality.bootstrap import FEWEST
from training.replay.quality.differences import Scores
from training.replay.quality.quoted import Quality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.cost.world import World
    from training.replay.logged.arms import Arms
    from training.replay.logged.calls import Calls
    from training.replay.quality.judge import Target

MIN_TASKS = 20
COVERED = 0.95  # of the tasks, by a candidate, to be compared on all of them


class Matrix(NamedTuple):
    """T tasks that all of k' arms answered: rows (T, k) of the log, -1 for arms left out."""

    cells: np.ndarray
    arms: np.ndarray  # (k,) bool: those compared
    usd: np.ndarray  # (T, k) recorded, else by the price table; NaN for arms left out
    reward: np.ndarray  # (T, k)
    dropped: int  # tasks that not all of them answered

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.cells)

    @property
    def rows(self) -> np.ndarray:
        """A row (T,) of the log for each task: they ask the same."""
        first: np.ndarray = self.cells[:, int(self.arms.argmax())]
        return first


def matrix_of(calls: Calls, arms: Arms, usd: np.ndarray) -> Matrix | None:
    """See whether a log is an outcome matrix; `usd` (n,) is what each row cost, None where it is none."""
    tasks = calls.frame["task_id"]
    if tasks.null_count() or calls.sessions != calls.n or not np.isfinite(calls.reward).all():
        return None
    frame = pl.DataFrame({"task": tasks, "arm": arms.logged, "row": np.arange(calls.n)})
    if frame.select(pl.struct("task", "arm").n_unique()).item() != calls.n:
        return None  # somebody answered a task twice: samples, not a matrix
    task = tasks.cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    task = np.unique(task, return_inverse=True)[1]
    cells = np.full((int(task.max()) + 1, len(arms.arms)), -1)
    cells[task, arms.logged] = np.arange(calls.n)
    there = (cells >= 0) & np.isfinite(np.where(cells >= 0, usd[cells], np.nan))
    compared = there.mean(axis=0) >= COVERED
    if compared.sum() < 2 or len(cells) < MIN_TASKS:
        return None
    whole = there[:, compared].all(axis=1)
    cells = np.where(compared[None, :], cells, -1)[whole]
    known = cells >= 0
    return Matrix(
        cells,
        compared,
        np.where(known, usd[cells], np.nan),
        np.where(known, calls.reward[cells], np.nan),
        int((~whole).sum()),
    )


def staged(world: World, matrix: Matrix) -> World:
    """The world of a matrix: a task is a session of one call, whose cost on every arm is known."""
    rows, calls = matrix.rows, world.calls
    some = np.zeros(calls.n, dtype=bool)
    some[rows] = True
    order = np.argsort(rows)
    rows = rows[order]
    cells = np.where(matrix.cells[order] >= 0, matrix.cells[order], rows[:, None])
    part = calls.rows(some)
    sessions = np.arange(len(rows))
    part = part._replace(session=sessions, starts=np.arange(len(rows) + 1))  # the whole log is one part
    return world._replace(
        calls=part,
        arms=world.arms._replace(logged=world.arms.logged[rows]),
        tokens=_of_cells(world.tokens, cells),
        output=_of_cells(world.output, cells),
        rates=world.rates._replace(at=_of_cells(world.rates.at, cells)),
        ahead=world.ahead._replace(at=world.ahead.at[rows]),
        caches=world.caches._replace(
            at=world.caches.at[rows], silent=world.caches.silent[rows], hourly=world.caches.hourly[rows]
        ),
        beliefs=type(world.beliefs)(*(column[rows] for column in world.beliefs)),
        excluded=world.excluded[rows] | ~matrix.arms[None, :],
        reference=world.reference[rows],
        draw=world.draw[rows],
        scale=np.ones(len(rows)),
        known=matrix.usd[order],
    )


def _of_cells(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Of values (n, k) those that each arm's own row has (T, k)."""
    found: np.ndarray = values[cells, np.arange(values.shape[1])[None, :]]
    return found


class MatrixJudge:
    """Quality by the outcomes themselves, held against those of the arms `base` (T,)."""

    def __init__(
        self,
        matrix: Matrix,
        base: np.ndarray,
        which: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        order = np.argsort(matrix.rows)
        self.reward = matrix.reward[order]
        self.base = self.reward[np.arange(matrix.n), base]
        self.keep = np.ones(matrix.n, dtype=bool) if which is None else which
        code = np.arange(matrix.n) if groups is None else groups
        self.code = np.unique(code[self.keep], return_inverse=True)[1]

    def of(self, target: Target, _: float | None = None) -> Quality:
        """Mean outcome of the arms chosen; its interval is over tasks, or groups. A matrix is one part."""
        k, chosen = self.reward.shape[1], target(0)
        chances = chosen if chosen.ndim == 2 else np.eye(k)[chosen]
        return self.quoted((chances * np.nan_to_num(self.reward)).sum(axis=1))

    def every(self, targets: Sequence[Target], _: Sequence[float | None]) -> list[Quality]:
        """The same of several."""
        return [self.of(target) for target in targets]

    def quoted(self, reward: np.ndarray) -> Quality:
        """Quality of these outcomes (T,)."""
        kept = reward[self.keep]
        found = interval(kept, self.code)
        ends = (max(0.0, found.low), min(1.0, found.high))
        apart = interval(kept - self.base[self.keep], self.code)
        ess, size = float(len(kept)), np.bincount(self.code)
        said = Quality(found.mean, ends, ess, True, "exact", gain=apart.mean, gain_ci=(apart.low, apart.high))
        if len(size) < FEWEST:
            said = said._replace(ci=None, gain_ci=None)
        return said._replace(scores=Scores(np.bincount(self.code, kept), size, ess))
